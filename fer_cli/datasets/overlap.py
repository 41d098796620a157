"""Which images of one selection stand in another one too, or show its subjects: of the same data set, or of two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.protocol import DatasetProtocol
from fer_cli.datasets.dataset import Dataset, Names

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


def shared_subjects(
    dataset: Dataset, rows: Rows, other: Dataset, others: Rows
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the images among ``rows`` that show a subject of ``others``, and those that are of a sequence of them.

    Args:
        dataset: whose images are looked at.
        rows: (n,) of it.
        other: where subjects and sequences are looked for; the same data set, or another that :func:`same_id_space`.
        others: (m,) of that.

    Returns:
        Positions among ``rows``, sorted; none where a data set does not name them, or names others.
    """
    nobody = np.zeros(0, dtype=np.int64)
    if not same_id_space(dataset, other):
        return nobody, nobody
    subjects, sequences = (
        nobody if mine is None or theirs is None else _named_alike(mine[rows], theirs[others])
        for mine, theirs in ((dataset.subjects, other.subjects), (dataset.sequences, other.sequences))
    )
    return subjects, sequences


def same_id_space(dataset: Dataset, other: Dataset) -> bool:
    """Tell whether two data sets mean the same subjects and sequences by the same names.

    They were prepared under one name, and of the same source, or they hold an equal picture under one id: of synthetic
    faces with another seed the subjects are others.
    """
    if _prepared_as(dataset) != _prepared_as(other):
        return False
    if _same_source(dataset, other):
        return True
    mine, theirs = (set(zip(one.ids.tolist(), one.pixels.tolist(), strict=True)) for one in (dataset, other))
    return not mine.isdisjoint(theirs)


def _named_alike(names: Names, others: Names) -> NDArray[np.int64]:
    """Return the positions of names that are among others; an unknown name equals no other."""
    known = set(others.tolist()) - {None}
    return np.flatnonzero([name in known for name in names.tolist()])


def _prepared_as(dataset: Dataset) -> str:
    """Return the name that a data set had before it was split anew."""
    return DatasetProtocol.of(dataset.artifact).dataset


def _same_source(one: Dataset, other: Dataset) -> bool:
    if one.artifact.manifest.content == other.artifact.manifest.content:
        return True
    mine, theirs = one.artifact.manifest.inputs, other.artifact.manifest.inputs
    return bool(mine) and {key: value.content for key, value in mine.items()} == {
        key: value.content for key, value in theirs.items()
    }
