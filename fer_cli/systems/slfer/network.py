"""SLFER's network: expression, and while it trains also face regions and which of them are large (Lv et al.).

Segmentation (section "ST"): the fourth residual stage, enlarged to the third's side and joined with it; convolution,
batch norm, ReLU, enlarged; then three times enlarged and convolved, the last time to one map a region at the image's
side. Components ("CT"): the pooled features and two fully connected layers. Expression ("ECT"): the pooled features and
three. The paper gives no widths: ours are :data:`WIDTHS`, :data:`COMPONENTS_WIDTH` and :data:`HIDDEN`.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from fer_cli.core.labels import REGIONS
from fer_cli.models.classifier import ClassifierNetwork, perceptron
from fer_cli.models.truncation import level_shapes

WIDTHS: Final = (128, 64, 32)
"""Channels in the segmentation head, at the third stage's side, at a quarter and at half of the image's."""
COMPONENTS_WIDTH: Final = 256
HIDDEN: Final = (512, 256)
"""Widths of the expression branch's first two fully connected layers."""


class SegmentationHead(nn.Module):
    """From the last two feature levels, (n, c3, h, w) and (n, c4, ., .), to region logits (n, 8, S, S)."""

    def __init__(self, third: int, fourth: int) -> None:
        super().__init__()
        first, *others = WIDTHS
        self.join = _convolved(third + fourth, first)
        self.steps = nn.ModuleList(_convolved(before, after) for before, after in zip(WIDTHS, others, strict=False))
        self.regions = nn.Conv2d(others[-1], len(REGIONS), 3, padding=1)

    def forward(self, third: torch.Tensor, fourth: torch.Tensor, side: int) -> torch.Tensor:
        """Return logits at ``side`` px."""
        x = _doubled(self.join(torch.cat([third, _enlarged(fourth, third.shape[-2:])], 1)))
        for step in self.steps:
            x = step(_doubled(x))
        logits: torch.Tensor = self.regions(_enlarged(x, (side, side)))
        return logits


class SLFER(nn.Module):
    """A classifier with the two auxiliary heads, which only act in training mode.

    Args:
        classifier: the expression branch, which is all that a test needs.
        segmentation: whether there is that head.
        components: whether there is that head.
        size: side of the images, px.
    """

    def __init__(self, classifier: ClassifierNetwork, *, segmentation: bool, components: bool, size: int) -> None:
        super().__init__()
        self.expression = classifier
        self.size = size
        self.segmentation: SegmentationHead | None = None
        self.components: nn.Module | None = None
        if segmentation:
            last = len(classifier.backbone.feature_info) - 1
            third, fourth = level_shapes(classifier.backbone, "the backbone", size, [last - 1, last])
            self.segmentation = SegmentationHead(third[1], fourth[1])
        if components:
            layers = perceptron(classifier.width, (COMPONENTS_WIDTH,))
            self.components = nn.Sequential(*layers, nn.Linear(COMPONENTS_WIDTH, len(REGIONS)))

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Return logits (n, C) of images (n, 3, S, S).

        In training mode also region logits (n, 8, S, S) and component logits (n, 8), None each without its head.
        """
        own = self.expression
        if not self.training:
            alone: torch.Tensor = own(x)
            return alone
        levels: tuple[torch.Tensor, ...] = ()
        if self.segmentation is None:
            maps = own.feature_maps(x)
        else:
            last, levels = own.backbone.forward_intermediates(x, indices=2)
            maps = own.attention(last)
        features = own.embed(maps)
        return (
            own.classifier(own.dropout(features)),
            None if self.segmentation is None else self.segmentation(*levels, self.size),
            None if self.components is None else self.components(features),
        )


def _convolved(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


def _enlarged(x: torch.Tensor, size: Any) -> torch.Tensor:  # noqa: ANN401 - a torch.Size or a pair
    return functional.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
