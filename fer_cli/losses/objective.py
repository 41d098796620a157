"""What a training minimises, as the engine sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from fer_cli.core.distributed import Ranks


class Objective(nn.Module, ABC):
    """A scalar of a network's output and its targets. Persistent buffers are saved and resumed with the training.

    All trained parameters are the network's: an objective has none.
    """

    @abstractmethod
    def forward(self, output: Any, target: Any) -> torch.Tensor:  # noqa: ANN401 - a system's network and loss agree
        """Return the loss, a float32 scalar.

        Args:
            output: of the network in training mode: logits (n, C), or a tuple that begins with them.
            target: of the same images.
        """

    def advance(self, ranks: Ranks) -> None:
        """Move running state on by the batch of the last :meth:`forward`; called once after every step."""
