"""Whether a network's prediction for an image depends on that image alone, and is repeatable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from fer_cli.artifacts.checksums import AnyArray
from fer_cli.core.progress import Advance
from fer_cli.models.batches import batches, load_images
from fer_cli.models.trained import TrainedModel

TOLERANCE: Final = 1e-4
"""Logits in float32 may differ by so much: kernels add up in another order for another batch."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LogitShift:
    """How far the logits of one way of running are from those of another, over the same images."""

    how: str
    classes: int  # images whose class changed
    logits: float  # the largest difference

    @property
    def is_invariant(self) -> bool:
        """Whether no class changed and no logit by more than :data:`TOLERANCE`."""
        return not self.classes and self.logits <= TOLERANCE


def logits_of(
    model: TrainedModel, images: AnyArray, rows: Rows, order: NDArray[np.intp], size: int, advance: Advance
) -> NDArray[np.float64]:
    """Run a network as it is, batch by batch.

    Args:
        model: the network with its preprocessing.
        images: uint8 (N, H, W) or (N, H, W, 3), all of the dataset.
        rows: (n,) of it.
        order: (n,) positions in ``rows``, in which they come.
        size: images at once.
        advance: called with n images.

    Returns:
        Logits (n, K) in the order of ``rows``.
    """
    device = next(model.network.parameters()).device
    out = np.empty((len(rows), len(model.classes)))

    def forward(batch: Rows) -> torch.Tensor:
        logits: torch.Tensor = model.network(load_images(images, rows[batch], model.preprocessing, device))
        return logits

    with _whole_float32():
        for batch, logits in batches(forward, order, size):
            out[batch] = logits.double().cpu().numpy()
            advance(len(batch))
    return out


def compare_logits(how: str, one: NDArray[np.float64], other: NDArray[np.float64]) -> LogitShift:
    """Compare two sets of logits (n, K); a NaN is as far from anything as can be."""
    difference = np.abs(one - other)
    largest = float("inf") if np.isnan(difference).any() else float(difference.max(initial=0.0))
    return LogitShift(how, int((one.argmax(1) != other.argmax(1)).sum()), largest)


def batch_invariance(
    model: TrainedModel,
    images: AnyArray,
    labels: NDArray[np.int64],
    rows: Rows,
    *,
    sizes: Sequence[int],
    sort: bool,
    advance: Advance,
) -> tuple[list[LogitShift], LogitShift]:
    """Run a network on each image alone, then in batches, then twice in the same way.

    Args:
        model: the network.
        images: of the dataset.
        labels: (N,) of the dataset.
        rows: (n,) of it.
        sizes: of the batches.
        sort: run batches class by class as well as shuffled.
        advance: called with n images for each way of running, :func:`runs` of them.

    Returns:
        The shift against each image alone, by way of running; and that of the same run twice.
    """
    orders = {"shuffled": np.random.default_rng(0).permutation(len(rows))}
    if sort:
        orders["class by class"] = np.argsort(labels[rows], kind="stable")
    straight = np.arange(len(rows))
    alone = logits_of(model, images, rows, straight, 1, advance)
    shifts = [
        compare_logits(f"batches of {size}, {name}", logits_of(model, images, rows, order, size, advance), alone)
        for name, order in orders.items()
        for size in sizes
    ]
    first, again = (logits_of(model, images, rows, straight, max(sizes), advance) for _ in range(2))
    return shifts, compare_logits("the same twice", again, first)


def runs(sizes: Sequence[int], *, sort: bool) -> int:
    """Return how often :func:`batch_invariance` runs over the images."""
    return 3 + len(sizes) * (2 if sort else 1)


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Leave TensorFloat-32 aside, which a GPU's convolutions take by default: its rounding is not the network's."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
