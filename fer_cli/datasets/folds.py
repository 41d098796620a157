"""Folds: every image is tested once, by a model that was trained and chosen on the other folds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.splits import carve, shuffled


def subject_folds(subjects: Sequence[str], number: int) -> NDArray[np.int64]:
    """Put ``sorted(subjects)[i::number]`` into fold i, the rule by which CK+ is published.

    Args:
        subjects: (N,) who is pictured.
        number: of folds.

    Returns:
        (N,) the fold of each image.

    Raises:
        FerError: there are fewer subjects than folds.
    """
    names = sorted(set(subjects))
    if len(names) < number:
        raise FerError(f"{len(names)} subjects are too few for {number} folds", hint="use fewer --folds")
    fold = {name: place % number for place, name in enumerate(names)}
    return np.array([fold[name] for name in subjects], dtype=np.int64)


def class_folds(labels: Sequence[str], groups: Sequence[str], number: int, seed: int) -> NDArray[np.int64]:
    """Give every fold its share of each class, groups kept whole.

    The largest group comes first, equal ones in an order that only ``seed`` and their names decide; each goes where
    the squared deviations from the classes' targets, relative to these, grow least, so that a rare class counts as
    much as a common one. With groups of one image, the folds' numbers of a class differ by one at most.

    Args:
        labels: (N,) class names.
        groups: (N,) names that do not depend on the order of the rows, as from :func:`splits.duplicate_groups`.
        number: of folds.
        seed: any whole number.

    Returns:
        (N,) the fold of each image.

    Raises:
        FerError: there are fewer groups than folds.
    """
    _, label = np.unique(np.asarray(labels), return_inverse=True)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < number:
        raise FerError(
            f"{len(names)} independent images or subjects are too few for {number} folds", hint="use fewer --folds"
        )
    counts = np.zeros((len(names), int(label.max()) + 1))
    np.add.at(counts, (group, label), 1)
    index_of = {name: index for index, name in enumerate(names.tolist())}
    order = np.array([index_of[name] for name in shuffled(index_of, seed)])
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    target = counts.sum(axis=0) / number
    over, images = np.tile(-target, (number, 1)), np.zeros(number)
    fold_of = np.empty(len(names), dtype=np.int64)
    for index in order.tolist():
        more = counts[index]
        growth = (over * (more / target**2)).sum(axis=1)  # half of it, less what is the same in every fold
        fold = int(np.lexsort((images, growth))[0])
        fold_of[index] = fold
        over[fold] += more
        images[fold] += more.sum()
    return fold_of[group]


def carve_each(
    labels: Sequence[str], groups: Sequence[str], folds: NDArray[np.int64], fraction: float, seed: int, fold: int
) -> NDArray[np.bool_]:
    """Choose the validation split of one fold from the images of the others, groups kept whole.

    Args:
        labels: (N,) class names.
        groups: (N,) as of :func:`class_folds`.
        folds: (N,) the fold of each image.
        fraction: of the other folds' images.
        seed: any whole number.
        fold: whose model is chosen on them.

    Returns:
        (N,) True for the images of the validation split.

    Raises:
        FerError: a class of the other folds has fewer than two groups.
    """
    train = np.flatnonzero(folds != fold).tolist()
    chosen = np.zeros(len(folds), dtype=np.bool_)
    try:
        chosen[train] = carve([labels[row] for row in train], [groups[row] for row in train], fraction, seed)
    except FerError as error:
        raise FerError(f"fold {fold}: {error.what}", hint="use fewer or other folds") from None
    return chosen


def of_fold(dataset: Dataset, fold: int) -> Dataset:
    """Return a data set as one fold sees it: its splits are test (the fold), validation and train (the others).

    Raises:
        FerError: it has no such fold.
    """
    reference = dataset.artifact.reference
    if dataset.folds is None or dataset.chosen_on is None:
        name = dataset.artifact.name
        raise FerError(f"{reference} has no folds", hint=f"create them: fer split {name} --folds 10")
    number = dataset.chosen_on.shape[1]
    if not 0 <= fold < number:
        raise FerError(f"{reference} has no fold {fold}", hint=f"it has 0 to {number - 1}")
    rest = np.where(dataset.chosen_on[:, fold], "validation", "train")
    return replace(dataset, splits=np.where(dataset.folds == fold, "test", rest).astype(np.str_))


def check_folds(labels: Sequence[str], folds: NDArray[np.int64], chosen_on: NDArray[np.bool_]) -> None:
    """Check that every fold has images to test on, and each class some to train on.

    Raises:
        FerError: one has not.
    """
    names = np.asarray(labels)
    for fold in range(chosen_on.shape[1]):
        tested = folds == fold
        if not tested.any():
            raise FerError(f"fold {fold} has no image", hint="number the folds from 0")
        learned = set(names[~tested & ~chosen_on[:, fold]].tolist())
        if alone := sorted(set(names.tolist()) - learned):
            raise FerError(
                f"without fold {fold} there is no training image of {', '.join(alone)}",
                hint="use other folds, or prepare the data set without the class",
            )


def folds_hash(ids: Sequence[str], folds: NDArray[np.int64], chosen_on: NDArray[np.bool_]) -> str:
    """Return the sha256 that names folds: of the lines ``fold<TAB>id<TAB>validation_of`` sorted, each with a newline.

    ``validation_of`` are the folds whose model is chosen on the image, with blanks between them.
    """
    lines = sorted(
        f"{fold}\t{name}\t{validation_of(of)}\n" for fold, name, of in zip(folds, ids, chosen_on, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def validation_of(chosen_on: NDArray[np.bool_]) -> str:
    """Return the folds whose model is chosen on an image, of its row (K,) of ``chosen_on``, in words."""
    return " ".join(str(fold) for fold in np.flatnonzero(chosen_on))
