"""The tensors of a checkpoint, by name: the network, its running mean, the loss, the best epoch, the optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Held:
    """What of a training is made of tensors."""

    network: nn.Module
    averaged: nn.Module | None
    loss: nn.Module
    best: Mapping[str, torch.Tensor]
    optimiser: torch.optim.Optimizer


def tensors_of(held: Held) -> dict[str, torch.Tensor]:
    """Return everything by name."""
    tensors = {f"network.{name}": tensor for name, tensor in held.network.state_dict().items()}
    if held.averaged is not None:
        tensors |= {f"averaged.{name}": tensor for name, tensor in held.averaged.state_dict().items()}
    tensors |= {f"loss.{name}": tensor for name, tensor in held.loss.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in held.best.items()}
    for number, values in held.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in values.items() if tensor is not None}
    return tensors


def put_back(tensors: Mapping[str, torch.Tensor], held: Held) -> dict[str, torch.Tensor]:
    """Load everything into where it came from, and return the tensors of the best epoch."""
    groups: dict[str, dict[str, torch.Tensor]] = {
        name: {} for name in ("network", "averaged", "loss", "best", "optimiser")
    }
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = tensor
    held.network.load_state_dict(groups["network"])
    if held.averaged is not None:
        held.averaged.load_state_dict(groups["averaged"])
    held.loss.load_state_dict(groups["loss"])
    moments: dict[int, dict[str, torch.Tensor]] = {}
    parameters = [value for group in held.optimiser.param_groups for value in group["params"]]
    for name, tensor in groups["optimiser"].items():
        number, _, what = name.partition(".")
        value = parameters[int(number)]
        # A fused step goes through memory: a moment must lie there as its parameter does, perhaps channels last.
        lies = torch.empty_like(value, dtype=tensor.dtype).copy_(tensor) if tensor.shape == value.shape else tensor
        moments.setdefault(int(number), {})[what] = lies
    current = held.optimiser.state_dict()
    held.optimiser.load_state_dict({"state": moments, "param_groups": current["param_groups"]})
    return groups["best"]
