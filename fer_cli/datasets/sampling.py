"""Drawing some items of a data set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_subsample(labels: NDArray[np.integer], limit: int, seed: int) -> NDArray[np.int64]:
    """Return the sorted indices of at most ``limit`` items, each class keeping its share (largest remainders).

    Args:
        labels: (N,) class indices.
        limit: how many items to keep; all where there are no more.
        seed: of the random draw.
    """
    n = len(labels)
    if n <= limit:
        return np.arange(n)
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * limit / n
    quota = np.floor(exact).astype(np.int64)
    quota[np.argsort(quota - exact, kind="stable")[: limit - quota.sum()]] += 1
    rng = np.random.default_rng(seed)
    kept = [rng.permutation(np.flatnonzero(labels == k))[:q] for k, q in zip(classes, quota, strict=True)]
    return np.sort(np.concatenate(kept)).astype(np.int64)
