"""How good a network is on the rows that an epoch is chosen by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_cli.core import distributed
from fer_cli.core.distributed import all_gather
from fer_cli.metrics.values import class_values, mean_of_present

BATCH: Final = 64
"""Images at once, where a training step has as many."""

Rows = NDArray[np.int64]


def validated(
    network: nn.Module,
    inputs: Callable[[Rows, int | None], torch.Tensor],
    rows: Rows,
    *,
    labels: NDArray[np.int64],
    classes: int,
    autocast: Callable[[], torch.autocast],
    ranks: distributed.Ranks,
    batch: int,
) -> dict[str, float]:
    """Return the mean cross-entropy and the scores on some rows, shared among the processes.

    Args:
        network: maps what ``inputs`` gives to logits (n, C).
        inputs: of rows and epoch.
        rows: of the data set.
        labels: (N,) of the whole data set.
        classes: C.
        autocast: the context of the forward pass.
        ranks: the processes; each returns the same.
        batch: images at once.
    """
    confusion, loss = np.zeros((classes, classes)), 0.0
    for logits, some in predicted(network, inputs, rows[ranks.rank :: ranks.world], autocast, batch):
        true = labels[some]
        loss += float(nn.functional.cross_entropy(logits.double(), torch.from_numpy(true), reduction="sum"))
        np.add.at(confusion, (true, logits.argmax(1).numpy()), 1)
    total = np.sum(all_gather([loss, *confusion.ravel().tolist()], ranks), axis=0)
    confusion = total[1:].reshape(classes, classes)
    _, recall, f1 = class_values(confusion)
    count = confusion.sum()
    return {
        "validation_loss": float(total[0] / count),
        "accuracy": float(np.trace(confusion) / count),
        "balanced_accuracy": float(mean_of_present(recall)),
        "macro_f1": float(mean_of_present(f1)),
    }


@torch.no_grad()
def predicted(
    network: nn.Module,
    inputs: Callable[[Rows, int | None], torch.Tensor],
    rows: Rows,
    autocast: Callable[[], torch.autocast],
    batch: int,
) -> Iterator[tuple[torch.Tensor, Rows]]:
    """Yield float32 logits (n, C) on the CPU with their rows, in evaluation mode and without augmentation."""
    was_training = network.training
    network.eval()
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        with autocast():
            logits = network(inputs(some, None))
        yield logits.float().cpu(), some
    network.train(was_training)
