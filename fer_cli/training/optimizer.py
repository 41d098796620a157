"""The optimiser that a recipe names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

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


@contextmanager
@torch.no_grad()
def ascended(network: nn.Module, distance: float) -> Iterator[None]:
    """Move the parameters uphill along their gradient, as sharpness-aware minimisation does (Foret et al. 2021, eq. 2).

    The running statistics of batch normalisation do not follow what passes there. The gradients that are there at the
    end stay.

    Args:
        network: whose parameters have gradients.
        distance: rho, the length of the move over all parameters together.
    """
    parameters: list[torch.Tensor] = [p for p in network.parameters() if p.grad is not None]
    gradients = [p.grad.detach().clone() for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    before = [p.detach().clone() for p in parameters]
    torch._foreach_mul_(gradients, distance / norm.clamp_min(1e-12))
    torch._foreach_add_(parameters, gradients)
    following = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and m.training]
    for module in following:
        module.track_running_stats = False
    try:
        with torch.enable_grad():
            yield
    finally:
        for module in following:
            module.track_running_stats = True
        torch._foreach_copy_(parameters, before)
