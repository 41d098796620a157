"""Which images of one selection stand in another one too: of the same data set, or of two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_cli.datasets.dataset import Dataset

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Positions among the rows that were looked at, each list sorted; no position is in both."""

    same: NDArray[np.int64]  # the same item, by its id
    equal: NDArray[np.int64]  # equal pixels under another id, or in another data set


def overlap(dataset: Dataset, rows: Rows, other: Dataset, others: Rows) -> Overlap:
    """Find the images among ``rows`` of a data set that are among ``others`` of a second one.

    An id is the same item only in data sets that were prepared under one name, and there only where the pixels are
    equal, the sources are, or pictures were made of another size: two folders of one name may hold other pictures under
    equal paths.

    Args:
        dataset: whose images are looked at.
        rows: (n,) of it.
        other: where they are looked for; the same data set, or another.
        others: (m,) of that.
    """
    ids, pixels = dataset.ids[rows], dataset.pixels[rows]
    equal = np.isin(pixels, other.pixels[others])
    same = np.zeros(len(rows), dtype=bool)
    if _prepared_as(dataset) == _prepared_as(other) and len(others):
        order = others[np.argsort(other.ids[others], kind="stable")]
        place = np.minimum(np.searchsorted(other.ids[order], ids), len(order) - 1)
        same = other.ids[order[place]] == ids
        if not _same_source(dataset, other) and dataset.images.shape[1:] == other.images.shape[1:]:
            same &= other.pixels[order[place]] == pixels
    return Overlap(np.flatnonzero(same), np.flatnonzero(equal & ~same))


def _prepared_as(dataset: Dataset) -> str:
    """Return the name that a data set had before it was split anew."""
    return str(dataset.artifact.manifest.protocol["dataset"])


def _same_source(one: Dataset, other: Dataset) -> bool:
    if one.artifact.manifest.content == other.artifact.manifest.content:
        return True
    mine, theirs = one.artifact.manifest.inputs, other.artifact.manifest.inputs
    return bool(mine) and {key: value.content for key, value in mine.items()} == {
        key: value.content for key, value in theirs.items()
    }
