"""What a network's last linear layer takes: the features by which it tells the classes apart."""

from __future__ import annotations

import torch
from torch import nn


def last_linear(network: nn.Module) -> nn.Linear:
    """Return the last linear layer of a network, in the order of its modules: its classifier."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert layers, f"{type(network).__name__} has no linear layer"
    return layers[-1]


def logits_and_features(network: nn.Module, layer: nn.Linear, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a network once and return its logits and what ``layer`` took. No hook stays behind.

    Args:
        network: in evaluation mode, (n, 3, S, S) -> logits (n, C). Where it mixes the images of a batch, so are the
            features mixed.
        layer: a linear layer of it that runs once, on (n, d), such as :func:`last_linear` finds.
        x: preprocessed images (n, 3, S, S).

    Returns:
        Logits (n, C) and features (n, d).
    """
    assert not network.training, "the features are of a network in evaluation mode"
    taken: list[torch.Tensor] = []

    def take(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        # A copy: what runs later may overwrite its input.
        taken.append(inputs[0].detach().clone())

    handle = layer.register_forward_pre_hook(take)
    try:
        logits: torch.Tensor = network(x)
    finally:
        handle.remove()
    assert len(taken) == 1, f"the layer runs once, not {len(taken)} times"
    assert taken[0].ndim == 2, f"the layer takes (n, d), not {tuple(taken[0].shape)}"
    return logits, taken[0]
