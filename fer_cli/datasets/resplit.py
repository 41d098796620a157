"""The images of a data set under another split, or in folds, and what its protocol says of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import track
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.folds import carve_each, check_folds, class_folds, folds_hash, subject_folds
from fer_cli.datasets.leaks import Leaks, find_leaks
from fer_cli.datasets.records import SPLITS
from fer_cli.datasets.split_list import read_list
from fer_cli.datasets.splits import TOGETHER, carve, duplicate_groups, lasting_roles, random_frames, units_of

VALIDATION: Final = 0.1
FRAMES_APART: Final = "frames of one sequence stand on both sides of this split, on purpose: optimistic"


@dataclass(slots=True)
class New:
    """A split (N,) in place of the parent's, folds (N,) with what each is chosen on (N, K), and words for the protocol.

    ``test_stays``: the test split is the parent's.
    """

    splits: list[str]
    protocol: dict[str, Any]
    folds: NDArray[np.int64] | None = None
    chosen_on: NDArray[np.bool_] | None = None
    test_stays: bool = False


class Images:
    """The rows of the parent as the splits are made from them."""

    def __init__(self, dataset: Dataset, table: Any) -> None:  # noqa: ANN401 - pyarrow has no types
        self.dataset, self.table = dataset, table
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

    def roles(self, role: str, but: str = "") -> dict[str, str]:
        """Return the roles of the source's parts in another split, which leaves those alone that are ``but``."""
        told = self.dataset.artifact.manifest.protocol["roles"]
        lasting = lasting_roles(told, persons_known=any(self.subjects))
        parts = {part: of for part, of in told.items() if of.startswith(SPLITS)}
        return {part: of if but and of.startswith(but) else role for part, of in parts.items()} | lasting

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
        rule = f"fold i holds sorted(subjects)[i::{number}]"
    else:
        folds = class_folds(images.labels, images.groups, number, seed)
        rule = f"{TOGETHER}, seed {seed}"
    chosen_on, told = _carved_in_each(images, folds, share, seed)
    protocol = _folds_protocol(images, folds, chosen_on, rule, told)
    return New(images.splits, protocol, folds, chosen_on, test_stays=True)


def _carved_in_each(images: Images, folds: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.bool_], str]:
    number = int(folds.max()) + 1
    chosen_on = np.zeros((len(folds), number), dtype=np.bool_)
    if not share:
        return chosen_on, "none"
    with track("carve validation", number, unit="folds") as advance:
        for fold in range(number):
            chosen_on[:, fold] = carve_each(images.labels, images.groups, folds, share, seed, fold)
            advance()
    return chosen_on, f"carved from each fold's training images: {share:.3g} asked, {TOGETHER}, seed {seed}"


def _folds_protocol(
    images: Images, folds: NDArray[np.int64], chosen_on: NDArray[np.bool_], rule: str, validation: str
) -> dict[str, Any]:
    check_folds(images.labels, folds, chosen_on)
    leaks = images.leaks([str(fold) for fold in folds.tolist()], "fold")
    return {
        "folds": {
            "number": chosen_on.shape[1],
            "rule": rule,
            "hash": folds_hash(images.ids, folds, chosen_on),
            "validation": validation,
            "images": np.bincount(folds).tolist(),
            "duplicates_across": leaks.duplicates_across,
            "subjects_across": leaks.subjects_across,
            "sequences_across": leaks.sequences_across,
        }
    }


def by_frames(images: Images, train: int, test: int, share: float, seed: int) -> New:
    """Draw ``test`` of ``train + test`` images, and validation from the others as everywhere.

    Raises:
        FerError: no image is known to be of a sequence, or the ratio leaves nothing to learn from or to test.
    """
    if not any(images.sequences):
        raise FerError(
            f"{images.dataset.artifact.reference} has no sequences whose frames could be parted",
            hint="take --folds or --validation",
        )
    tested = random_frames(images.ids, train, test, seed)
    splits = ["test" if out else "train" for out in tested.tolist()]
    told = _carve(images, splits, share, seed)
    learned = {label for label, split in zip(images.labels, splits, strict=True) if split == "train"}
    if "test" not in splits or learned != set(images.labels):
        lacks = ", ".join(sorted(set(images.labels) - learned))
        raise FerError(
            f"--leaky-frame-split {train}:{test} of {len(splits):,} images leaves "
            + (f"no training image of {lacks}" if lacks else "nothing to test"),
            hint="take a ratio such as 2:1",
        )
    protocol = {
        "roles": images.roles("train or test by chance, image by image"),
        "validation": told,
        "test": f"{sum(tested):,} images at random, {train}:{test} of train to test, seed {seed}",
        "unsound_split": FRAMES_APART,
    }
    return New(splits, protocol)


def carved_anew(images: Images, share: float, seed: int) -> New:
    """Carve validation from what is train or validation; test stays."""
    splits = ["train" if split == "validation" else split for split in images.splits]
    told = _carve(images, splits, share, seed)
    roles = images.roles("train, less the validation split carved from it", but="test")
    return New(splits, {"roles": roles, "validation": told}, test_stays=True)


def _carve(images: Images, splits: list[str], share: float, seed: int) -> str:
    """Make a share of what is train validation, in place, and return what a protocol says of it."""
    if not share:
        return "none"
    chosen = images.carve([row for row, split in enumerate(splits) if split == "train"], share, seed)
    for row in chosen:
        splits[row] = "validation"
    return f"carved from train: {share:.3g} asked, {len(chosen):,} images taken, {TOGETHER}, seed {seed}"


def as_listed(images: Images, ids: Path, validation: float | None, seed: int) -> New:
    """Take splits and folds as a list has them.

    Folds without a word on validation get it carved, a tenth where ``validation`` is None; splits without any get it
    where it is not None.

    Raises:
        FerError: the list is at fault.
        UsageError: the list says what is validation, and so does ``validation``.
    """
    listed = read_list(ids, images.dataset)
    says = "as the list of ids says"
    protocol: dict[str, Any] = {}
    splits, carves = images.splits, False
    if listed.splits is not None:
        splits = listed.splits
        told = says
        if validation is not None and "validation" not in splits:
            told, carves = _carve(images, splits, validation, seed), True
        protocol = {"roles": images.roles(says), "validation": told, "test": says}
    chosen_on = listed.chosen_on
    if listed.folds is not None:
        told = says
        if chosen_on is None:
            share = VALIDATION if validation is None else validation
            (chosen_on, told), carves = _carved_in_each(images, listed.folds, share, seed), True
        protocol |= _folds_protocol(images, listed.folds, chosen_on, says, told)
    if validation is not None and not carves:
        raise UsageError("--validation has nothing to say: the list has validation images", hint="leave it out")
    return New(splits, protocol, listed.folds, chosen_on, test_stays=listed.splits is None)
