"""Metrics as functions of sums over items.

Every metric here is a function of a few sums: the cells of the confusion matrix, the sums of each calibration bin, the
sums of two losses. So one function serves the dataset itself and, a batch at a time, all of its bootstrap resamples.

Conventions, where a textbook leaves a choice:

- the predicted class is the first of the largest probabilities;
- a class with no item has no recall and no F1 (NaN), and balanced accuracy and macro F1 are means over the classes that
  have items;
- a class that is never predicted has precision 0 (as with ``zero_division=0`` in scikit-learn);
- expected calibration error (Guo et al. 2017, "On calibration of modern neural networks", Eq. 3) takes 15 bins of equal
  width, open on the left, of the largest probability; an empty bin counts nothing;
- negative log likelihood clips the probability of the true class at 2.2e-16, the resolution of float64;
- the Brier score is the sum over classes of squared differences (0 to 2), averaged over items (Brier 1950).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_cli.core.errors import FerError

if TYPE_CHECKING:
    from scipy import sparse

CALIBRATION_BINS: Final = 15
BIN_EDGES: Final[NDArray[np.float64]] = np.linspace(0.0, 1.0, CALIBRATION_BINS + 1)
SUM_TOLERANCE: Final = 0.01
"""How far a row of probabilities may be from 1: eight classes rounded to three decimals stay inside."""

Floats = NDArray[np.float64]


class Values(NamedTuple):
    """Metrics of one dataset (leading shape empty) or of a batch of resamples (leading shape (B,)).

    The first six have the leading shape alone; ``precision``, ``recall``, ``f1`` are (..., C); ``bin_accuracy``,
    ``bin_confidence`` and ``bin_gap`` are (..., 15). NaN marks what is undefined. ``bin_gap`` is a bin's share of items
    times (mean confidence - accuracy): the sum of its absolute values is the calibration error.
    """

    accuracy: Floats
    balanced_accuracy: Floats
    macro_f1: Floats
    ece: Floats
    nll: Floats
    brier: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    bin_accuracy: Floats
    bin_confidence: Floats
    bin_gap: Floats


def check_predictions(
    true: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]
) -> tuple[NDArray[np.int64], Floats]:
    """Return labels (N,) and probabilities (N, C) as int64 and float64, or say what is wrong with them.

    Args:
        true: (N,) integers, indices into ``classes``.
        probabilities: (N, C), one row an item, non-negative, summing to 1 within ``SUM_TOLERANCE``.
        classes: the C distinct class names.

    Raises:
        FerError: shapes that do not match, no item, a label outside the classes, or a row that is no distribution; rows
            are counted from 1.
    """
    labels, table = np.asarray(true), np.asarray(probabilities, dtype=np.float64)
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise FerError(f"{list(classes)} cannot be scored", hint="two or more distinct classes are needed")
    if labels.ndim != 1 or table.shape != (len(labels), len(classes)):
        raise FerError(
            f"labels of shape {labels.shape} and scores of shape {table.shape} do not match {len(classes)} classes",
            hint="one row of scores an item and one column a class are needed",
        )
    if not len(labels):
        raise FerError("there is no item to score", hint="choose a split that has items of these classes")
    if labels.dtype.kind not in "iu":
        raise FerError(f"labels are {labels.dtype}, not integers", hint="labels are indices into the classes")
    if (outside := (labels < 0) | (labels >= len(classes))).any():
        row = int(np.argmax(outside))
        raise FerError(f"row {row + 1}: label {labels[row]} is none of {len(classes)} classes", hint="check the labels")
    sums = table.sum(axis=1)
    # Comparisons with NaN are false, so the test asks for what is right rather than for what is wrong.
    sound = (table >= 0).all(axis=1) & (np.abs(sums - 1) <= SUM_TOLERANCE)
    if not sound.all():
        row = int(np.argmin(sound))
        raise FerError(
            f"row {row + 1}: scores {np.array2string(table[row], precision=4, separator=', ')} are no probabilities",
            hint="every row must be non-negative and sum to 1",
        )
    return labels.astype(np.int64), table


def item_sums(true: NDArray[np.int64], probabilities: Floats) -> sparse.csr_array:
    """Return what each item adds to the sums that the metrics are made of.

    Args:
        true: (N,) indices of the true classes.
        probabilities: (N, C).

    Returns:
        A sparse (N, C*C + 47) matrix: confusion cells (true class major), then per calibration bin the number of items,
        their confidence and their hits (15 columns each), then negative log likelihood and Brier score.
    """
    from scipy import sparse

    n, c = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    bins = np.clip(np.searchsorted(BIN_EDGES, confidence, side="left") - 1, 0, CALIBRATION_BINS - 1)
    of_true = probabilities[np.arange(n), true]
    nll = -np.log(np.clip(of_true, np.finfo(np.float64).eps, 1.0))
    brier = (probabilities**2).sum(axis=1) - 2 * of_true + 1
    first = c * c
    last = first + 3 * CALIBRATION_BINS
    columns = [
        true * c + predicted,
        first + bins,
        first + CALIBRATION_BINS + bins,
        first + 2 * CALIBRATION_BINS + bins,
        np.full(n, last),
        np.full(n, last + 1),
    ]
    entries = [np.ones(n), np.ones(n), confidence, (predicted == true).astype(np.float64), nll, brier]
    return sparse.csr_array(
        (np.stack(entries, axis=1).ravel(), np.stack(columns, axis=1).ravel(), np.arange(n + 1) * len(columns)),
        shape=(n, last + 2),
    )


def class_values(confusion: Floats) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and F1, (..., C) each, of confusion matrices (..., C, C) with true classes in rows."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support = confusion.sum(axis=-1)
    predicted = confusion.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / support
        precision = np.where(predicted > 0, hits / predicted, 0.0)
        f1 = np.where(support > 0, 2 * hits / (support + predicted), np.nan)
    return precision, recall, f1


def mean_of_present(values: Floats) -> Floats:
    """Return the mean over the last axis of the entries that are not NaN; at least one must be there."""
    present = ~np.isnan(values)
    mean: Floats = np.where(present, values, 0.0).sum(axis=-1) / present.sum(axis=-1)
    return mean


def values_from_sums(sums: Floats, n_classes: int) -> Values:
    """Return the metrics of one or many datasets from their sums.

    Args:
        sums: (..., C*C + 47), items' rows of :func:`item_sums` added up.
        n_classes: C.
    """
    first = n_classes * n_classes
    confusion = sums[..., :first].reshape(*sums.shape[:-1], n_classes, n_classes)
    count, confidence, hits = (
        sums[..., first + k * CALIBRATION_BINS : first + (k + 1) * CALIBRATION_BINS] for k in range(3)
    )
    n = count.sum(axis=-1)
    precision, recall, f1 = class_values(confusion)
    gap = (confidence - hits) / n[..., None]
    with np.errstate(invalid="ignore"):
        bin_accuracy, bin_confidence = hits / count, confidence / count
    return Values(
        accuracy=np.trace(confusion, axis1=-2, axis2=-1) / n,
        balanced_accuracy=mean_of_present(recall),
        macro_f1=mean_of_present(f1),
        ece=np.abs(gap).sum(axis=-1),
        nll=sums[..., -2] / n,
        brier=sums[..., -1] / n,
        precision=precision,
        recall=recall,
        f1=f1,
        bin_accuracy=bin_accuracy,
        bin_confidence=bin_confidence,
        bin_gap=gap,
    )
