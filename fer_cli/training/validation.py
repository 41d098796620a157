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

TEMPERATURES: Final = np.geomspace(0.2, 10.0, 79)
"""Among which the temperature is looked for; between two of them a parabola decides."""

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
    is_stopped: Callable[[], bool],
    advance: Callable[[float], None],
) -> dict[str, float] | None:
    """Return the mean cross-entropy, the scores and the temperature on some rows, shared among the processes.

    The temperature is what logits are divided by for the least mean cross-entropy (Guo et al. 2017), from 0.2 to 10.

    None where the work is to stop: of several processes none leaves the others in the middle.

    Args:
        network: maps what ``inputs`` gives to logits (n, C); it is run in evaluation mode.
        inputs: of rows and epoch, which is None: without augmentation.
        rows: of the data set.
        labels: (N,) of the whole data set.
        classes: C.
        autocast: the context of the forward pass.
        ranks: the processes; each returns the same.
        batch: images at once.
        is_stopped: asked after each batch.
        advance: called after each batch with its share of the rows.
    """

    def forward(some: Rows) -> torch.Tensor:
        with autocast():
            logits: torch.Tensor = network(inputs(some, None))
        return logits.float().cpu()

    was_training = network.training
    network.eval()
    confusion, loss, tempered = np.zeros((classes, classes)), 0.0, np.zeros(len(TEMPERATURES))
    mine = rows[ranks.rank :: ranks.world]
    for some, logits in batches(forward, mine, batch):
        true = labels[some]
        loss += float(nn.functional.cross_entropy(logits.double(), torch.from_numpy(true), reduction="sum"))
        tempered += _losses(logits.double().numpy(), true)
        np.add.at(confusion, (true, logits.argmax(1).numpy()), 1)
        advance(len(some) / len(mine))
        if ranks.world == 1 and is_stopped():
            return None
    network.train(was_training)
    total = np.sum(all_gather([loss, *tempered.tolist(), *confusion.ravel().tolist()], ranks), axis=0)
    tempered, confusion = total[1 : 1 + len(TEMPERATURES)], total[1 + len(TEMPERATURES) :].reshape(classes, classes)
    _, recall, f1 = class_values(confusion)
    count = confusion.sum()
    return {
        "validation_loss": float(total[0] / count),
        "accuracy": float(np.trace(confusion) / count),
        "balanced_accuracy": float(mean_of_present(recall)),
        "macro_f1": float(mean_of_present(f1)),
        "temperature": _least(tempered),
    }


def fitted_temperature(logits: NDArray[np.float64], true: NDArray[np.int64]) -> float:
    """Return what logits (n, C) are divided by for the least mean cross-entropy of ``true`` (n,), from 0.2 to 10."""
    return _least(_losses(logits, true))


def _losses(logits: NDArray[np.float64], true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of the cross-entropies of logits (n, C) at each of :data:`TEMPERATURES`."""
    scaled = logits[None] / TEMPERATURES[:, None, None]
    top = scaled.max(2)
    normaliser = top + np.log(np.exp(scaled - top[..., None]).sum(2))
    losses: NDArray[np.float64] = (normaliser - scaled[:, np.arange(len(true)), true]).sum(1)
    return losses


def _least(losses: NDArray[np.float64]) -> float:
    """Return the temperature with the least loss: where the parabola through the least three lies lowest."""
    at = int(losses.argmin())
    if at in {0, len(losses) - 1}:
        return float(TEMPERATURES[at])
    before, least, after = losses[at - 1 : at + 2]
    bend = before - 2 * least + after
    step = 0.5 * (before - after) / bend if bend > 0 else 0.0
    ratio = TEMPERATURES[1] / TEMPERATURES[0]
    return float(TEMPERATURES[at] * ratio**step)
