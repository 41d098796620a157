"""The loop that runs a network over rows of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from fer_cli.artifacts.checksums import AnyArray
from fer_cli.models.backbones import Preprocessing

T = TypeVar("T")
Rows = NDArray[np.int64]


def batches(
    forward: Callable[[Rows], T], rows: Rows, size: int, *, gradients: bool = False
) -> Iterator[tuple[Rows, T]]:
    """Yield each batch of rows with what ``forward`` returns of it.

    Args:
        forward: loads some rows and runs a network on them.
        rows: (n,), in the order in which they come.
        size: rows at once; the last batch has fewer.
        gradients: ``forward`` differentiates.
    """
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        with torch.inference_mode(not gradients):
            outputs = forward(batch)
        yield batch, outputs


def load_images(images: AnyArray, rows: Rows, preprocessing: Preprocessing, device: torch.device | str) -> torch.Tensor:
    """Return preprocessed images (n, 3, S, S) on a device.

    Args:
        images: uint8 (N, H, W) or (N, H, W, 3), all of the data set.
        rows: (n,) of them.
        preprocessing: of the network.
        device: of the network.
    """
    return preprocessing.apply(torch.from_numpy(images[rows]).to(device))
