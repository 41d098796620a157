"""Where a training is: with the tensors it is all of a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fer_cli.training.schedule import Plateau


@dataclass(slots=True)
class State:
    """Epoch, step, what the epoch has summed up so far, and what was best."""

    epoch: int = 0  # from 0, the one under way
    step: int = 0  # in the epoch, the next one
    loss_sum: float = 0.0  # over the epoch's images so far, of this process
    hits: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_epoch: int = 0  # from 1
    plateau: Plateau = field(default_factory=Plateau)
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> State:
        """Return the state that a checkpoint holds."""
        return cls(**{**values, "plateau": Plateau(**values["plateau"])})
