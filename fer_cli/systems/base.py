"""What a system brings to the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_cli.losses.objective import Objective
from fer_cli.models.backbones import Preprocessing

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class System:
    """A network to train, what it takes and should answer, and the network on pictures that it leads to.

    Args:
        network: what learns; maps what ``inputs`` gives to what ``loss`` takes.
        groups: (factor of the learning rate, parameters) each.
        inputs: of rows and epoch (None: without augmentation).
        targets: of rows and epoch.
        loss: of the network's output and the targets.
        whole: returns the network on preprocessed pictures that the tensors of ``network`` make.
        preprocessing: of the pictures.
        tensors_loaded: from the backbone's weights.
        told: what else a summary says.
    """

    network: nn.Module
    groups: Sequence[tuple[float, list[nn.Parameter]]]
    inputs: Callable[[Rows, int | None], torch.Tensor]
    targets: Callable[[Rows, int], Any]
    loss: Objective
    whole: Callable[[dict[str, torch.Tensor]], nn.Module]
    preprocessing: Preprocessing
    tensors_loaded: int
    told: dict[str, Any] = field(default_factory=dict)
