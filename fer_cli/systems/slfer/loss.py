"""SLFER's loss: expression, face regions and which of them are large (its equations 1 to 5)."""

from __future__ import annotations

import torch
from torch.nn import functional

from fer_cli.core.labels import REGIONS
from fer_cli.losses.cross_entropy import CrossEntropy
from fer_cli.losses.objective import Objective


class SLFERLoss(Objective):
    """``L_EC + segmentation * L_S + components * L_C``.

    L_S is the mean over pixels of the cross-entropy of regions (equation 2). L_C is the mean over images of the sum
    over regions of the binary cross-entropy; equation 3 lacks its minus sign.

    Args:
        softmax: the cross-entropy of expressions, L_EC.
        segmentation: lambda1.
        components: lambda2.
    """

    def __init__(self, softmax: CrossEntropy, *, segmentation: float, components: float) -> None:
        super().__init__()
        self.softmax = softmax
        self.segmentation, self.components = segmentation, components

    def forward(
        self,
        output: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None],
        target: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """Return the loss.

        Args:
            output: logits (n, C), region logits (n, 8, S, S) and component logits (n, 8), None without that head.
            target: classes (n,) or shares (n, C), region maps (n, S, S), and whether a region is large (n, 8).
        """
        logits, regions, large = output
        classes, maps, components = target
        loss: torch.Tensor = self.softmax(logits, classes)
        if regions is not None:
            loss = loss + self.segmentation * functional.cross_entropy(regions.float(), maps.long())
        if large is not None:
            each = functional.binary_cross_entropy_with_logits(large.float(), components.float(), reduction="none")
            loss = loss + self.components * each.sum(1).mean()
        return loss


def region_areas(maps: torch.Tensor) -> torch.Tensor:
    """Return the pixels of each region, (n, 8), of maps (n, H, W) of the regions' numbers."""
    return torch.stack([(maps == region).sum((1, 2)) for region in range(len(REGIONS))], 1)


def largest_regions(maps: torch.Tensor, number: int, *, background: bool = True) -> torch.Tensor:
    """Return which regions are among the ``number`` largest of their map, bool (n, 8).

    Of equally large ones the first in :data:`fer_cli.core.labels.REGIONS` counts.
    A region that is not there is never large,
    so a map of few regions has fewer.

    Args:
        maps: (n, H, W), numbers of regions.
        number: n of the paper, 4 there.
        background: it counts as a region; else it is never large.
    """
    areas = _without(region_areas(maps), background)
    order = areas.argsort(stable=True, dim=1, descending=True)
    large = torch.zeros_like(areas, dtype=torch.bool).scatter_(1, order[:, :number], True)
    return large & (areas > 0)


def larger_than(maps: torch.Tensor, usual: torch.Tensor, *, background: bool = True) -> torch.Tensor:
    """Return which regions are larger than ``usual`` (8,), in pixels, bool (n, 8)."""
    return _without(region_areas(maps), background) > usual


def _without(areas: torch.Tensor, background: bool) -> torch.Tensor:
    if not background:
        areas[:, REGIONS.index("background")] = 0
    return areas
