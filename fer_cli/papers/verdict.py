"""When a paper's figure counts as reproduced: one rule, of numbers alone.

Values (percent) and gains (percentage points) are judged apart, for a value wants the paper's data and settings and a
gain between two rows of one table is seen on others too. A gain over something else than the paper's is not comparable.

*A value* is not comparable unless data and settings are the paper's. Of the rest it is

- not reproduced, where the whole 95% interval lies below the figure;
- undecided, where a network was trained from one seed alone, or a shortfall of :data:`MARGIN` points would not have
  been found with 80% power (the minimum detectable effect is larger);
- reproduced otherwise: the figure is reached, or missed by less than could be told.

*A gain* over the table's first row is

- reproduced, where it differs from zero (p < 0.05, over items and seeds), has the paper's sign, and its interval
  reaches half of the paper's gain or more;
- not reproduced, where it differs from zero with the other sign, or its interval stays below half of the paper's, or it
  does not differ from zero although a gain as large as the paper's would have been found with 80% power;
- undecided otherwise, and wherever a network was trained from one seed alone.

*A fact* (a setting, a count) is reproduced where it is equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["reproduced", "not reproduced", "undecided", "not comparable"]
Reason = Literal[
    "reached",
    "below the figure",
    "one seed",
    "interval too wide",
    "other data or settings",
    "no figure in the paper",
    "of another work",
    "not measured",
    "same sign",
    "other sign",
    "less than half",
    "no gain found",
    "equal",
    "differs",
]
VERDICTS: Final[tuple[Verdict, ...]] = ("reproduced", "not reproduced", "undecided", "not comparable")
MARGIN: Final = 2.0
"""Percentage points by which a value may be missed unseen before the measurement says nothing."""
SHARE: Final = 0.5
"""Of the paper's gain, which the interval of the measured one must reach."""
_POWER: Final = (1.959964 + 0.841621) / (2 * 1.959964)
"""Minimum detectable effect over the width of a 95% interval, of a two-sided test at 5% with 80% power."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict and what it rests on."""

    verdict: Verdict
    reason: Reason


def detectable(low: float, high: float) -> float:
    """Return the smallest difference that would be found with 80% power, of a 95% interval; NaN where that is."""
    return (high - low) * _POWER


def judge_value(figure: float | None, low: float, high: float, *, comparable: bool, one_seed: bool) -> Judged:
    """Judge a measured value by its 95% interval (percent).

    Args:
        figure: the paper's; None where it has none.
        low: lower end.
        high: upper end.
        comparable: data and settings are the paper's.
        one_seed: a network was trained, and once alone.
    """
    if figure is None:
        return Judged("not comparable", "no figure in the paper")
    if not comparable:
        return Judged("not comparable", "other data or settings")
    if one_seed:
        return Judged("undecided", "one seed")
    if high < figure:
        return Judged("not reproduced", "below the figure")
    if not low >= figure and not detectable(low, high) <= MARGIN:  # also of an interval that is not known
        return Judged("undecided", "interval too wide")
    return Judged("reproduced", "reached")


def judge_gain(
    figure: float | None,
    low: float,
    high: float,
    *,
    differs: bool,
    effect: float,
    one_seed: bool,
    comparable: bool = True,
) -> Judged:
    """Judge a measured gain by its 95% interval (percentage points).

    Args:
        figure: the paper's gain; None where it has none, or none at all.
        low: lower end.
        high: upper end.
        differs: the test says that the gain is not zero.
        effect: minimum detectable effect; NaN where it is not known.
        one_seed: a network was trained, and once alone.
        comparable: what is gained over is what the paper gains over.
    """
    if not figure:
        return Judged("not comparable", "no figure in the paper")
    if not comparable:
        return Judged("not comparable", "other data or settings")
    if one_seed:
        return Judged("undecided", "one seed")
    sign = math.copysign(1, figure)
    reach = high if sign > 0 else -low
    if differs and reach <= 0:
        return Judged("not reproduced", "other sign")
    if differs:
        enough = reach >= SHARE * abs(figure)
        return Judged("reproduced", "same sign") if enough else Judged("not reproduced", "less than half")
    if effect <= abs(figure):
        return Judged("not reproduced", "no gain found")
    return Judged("undecided", "interval too wide")
