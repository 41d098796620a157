"""How good a network is on the rows that an epoch is chosen by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_cli.core import distributed
from fer_cli.core.distributed import all_gather
from fer_cli.metrics.values import class_values, mean_of_present
from fer_cli.models.batches import batches

BATCH: Final = 64
"""Images at once, where a training step has as many."""

Rows = NDArray[np.int64]


def validate(
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
        network: maps what ``inputs`` gives to logits (n, C); it is run in evaluation mode.
        inputs: of rows and epoch, which is None: without augmentation.
        rows: of the data set.
        labels: (N,) of the whole data set.
        classes: C.
        autocast: the context of the forward pass.
        ranks: the processes; each returns the same.
        batch: images at once.
    """

    def forward(some: Rows) -> torch.Tensor:
        with autocast():
            logits: torch.Tensor = network(inputs(some, None))
        return logits.float().cpu()

    was_training = network.training
    network.eval()
    confusion, loss = np.zeros((classes, classes)), 0.0
    for some, logits in batches(forward, rows[ranks.rank :: ranks.world], batch):
        true = labels[some]
        loss += float(nn.functional.cross_entropy(logits.double(), torch.from_numpy(true), reduction="sum"))
        np.add.at(confusion, (true, logits.argmax(1).numpy()), 1)
    network.train(was_training)
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
