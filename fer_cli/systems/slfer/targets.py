"""SLFER's targets: expressions, region maps that move as their images do, and which regions are large."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import log2

import numpy as np
import torch
from numpy.typing import NDArray

from fer_cli.core.labels import REGIONS
from fer_cli.core.progress import note
from fer_cli.faces.masks import Masks
from fer_cli.models.backbones import Preprocessing
from fer_cli.systems.slfer.loss import larger_than, largest_regions, region_areas
from fer_cli.systems.slfer.summary import ComponentTarget
from fer_cli.training import augmentation
from fer_cli.training.inputs import ClassTargets
from fer_cli.training.recipe import Augmentation

Rows = NDArray[np.int64]
BLOCK = 1024


class SLFERTargets:
    """Expressions, region maps and large regions of rows and epoch: what SLFER's loss takes.

    Args:
        classes: the targets of the expressions.
        masks: of the data set; None where neither auxiliary task is trained.
        augment: what moves images, and so their maps.
        preprocessing: of the images.
        top_k: regions that count as large.
        above_median_of: the training images among which a region is compared with its own median: what is above it
            counts as large, in place of the ``top_k``. None: the ``top_k`` of each image.
        background: the background counts as a region.
        seed: of the run.
        device: torch's name of the device.
    """

    def __init__(
        self,
        classes: ClassTargets,
        masks: Masks | None,
        augment: Augmentation,
        preprocessing: Preprocessing,
        *,
        top_k: int,
        seed: int,
        device: str,
        above_median_of: Rows | None = None,
        background: bool = True,
    ) -> None:
        self.classes, self.masks, self.augment, self.preprocessing = classes, masks, augment, preprocessing
        self.top_k, self.seed, self.device = top_k, seed, device
        self.background = background
        self.usual = None if above_median_of is None else self._medians(above_median_of)

    def __call__(self, rows: Rows, epoch: int) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Return (n,) or (n, C), uint8 (n, S, S) and bool (n, 8); None for the last two without masks."""
        if self.masks is None:
            return self.classes(rows, epoch), None, None
        maps = self._maps(self.masks, rows, epoch)
        return self.classes(rows, epoch), maps, self._large(maps)

    def component_target(self, rows: Rows) -> ComponentTarget:
        """Return how much the component task has to say of the given training images.

        Of the first epoch's maps: what is cropped away or moved out of the image cannot be learned.
        """
        assert self.masks is not None
        counts: Counter[tuple[bool, ...]] = Counter()
        for start in range(0, len(rows), BLOCK):
            large = self._large(self._maps(self.masks, rows[start : start + BLOCK], 0))
            counts.update(tuple(row) for row in large.tolist())
        most, count = counts.most_common(1)[0]
        large_in = [sum(n for row, n in counts.items() if row[region]) for region in range(len(REGIONS))]
        target = ComponentTarget(
            entropy_bits=round(_entropy(counts.values()), 4),
            different=len(counts),
            most_common=[region for region, is_large in zip(REGIONS, most, strict=True) if is_large],
            most_common_share=round(count / len(rows), 4),
            region_bits={
                region: round(_entropy((n, len(rows) - n)), 4) for region, n in zip(REGIONS, large_in, strict=True)
            },
        )
        note(f"component target: {target}")
        return target

    def _large(self, maps: torch.Tensor) -> torch.Tensor:
        if self.usual is None:
            return largest_regions(maps, self.top_k, background=self.background)
        return larger_than(maps, self.usual, background=self.background)

    def _medians(self, rows: Rows) -> torch.Tensor:
        """Return the regions' median areas (8,) in the first epoch's maps of the training images."""
        assert self.masks is not None
        blocks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
        return torch.cat([region_areas(self._maps(self.masks, block, 0)) for block in blocks]).median(0).values

    def _maps(self, masks: Masks, rows: Rows, epoch: int) -> torch.Tensor:
        return augmentation.apply_to_maps(
            torch.from_numpy(masks.maps(rows % len(masks))).to(self.device),
            torch.from_numpy(rows),
            seed=self.seed,
            epoch=epoch,
            settings=self.augment,
            preprocessing=self.preprocessing,
        )


def _entropy(counts: Iterable[int]) -> float:
    """Return the entropy of shares, in bits."""
    held = [count for count in counts if count]
    return -sum(count / sum(held) * log2(count / sum(held)) for count in held) + 0.0
