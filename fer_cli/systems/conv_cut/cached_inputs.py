"""Conv-cut's inputs where feature maps are cached: both views of every image, computed once.

The backbone is frozen and only flips augment, so every image has two feature maps. With them an epoch costs the head
alone and gives what the training from images gives: the same images are flipped in the same epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from fer_cli.artifacts.checksums import AnyArray
from fer_cli.core import machine
from fer_cli.core.progress import note
from fer_cli.training import counter_rng
from fer_cli.training.counter_rng import Stream

BLOCK: Final = 1024
"""Images whose maps are read at once."""


class CachedInputs:
    """Feature maps (n, C, h, w), float32 on the device, of rows and epoch.

    The maps go to the device, or into memory, where they take at most half of what is free there; else each batch is
    read from the disk.

    Args:
        views: ``original`` and ``flip``, (N, C, h, w) each.
        flip: share of the images that are flipped in an epoch.
        seed: of the run.
        device: torch's name of the device.
    """

    def __init__(self, views: Mapping[str, AnyArray], flip: float, *, seed: int, device: str) -> None:
        self._views, self._flip, self._seed, self._device = views, flip, seed, device
        self._images = len(views["original"])
        self._held: torch.Tensor | None = None  # (2 N, C, h, w): what is not flipped, then what is
        size = sum(maps.nbytes for maps in views.values())
        storage = "on disk"
        for target, free in ((device, _free(device)), ("cpu", machine.free_memory())):
            if self._held is None and size < free / 2:
                self._held = _held(views, target)
                storage = "in memory" if target == "cpu" else "on the device"
        note(f"feature cache: {size / 1e6:,.0f} MB, {storage}")

    def __call__(self, rows: NDArray[np.int64], epoch: int | None) -> torch.Tensor:
        """Return the maps; those of flipped images where the epoch's numbers say so, none where it is None."""
        flipped = torch.zeros(len(rows), dtype=torch.bool)
        if epoch is not None and self._flip:
            draws = counter_rng.uniform(self._seed, epoch, torch.from_numpy(rows), Stream.FLIP)
            flipped = draws.to(torch.float64) < self._flip
        images = torch.from_numpy(rows % self._images)
        if self._held is not None:
            index = (images + self._images * flipped).to(self._held.device)
            return self._held.index_select(0, index).float().to(self._device)
        maps = torch.empty((len(rows), *self._views["original"].shape[1:]))
        for view, part in (("original", ~flipped), ("flip", flipped)):
            maps[part] = torch.from_numpy(self._views[view][images[part].numpy()]).float()
        return maps.to(self._device)


def _held(views: Mapping[str, AnyArray], device: str) -> torch.Tensor:
    """Return both views in one tensor on a device, without a third copy of a view in memory."""
    images, *shape = views["original"].shape
    dtype = torch.from_numpy(np.array(views["original"][:0])).dtype
    held = torch.empty((2 * images, *shape), dtype=dtype, device=device)
    for number, view in enumerate(("original", "flip")):
        for start in range(0, images, BLOCK):
            stop = min(start + BLOCK, images)
            held[number * images + start : number * images + stop] = torch.from_numpy(np.array(views[view][start:stop]))
    return held


def _free(device: str) -> float:
    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else 0.0
