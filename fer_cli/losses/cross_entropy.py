"""Cross-entropy of hard or soft labels, with class weights and label smoothing."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.losses.objective import Objective


def balanced_weights(labels: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float32]:
    """Return a weight a class, N / (C * N_c): every class weighs the same, and the mean over all images is 1.

    Args:
        labels: (N,), of the images that are trained on.
        classes: the classes' names.

    Raises:
        FerError: a class has no image.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise FerError(
            f"no training image of {', '.join(empty)}: a balanced loss cannot weigh it",
            hint="take loss.class_weights = 'none', or a data set without that class",
        )
    weights: NDArray[np.float32] = (len(labels) / (len(classes) * counts)).astype(np.float32)
    return weights


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, *, weights: torch.Tensor | None = None, smoothing: float = 0.0
) -> torch.Tensor:
    """Return the mean over n images of ``-sum_c w_c q_c log p_c``, computed in float32.

    q is the target, moved towards the even distribution: ``(1 - smoothing) * target + smoothing / C``. The mean is
    over images: a batch of rare classes weighs more, as the class weights say (torch's own divides by their sum).

    Args:
        logits: (n, C).
        targets: (n,) numbers of classes, or (n, C) shares that sum to one.
        weights: (C,), of the classes; none is 1 for each.
        smoothing: 0 to 1.
    """
    classes = logits.shape[1]
    shares = torch.nn.functional.one_hot(targets, classes).to(torch.float32) if targets.ndim == 1 else targets.float()
    if smoothing:
        shares = shares * (1 - smoothing) + smoothing / classes
    if weights is not None:
        shares = shares * weights
    return -(shares * torch.log_softmax(logits.float(), 1)).sum(1).mean()


class CrossEntropy(Objective):
    """:func:`cross_entropy` of logits, as an objective."""

    weights: torch.Tensor | None

    def __init__(self, weights: NDArray[np.float32] | None = None, smoothing: float = 0.0) -> None:
        super().__init__()
        # A function of recipe and data set, so no part of a checkpoint.
        self.register_buffer("weights", None if weights is None else torch.from_numpy(weights), persistent=False)
        self.smoothing = smoothing

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits (n, C) and classes (n,) or shares (n, C)."""
        return cross_entropy(output, target, weights=self.weights, smoothing=self.smoothing)
