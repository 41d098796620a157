"""The optimiser that a recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fer_cli.training.recipe import Optimiser


def new_optimiser(groups: Sequence[tuple[float, list[nn.Parameter]]], settings: Optimiser) -> torch.optim.Optimizer:
    """Return the optimiser; weights of one dimension (norms, biases) do not decay, as is usual."""
    tables: list[dict[str, Any]] = []
    for factor, parameters in groups:
        trainable = [p for p in parameters if p.requires_grad]
        # A step costs by the group as well: where nothing decays there is one.
        parts = (
            (trainable,)
            if not settings.weight_decay
            else ([p for p in trainable if p.ndim > 1], [p for p in trainable if p.ndim < 2])
        )
        for part, decay in zip(parts, (settings.weight_decay, 0.0), strict=False):
            if part:
                tables.append({"params": part, "factor": factor, "weight_decay": decay})
    if settings.name == "sgd":
        return torch.optim.SGD(tables, lr=settings.lr, momentum=settings.momentum, fused=True)
    optimiser = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    # One kernel a step, not some for each tensor: a fifth of a small head's step.
    return optimiser(tables, lr=settings.lr, betas=(settings.momentum, settings.beta2), fused=True)
