"""Facts of a paper beside fer's own: settings of recipes, judgements of the hierarchy, counts of data sets."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.summaries import DatasetSummary
from fer_cli.core.toml_text import toml_value
from fer_cli.papers.catalogue import Count, Entry, Row, paper
from fer_cli.papers.verdict import Judged
from fer_cli.reporting.reproduction import ReproducedRow
from fer_cli.systems.recipe_sources import find_source

if TYPE_CHECKING:
    from fer_cli.stages.reproduce_plan import Index, Request
    from fer_cli.systems.ahm.hierarchy import Hierarchy


def fact_rows(index: Index, request: Request) -> Iterator[ReproducedRow]:
    """Yield the rows of an entry whose values are facts; of a picture there are none."""
    entry = request.entry
    match entry.measure:
        case "recipe":
            yield from _recipe_rows(index, entry)
        case "hierarchy":
            yield from _hierarchy_rows(entry)
        case "counts":
            yield from _count_rows(index, request)
        case _:
            for row in entry.rows:
                yield _unmeasured(row, "cited, of another work" if row.kind == "cited" else "for the record")


def _unmeasured(row: Row, why: str) -> ReproducedRow:
    return ReproducedRow(row.name, row, _figure(row), None, Judged("not comparable", "not measured"), why=why)


def _fact(row: Row, measured: str, *, equal: bool) -> ReproducedRow:
    judged = Judged("reproduced", "equal") if equal else Judged("not reproduced", "differs")
    return ReproducedRow(row.name, row, _figure(row), measured, judged)


def _figure(row: Row) -> str:
    return "" if row.value is None else str(row.value)


def _recipe_rows(index: Index, entry: Entry) -> Iterator[ReproducedRow]:
    """Compare the settings of the recipe that is run at the paper's scale with those that the paper prints."""
    recipe_name = paper(entry.paper).scales["paper"].recipe
    assert recipe_name is not None, f"{entry.paper} has no recipe"
    recipe = find_source(recipe_name, index.store).read(entry.system).record()
    for row in entry.rows:
        if row.settings is None:
            yield _unmeasured(row, "no key of a recipe")
            continue
        ours = {key: _value_at(recipe, key) for key in row.settings}
        shown = ", ".join(
            f"{key} = {'left out' if value is None else toml_value(value)}" for key, value in ours.items()
        )
        equal = all(_plain(ours[key]) == _plain(value) for key, value in row.settings.items())
        yield _fact(row, shown, equal=equal)


def _value_at(recipe: dict[str, Any], key: str) -> Any:  # noqa: ANN401 - a recipe's value
    table, _, name = key.partition(".")
    return recipe.get(table, {}).get(name)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple | list) else value


def _hierarchy_rows(entry: Entry) -> Iterator[ReproducedRow]:
    from fer_cli.systems.ahm.hierarchy import default_hierarchy

    hierarchy = default_hierarchy()
    for row in entry.rows:
        match entry.place:
            case "table1":
                used = _judgements(hierarchy)
                shown = "used" if number(row.value) in used else "not used"
                yield _fact(row, shown, equal=shown == "used")
            case "table2":
                value = _judgement_at(hierarchy, row.name)
                yield _fact(row, _fraction(value), equal=abs(value - (number(row.value) or 0.0)) < 1e-9)
            case _:
                expression = next(one for one in hierarchy.expressions if one.name == row.name)
                units = sorted(int(unit.removeprefix("AU")) for one in expression.branches for unit in one.action_units)
                printed = sorted(int(unit) for unit in str(row.value).split("+"))
                yield _fact(row, "+".join(map(str, units)), equal=units == printed)


def _judgements(hierarchy: Hierarchy) -> set[float]:
    matrices = [
        matrix
        for one in hierarchy.expressions
        for matrix in (one.judgement.matrix, *(branch.judgement.matrix for branch in one.branches))
    ]
    return {value for matrix in matrices for line in matrix for value in line}


def _judgement_at(hierarchy: Hierarchy, name: str) -> float:
    """Return fear's judgement of two items as the paper names them: ``B3: C1/C3`` of parts, ``C1: D1/D2`` of AUs."""
    fear = next(one for one in hierarchy.expressions if one.name == "fear")
    code = {part.name: part.code for part in hierarchy.parts}
    matrix, _, items = name.partition(": ")
    first, _, second = items.partition("/")
    if matrix == "B3":
        order = [code[branch.part] for branch in fear.branches]
        judgement = fear.judgement
    else:
        branch = next(one for one in fear.branches if code[one.part] == matrix)
        order = (
            ["D1", "D2", "D3"] if matrix == "C1" else [f"D{unit.removeprefix('AU')}" for unit in branch.action_units]
        )
        judgement = branch.judgement
    return judgement.matrix[order.index(first)][order.index(second)]


def _fraction(value: float) -> str:
    return str(Fraction(value).limit_denominator(9))


def _count_rows(index: Index, request: Request) -> Iterator[ReproducedRow]:
    entry = request.entry
    for row in entry.rows:
        if row.count is None:
            yield _unmeasured(row, "not counted by fer")
            continue
        dataset = request.dataset if row.count.dataset is None else index.dataset(row.count.dataset)
        if dataset is None:
            yield _unmeasured(row, f"wants {row.count.dataset or entry.dataset}, which is not in this store")
            continue
        value = _counted(dataset, row.count, share=entry.unit == "percent")
        if value is None:
            yield _unmeasured(row, f"{dataset.name} has no such images")
            continue
        shown = f"{value:.2f}" if isinstance(value, float) else f"{value:,}"
        summary = DatasetSummary.of(dataset)
        partial = summary.official_counts == "differ" or (row.count.split is None and bool(summary.missing))
        equal = shown.replace(",", "") == _printed(row)
        judged = Judged("reproduced", "equal") if equal else Judged("not reproduced", "differs")
        if not equal and (partial or request.stands_in):
            judged = Judged("not comparable", "other data or settings")
        yield ReproducedRow(row.name, row, _figure(row), shown, judged)


def _printed(row: Row) -> str:
    return f"{row.value:.2f}" if isinstance(row.value, float) else str(row.value)


def _counted(dataset: Artifact, count: Count, *, share: bool) -> int | float | None:
    summary = DatasetSummary.of(dataset)
    if count.of == "subjects":
        return summary.subjects
    if count.split is None:
        return summary.images
    # As the source has it: what was held out of a part for validation belongs to it.
    splits = [count.split]
    if count.split == "train" and "validation" not in summary.source_counts:
        splits.append("validation")
    if count.split not in summary.source_counts:
        return None
    counts = [summary.classes[split] for split in splits if split in summary.classes]
    images = sum(sum(one.values()) for one in counts)
    if count.expression is None:
        return images
    of_class = sum(one.get(count.expression, 0) for one in counts)
    return 100 * of_class / images if share else of_class


def number(value: object) -> float | None:
    """Return a figure as a number, also a fraction such as ``1/5``; None where it is none."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(Fraction(str(value)))
    except ValueError:
        return None
