"""A trained network, as everything that scores images takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import nn

    from fer_cli.models.backbones import Preprocessing

WEIGHTS: Final = "model.safetensors"
"""The file of a model artifact that holds its tensors."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained network in evaluation mode: preprocessed images (n, 3, S, S) to logits (n, C) of ``classes``."""

    network: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    mixes_batch: bool  # a prediction depends on the other images of its batch
