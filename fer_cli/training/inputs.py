"""From rows of a data set to what a network takes and what it should answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fer_cli.models.backbones import Preprocessing
from fer_cli.training import augmentation
from fer_cli.training.augmentation import Augmentation

Rows = NDArray[np.int64]


def picture_inputs(
    images: NDArray[np.uint8], preprocessing: Preprocessing, how: Augmentation, *, seed: int, device: str
) -> Callable[[Rows, int | None], torch.Tensor]:
    """Return a function of rows and epoch that gives float32 (n, 3, S, S) on the device; augmented unless it is None.

    On a GPU the pictures lie on the device from the start where they take at most a quarter of its free memory.

    Args:
        images: all of the data set, uint8 (N, H, W) or (N, H, W, 3).
        preprocessing: of the network.
        how: the augmentation.
        seed: of the run.
        device: torch's name of the device.
    """
    held: torch.Tensor | None = None
    if device.startswith("cuda") and images.nbytes < torch.cuda.mem_get_info(device)[0] / 4:
        held = torch.from_numpy(np.array(images)).to(device)

    def inputs(rows: Rows, epoch: int | None) -> torch.Tensor:
        index = torch.from_numpy(rows)
        places = rows % len(images)
        pixels = torch.from_numpy(images[places]).to(device) if held is None else held[index.to(device) % len(images)]
        if epoch is None:
            return preprocessing.apply(pixels)
        return augmentation.apply(pixels, index, seed=seed, epoch=epoch, how=how, preprocessing=preprocessing)

    return inputs


def class_targets(
    labels: NDArray[np.int64], shares: NDArray[np.float64] | None, device: str
) -> Callable[[Rows, int], torch.Tensor]:
    """Return a function of rows and epoch that gives classes (n,), or shares (n, C) where there are any."""
    everything = torch.from_numpy(labels if shares is None else shares.astype(np.float32)).to(device)

    def targets(rows: Rows, _epoch: int) -> torch.Tensor:
        return everything[torch.from_numpy(rows % len(labels)).to(device)]

    return targets


def limited(rows: Rows, labels: NDArray[np.int64], limit: int | None, seed: int) -> Rows:
    """Return at most ``limit`` of the rows, each class with its share of them and at least one image.

    Args:
        rows: (n,), of the training split.
        labels: (n,), their classes.
        limit: how many; all where it is None.
        seed: which.
    """
    if limit is None or limit >= len(rows):
        return rows
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(rows))
    # The k-th of n images of its class comes at (k + 1/2) / n: the first ones by place hold every class by its share.
    place = np.empty(len(rows))
    for label in np.unique(labels):
        of_class = shuffled[labels[shuffled] == label]
        place[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
        place[of_class[0]] = -1  # the first of each class in any case
    return np.sort(rows[np.argsort(place, kind="stable")[:limit]])
