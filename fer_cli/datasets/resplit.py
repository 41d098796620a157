"""The images of a data set under another split, or in folds, and what its protocol says of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.protocol import DatasetProtocol, FoldsProtocol, FoldsRule, PartRole, PartUse, SplitOrigin
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import track
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.folds import carve_each, check_folds, class_folds, folds_hash, subject_folds
from fer_cli.datasets.leaks import Leaks, find_leaks
from fer_cli.datasets.overlap import same_images
from fer_cli.datasets.split_list import read_list
from fer_cli.datasets.splits import carve, duplicate_groups, random_frames, units_of

VALIDATION: Final = 0.1


@dataclass(slots=True)
class New:
    """A split (N,) in place of the parent's, folds (N,) with what each is selected on (N, K), and how they came to be.

    ``parts``, ``validation`` and ``test`` are the parent's where they are None; ``keeps_test``: the test split is.
    """

    splits: list[str]
    parts: tuple[PartRole, ...] | None = None
    validation: SplitOrigin | None = None
    test: SplitOrigin | None = None
    leaky_frame_split: bool = False
    folds: NDArray[np.int64] | None = None
    chosen_on: NDArray[np.bool_] | None = None
    folds_protocol: FoldsProtocol | None = None
    keeps_test: bool = False
    warnings: list[str] = field(default_factory=list)


class Images:
    """The rows of the parent as the splits are made from them."""

    def __init__(self, dataset: Dataset, table: Any) -> None:  # noqa: ANN401 - pyarrow has no types
        self.dataset, self.table = dataset, table
        self.protocol = DatasetProtocol.of(dataset.artifact)
        self.ids: list[str] = dataset.ids.tolist()
        self.splits: list[str] = dataset.splits.tolist()
        self.labels: list[str] = table["label"].to_pylist()
        self.pixels: list[str] = dataset.pixels.tolist()
        self.subjects: list[str | None] = table["subject"].to_pylist()
        self.sequences: list[str | None] = table["sequence"].to_pylist()
        self.groups = duplicate_groups(self.pixels, units_of(self.subjects, self.sequences))

    def carve(self, rows: Sequence[int], share: float, seed: int) -> list[int]:
        """Return the rows of a validation split, of those that train."""
        chosen = carve([self.labels[row] for row in rows], [self.groups[row] for row in rows], share, seed)
        return [row for row, taken in zip(rows, chosen, strict=True) if taken]

    def parts(
        self, use: PartUse, *, carved: tuple[SplitName, ...] = (), keeps_test: bool = False
    ) -> tuple[PartRole, ...]:
        """Return what the source's parts are used for in another split, which may leave the test part alone."""
        return tuple(
            role
            if role.use == "not read" or (keeps_test and role.use == "test")
            else PartRole(part=role.part, use=use, carved=carved)
            for role in self.protocol.parts
        )

    def leaks(self, sides: Sequence[str], thing: str = "split") -> Leaks:
        """Count what stands on more than one side."""
        return find_leaks(
            sides,
            labels=self.labels,
            pixels=self.pixels,
            subjects=self.subjects,
            sequences=self.sequences,
            thing=thing,
        )


def in_folds(images: Images, number: int, by: str, share: float, seed: int) -> New:
    """Put the images in folds by ``subject`` or by ``class``, the splits left as they are."""
    if by == "subject":
        folds = subject_folds([str(subject) for subject in images.subjects], number)
        rule = FoldsRule(kind="subject", number=number)
    else:
        folds = class_folds(images.labels, images.groups, number, seed)
        rule = FoldsRule(kind="class", number=number, seed=seed)
    chosen_on, validation = _carved_in_each(images, folds, share, seed)
    protocol = _folds_protocol(images, folds, chosen_on, rule, validation)
    return New(images.splits, folds=folds, chosen_on=chosen_on, folds_protocol=protocol, keeps_test=True)


def _carved_in_each(
    images: Images, folds: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.bool_], SplitOrigin]:
    number = int(folds.max()) + 1
    chosen_on = np.zeros((len(folds), number), dtype=np.bool_)
    if not share:
        return chosen_on, SplitOrigin(kind="none")
    with track("carve validation", number, unit="folds") as advance:
        for fold in range(number):
            chosen_on[:, fold] = carve_each(images.labels, images.groups, folds, share, seed, fold)
            advance()
    return chosen_on, SplitOrigin(kind="carved", share=share, seed=seed, in_each_fold=True)


def _folds_protocol(
    images: Images,
    folds: NDArray[np.int64],
    chosen_on: NDArray[np.bool_],
    rule: FoldsRule,
    validation: SplitOrigin,
) -> FoldsProtocol:
    check_folds(images.labels, folds, chosen_on)
    leaks = images.leaks([str(fold) for fold in folds.tolist()], "fold")
    return FoldsProtocol(
        rule=rule,
        hash=folds_hash(images.ids, folds, chosen_on),
        validation=validation,
        images=tuple(np.bincount(folds, minlength=chosen_on.shape[1]).tolist()),
        duplicates_across=leaks.duplicates_across,
        subjects_across=leaks.subjects_across,
        sequences_across=leaks.sequences_across,
    )


