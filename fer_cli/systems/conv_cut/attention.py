"""Attention over rows, and how far what it computes is from the identity and from a mean.

Source: Nan, Liu, Qian and Song, "A visual self-attention mechanism FER network beyond ConvNeXt", equation 2 and
Algorithm 1. The equation has queries, keys and values; the algorithm takes Y for all three, which leaves nothing to
learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

import torch
from torch import nn

from fer_cli.systems.conv_cut.summary import AttentionMeasure

StandIn = Literal["identity", "mean"]
START: Final = 0.1
"""What learned values are multiplied by at the start."""
STAND_INS: Final[tuple[StandIn, ...]] = ("identity", "mean")


class SelfAttention(nn.Module):
    """softmax(QK' / sqrt(d)) V of matrices (..., rows, d); it has no weights, Q = K = V = Y.

    ``stand_in`` puts the identity or the mean over the rows in the place of the softmax, to see what that changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stand_in: StandIn | None = None

    def project(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries, keys and values (..., rows, d)."""
        return y, y, y

    def weights(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the softmax (..., rows, rows), whose rows sum to 1, and the values (..., rows, d)."""
        q, k, v = self.project(y)
        return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1), v

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Return (..., rows, d)."""
        weights, values = self.weights(y)
        if self.stand_in == "identity":
            return values
        if self.stand_in == "mean":
            return values.mean(-2, keepdim=True).expand_as(values)
        return weights @ values


class LearnedAttention(SelfAttention):
    """softmax(QK' / sqrt(d)) V with learned queries, keys and values, added to its input.

    It has no norm of its own: maps are small when a training begins, and normed values would drown them. It starts near
    harmless: :meth:`start_small` takes a tenth of the values that other layers start with.

    Args:
        width: d, of the input, the queries, the keys and the values.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)

    @torch.no_grad()
    def start_small(self) -> None:
        """Make the values small, so that a training begins near what it would be without attention."""
        self.value.weight.mul_(START)

    def project(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return learned queries, keys and values (..., rows, d)."""
        return self.query(y), self.key(y), self.value(y)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Return (..., rows, d)."""
        return y + super().forward(y)


@contextmanager
def _replaced(attention: SelfAttention, stand_in: StandIn) -> Iterator[None]:
    attention.stand_in = stand_in
    try:
        yield
    finally:
        attention.stand_in = None


@torch.no_grad()
def measure_attention(
    attention: SelfAttention, logits: Callable[[torch.Tensor], torch.Tensor], batches: Iterable[torch.Tensor]
) -> AttentionMeasure:
    """Measure what attention does in a network in evaluation mode.

    Args:
        attention: a module of the network.
        logits: the network, which runs it once.
        batches: its inputs; of attention over the batch the images of one batch attend to each other.
    """
    inputs: list[torch.Tensor] = []
    handle = attention.register_forward_pre_hook(lambda _module, arguments: inputs.append(arguments[0]))
    images = matrices = rows = 0
    own = size = from_identity = from_mean = apart = 0.0
    changed = dict.fromkeys(STAND_INS, 0)
    try:
        for batch in batches:
            inputs.clear()
            predicted = logits(batch).argmax(1)
            weights, values = attention.weights(inputs[0])
            weights, values = weights.double(), values.double()
            mixed, mean = weights @ values, values.mean(-2, keepdim=True)
            images += len(predicted)
            rows = max(rows, weights.shape[-1])
            matrices += weights.shape[:-2].numel()
            own += float(weights.diagonal(dim1=-2, dim2=-1).mean(-1).sum())
            size += float(values.square().sum())
            from_identity += float((mixed - values).square().sum())
            from_mean += float((mixed - mean).square().sum())
            apart += float((values - mean).square().sum())
            for stand_in in STAND_INS:
                with _replaced(attention, stand_in):
                    changed[stand_in] += int((logits(batch).argmax(1) != predicted).sum())
    finally:
        handle.remove()
    size = size or 1.0  # all values are zero: so are the distances
    return AttentionMeasure(
        images=images,
        rows=rows,
        self_weight=round(own / matrices, 4),
        from_identity=round(math.sqrt(from_identity / size), 4),
        from_mean=round(math.sqrt(from_mean / size), 4),
        identity_from_mean=round(math.sqrt(apart / size), 4),
        changed_by_identity=changed["identity"],
        changed_by_mean=changed["mean"],
    )
