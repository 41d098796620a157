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
    """Positions among the rows that were looked at, each list sorted; no position is in two of them."""

    same: NDArray[np.int64]  # the same image under the same id
    equal: NDArray[np.int64]  # the same image under another id, or in another data set
    unknown: NDArray[np.int64]  # the same as no image of the whole other data set, by any hash


@dataclass(frozen=True, slots=True)
class CrossCopies:
    """Near copies across two data sets: the hashes of the pixels of either side of each pair.

    ``unsought`` says why they could not be looked for, and is empty where they were.
    """

    ours: NDArray[np.str_]
    theirs: NDArray[np.str_]
    unsought: str = ""


def overlap(dataset: Dataset, rows: Rows, other: Dataset, others: Rows) -> Overlap:
    """Find the images among ``rows`` of a data set that are among ``others`` of a second one.

    Two images are the same where their files are, or their pixels, as decoded or as they are kept; or where two data
    sets were read from the same files and give them one id. An id alone proves nothing.

    Args:
        dataset: whose images are looked at.
        rows: (n,) of it.
        other: where they are looked for; the same data set, or another.
        others: (m,) of that.
    """
    everything = np.arange(len(other.ids))
    same = _same_under_one_id(dataset, rows, other, others)
    equal = same_images(dataset, rows, other, others) & ~same
    known = same | same_images(dataset, rows, other, everything) | _same_under_one_id(dataset, rows, other, everything)
    return Overlap(np.flatnonzero(same), np.flatnonzero(equal), np.flatnonzero(~known))


def same_images(dataset: Dataset, rows: Rows, other: Dataset, others: Rows) -> NDArray[np.bool_]:
    """Tell which of ``rows`` (n,) are the same image, by any hash, as one of ``others``, whatever it is called."""
    found = np.zeros(len(rows), dtype=np.bool_)
    for mine, theirs in _hashes(dataset, other):
        found |= np.isin(mine[rows], theirs[others]) & (mine[rows] != "")
    return found


def alike(dataset: Dataset, rows: Rows, other: Dataset, others: Rows) -> NDArray[np.bool_]:
    """Tell whether the k-th of ``rows`` (n,) and of ``others`` (n,) are one image, by any hash, for each k."""
    proven = np.zeros(len(rows), dtype=np.bool_)
    for mine, theirs in _hashes(dataset, other):
        proven |= (mine[rows] == theirs[others]) & (mine[rows] != "")
    return proven


def is_hashed(dataset: Dataset, rows: Rows) -> bool:
    """Tell whether the pixels of each of these images were hashed before they were resized or aligned."""
    return bool((dataset.decoded_hashes[rows] != "").all())


def _same_under_one_id(dataset: Dataset, rows: Rows, other: Dataset, others: Rows) -> NDArray[np.bool_]:
    if _prepared_as(dataset) != _prepared_as(other) or not len(others):
        return np.zeros(len(rows), dtype=np.bool_)
    ids = dataset.ids[rows]
    order = others[np.argsort(other.ids[others], kind="stable")]
    candidates = order[np.minimum(np.searchsorted(other.ids[order], ids), len(order) - 1)]
    same = other.ids[candidates] == ids
    if not _same_source(dataset, other):
        same &= alike(dataset, rows, other, candidates)
    return np.asarray(same, dtype=np.bool_)


def _hashes(dataset: Dataset, other: Dataset) -> tuple[tuple[NDArray[np.str_], NDArray[np.str_]], ...]:
    return (
        (dataset.source_hashes, other.source_hashes),
        (dataset.decoded_hashes, other.decoded_hashes),
        (dataset.pixels, other.pixels),
    )


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
