"""Training the compact parser, from a recipe, on an archive of CelebAMask-HQ's layout."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn
from torch.nn import functional

from fer_cli.core.errors import FerError
from fer_cli.core.labels import REGIONS
from fer_cli.core.recipes import Section
from fer_cli.faces.compact import STRIDE, CompactParser, ConvNorm, InvertedResidual
from fer_cli.faces.regions import Grouping
from tools.train_parser.augmentation import Augmentation, augment

MEAN: Final = (123.675, 116.28, 103.53)
STD: Final = (58.395, 57.12, 57.375)

Size = Annotated[int, Field(ge=STRIDE, le=1024, multiple_of=STRIDE)]
Phase = Annotated[tuple[Size, ...], Field(min_length=1, strict=False)]
Positive = Annotated[float, Field(gt=0)]


class Schedule(Section):
    """How long, with what steps."""

    steps: Annotated[int, Field(ge=1, le=10_000_000)]
    batch: Annotated[
        int, Field(ge=4, le=4096)
    ]  # pictures of 128 px a step; of another size, as many as have the same pixels
    sizes: Annotated[tuple[Phase, ...], Field(min_length=1, strict=False)]
    """px; phases of equal length, and a step draws one size of its phase."""
    rate: Positive
    encoder_rate: Positive
    decay: Annotated[float, Field(ge=0)]
    warmup: Annotated[int, Field(ge=1)]
    average: Annotated[float, Field(ge=0, lt=1)]  # decay of the weights' running mean, which is what is kept
    jaccard: Annotated[float, Field(ge=0)]  # weight of the Jaccard term beside the cross-entropy of regions
    fine: Annotated[float, Field(ge=0)]  # weight of the parts' own cross-entropy
    start_share: Annotated[float, Field(ge=0, lt=1)]  # of the weights that it goes on from, in those that are kept
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Standardise float pictures in [0, 255] as ImageNet's are."""
    x = (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    return x.contiguous(memory_format=torch.channels_last)


def loss_of(logits: torch.Tensor, parts: torch.Tensor, grouping: Grouping, how: Schedule) -> torch.Tensor:
    """Return the loss of a batch: cross-entropy of regions and of parts, and one minus the soft Jaccard index.

    The Jaccard index is taken over all pixels of the batch, as mIoU is taken over all pixels of a test set.

    Args:
        logits: (n, parts, h, w).
        parts: (n, h, w), indices into PARTS.
        grouping: which region each part belongs to.
        how: the weights of the terms.
    """
    table = torch.from_numpy(grouping.table().astype(np.int64))
    shares = torch.softmax(logits, 1)
    regions = torch.zeros(len(shares), len(REGIONS), *shares.shape[2:]).index_add(1, table, shares)
    truth = table[parts]
    loss = functional.nll_loss(regions.clamp_min(1e-7).log(), truth)
    if how.fine:
        loss = loss + how.fine * functional.cross_entropy(logits, parts)
    if how.jaccard:
        right = functional.one_hot(truth, len(REGIONS)).permute(0, 3, 1, 2).float()
        common = (regions * right).sum((0, 2, 3))
        union = regions.sum((0, 2, 3)) + right.sum((0, 2, 3)) - common
        present = right.sum((0, 2, 3)) > 0
        loss = loss + how.jaccard * (1 - common / union.clamp_min(1))[present].mean()
    return loss


def new_network(seed: int, encoder: dict[str, torch.Tensor] | None) -> CompactParser:
    """Return a compact parser with random weights, its encoder's from ImageNet where they are given.

    Args:
        seed: of the random weights.
        encoder: EfficientNet-Lite0's tensors under timm's names.
    """
    torch.manual_seed(seed)
    network = CompactParser()
    if encoder is not None:
        start_encoder(network, encoder)
    return network


def train(
    network: CompactParser,
    images: NDArray[np.uint8],
    parts: NDArray[np.uint8],
    augmentation: Augmentation,
    grouping: Grouping,
    how: Schedule,
    *,
    finished: Callable[[int], None],
) -> CompactParser:
    """Train a compact parser and return the running mean of its weights, in evaluation mode.

    Args:
        network: what is trained; it is changed.
        images: (N, H, H, 3).
        parts: (N, H, H), indices into PARTS.
        augmentation: what happens to a picture.
        grouping: the regions whose mIoU is the goal.
        how: steps, sizes, rates.
        finished: told after every step.

    Raises:
        FerError: the loss is not finite any more.
    """
    network.to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(_groups(network, how), betas=(0.9, 0.99))
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, how))
    pictures, truths = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(parts)
    network.train()
    for step in range(how.steps):
        x, y = _batch(pictures, truths, step, augmentation, how)
        loss = loss_of(network(normalised(x)), y, grouping, how)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        rates.step()
        _average(averaged, network, min(how.average, (1 + step) / (10 + step)))
        if not math.isfinite(float(loss.detach())):
            raise FerError(f"the loss is {float(loss.detach())} at step {step + 1}", hint="lower training.rate")
        finished(1)
    return averaged


