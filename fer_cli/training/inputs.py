"""From rows of a data set to a network's input and targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fer_cli.artifacts.checksums import AnyArray
from fer_cli.models.backbones import Preprocessing
from fer_cli.training import augmentation
from fer_cli.training.recipe import Augmentation

Rows = NDArray[np.int64]


class ImageInputs:
    """Images as float32 (n, 3, S, S) on the device, of rows and epoch: augmented unless the epoch is None.

    On a GPU the images lie on the device from the start where they take at most a quarter of its free memory.

    Args:
        images: all of the data set, uint8 (N, H, W) or (N, H, W, 3).
        preprocessing: of the network.
        augment: what happens to them.
        seed: of the run.
        device: torch's name of the device.
    """

    def __init__(
        self, images: AnyArray, preprocessing: Preprocessing, augment: Augmentation, *, seed: int, device: str
    ) -> None:
        self._images, self._preprocessing, self._augment = images, preprocessing, augment
        self._seed, self._device = seed, device
        self._held: torch.Tensor | None = None
        if device.startswith("cuda") and images.nbytes < torch.cuda.mem_get_info(device)[0] / 4:
            self._held = torch.from_numpy(np.array(images)).to(device)

    def __call__(self, rows: Rows, epoch: int | None) -> torch.Tensor:
        """Return the network's input."""
        index, count = torch.from_numpy(rows), len(self._images)
        if self._held is None:
            pixels = torch.from_numpy(self._images[rows % count]).to(self._device)
        else:
            pixels = self._held[index.to(self._device) % count]
        if epoch is None:
            return self._preprocessing.apply(pixels)
        return augmentation.apply(
            pixels, index, seed=self._seed, epoch=epoch, settings=self._augment, preprocessing=self._preprocessing
        )


class ClassTargets:
    """Classes (n,) on the device, or shares (n, C) where there are any, of rows and any epoch.

    Args:
        labels: (N,), of the whole data set.
        shares: (N, C), None for hard labels.
        device: torch's name of the device.
    """

    def __init__(self, labels: NDArray[np.int64], shares: NDArray[np.float64] | None, device: str) -> None:
        self._table = torch.from_numpy(labels if shares is None else shares.astype(np.float32)).to(device)

    def __call__(self, rows: Rows, _epoch: int) -> torch.Tensor:
        """Return the targets."""
        return self._table[torch.from_numpy(rows % len(self._table)).to(self._table.device)]


@dataclass(frozen=True, slots=True)
class ShareAndClassTargets:
    """The targets of a loss of logits and features: what the softmax learns, and the classes of the features."""

    shares: ClassTargets
    classes: ClassTargets

    def __call__(self, rows: Rows, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both."""
        return self.shares(rows, epoch), self.classes(rows, epoch)


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
    # The k-th of n images of its class is at (k + 1/2) / n: the first in this order hold every class by its share.
    order = np.empty(len(rows))
    for label in np.unique(labels):
        of_class = shuffled[labels[shuffled] == label]
        order[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
        order[of_class[0]] = -1  # the first of each class in any case
    return np.sort(rows[np.argsort(order, kind="stable")[:limit]])
