"""What a comparison of systems says: its numbers put into tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from fer_cli.core.format import estimate, percent, signed_percent
from fer_cli.reporting.tables import Cell, Page, Side, Table

if TYPE_CHECKING:
    from fer_cli.metrics import Estimate

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1"]
HEADINGS: Final[dict[Metric, str]] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "macro_f1": "macro F1",
}
SIGNIFICANT: Final = 0.05
ABSENT: Final = "–"


@dataclass(frozen=True, slots=True)
class System:
    """A system that is compared; ``label`` is what the tables call it."""

    label: str
    name: str  # its reference
    evaluation: str  # the reference of what it was scored in
    decides: str  # the predictor, or the mean over which seeds
    seeds: tuple[int, ...]
    scores: Mapping[Metric, Estimate]
    unsound: tuple[str, ...]

    @property
    def heading(self) -> str:
        """The label, with the mark where its numbers are not sound."""
        return f"{self.label} (unsound)" if self.unsound else self.label


@dataclass(frozen=True, slots=True)
class Pair:
    """A system beside the first one; differences are its score less the first one's.

    ``won`` and ``lost`` count, by class, the items that it has right and the first has not, and the other way round. Of
    several seeds an item counts as the share of trainings by which it is ahead, so that won less lost is always the
    difference in accuracy times the number of items. ``p`` is of the test of equal accuracies,
    ``adjusted`` for being one of several, ``detectable`` the smallest difference that the adjusted test finds in four
    of five cases like this one.
    """

    system: System
    differences: Mapping[Metric, Estimate]
    won: tuple[float, ...]
    lost: tuple[float, ...]
    test: str
    p: float
    adjusted: float
    detectable: float
    more: Mapping[str, float]  # of the same test, for those who ask


@dataclass(frozen=True, slots=True)
class ConfigDifference:
    """A setting in which the systems are not all alike; one value a system, ``ABSENT`` where it has no such thing."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Systems on the same items: all against the first."""

    dataset: str
    split: str
    classes: tuple[str, ...]
    support: tuple[int, ...]  # items of each class
    unit: str  # what a resample draws
    units: int
    resamples: int
    systems: tuple[System, ...]
    pairs: tuple[Pair, ...]
    config_diff: tuple[ConfigDifference, ...]
    notes: tuple[str, ...]

    @property
    def n(self) -> int:
        """How many items."""
        return sum(self.support)


def page_of(found: Comparison, *, names: bool = True) -> Page:
    """Return a comparison as tables.

    Args:
        found: the comparison.
        names: whether the scores stand beside the systems' whole references; else beside their letters alone.
    """
    return Page(
        title=title_of(found),
        tables=tuple(_tables(found, names)),
        unsound=tuple(f"{one.label}: {text}" for one in found.systems for text in one.unsound),
        notes=tuple(_notes(found)),
    )


def title_of(found: Comparison) -> str:
    """Return what was compared on what, in one line."""
    drawn = "" if found.unit == "item" else f", {found.units:,} {found.unit}s"
    return f"{found.dataset}, {found.split} split, {found.n:,} images{drawn}; 95% intervals"


def _tables(found: Comparison, names: bool) -> Iterator[Table]:
    first = found.systems[0]
    numbers: list[tuple[str, Side]] = [(heading, "right") for heading in HEADINGS.values()]
    named: list[tuple[str, Side]] = [("system", "left")] if names else []
    yield Table(
        "Scores, in percent",
        (("", "left"), *named, *numbers),
        tuple(
            (
                Cell(one.heading, bool(one.unsound)),
                *([Cell(f"{one.name}, {one.decides}")] if names else []),
                *_estimates(one.scores, bool(one.unsound), percent),
            )
            for one in found.systems
        ),
    )
    marked = {id(pair): bool(first.unsound or pair.system.unsound) for pair in found.pairs}
    yield Table(
        f"Differences from {first.label}, in points",
        (("", "left"), *numbers),
        tuple(
            (Cell(pair.system.heading), *_estimates(pair.differences, marked[id(pair)], signed_percent))
            for pair in found.pairs
        ),
    )
    several = len(found.pairs) > 1
    columns = ["right alone", f"{first.label} right alone", "p", *(["p (Holm)"] if several else []), "detectable"]
    yield Table(
        f"Tests of accuracy against {first.label}",
        (("", "left"), ("test", "left"), *((heading, "right") for heading in columns)),
        tuple(
            (
                Cell(pair.system.heading),
                Cell(pair.test),
                *(Cell(count_text(sum(of))) for of in (pair.won, pair.lost)),
                *(
                    Cell(text, marked[id(pair)])
                    for text in (
                        p_text(pair.p),
                        *([p_text(pair.adjusted)] if several else []),
                        ABSENT if math.isnan(pair.detectable) else f"{100 * pair.detectable:.1f}",
                    )
                ),
            )
            for pair in found.pairs
        ),
    )
    yield Table(
        "Images that changed, by class",
        (
            ("class", "left"),
            ("images", "right"),
            *((f"{pair.system.label} {what}", "right") for pair in found.pairs for what in ("won", "lost")),
        ),
        tuple(
            (
                Cell(name),
                Cell(f"{found.support[k]:,}"),
                *(Cell(count_text(of[k])) for pair in found.pairs for of in (pair.won, pair.lost)),
            )
            for k, name in enumerate(found.classes)
        ),
    )
    if found.config_diff:
        yield Table(
            "What else differs",
            (("", "left"), *((one.heading, "left") for one in found.systems)),
            tuple((Cell(trait.name), *map(Cell, trait.values)) for trait in found.config_diff),
            wraps=True,
        )


def _estimates(of: Mapping[Metric, Estimate], unsound: bool, form: Callable[[float], str]) -> Iterator[Cell]:
    for metric in HEADINGS:
        score = of[metric]
        text = estimate(score.value, score.low, score.high, form)
        yield Cell(f"{text}!" if unsound else text, unsound)


def p_text(p: float) -> str:
    """Return a p-value with three decimals; a very small one as what it is below."""
    return ABSENT if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def count_text(count: float) -> str:
    """Return a number of items, with a decimal where trainings share one."""
    return f"{count:,.1f}" if round(count, 6) % 1 else f"{count:,.0f}"


def _notes(found: Comparison) -> Iterator[str]:
    first = found.systems[0]
    for pair in found.pairs:
        if pair.adjusted >= SIGNIFICANT:
            both = f"{pair.system.label} and {first.label}"
            yield f"{both}: no difference in accuracy was shown, which is not equality; {_limit(pair)}"
    names = [pair.test for pair in found.pairs]
    yield (
        "detectable: the smallest difference in accuracy, in points, that the test finds in four of five test sets "
        f"like this one at 5%{_adjusted(found.pairs)}"
    )
    if len(found.pairs) > 1:
        yield "p (Holm): adjusted for the number of systems; the intervals are of each difference alone"
    if len(set(names)) > 1:
        yield "the tests are not of one kind: see which systems have several seeds"
    if any(len(one.seeds) > 1 for one in found.systems):
        yield "of several seeds an image that two of three trainings have right counts as two thirds"
    yield from found.notes


def _adjusted(pairs: Sequence[Pair]) -> str:
    return "" if len(pairs) == 1 else f", at the first step of Holm's correction (5%/{len(pairs)})"


def _limit(pair: Pair) -> str:
    if math.isnan(pair.detectable):
        return "they differ on so few images that this test could not have shown any"
    return f"one below {100 * pair.detectable:.1f} points would mostly have gone unnoticed"
