"""Intervals where all items are right, or none: every resample is the same then, and a bootstrap sees no chance.

Of n units that are all right the exact interval (Clopper and Pearson 1934) reaches down to (0.025)^(1/n), the share at
which that happens in one of forty samples: 0.40 of four, 0.83 of twenty, 0.999 of 3,589. Where none is right it is the
mirror image. Its coverage is at least 95%, whatever the share. Units are items, or the subjects that have some.

- F1 of a class is 2 J / (1 + J) of the share J of right answers among the items that are of the class or were said to
  be: so are its ends.
- Balanced accuracy is a mean of shares: it reaches down to the least mean of shares at which all classes together come
  out right in one of forty samples. Macro F1, which has no such form, takes the same ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_cli.metrics.bootstrap import CONFIDENCE, Estimate
from fer_cli.metrics.values import CALIBRATION_BINS, Floats, Values

if TYPE_CHECKING:
    from scipy import sparse

_TAIL: Final = (1 - CONFIDENCE) / 2


def least_share(units: ArrayLike) -> Floats:
    """Return the lower end (...) of the interval of a share where all of ``units`` (...) are right; 0 of none."""
    n = np.asarray(units, dtype=np.float64)
    share: Floats = np.where(n > 0, _TAIL ** (1 / np.maximum(n, 1)), 0.0)
    return share


def least_mean(units: ArrayLike) -> float:
    """Return the lower end of the interval of the mean of shares where all of ``units`` (C,), one or more, are right.

    It is the least mean of p with product p_k^n_k = 0.025: p_k = min(1, a n_k), with more to lose where n is small.
    """
    n = np.sort(np.asarray(units, dtype=np.float64))
    logs = np.log(_TAIL) - np.cumsum(n * np.log(n))
    scales = np.exp(logs / np.cumsum(n))  # a, where the first k classes are below 1
    k = int(np.argmax(np.append(scales[:-1] * n[1:] >= 1, True)))
    return float(np.minimum(1, scales[k] * n).mean())


def widened(value: Values, low: Values, high: Values, units: sparse.csr_array, classes: int) -> tuple[Values, Values]:
    """Return the ends of intervals, exact where a share is 0 or 1; those that are not known (NaN) stay so.

    Args:
        value: what was measured.
        low: the lower ends, from resamples.
        high: the upper ends.
        units: (U, C*C + 47), what each unit adds to the sums of ``item_sums``.
        classes: C.
    """
    for name, (least, most) in exact_ends(units, classes).items():
        of, down, up = (getattr(part, name) for part in (value, low, high))
        known = ~np.isnan(down)
        low = low._replace(**{name: np.where(known & (of == 1), least, down)})
        high = high._replace(**{name: np.where(known & (of == 0), most, up)})
    return low, high


def exact_ends(units: sparse.csr_array, classes: int) -> dict[str, tuple[Floats, Floats]]:
    """Return, by metric, the lower end of its interval where it is 1 and the upper end where it is 0.

    Args:
        units: (U, C*C + 47), what each unit adds to the sums of ``item_sums``.
        classes: C.
    """
    cells, bins = classes * classes, range(CALIBRATION_BINS)
    true = units_of_classes(units, classes)
    columns = {k: {*range(k * classes, (k + 1) * classes), *range(k, cells, classes)} for k in range(classes)}
    least = {
        "accuracy": least_share(units.shape[0]),
        "balanced_accuracy": np.asarray(least_mean(true[true > 0])),
        "macro_f1": np.asarray(least_mean(true[true > 0])),
        "recall": least_share(true),
        "precision": least_share(_with_any(units[:, range(k, cells, classes)] for k in range(classes))),
        "bin_accuracy": least_share(_with_any(units[:, [cells + k]] for k in bins)),
    }
    most = {name: 1 - of for name, of in least.items()}
    involved = least_share(_with_any(units[:, sorted(columns[k])] for k in range(classes)))
    least["f1"], most["f1"] = 2 * involved / (1 + involved), 2 * (1 - involved) / (2 - involved)
    return {name: (floor, most[name]) for name, floor in least.items()}


def widened_mean(estimate: Estimate, lowest: float) -> Estimate:
    """Return an estimate with the exact interval where it is 1, down to ``lowest``, or 0, as far up."""
    if np.isnan(estimate.low) or estimate.value not in {0.0, 1.0}:
        return estimate
    ends = (lowest, 1.0) if estimate.value else (0.0, 1 - lowest)
    return replace(estimate, low=ends[0], high=ends[1])


def units_of_classes(units: sparse.csr_array, classes: int) -> NDArray[np.int64]:
    """Return how many units (C,) have items of each class, of sums whose first C*C columns are the confusion's."""
    return _with_any(units[:, range(k * classes, (k + 1) * classes)] for k in range(classes))


def _with_any(parts: Iterable[sparse.csr_array]) -> NDArray[np.int64]:
    """Return of each part how many of its rows are not all zero."""
    return np.array([np.count_nonzero(part.sum(axis=1)) for part in parts], dtype=np.int64)
