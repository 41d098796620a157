"""Class names at the wrong outputs, found in a confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike, NDArray

SURE: Final = 5.0
"""Standard errors that another assignment of names must be ahead by: chance gets there once in three million."""
AHEAD: Final = 0.2
"""Recall that each exchanged class must gain on average: two classes that are taken for one another gain less."""


@dataclass(frozen=True, slots=True)
class Swap:
    """Names that would fit far better at other outputs. ``pairs``: (true class, class that its images are given)."""

    pairs: tuple[tuple[int, int], ...]
    balanced_accuracy: float
    if_renamed: float


def swapped_names(confusion: ArrayLike) -> Swap | None:
    """Return the exchange of class names that a confusion matrix speaks for, or None.

    The assignment of names to outputs with the greatest sum of recalls is sought (a linear assignment problem). An
    output that is favoured whatever is shown adds the same to every assignment, so a model that always gives one
    answer, or answers at random, is not suspected.

    Args:
        confusion: (C, C) items, true classes in rows.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    support = counts.sum(axis=1)
    shares = counts / np.maximum(support, 1)[:, None]
    _, best = scipy.optimize.linear_sum_assignment(shares, maximize=True)
    pairs = [pair for ring in _rings(best) if _is_swap(counts, support, ring) for pair in ring]
    if not pairs:
        return None
    names = np.arange(len(counts))
    names[[i for i, _ in pairs]] = [j for _, j in pairs]
    there = support > 0
    return Swap(
        tuple(pairs),
        balanced_accuracy=float(np.diagonal(shares)[there].mean()),
        if_renamed=float(shares[np.arange(len(names)), names][there].mean()),
    )


def _rings(best: NDArray[np.intp]) -> list[list[tuple[int, int]]]:
    """Return the classes that are exchanged among each other: each ring of a permutation longer than one."""
    rings, seen = [], set[int]()
    for start in range(len(best)):
        ring, at = [], start
        while at not in seen:
            seen.add(at)
            ring.append((at, int(best[at])))
            at = int(best[at])
        if len(ring) > 1:
            rings.append(ring)
    return rings


def _is_swap(counts: NDArray[np.float64], support: NDArray[np.float64], ring: list[tuple[int, int]]) -> bool:
    if any(not support[i] for i, _ in ring):
        return False
    gain, variance = 0.0, 0.0
    for i, j in ring:
        # Two more items, one for and one against: a class of three items is no evidence.
        n, ahead, behind = support[i] + 2, counts[i, j] + 1, counts[i, i] + 1
        mean = (ahead - behind) / n
        gain += mean
        variance += ((ahead + behind) / n - mean**2) / n
    return bool(gain >= AHEAD * len(ring) and gain >= SURE * np.sqrt(variance))
