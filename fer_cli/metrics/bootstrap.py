"""Bootstrap intervals: resamples of items, or of whole groups where items of one subject belong together.

Percentile intervals after Efron & Tibshirani (1993), "An introduction to the bootstrap", chapter 13; whole groups are
drawn as in the cluster bootstrap of Davison & Hinkley (1997), section 3.8. A resample is a row of multinomial weights,
and the sums of all resamples are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike

from fer_cli.metrics.values import Floats, Values

if TYPE_CHECKING:
    from scipy import sparse

RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
_CHUNK: Final = 4_000_000
"""Weights held at once: 32 MB of float64, and as much again for the draws."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% interval. NaN marks a value or an interval that is undefined.

    ``sd`` is the standard deviation over the runs where the value is their mean, None where it is of one run.
    """

    value: float
    low: float
    high: float
    sd: float | None = None


def sums_by_unit(sums: sparse.csr_array, groups: ArrayLike | None) -> sparse.csr_array:
    """Return the rows that are drawn together: ``sums`` (N, K) itself, or its sums by group, (G, K).

    Args:
        sums: (N, K), what each item adds.
        groups: (N,) ids of any one sortable kind, or None where items are drawn alone.

    Raises:
        ValueError: ``groups`` has another length.
    """
    from scipy import sparse

    if groups is None:
        return sums
    ids = np.asarray(groups)
    if ids.shape != (sums.shape[0],):
        raise ValueError(f"groups of shape {ids.shape} for {sums.shape[0]} items")
    names, index = np.unique(ids, return_inverse=True)
    member = sparse.csr_array(
        (np.ones(len(ids)), index.astype(np.int64), np.arange(len(ids) + 1)), shape=(len(ids), len(names))
    )
    return sparse.csr_array(member.T @ sums)


def resampled_sums(units: sparse.csr_array, *, seed: int, resamples: int = RESAMPLES) -> Iterator[Floats]:
    """Yield the sums of ``resamples`` bootstrap resamples, in batches of (b, K) that together keep memory bounded.

    Args:
        units: (U, K); each resample draws U of these rows with replacement.
        seed: of the draws; the result does not depend on how they are cut into batches.
        resamples: how many.
    """
    rng = np.random.default_rng(seed)
    n_units = units.shape[0]
    from scipy import sparse

    transposed = sparse.csr_array(units.T)
    step = max(1, _CHUNK // n_units)
    for start in range(0, resamples, step):
        b = min(step, resamples - start)
        draws = rng.integers(n_units, size=(b, n_units))
        draws += np.arange(b)[:, None] * n_units
        weights = np.bincount(draws.ravel(), minlength=b * n_units).reshape(b, n_units).astype(np.float64)
        yield np.ascontiguousarray((transposed @ weights.T).T)


def percentile_interval(resampled: Floats) -> tuple[Floats, Floats]:
    """Return the 2.5th and 97.5th percentiles over the first axis, each (...), of resampled values (B, ...).

    Resamples in which a value is undefined (NaN) are left out: a class that a resample does not hold says nothing about
    that class. Where every resample is undefined the interval is too.
    """
    tail = (1 - CONFIDENCE) / 2
    flat = resampled.reshape(len(resampled), -1)
    ends = np.full((2, flat.shape[1]), np.nan)
    for column in range(flat.shape[1]):
        if len(kept := flat[~np.isnan(flat[:, column]), column]):
            ends[:, column] = np.quantile(kept, [tail, 1 - tail])
    low, high = ends.reshape(2, *resampled.shape[1:])
    return low, high


def calibration_interval(value: Values, resampled: Values) -> tuple[float, float]:
    """Return the interval of the expected calibration error.

    The error is a sum of absolute values, so noise alone pushes it up, and pushes every resample up once more: the
    percentile interval then misses a small true error nearly always (coverage by simulation: 0 to 0.3 where the true
    error is below 0.02). So the interval reaches from the lower to the upper end of the percentile and the basic
    interval together, and its lower end is 0 where the value is no larger than 97.5% of the errors that a calibrated
    model would show, taken from the resamples' deviations of each bin (coverage by simulation: 0.92 to 0.98).
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled.ece, [tail, 1 - tail])
    ece = float(value.ece)
    if_calibrated = np.abs(resampled.bin_gap - value.bin_gap).sum(axis=-1)
    calibrated = ece <= np.quantile(if_calibrated, 1 - tail)
    start = 0.0 if calibrated else max(0.0, min(low, 2 * ece - high))
    return float(start), float(max(high, 2 * ece - low))
