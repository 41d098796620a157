"""Reading a dataset artifact: the index as arrays, the images as a memory map."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.payload import read_array, read_table
from fer_cli.artifacts.store import Artifact
from fer_cli.core.errors import FerError

INDEX: Final = "index.parquet"
IMAGES: Final = "images.npy"
MASKS: Final = "masks.npy"
AUS: Final = "aus.parquet"
UNKNOWN: Final = "image "
"""What begins the name of a person or sequence that is not known: the image stands for itself."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset artifact, opened. Row i of every array is the same image.

    ``labels`` (N,) holds indices into ``classes``; ``images`` is uint8 (N, H, W) or (N, H, W, 3);
    ``pixels`` (N,) holds the hash of each; ``subjects`` (N,) is
    None where the source names none, and so is ``sequences`` (N,); ``targets`` (N, C) is None where labels are hard.
    ``folds`` (N,) holds the fold that each image is tested in, and ``chosen_on`` (N, K) whether the model of each of
    the K folds is chosen on it; both are None where the data set has no folds.
    ``subgroups`` maps what the source says of the persons (``gender``) to (N,) values, empty where it is not known.
    """

    artifact: Artifact
    classes: tuple[str, ...]
    ids: NDArray[np.str_]
    splits: NDArray[np.str_]
    labels: NDArray[np.int64]
    images: NDArray[np.uint8]
    pixels: NDArray[np.str_]
    subjects: NDArray[np.str_] | None
    targets: NDArray[np.float64] | None
    sequences: NDArray[np.str_] | None = None
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

    def units(self) -> tuple[str, NDArray[np.str_] | None]:
        """Return what is independent of each other and its name (N,) of each image: subjects, else sequences.

        Where neither is named that is each item by itself, and there are no names.
        """
        if self.subjects is not None:
            return "subject", self.subjects
        return ("item", None) if self.sequences is None else ("sequence", self.sequences)

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
    images = read_array(artifact.file(IMAGES))
    if len(images) != len(table):
        raise FerError(
            f"{len(images)} images but {len(table)} rows in {INDEX}", hint="prepare it anew", path=artifact.path
        )
    grey, colour = images.ndim == 3, images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (grey or colour):
        raise FerError(
            f"images are {images.shape} of {images.dtype}", hint="prepare it anew with --force", path=artifact.path
        )
    number = {name: index for index, name in enumerate(classes)}
    names = table["label"].to_pylist()
    if unknown := set(names) - set(classes):
        raise FerError(f"label {min(unknown)!r} is not a class of it", hint="prepare it anew", path=artifact.path)
    folds, chosen_on = _folds(table, artifact)
    return Dataset(
        artifact=artifact,
        classes=classes,
        ids=_strings(table["id"]),
        splits=_strings(table["split"]),
        labels=np.array([number[name] for name in names], dtype=np.int64),
        images=images,
        pixels=_strings(table["pixels"]),
        subjects=_units(table, "subject"),
        targets=np.array(table["target"].to_pylist(), dtype=np.float64) if table["target"].null_count == 0 else None,
        subgroups=_subgroups(table["flags"].to_pylist()),
        sequences=_units(table, "sequence"),
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


def _units(table: Any, column: str) -> NDArray[np.str_] | None:  # noqa: ANN401 - pyarrow has no types
    """Return the person or sequence of each image, an image of which it is not known as one of its own."""
    if table[column].null_count == len(table):
        return None
    pairs = zip(table[column].to_pylist(), table["id"].to_pylist(), strict=True)
    return np.array([f"{UNKNOWN}{name}" if unit is None else unit for unit, name in pairs], dtype=np.str_)


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
        raise FerError("its folds contradict each other", hint="split it anew with --force", path=artifact.path)
    return folds, chosen_on


def _subgroups(flags: Sequence[Sequence[str]]) -> dict[str, NDArray[np.str_]]:
    """Return the values of each ``name=value`` among the flags."""
    found: dict[str, list[str]] = {}
    for row, of in enumerate(flags):
        for name, equals, value in (flag.partition("=") for flag in of):
            if equals:
                found.setdefault(name, [""] * len(flags))[row] = value
    return {name: np.array(values, dtype=np.str_) for name, values in found.items()}


def _strings(column: Any) -> NDArray[np.str_]:  # noqa: ANN401 - pyarrow has no types
    return np.array(column.to_pylist(), dtype=np.str_)
