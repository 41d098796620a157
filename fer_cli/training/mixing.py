"""Mixtures of two images of a batch as training examples: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

Each image is mixed with the one before it in its batch. A batch has one share, so that a loss that is linear in its
targets, and any other, can be taken of either image's target and weighed by the share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from fer_cli.losses.objective import Objective
from fer_cli.training import counter_rng
from fer_cli.training.counter_rng import Stream
from fer_cli.training.recipe import Augmentation


@dataclass(frozen=True, slots=True)
class MixedTarget:
    """The targets of mixed images: a share of ``own``, and the rest of ``other``."""

    own: Any  # what the loss takes
    other: Any
    share: float


def loss_of(loss: Objective, output: Any, target: Any) -> torch.Tensor:  # noqa: ANN401 - as the loss takes them
    """Return the loss of an output; of mixed images the losses of both targets, weighed by their shares."""
    if not isinstance(target, MixedTarget):
        of_one: torch.Tensor = loss(output, target)
        return of_one
    own, other = loss(output, target.own), loss(output, target.other)
    mixed: torch.Tensor = target.share * own + (1 - target.share) * other
    return mixed


def mix(
    x: torch.Tensor, target: torch.Tensor, index: torch.Tensor, *, seed: int, epoch: int, settings: Augmentation
) -> tuple[torch.Tensor, torch.Tensor | MixedTarget]:
    """Mix each image of a batch with the one before it, or none where chance says so.

    Args:
        x: a network's input (n, c, h, w).
        target: of the images, (n,) or (n, C).
        index: int64 (n,), of the images in the data set; its first decides all that is drawn.
        seed: of the run.
        epoch: its number.
        settings: what may happen. Where both mixtures may, each is as likely.
    """
    if not (settings.mixup or settings.cutmix) or len(x) < 2:
        return x, target

    def draw(stream: Stream) -> float:
        return float(counter_rng.uniform(seed, epoch, index[:1], stream))

    if draw(Stream.MIX) >= settings.mixed:
        return x, target
    pasted = bool(settings.cutmix) and not (settings.mixup and draw(Stream.MIXTURE) < 0.5)
    share = _beta(settings.cutmix if pasted else settings.mixup, draw(Stream.MIX_SHARE))
    other = x.roll(1, 0)
    if pasted:
        x, share = _pasted(x, other, share, draw(Stream.MIX_TOP), draw(Stream.MIX_LEFT))
    else:
        x = x * share + other * (1 - share)
    return x, MixedTarget(target, target.roll(1, 0), share)


def _beta(alpha: float, uniform: float) -> float:
    """Return the quantile of Beta(alpha, alpha)."""
    from scipy.special import betaincinv

    return float(betaincinv(alpha, alpha, uniform))


def _pasted(x: torch.Tensor, other: torch.Tensor, share: float, top: float, left: float) -> tuple[torch.Tensor, float]:
    """Return x with a rectangle of another image, and the share of x that is left of it.

    The rectangle has the image's form and ``1 - share`` of its area; its centre is anywhere, and what stands out is
    cut off (Yun et al., 3.2 and its code).
    """
    height, width = x.shape[-2:]
    side = math.sqrt(1 - share)
    rows, columns = (_span(side, centre, length) for centre, length in ((top, height), (left, width)))
    x = x.clone()
    x[..., rows, columns] = other[..., rows, columns]
    return x, 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)


def _span(side: float, centre: float, length: int) -> slice:
    half, middle = int(side * length) // 2, int(centre * length)
    return slice(max(0, middle - half), min(length, middle + half))
