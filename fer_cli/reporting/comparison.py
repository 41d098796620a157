"""A comparison of systems as tables and notes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from fer_cli.core.format import count_text, estimate, percent, signed_percent
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
    runs: Mapping[Metric, tuple[float, ...]]  # the score of each run, in the order of the seeds
    unsound: tuple[str, ...]

    @property
    def sd(self) -> Mapping[Metric, float] | None:
        """The standard deviations over its seeds; None of a single run."""
        sd = {metric: score.sd for metric, score in self.scores.items() if score.sd is not None}
        return sd or None

    @property
    def heading(self) -> str:
        """The label, with the mark where its numbers are not sound."""
        return f"{self.label} (unsound)" if self.unsound else self.label


@dataclass(frozen=True, slots=True)
class Pair:
    """A system compared with the first one; differences are its score minus the first one's.

    ``won`` and ``lost`` count, by class, the items that only it predicts correctly, and that only the first does. With
    several seeds an item counts as the share of runs by which it is ahead, so that won minus lost is always the
    difference in accuracy times the number of items. ``p`` is of the test of equal accuracies, ``adjusted`` for
    multiple comparisons, ``minimum_detectable_effect`` the smallest difference that the adjusted test finds with 80%
    power.
    """

    system: System
    differences: Mapping[Metric, Estimate]
    won: tuple[float, ...]
    lost: tuple[float, ...]
    test: str
    p: float
    adjusted: float
    minimum_detectable_effect: float
    more: Mapping[str, float]  # further numbers of the same test


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


def page_of(comparison: Comparison, *, names: bool = True) -> Page:
    """Return a comparison as tables.

    Args:
        comparison: the comparison.
        names: whether scores name the systems by reference; else by letter alone.
    """
    return Page(
        title=title_of(comparison),
        tables=tuple(_tables(comparison, names)),
        unsound=tuple(f"{one.label}: {text}" for one in comparison.systems for text in one.unsound),
        notes=tuple(_notes(comparison)),
    )


def title_of(comparison: Comparison) -> str:
    """Return what was compared on what, in one line."""
    drawn = "" if comparison.unit == "item" else f", {comparison.units:,} {comparison.unit}s"
    return f"{comparison.dataset}, {comparison.split} split, {comparison.n:,} images{drawn}; 95% intervals"


def _tables(comparison: Comparison, names: bool) -> Iterator[Table]:
    first = comparison.systems[0]
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
            for one in comparison.systems
        ),
    )
    marked = {id(pair): bool(first.unsound or pair.system.unsound) for pair in comparison.pairs}
    yield Table(
        f"Differences from {first.label}, in points",
        (("", "left"), *numbers),
        tuple(
            (Cell(pair.system.heading), *_estimates(pair.differences, marked[id(pair)], signed_percent))
            for pair in comparison.pairs
        ),
    )
    several = len(comparison.pairs) > 1
    columns = ["only it correct", f"only {first.label} correct", "p", *(["p (Holm)"] if several else []), "MDE"]
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
                        ABSENT
                        if math.isnan(pair.minimum_detectable_effect)
                        else f"{100 * pair.minimum_detectable_effect:.1f}",
                    )
                ),
            )
            for pair in comparison.pairs
        ),
    )
    yield Table(
        "Images that changed, by class",
        (
            ("class", "left"),
            ("images", "right"),
            *((f"{pair.system.label} {what}", "right") for pair in comparison.pairs for what in ("won", "lost")),
        ),
        tuple(
            (
                Cell(name),
                Cell(f"{comparison.support[k]:,}"),
                *(Cell(count_text(of[k])) for pair in comparison.pairs for of in (pair.won, pair.lost)),
            )
            for k, name in enumerate(comparison.classes)
        ),
    )
    if comparison.config_diff:
        yield Table(
            "What else differs",
            (("", "left"), *((one.heading, "left") for one in comparison.systems)),
            tuple((Cell(difference.name), *map(Cell, difference.values)) for difference in comparison.config_diff),
            wraps=True,
        )


def _estimates(of: Mapping[Metric, Estimate], unsound: bool, form: Callable[[float], str]) -> Iterator[Cell]:
    for metric in HEADINGS:
        score = of[metric]
        text = estimate(score.value, score.low, score.high, form, sd=score.sd)
        yield Cell(f"{text}!" if unsound else text, unsound)


def p_text(p: float) -> str:
    """Return a p-value with three decimals; a very small one as what it is below."""
    return ABSENT if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _notes(comparison: Comparison) -> Iterator[str]:
    first = comparison.systems[0]
    for pair in comparison.pairs:
        if pair.adjusted >= SIGNIFICANT:
            both = f"{pair.system.label} and {first.label}"
            yield f"{both}: no difference in accuracy was shown, which is not equality; {_limit(pair)}"
    names = [pair.test for pair in comparison.pairs]
    yield (
        "MDE: minimum detectable effect, the smallest difference in accuracy, in points, that the test would find with "
        f"80% power at 5%{_adjusted(comparison.pairs)}"
    )
    if len(comparison.pairs) > 1:
        yield "p (Holm): adjusted for the number of systems; the intervals are of each difference alone"
    if len(set(names)) > 1:
        yield "the tests differ: systems with one seed and with several are tested differently"
    if any(len(one.seeds) > 1 for one in comparison.systems):
        yield "with several seeds, an image that two of three runs predict correctly counts as two thirds"
    yield from comparison.notes


def _adjusted(pairs: Sequence[Pair]) -> str:
    return "" if len(pairs) == 1 else f", at the first step of Holm's correction (5%/{len(pairs)})"


def _limit(pair: Pair) -> str:
    if math.isnan(pair.minimum_detectable_effect):
        return "they differ on too few images for this test to show any"
    return f"one below {100 * pair.minimum_detectable_effect:.1f} points would likely go undetected"
