"""The loss of systems that learn classes alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fer_cli.losses.cross_entropy import CrossEntropy, balanced_weights
from fer_cli.losses.island import IslandLoss
from fer_cli.losses.objective import Objective
from fer_cli.training.recipe import Loss


def new_softmax(how: Loss, labels: NDArray[np.int64], classes: tuple[str, ...]) -> CrossEntropy:
    """Return the cross-entropy that a recipe names.

    Args:
        how: the recipe's.
        labels: (n,), of the images that are trained on.
        classes: the classes' names.

    Raises:
        FerError: a class has no image, and the recipe weighs classes.
    """
    weights = balanced_weights(labels, classes) if how.class_weights == "balanced" else None
    return CrossEntropy(weights, how.label_smoothing)


def new_objective(how: Loss, labels: NDArray[np.int64], classes: tuple[str, ...], width: int) -> Objective:
    """Return the loss that a recipe names: of logits, or of logits and features of some width.

    Raises:
        FerError: as :func:`new_softmax`; or the joint loss has one class alone.
    """
    softmax = new_softmax(how, labels, classes)
    if how.name == "cross-entropy":
        return softmax
    return IslandLoss(softmax, len(classes), width, island=how.island, pairs=how.island_pairs, rate=how.centre_rate)
