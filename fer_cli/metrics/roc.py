"""ROC curves (Fawcett 2006, "An introduction to ROC analysis")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def roc_curve(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return false and true positive rates at every threshold, from (0, 0) to (1, 1); equal scores are one step.

    Args:
        scores: (n,) finite.
        positive: (n,) whether the item is of the class; both kinds must be there.

    Raises:
        ValueError: one of the two kinds is absent.
    """
    if positive.all() or not positive.any():
        raise ValueError("a ROC curve needs items of the class and items of others")
    order = np.argsort(-scores, kind="stable")
    hits, last = np.cumsum(positive[order]), np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true, false = hits[last], 1 + last - hits[last]
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])


def area(false_rates: Floats, true_rates: Floats) -> float:
    """Return the area under a ROC curve: how often an item of the class scores above another (ties count half)."""
    return float(np.sum(np.diff(false_rates) * (true_rates[1:] + true_rates[:-1])) / 2)