def by_frames(images: Images, train: int, test: int, share: float, seed: int, *, by_class: bool = False) -> New:
    """Draw ``test`` of ``train + test`` images, or of those of each class; validation is carved as everywhere.

    Raises:
        FerError: no image is known to be of a sequence, or the ratio leaves nothing to learn from or to test.
    """
    if not any(images.sequences):
        raise FerError(
            f"{images.dataset.artifact.reference} has no sequences, so there are no frames to split",
            hint="use --folds or --validation",
        )
    tested = random_frames(images.ids, train, test, seed, images.labels if by_class else None)
    splits = ["test" if out else "train" for out in tested.tolist()]
    validation = _carve(images, splits, share, seed)
    learned = {label for label, split in zip(images.labels, splits, strict=True) if split == "train"}
    if "test" not in splits or learned != set(images.labels):
        lacks = ", ".join(sorted(set(images.labels) - learned))
        raise FerError(
            f"--leaky-frame-split {train}:{test} of {len(splits):,} images leaves "
            + (f"no training image of {lacks}" if lacks else "nothing to test"),
            hint="use a ratio such as 2:1",
        )
    return New(
        splits,
        parts=images.parts("random"),
        validation=validation,
        test=SplitOrigin(kind="random", images=int(sum(tested)), ratio=(train, test), by_class=by_class, seed=seed),
        leaky_frame_split=True,
    )


def like(images: Images, other: Dataset) -> New:
    """Put each image where another data set has it, by file or pixels whatever it is called; the others stay.

    Where the other one has copies of it in several splits, its own split is the first choice, then train: what may
    have been trained on is not held out.

    Raises:
        FerError: the data sets have no image in common, or nothing would be trained on.
    """
    dataset = images.dataset
    everything = np.arange(len(images.splits))
    there: dict[str, NDArray[np.bool_]] = {
        name: same_images(dataset, everything, other, other.rows(name))
        for name in ("train", "validation", "test")
        if name in other.split_names
    }
    splits = list(images.splits)
    for row in np.flatnonzero(np.any(list(there.values()), axis=0)).tolist():
        if splits[row] not in there or not there[splits[row]][row]:
            splits[row] = next(name for name, has in there.items() if has[row])
    if not any(has.any() for has in there.values()):
        raise FerError(
            f"{dataset.artifact.reference} and {other.artifact.reference} have no image in common",
            hint="prepare both from one source, with hashes of it ('fer prepare --force')",
        )
    if "train" not in splits:
        raise FerError(f"{other.artifact.reference} has no training image of it", hint="take another data set")
    moved = [name for name, before in zip(splits, images.splits, strict=True) if name != before]
    origin = SplitOrigin(kind="like", like=f"{other.artifact.name}@{other.artifact.version}", images=len(moved))
    keeps_test = [name == "test" for name in splits] == [name == "test" for name in images.splits]
    return New(
        splits,
        parts=images.parts("like", keeps_test=keeps_test),
        validation=origin if "validation" in splits else SplitOrigin(kind="none"),
        test=None if keeps_test else origin,
        keeps_test=keeps_test,
    )


def carved_anew(images: Images, share: float, seed: int) -> New:
    """Carve validation from what is train or validation; test stays."""
    splits = ["train" if split == "validation" else split for split in images.splits]
    validation = _carve(images, splits, share, seed)
    parts = images.parts("train", carved=("validation",), keeps_test=True)
    return New(splits, parts=parts, validation=validation, keeps_test=True)


def _carve(images: Images, splits: list[str], share: float, seed: int) -> SplitOrigin:
    """Make a share of what is train validation, in place, and return what a protocol says of it."""
    if not share:
        return SplitOrigin(kind="none")
    chosen = images.carve([row for row, split in enumerate(splits) if split == "train"], share, seed)
    for row in chosen:
        splits[row] = "validation"
    return SplitOrigin(kind="carved", share=share, images=len(chosen), seed=seed)


def as_listed(images: Images, ids: Path, validation: float | None, seed: int) -> New:
    """Take splits and folds as a list has them.

    Folds without a word on validation get it carved, a tenth where ``validation`` is None; splits without any get it
    where it is not None.

    Raises:
        FerError: the list is at fault.
        UsageError: the list says what is validation, and so does ``validation``.
    """
    listed = read_list(ids, images.dataset)
    as_list_says = SplitOrigin(kind="listed")
    new = New(images.splits, keeps_test=listed.splits is None, warnings=listed.warnings)
    carves = False
    if listed.splits is not None:
        new.splits, new.parts = listed.splits, images.parts("listed")
        new.validation = new.test = as_list_says
        if validation is not None and "validation" not in new.splits:
            new.validation, carves = _carve(images, new.splits, validation, seed), True
    if listed.folds is not None:
        new.folds, new.chosen_on, origin = listed.folds, listed.chosen_on, as_list_says
        if new.chosen_on is None:
            share = VALIDATION if validation is None else validation
            (new.chosen_on, origin), carves = _carved_in_each(images, listed.folds, share, seed), True
        rule = FoldsRule(kind="listed", number=new.chosen_on.shape[1])
        new.folds_protocol = _folds_protocol(images, listed.folds, new.chosen_on, rule, origin)
    if validation is not None and not carves:
        raise UsageError("--validation has no effect: the list has validation images", hint="omit it")
    return new
