"""Reading a dataset artifact: the index as arrays, the images as a memory map whose blocks are checked when read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.checksums import AnyArray
from fer_cli.artifacts.payload import read_table
from fer_cli.core.errors import FerError

INDEX: Final = "index.parquet"
IMAGES: Final = "images.npy"
MASKS: Final = "masks.npy"
AUS: Final = "aus.parquet"
Names = NDArray[np.object_]
"""Of each image a name (str), or None where it is unknown."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset artifact, opened. Row i of every array is the same image.

    ``labels`` (N,) holds indices into ``classes``; ``images`` is uint8 (N, H, W) or (N, H, W, 3);
    ``pixels`` (N,) holds the hash of each as it is here. ``source_hashes`` (N,) holds that of its file's bytes and
    ``decoded_hashes`` (N,) that of its pixels before they were resized or aligned; both are empty where they are not
    known, as in artifacts from before they were kept. ``subjects`` (N,) and ``sequences`` (N,) hold None where an
    image's is not known, and are None where the source names none; ``targets`` (N, C) is None where labels are hard.
    ``folds`` (N,) holds the fold that each image is tested in, and ``chosen_on`` (N, K) whether the model of each of
    the K folds is chosen on it; both are None where the data set has no folds.
    ``subgroups`` maps what the source says of the subjects (``gender``) to (N,) values, empty where it is unknown.
    """

    artifact: Artifact
    classes: tuple[str, ...]
    ids: NDArray[np.str_]
    splits: NDArray[np.str_]
    labels: NDArray[np.int64]
    images: AnyArray
    pixels: NDArray[np.str_]
    source_hashes: NDArray[np.str_]
    decoded_hashes: NDArray[np.str_]
    subjects: Names | None
    targets: NDArray[np.float64] | None
    sequences: Names | None = None
    folds: NDArray[np.int64] | None = None
    chosen_on: NDArray[np.bool_] | None = None
    subgroups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the row numbers of a split, in order.

        Raises:
            FerError: the data set has no such split.
        """
        found = np.flatnonzero(self.splits == split)
        if not len(found):
            there = ", ".join(name for name in dict.fromkeys(self.splits.tolist()) if name)
            raise FerError(f"{self.artifact.reference} has no {split} split", hint=f"it has {there}")
        return found

    def units(self) -> tuple[str, NDArray[np.int64] | None]:
        """Return what is independent of each other, and its number (N,) of each image: subjects, else sequences.

        An image whose subject is unknown is a unit by itself. Where neither is named each item is, and there are no
        numbers.
        """
        if self.subjects is not None:
            return "subject", _numbered(self.subjects, self.ids)
        return ("item", None) if self.sequences is None else ("sequence", _numbered(self.sequences, self.ids))

    @property
    def names_every_subject(self) -> bool:
        """Whether the subject of each image is known."""
        return self.subjects is not None and not any(name is None for name in self.subjects)

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits that have rows, in the order train, validation, test."""
        there = set(self.splits.tolist())
        return tuple(name for name in ("train", "validation", "test") if name in there)


def open_dataset(artifact: Artifact) -> Dataset:
    """Open a dataset artifact and check that index and images agree.

    Raises:
        FerError: they do not, or a label is none of the data set's classes.
    """
    table = read_table(artifact.file(INDEX))
    classes = tuple(json.loads((table.schema.metadata or {})[b"classes"]))
    images = artifact.array(IMAGES)
    if len(images) != len(table):
        raise FerError(
            f"{len(images)} images but {len(table)} rows in {INDEX}", hint="prepare it again", path=artifact.path
        )
    grey, colour = images.ndim == 3, images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (grey or colour):
        raise FerError(
            f"images are {images.shape} of {images.dtype}", hint="prepare it again with --force", path=artifact.path
        )
    number = {name: index for index, name in enumerate(classes)}
    names = table["label"].to_pylist()
    if unknown := set(names) - set(classes):
        raise FerError(f"label {min(unknown)!r} is not a class of it", hint="prepare it again", path=artifact.path)
    folds, chosen_on = _folds(table, artifact)
    return Dataset(
        artifact=artifact,
        classes=classes,
        ids=_strings(table["id"]),
        splits=_strings(table["split"]),
        labels=np.array([number[name] for name in names], dtype=np.int64),
        images=images,
        pixels=_strings(table["pixels"]),
        source_hashes=_hashes(table, "source_hash"),
        decoded_hashes=_hashes(table, "decoded_hash"),
        subjects=_names(table, "subject"),
        targets=np.array(table["target"].to_pylist(), dtype=np.float64) if table["target"].null_count == 0 else None,
        subgroups=_subgroups(table["flags"].to_pylist()),
        sequences=_names(table, "sequence"),
        folds=folds,
        chosen_on=chosen_on,
    )


def over_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """Return a data set over some of its classes: images of the others have the label -1 and are in no split."""
    if tuple(classes) == dataset.classes:
        return dataset
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([number.get(name, -1) for name in dataset.classes], dtype=np.int64)[dataset.labels]
    splits = np.where(labels < 0, "", dataset.splits)
    return replace(dataset, classes=tuple(classes), labels=labels, splits=splits, targets=None)


def _names(table: Any, column: str) -> Names | None:  # noqa: ANN401 - pyarrow has no types
    """Return the subject or sequence of each image; None where no image names one."""
    if table[column].null_count == len(table):
        return None
    return np.array(table[column].to_pylist(), dtype=np.object_)


def _numbered(names: Names, ids: NDArray[np.str_]) -> NDArray[np.int64]:
    """Number the names in their order; an image without one gets a number of its own, in the order of its id."""
    keys = [(item, False) if name is None else (name, True) for name, item in zip(names, ids.tolist(), strict=True)]
    number = {key: index for index, key in enumerate(sorted(set(keys)))}
    return np.array([number[key] for key in keys], dtype=np.int64)


def _folds(
    table: Any,  # noqa: ANN401 - pyarrow has no types
    artifact: Artifact,
) -> tuple[NDArray[np.int64] | None, NDArray[np.bool_] | None]:
    """Return the columns ``fold`` and ``validation_of`` as arrays, where there are folds."""
    if "fold" not in table.column_names:
        return None, None
    folds = np.array(table["fold"].to_pylist(), dtype=np.int64)
    chosen_on = np.zeros((len(folds), int(folds.max()) + 1), dtype=np.bool_)
    for row, of in enumerate(table["validation_of"].to_pylist()):
        chosen_on[row, of] = True
    if folds.min() < 0 or chosen_on[np.arange(len(folds)), folds].any():
        raise FerError("its folds contradict each other", hint="split it again with --force", path=artifact.path)
    return folds, chosen_on


def _subgroups(flags: Sequence[Sequence[str]]) -> dict[str, NDArray[np.str_]]:
    """Return the values of each ``name=value`` among the flags."""
    found: dict[str, list[str]] = {}
    for row, of in enumerate(flags):
        for name, equals, value in (flag.partition("=") for flag in of):
            if equals:
                found.setdefault(name, [""] * len(flags))[row] = value
    return {name: np.array(values, dtype=np.str_) for name, values in found.items()}


def _hashes(table: Any, column: str) -> NDArray[np.str_]:  # noqa: ANN401 - pyarrow has no types
    """Return a column of hashes, empty where there is none."""
    if column not in table.column_names:
        return np.zeros(len(table), dtype=np.str_)
    return np.array([value or "" for value in table[column].to_pylist()], dtype=np.str_)


def _strings(column: Any) -> NDArray[np.str_]:  # noqa: ANN401 - pyarrow has no types
    return np.array(column.to_pylist(), dtype=np.str_)
