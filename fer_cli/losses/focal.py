"""Focal loss (Lin, Goyal, Girshick, He and Dollar, ICCV 2017, equation 5), over C classes in place of two."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fer_cli.losses.objective import Objective


class FocalLoss(Objective):
    """The mean over n images of ``-sum_c a_c q_c (1 - p_c)^gamma log p_c``, computed in float32.

    With a hard label q this is the paper's ``-a_t (1 - p_t)^gamma log p_t``; shares of raters enter as they are. The
    paper's loss is of sigmoids, one a class; this one is of the softmax, as classes of expressions exclude each other.

    Args:
        gamma: 2 in the paper; 0 is cross-entropy.
        weights: (C,), the paper's alpha by class; 1 for each where it is None.
    """

    weights: torch.Tensor | None

    def __init__(self, *, gamma: float, weights: NDArray[np.float32] | None = None) -> None:
        super().__init__()
        # A function of recipe and data set, so no part of a checkpoint.
        self.register_buffer("weights", None if weights is None else torch.from_numpy(weights), persistent=False)
        self.gamma = gamma

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits (n, C) and classes (n,) or shares (n, C)."""
        logs = torch.log_softmax(output.float(), 1)
        classes = output.shape[1]
        shares = torch.nn.functional.one_hot(target, classes).float() if target.ndim == 1 else target.float()
        if self.weights is not None:
            shares = shares * self.weights
        # -expm1(log p) is 1 - p without cancellation. Where it is 0, 0^gamma has no slope for gamma < 1: keep it above.
        focus = (-torch.expm1(logs)).clamp_min(torch.finfo(torch.float32).tiny) ** self.gamma
        return -(shares * focus * logs).sum(1).mean()
