"""Which image comes when. The order is a function of seed and epoch; ranks share it out and do not change it.

An image that comes several times in an epoch has a number for each time: row, row + N, row + 2 N, and so on, N being
the images of the data set. What happens to it depends on that number, so each time is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.training.counter_rng import Stream, bits

Sampling = Literal["shuffled", "balanced"]


def epoch_rows(
    rows: NDArray[np.int64],
    *,
    images: int,
    seed: int,
    epoch: int,
    sampling: Sampling,
    labels: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the rows of one epoch in the order of training.

    ``shuffled`` is a permutation. ``balanced`` has as many rows, of every class equally many up to one, and of a class
    every image equally often up to one. Which class and which images have the one more changes by epoch.

    Args:
        rows: (n,), distinct. Their own order does not matter.
        images: N, of the data set.
        seed: of the run.
        epoch: its number.
        sampling: as above.
        labels: (n,), the class of each of ``rows``; ``balanced`` alone needs them.

    Returns:
        (n,), of ``rows``; balanced, again with as many times N as an image came before.
    """
    if sampling == "shuffled":
        return rows[_rank(rows, seed, epoch, Stream.ORDER)]
    assert labels is not None
    assert labels.shape == rows.shape
    by_chance = _rank(rows, seed, epoch, Stream.REPEAT)
    rows, labels = rows[by_chance], labels[by_chance]
    classes = np.unique(labels)
    sample = []
    for number, label in enumerate(classes[_rank(classes, seed, epoch, Stream.CLASS)]):
        count = (len(rows) + len(classes) - 1 - number) // len(classes)
        members = rows[labels == label]
        sample.append(np.resize(members, count) + np.arange(count) // len(members) * images)
    repeated = np.concatenate([rows[:0], *sample])
    return repeated[_rank(np.arange(len(repeated)), seed, epoch, Stream.ORDER)]


def repeated(rows: NDArray[np.int64], labels: NDArray[np.int64], times: Mapping[int, int]) -> NDArray[np.int64]:
    """Return rows of which those of some classes come several times.

    Args:
        rows: (n,), of the data set.
        labels: (N,), of the whole data set.
        times: how often an image of a class comes; a class that is not in it once.
    """
    again = [
        rows[labels[rows] == label] + copy * len(labels) for label, count in times.items() for copy in range(1, count)
    ]
    return np.concatenate([rows, *again])


def batches(
    order: NDArray[np.int64], batch: int, *, rank: int = 0, world: int = 1, drop_last: bool
) -> list[NDArray[np.int64]]:
    """Return one rank's share of every batch of an epoch.

    ``batch * world`` consecutive rows of the order are a batch of the whole run; rank r has every ``world``-th of them
    from its r-th on. The ranks' shares together are the same for every ``world`` that divides that number.

    Args:
        order: (n,), what :func:`epoch_rows` returns.
        batch: images a batch of one rank.
        rank: from 0.
        world: number of ranks.
        drop_last: leave out a last batch that is not full, as a training pass must: a batch norm cannot learn from a
            single image, and ranks with fewer images would weigh them more. Another epoch leaves out others. Otherwise
            every row comes; the last share may be shorter, even empty, and every rank has equally many shares.

    Raises:
        FerError: ``drop_last`` would leave nothing.
    """
    whole = batch * world
    if drop_last and len(order) < whole:
        over = f" over {world} processes" if world > 1 else ""
        raise FerError(
            f"{len(order):,} training images are fewer than a batch of {whole:,}{over}",
            hint="take a smaller train.batch",
        )
    stop = len(order) - len(order) % whole if drop_last else len(order)
    return [order[first : min(first + whole, stop)][rank::world] for first in range(0, stop, whole)]


def _rank(items: NDArray[np.int64], seed: int, epoch: int, stream: Stream) -> NDArray[np.intp]:
    """Return the order of the items by their random bits."""
    return np.argsort(bits(seed, epoch, torch.from_numpy(np.asarray(items, np.int64)), stream).numpy(), kind="stable")
