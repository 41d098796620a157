"""Grad-CAM: where in an image the evidence for a class lies (Selvaraju et al. 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fer_cli.core.errors import FerError


def gradcam(network: nn.Module, layer: nn.Module, x: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return where each image speaks for its class: Selvaraju et al. 2017, equations 1 and 2.

    A channel's weight is the mean over the map of the logit's derivative by that channel; the map is the positive part
    of the weighted sum of the channels, enlarged bilinearly and divided by its own maximum. The network is left as it
    was: no gradient, no hook, no flag of a parameter changes, and a frozen one will do.

    Args:
        network: in evaluation mode, (n, 3, S, S) -> logits (n, C). Where it mixes the images of a batch, so do the
            maps.
        layer: a module of it that runs once and returns (n, c, H, W), such as :func:`last_map` finds.
        x: preprocessed images (n, 3, S, S).
        classes: (n,) which logit, from 0 to C - 1.

    Returns:
        (n, S, S) float32 from 0 to 1. A map without any positive place is zero throughout.
    """
    assert not network.training, "Grad-CAM needs the network in evaluation mode"
    activations: list[torch.Tensor] = []

    def take(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        # A leaf of its own: nothing before it is differentiated. A copy goes on, which the next layer may overwrite.
        activations.append(output.detach().requires_grad_())
        return activations[-1].clone()

    with torch.enable_grad():
        handle = layer.register_forward_hook(take)
        try:
            logits: torch.Tensor = network(x)
        finally:
            handle.remove()
        assert len(activations) == 1, f"the layer must run once, not {len(activations)} times"
        (slopes,) = torch.autograd.grad(logits.gather(1, classes.to(logits.device)[:, None]).sum(), activations)
    with torch.no_grad():
        weights = slopes.mean(dim=(2, 3), keepdim=True)
        maps = (weights * activations[0]).sum(dim=1, keepdim=True).relu()
        maps = functional.interpolate(maps, x.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        most = maps.amax(dim=(1, 2), keepdim=True)
        return (maps / torch.where(most > 0, most, 1)).to(torch.float32)


def last_map(network: nn.Module, size: int = 224) -> nn.Module:
    """Return the module that gives a network's last feature map of more than one position.

    It is the deepest of timm's feature levels that is such a map; of a network that names no levels, the module that
    is the last to return one for an image of zeros, and runs once.

    Args:
        network: in evaluation mode, takes (n, 3, S, S); a whole one or a backbone.
        size: S, side of its input in pixels.

    Raises:
        FerError: there is none: the network is a transformer, keeps its channels last, or the images are too small.
    """
    assert not network.training, "probing in training mode would update batch-norm statistics"
    maps: list[nn.Module] = []

    def see(module: nn.Module, _inputs: object, output: Any) -> None:  # noqa: ANN401 - a module returns what it likes
        # A square image has square maps; a channels-last one is not taken for one.
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
            maps.append(module)

    modules = dict(network.named_modules())
    handles = [module.register_forward_hook(see) for module in modules.values()]
    parameter = next(network.parameters())
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype))
    finally:
        for handle in handles:
            handle.remove()
    maps = [module for module in maps if maps.count(module) == 1]
    if levels := getattr(network, "feature_info", None):
        named = [modules.get(str(level["module"])) for level in levels]
        maps = [module for module in named if module is not None and module in maps]
    if not maps:
        raise FerError(
            f"Grad-CAM needs a feature map, and {type(network).__name__} has none at {size} px",
            hint="use a convolutional network, and images of at least twice its stride",
        )
    return maps[-1]
