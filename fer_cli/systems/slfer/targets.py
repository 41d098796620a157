"""SLFER's targets: expressions, region maps that move as their images do, and which regions are large."""

from __future__ import annotations

from collections import Counter
from math import log2

import numpy as np
import torch
from numpy.typing import NDArray

from fer_cli.core.labels import REGIONS
from fer_cli.core.progress import note
from fer_cli.faces.masks import Masks
from fer_cli.models.backbones import Preprocessing
from fer_cli.systems.slfer.loss import largest_regions
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
    ) -> None:
        self.classes, self.masks, self.augment, self.preprocessing = classes, masks, augment, preprocessing
        self.top_k, self.seed, self.device = top_k, seed, device

    def __call__(self, rows: Rows, epoch: int) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Return (n,) or (n, C), uint8 (n, S, S) and bool (n, 8); None for the last two without masks."""
        if self.masks is None:
            return self.classes(rows, epoch), None, None
        maps = self._maps(self.masks, rows, epoch)
        return self.classes(rows, epoch), maps, largest_regions(maps, self.top_k)

    def component_target(self, rows: Rows) -> ComponentTarget:
        """Return how much the component task has to say of the given training images.

        Of the first epoch's maps: what is cropped away or moved out of the image cannot be learned.
        """
        assert self.masks is not None
        counts: Counter[tuple[bool, ...]] = Counter()
        for start in range(0, len(rows), BLOCK):
            large = largest_regions(self._maps(self.masks, rows[start : start + BLOCK], 0), self.top_k)
            counts.update(tuple(row) for row in large.tolist())
        shares = [count / len(rows) for count in counts.values()]
        entropy = -sum(share * log2(share) for share in shares)
        most, count = counts.most_common(1)[0]
        names = [region for region, is_large in zip(REGIONS, most, strict=True) if is_large]
        note(
            f"component target: {entropy:.2f} bits; {', '.join(names)} are the largest in {count / len(rows):.1%} of "
            f"{len(rows):,} training images"
        )
        return ComponentTarget(
            entropy_bits=round(entropy, 4),
            different=len(counts),
            most_common=names,
            most_common_share=round(count / len(rows), 4),
        )

    def _maps(self, masks: Masks, rows: Rows, epoch: int) -> torch.Tensor:
        return augmentation.apply_to_maps(
            torch.from_numpy(masks.maps(rows % len(masks))).to(self.device),
            torch.from_numpy(rows),
            seed=self.seed,
            epoch=epoch,
            settings=self.augment,
            preprocessing=self.preprocessing,
        )
