"""Stage ``compare``: paired statistics between systems on the same test items. It writes no artifact."""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.protocol import TrainingProtocol
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import UsageError
from fer_cli.core.progress import warn
from fer_cli.evaluation.changed_images import COLUMNS, Change, change_strips, changes_of
from fer_cli.evaluation.comparison_inputs import (
    ComparisonInput,
    check_comparable,
    check_images,
    check_sound,
    in_order_of,
    open_comparison_input,
    units_of,
)
from fer_cli.evaluation.config_diff import config_diff
from fer_cli.metrics.bootstrap import RESAMPLES
from fer_cli.metrics.mcnemar import ALPHA, detectable, holm, mcnemar, unit_differences
from fer_cli.metrics.paired import METRICS, Scores, difference, difference_over_seeds, mean, score
from fer_cli.reporting.comparison import Comparison, Pair, System
from fer_cli.reporting.comparison_page import comparison_html

MOST: Final = len(string.ascii_uppercase)
SEED: Final = 0
"""Of the bootstrap: a comparison is the same each time."""


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison and the images that changed."""

    comparison: Comparison
    changes: tuple[Change, ...]


def compare(
    *, store: Store, references: Sequence[str], allow_unsound: bool = False, resamples: int = RESAMPLES
) -> Compare:
    """Compare systems on the same test items, all against the first.

    Of one training each the test is McNemar's; of systems with several seeds it is the t test over items and seeds
    (:mod:`fer_cli.metrics.paired`).

    Args:
        store: where artifacts are.
        references: of models, studies, ahm artifacts or evaluations, two or more.
        allow_unsound: also numbers that are not sound; they are marked.
        resamples: of the bootstrap.

    Raises:
        UsageError: fewer than two, more than 26, or the same one twice.
        FerError: a reference leads to nothing, or to what has not been scored.
        CheckFailedError: they were not scored on the same items under the same labels, or one is not sound.
    """
    if not 2 <= len(references) <= MOST:
        raise UsageError(f"{len(references)} to compare", hint=f"name 2 to {MOST} models, studies or evaluations")
    systems = [open_comparison_input(store, reference) for reference in references]
    seen: dict[str, str] = {}
    for reference, one in zip(references, systems, strict=True):
        if (other := seen.setdefault(one.evaluation.reference, reference)) is not reference:
            raise UsageError(
                f"{other} and {reference} are both {one.evaluation.reference}", hint="name different evaluations"
            )
    first = systems[0]
    for one in systems[1:]:
        check_comparable(first, one)
        check_images(store, first, one)
    if not allow_unsound:
        check_sound(systems)
    systems = [first, *(_as_ordered(first, one) for one in systems[1:])]
    unit, groups = units_of(store, systems)
    classes = tuple(dict.fromkeys(name for one in systems for name in one.classes))
    number = {name: index for index, name in enumerate(classes)}
    true = _indices(first.label, number)
    predicted = [np.stack([_indices(row, number) for row in one.predicted]) for one in systems]
    scores = score(true, predicted, groups=groups, seed=SEED, resamples=resamples)
    shown = [
        System(
            label=string.ascii_uppercase[index],
            name=one.name,
            evaluation=one.evaluation.reference,
            decides=one.decides,
            seeds=one.seeds,
            scores={metric: mean(scores[index], metric) for metric in METRICS},
            runs={metric: tuple(scores[index].value[:, k].tolist()) for k, metric in enumerate(METRICS)},
            unsound=one.unsound,
        )
        for index, one in enumerate(systems)
    ]
    right = [table == true for table in predicted]
    alpha = ALPHA / (len(systems) - 1)
    pairs = [
        _pair(shown[index], scores[index], scores[0], right[index], right[0], true, len(number), (unit, groups), alpha)
        for index in range(1, len(systems))
    ]
    adjusted = holm([pair.p for pair in pairs])
    comparison = Comparison(
        dataset=first.dataset,
        split=first.split,
        classes=classes,
        support=tuple(np.bincount(true, minlength=len(number)).tolist()),
        unit=unit,
        units=scores[0].units,
        resamples=resamples,
        systems=tuple(shown),
        pairs=tuple(replace(pair, adjusted=p) for pair, p in zip(pairs, adjusted, strict=True)),
        config_diff=config_diff(store, [one.evaluation for one in systems]),
        notes=tuple(_notes(systems, shown, scores)),
    )
    for system in shown:
        for text in system.unsound:
            warn(f"{system.name} is unsound: {text}")
    return Compare(comparison, tuple(changes_of(systems, shown, right)))


def _as_ordered(first: ComparisonInput, other: ComparisonInput) -> ComparisonInput:
    rows = in_order_of(first, other)
    return replace(other, ids=other.ids[rows], label=other.label[rows], predicted=other.predicted[:, rows])


def _indices(names: NDArray[np.str_], number: dict[str, int]) -> NDArray[np.int64]:
    return np.array([number[name] for name in names.tolist()], dtype=np.int64)


def _pair(
    system: System,
    scores: Scores,
    of_first: Scores,
    right: NDArray[np.bool_],
    right_of_first: NDArray[np.bool_],
    true: NDArray[np.int64],
    classes: int,
    units: tuple[str, NDArray[np.int64] | None],
    alpha: float,
) -> Pair:
    """Compare one system with the first; ``right`` (S, N) and ``right_of_first`` tell which items each training has."""
    ahead = right.mean(axis=0) - right_of_first.mean(axis=0)
    differences = {metric: difference(scores, of_first, metric) for metric in METRICS}
    won, lost = (
        tuple(np.bincount(true, weights=np.maximum(of, 0), minlength=classes).tolist()) for of in (ahead, -ahead)
    )
    if len(right) > 1 or len(right_of_first) > 1:
        found = difference_over_seeds(scores, of_first, "accuracy", alpha=alpha)
        return Pair(
            system=system,
            differences=differences,
            won=won,
            lost=lost,
            test="t over seeds",
            p=found.p,
            adjusted=found.p,
            minimum_detectable_effect=found.detectable,
            more={"degrees_of_freedom": found.degrees},
        )
    unit, groups = units
    test = mcnemar(right[0], right_of_first[0], groups)
    return Pair(
        system=system,
        differences=differences,
        won=won,
        lost=lost,
        test="McNemar" if groups is None else f"McNemar by {unit}",
        p=test.exact,
        adjusted=test.exact,
        minimum_detectable_effect=detectable(
            unit_differences(right[0], right_of_first[0], groups), len(true), alpha=alpha
        ),
        more={name: value for name, value in asdict(test).items() if name not in {"won", "lost"}},
    )


def _notes(systems: Sequence[ComparisonInput], shown: Sequence[System], scores: Sequence[Scores]) -> Iterator[str]:
    """Yield what a reader must know of these systems, one sentence each."""
    if alone := [system.label for system, one in zip(shown, systems, strict=True) if one.trainings == 1]:
        what = "are single runs" if len(alone) > 1 else "is a single run"
        yield (
            f"{', '.join(alone)} {what}: no interval or p-value covers the variation between seeds; "
            "train with --seeds 0,1,2 and compare the studies"
        )
    if scores[0].units < 20 and systems[0].unit != "item":
        yield f"only {scores[0].units} {systems[0].unit}s: the intervals of single runs are too narrow"
    for system, one in zip(shown, systems, strict=True):
        for other, of in zip(shown, systems, strict=True):
            if one.name in of.members:
                yield f"{system.label} is one of the runs of {other.label}: in part it is compared with itself"
    trainings = {system.label: one.protocol.training for system, one in zip(shown, systems, strict=True)}
    known = {label: training for label, training in trainings.items() if training is not None}
    if _computed_differently(list(known.values())):
        told = "; ".join(f"{label}: {training.computed_with}" for label, training in known.items())
        yield (
            f"not computed alike ({told}): a training's last digits depend on these, and so does a part of the "
            "difference; train all with the same --threads on one machine"
        )
    versions = {one.evaluation.manifest.inputs["dataset"].content for one in systems}
    if len(versions) > 1:
        yield "the dataset was not prepared alike for all: same images by id, labels and N, see its versions"


def _computed_differently(trainings: Sequence[TrainingProtocol]) -> bool:
    """Tell whether networks, or fits on features, were computed differently, or one does not say how."""
    if any(training.numerics_differ for training in trainings):
        return True
    computed = {training.computed_with: training.numerics for training in trainings}
    with_torch = [None if numerics is None else "torch" in numerics.libraries for numerics in computed.values()]
    return len(computed) > 1 and (None in with_torch or len(set(with_torch)) < len(with_torch))


def html_page(store: Store, found: Compare, names: Sequence[str] = ()) -> str:
    """Return a comparison as one self-contained HTML page with the images that changed; ``names`` are of the systems.

    Raises:
        UsageError: ``names`` are at fault.
    """
    evaluation = store.find(found.comparison.systems[0].evaluation, ["evaluation"])
    return comparison_html(found.comparison, change_strips(store, evaluation, found.changes), names)


def changed_csv(changes: Sequence[Change]) -> bytes:
    """Return the images that changed as the bytes of a csv file."""
    return csv_bytes([COLUMNS, *(one.row() for one in changes)])


def csv_bytes(rows: Sequence[Sequence[str]]) -> bytes:
    """Return rows as the bytes of a csv file that a spreadsheet may open."""
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows([for_spreadsheet(cell) for cell in row] for row in rows)
    return stream.getvalue().encode("utf-8", "backslashreplace")


def for_spreadsheet(text: str) -> str:
    """Return any text for a cell of a csv: an apostrophe keeps a spreadsheet from running as a formula what looks so.

    Source: OWASP, "CSV Injection".
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
