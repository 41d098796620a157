"""McNemar's test of two systems on the same items, what it could have found, and Holm's correction for several.

Items that belong together (those of one subject) are no independent evidence. So the test is of units: under its null
hypothesis each unit's difference, items that the one system alone has right less those that the other has, is as likely
to have the other sign. Where every item is a unit of its own that is McNemar's exact test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

POWER: Final = 0.8
ALPHA: Final = 0.05


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test, two-sided.

    Attributes:
        won: items that the one system alone has right.
        lost: items that the other alone has right.
        exact: p-value of the exact test: never more than 5% false alarms at 5%, mostly fewer.
        mid: mid-p-value, half of what was observed counted: close to 5% (Fagerland, Lydersen and Laake 2013, "The
            McNemar test for binary matched-pairs data").
        chi2: chi-squared with one degree of freedom and Edwards's continuity correction (1948).
        p_chi2: its p-value, for large numbers.
    """

    won: int
    lost: int
    exact: float
    mid: float
    chi2: float
    p_chi2: float


def unit_differences(
    right: NDArray[np.bool_], right_of_other: NDArray[np.bool_], groups: ArrayLike | None
) -> NDArray[np.int64]:
    """Return the differences (U,) of the units in which the two systems are not equally good.

    Args:
        right: (N,) whether the one system has the item right.
        right_of_other: (N,) of the other.
        groups: (N,) ids of items that belong together, or None where every item is a unit of its own.
    """
    items = right.astype(np.int64) - right_of_other.astype(np.int64)
    if groups is not None:
        names, index = np.unique(np.asarray(groups), return_inverse=True)
        items = np.bincount(index, weights=items, minlength=len(names)).astype(np.int64)
    differing: NDArray[np.int64] = items[items != 0]
    return differing


def mcnemar(right: NDArray[np.bool_], right_of_other: NDArray[np.bool_], groups: ArrayLike | None) -> McNemar:
    """Test whether two systems are equally accurate on the items' population.

    Args:
        right: (N,) whether the one system has the item right.
        right_of_other: (N,) of the other.
        groups: (N,) ids of items that belong together, such as subjects, or None.
    """
    from scipy import stats

    units = unit_differences(right, right_of_other, groups)
    total = int(abs(units.sum()))
    won, lost = int((right & ~right_of_other).sum()), int((right_of_other & ~right).sum())
    if not len(units):
        return McNemar(won, lost, 1.0, 1.0, 0.0, 1.0)
    chance = _chances(units, 0.5)
    larger = 2.0 * float(chance[_wins(units, total) + 1 :].sum())
    equal = float(chance[_wins(units, total)]) * (2.0 if total else 1.0)
    chi2 = max(0, total - 1) ** 2 / float((units**2).sum())
    return McNemar(
        won=won,
        lost=lost,
        exact=min(1.0, larger + equal),
        mid=min(1.0, larger + equal / 2),
        chi2=chi2,
        p_chi2=float(stats.chi2.sf(chi2, 1)),
    )


def detectable(units: NDArray[np.int64], n: int, *, alpha: float = ALPHA) -> float:
    """Return the smallest difference of accuracies that the exact test finds in four of five datasets like this one.

    Like this one: as many units differ, each by as much. A unit's sign falls to the better system with the probability
    that gives the test a power of 80%; the difference is what that makes on the mean.

    Args:
        units: (U,) of :func:`unit_differences`.
        n: items.
        alpha: of the test, two-sided.

    Returns:
        A share of the ``n`` items, or NaN where so few units differ that no outcome is significant.
    """
    from scipy import optimize

    tails = np.cumsum(_chances(units, 0.5)[::-1])[::-1]  # at least as many wins
    enough = np.flatnonzero(2 * tails <= alpha)
    if not len(enough):
        return float("nan")
    wanted = int(enough[0])

    def lacking(probability: float) -> float:
        return float(_chances(units, probability)[wanted:].sum()) - POWER

    probability = float(optimize.brentq(lacking, 0.5, 1.0, xtol=1e-9))
    return (2 * probability - 1) * float(np.abs(units).sum()) / n


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several, in their order (Holm 1979, "A simple sequentially rejective ...")."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in adjusted]


def _wins(units: NDArray[np.int64], total: int) -> int:
    """Return the items won where won less lost is ``total``, items of one unit that cancel left out."""
    return (int(np.abs(units).sum()) + total) // 2


def _chances(units: NDArray[np.int64], probability: float) -> NDArray[np.float64]:
    """Return the chance of each sum 0 ... sum |units| of the sizes that are won, each with the same probability."""
    from scipy import stats

    chances = np.ones(1)
    for size, count in zip(*np.unique(np.abs(units), return_counts=True), strict=True):
        of_size = np.zeros(size * count + 1)
        of_size[::size] = stats.binom.pmf(np.arange(count + 1), count, probability)
        chances = np.convolve(chances, of_size)
    return chances