def mix(network: CompactParser, start: dict[str, torch.Tensor], share: float) -> None:
    """Make a network's weights the mean of themselves and, with the given share, of those that it went on from.

    The mean of two ends of one training generalises better than either (Wortsman et al. 2022, WiSE-FT).
    """
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.lerp_(start[name].to(value), share)


def start_encoder(network: CompactParser, tensors: dict[str, torch.Tensor]) -> int:
    """Copy EfficientNet-Lite0's tensors (timm's names) into the encoder and return how many were taken.

    Raises:
        FerError: a tensor is missing or of another shape.
    """
    taken = 0
    for layer, name in _encoder_layers(network):
        for key, value in layer.state_dict().items():
            given = tensors.get(f"{name}.{key}")
            if given is None and key == "num_batches_tracked":
                continue
            if given is None or given.shape != value.shape:
                found = "is missing" if given is None else f"is {tuple(given.shape)}, expected {tuple(value.shape)}"
                raise FerError(f"{name}.{key} {found}", hint="the encoder starts from weights of tf_efficientnet_lite0")
            value.copy_(given)
            taken += 1
    return taken


def _encoder_layers(network: CompactParser) -> Iterator[tuple[nn.Module, str]]:
    """Yield each convolution and norm of the encoder with its name in timm's ``tf_efficientnet_lite0``."""
    yield from zip(network.stem, ("conv_stem", "bn1"), strict=False)
    stages = (((0, 0),), ((1, 0), (1, 1)), ((2, 0), (2, 1)), tuple((s, b) for s in (3, 4) for b in range(3)), ((5, 0),))
    for level, places in zip(network.levels, stages, strict=True):
        assert isinstance(level, nn.Sequential)
        for block, (stage, number) in zip(level, places, strict=True):
            assert isinstance(block, InvertedResidual)
            expands = len(block.body) == 3
            names = ("conv_pw", "conv_dw", "conv_pwl") if expands else ("conv_dw", "conv_pw")
            for index, (layer, name) in enumerate(zip(block.body, names, strict=True), start=1):
                assert isinstance(layer, ConvNorm)
                yield layer[0], f"blocks.{stage}.{number}.{name}"
                yield layer[1], f"blocks.{stage}.{number}.bn{index}"


def _batch(
    images: torch.Tensor, parts: torch.Tensor, step: int, augmentation: Augmentation, how: Schedule
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the batch of a step: which pictures, at which size, and how they are moved depend on (seed, step) alone."""
    rng = np.random.default_rng([how.seed, step])
    phase = how.sizes[len(how.sizes) * step // how.steps]
    size = phase[rng.integers(len(phase))]
    count = min(len(images), max(4, round(how.batch * (128 / size) ** 2)))
    chosen = torch.from_numpy(rng.choice(len(images), count, replace=False))
    return augment(images[chosen], parts[chosen], size, augmentation, rng)


def _groups(network: CompactParser, how: Schedule) -> list[dict[str, object]]:
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        groups.setdefault((name.startswith(("stem", "levels")), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": group,
            "lr": how.encoder_rate if encoder else how.rate,
            "weight_decay": how.decay if decays else 0.0,
        }
        for (encoder, decays), group in groups.items()
    ]


def _rate(step: int, how: Schedule) -> float:
    if step < how.warmup:
        return (step + 1) / how.warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - how.warmup) / max(1, how.steps - how.warmup)))


@torch.no_grad()
def _average(averaged: CompactParser, network: CompactParser, decay: float) -> None:
    for mean, value in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
