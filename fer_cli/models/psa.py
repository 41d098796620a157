"""Pyramid split attention in place of a bottleneck's 3x3 convolution (PSA-ResNet, section 2.2; EPSANet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import nn

from fer_cli.core.errors import FerError

KERNELS: Final = (3, 5, 7, 9)
REDUCTION: Final = 16
GROUPS: Final = {"reference": (1, 4, 8, 16), "paper": (2, 4, 8, 16)}
"""Groups of each branch: as EPSANet's authors run it, or by the paper's equation 2, ``2 ** ((kernel - 1) / 2)``."""


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Which of the forms that text, equations and code give.

    Args:
        groups: a key of :data:`GROUPS`.
        branch_input: every branch takes the ``whole`` input, as code and parameter counts say, or a quarter of its
            channels each (``split``), as the text says.
    """

    groups: Literal["reference", "paper"] = "reference"
    branch_input: Literal["whole", "split"] = "whole"


class PSA(nn.Module):
    """Four convolutions of different reach, each to a quarter of the channels, weighed against each other by channel.

    F_i = conv_i(x); a = softmax over i of SE(F_i), one SE for all branches; the output is the concatenation of a_i F_i
    (equations 3 to 6).

    Args:
        channels: of the input.
        out: of the output; four times the channels of a branch.
        stride: of every branch.
        form: which groups, and whether the input is split.
    """

    def __init__(self, channels: int, out: int, *, stride: int = 1, form: Pyramid | None = None) -> None:
        super().__init__()
        form = form or Pyramid()
        branch = out // len(KERNELS)
        self.split = form.branch_input == "split"
        width = channels // len(KERNELS) if self.split else channels
        convs = [
            nn.Conv2d(width, branch, kernel, stride, kernel // 2, groups=groups, bias=False)
            for kernel, groups in zip(KERNELS, GROUPS[form.groups], strict=True)
        ]
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.convs = nn.ModuleList(convs)
        inner = max(1, branch // REDUCTION)
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(branch, inner, 1), nn.ReLU(), nn.Conv2d(inner, branch, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, out, H / stride, W / stride) of (n, channels, H, W)."""
        parts = x.chunk(len(KERNELS), 1) if self.split else (x,) * len(KERNELS)
        maps = torch.stack([conv(part) for conv, part in zip(self.convs, parts, strict=True)], 1)
        n, branches, channels, height, width = maps.shape
        gates = self.se(maps.flatten(0, 1)).view(n, branches, channels, 1, 1)
        weighed: torch.Tensor = maps * gates.softmax(1)
        return weighed.reshape(n, branches * channels, height, width)


def pyramid_in_bottlenecks(network: nn.Module, form: Pyramid) -> tuple[str, ...]:
    """Put PSA for the 3x3 convolution of every bottleneck of timm's ResNets, and return the names of the new modules.

    Raises:
        FerError: a bottleneck's channels cannot be shared out among the branches.
    """
    from timm.models.resnet import Bottleneck

    names = []
    for name, block in list(network.named_modules()):
        if type(block) is not Bottleneck:
            continue
        old: Any = block.conv2
        if old.groups > 1 or old.in_channels % 64 or old.out_channels % 64:
            raise FerError(
                f"psa takes plain bottlenecks of a multiple of 64 channels; {name} has {old.out_channels} channels in "
                f"{old.groups} groups",
                hint="take resnet50, resnet101 or another plain ResNet",
            )
        psa = PSA(old.in_channels, old.out_channels, stride=old.stride[0], form=form)
        network.set_submodule(f"{name}.conv2", psa)
        names.append(f"{name}.conv2")
    return tuple(names)
