"""What trained networks say of images: one network, or several whose frozen part is the same and runs once for all."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_cli.artifacts.checksums import AnyArray
from fer_cli.artifacts.protocol import Tta
from fer_cli.core.progress import Advance
from fer_cli.inference.embedding import last_linear, logits_and_features
from fer_cli.inference.views import views
from fer_cli.models.batches import batches, load_images
from fer_cli.models.trained import TrainedModel

SIZES: Final = {"alone": 1, "stored": 64, "shuffled": 32, "sorted": 32}
"""Images at once, by what stands beside an image."""
BLOCK: Final = 64
"""Images that a frozen part sees at once; every size divides it."""

Rows = NDArray[np.int64]


@runtime_checkable
class FrozenTrunk(Protocol):
    """A network ``head(trunk(x))`` whose trunk is not trained: models with an equal one see it run once."""

    trunk: nn.Module
    head: nn.Module


@dataclass(frozen=True, slots=True)
class ModelPredictions:
    """Of one model: probabilities (n, C) of all rows, features (m, d) of those that were to be kept."""

    probabilities: NDArray[np.float64]
    features: NDArray[np.float32]
    seconds: float  # that it would have taken alone


def predict(
    models: Mapping[str, TrainedModel],
    images: AnyArray,
    labels: NDArray[np.int64],
    rows: Rows,
    *,
    tta: Tta,
    batching: str,
    kept: NDArray[np.int64],
    advance: Advance,
    temperatures: Mapping[str, float] | None = None,
) -> dict[str, ModelPredictions]:
    """Run models on images.

    Args:
        models: by name. Those with the same preprocessing and an equal frozen part see it run once.
        images: uint8 (N, H, W) or (N, H, W, 3), all of the data set.
        labels: (N,), that ``sorted`` goes by.
        rows: (n,) of the data set.
        tta: which views of an image are scored; the answer is the mean of their probabilities.
        batching: a key of :data:`SIZES`.
        kept: (m,) positions in ``rows`` whose features are returned, what the last linear layer took of the image.
        advance: told of n images a model.
        temperatures: by name, what the logits of each view are divided by; 1 for all where it is None.
    """
    order = np.arange(len(rows))
    if batching == "shuffled":
        order = np.random.default_rng(0).permutation(len(rows))
    elif batching == "sorted":
        order = np.argsort(labels[rows], kind="stable")
    feature_row = np.full(len(rows), -1)
    feature_row[kept] = np.arange(len(kept))
    predictions: dict[str, ModelPredictions] = {}
    for group in _groups(models):
        predictions |= _predict_group(
            group, images, rows, order, feature_row, tta, SIZES[batching], temperatures or {}, advance
        )
    return {name: predictions[name] for name in models}


def _groups(models: Mapping[str, TrainedModel]) -> list[dict[str, TrainedModel]]:
    """Put models together whose frozen part is the same."""
    groups: list[dict[str, TrainedModel]] = []
    for name, model in models.items():
        for group in groups:
            if _same_trunk(model, next(iter(group.values()))):
                group[name] = model
                break
        else:
            groups.append({name: model})
    return groups


def _same_trunk(one: TrainedModel, other: TrainedModel) -> bool:
    if not isinstance(one.network, FrozenTrunk) or not isinstance(other.network, FrozenTrunk):
        return False
    a, b = one.network.trunk.state_dict(), other.network.trunk.state_dict()
    # Equal names and tensors are not all: two cuts may differ in a layer without any.
    same_code = str(one.network.trunk) == str(other.network.trunk)
    return (
        one.preprocessing == other.preprocessing
        and same_code
        and a.keys() == b.keys()
        and all(torch.equal(a[name], b[name]) for name in a)
    )


def _predict_group(
    group: Mapping[str, TrainedModel],
    images: AnyArray,
    rows: Rows,
    order: NDArray[np.intp],
    feature_row: NDArray[np.intp],
    tta: Tta,
    size: int,
    temperatures: Mapping[str, float],
    advance: Advance,
) -> dict[str, ModelPredictions]:
    first = next(iter(group.values()))
    device = next(first.network.parameters()).device
    trunk: nn.Module = first.network.trunk if isinstance(first.network, FrozenTrunk) else nn.Identity()
    heads = {name: _head(model.network) for name, model in group.items()}
    layers = {name: last_linear(head) for name, head in heads.items()}
    kept = int((feature_row >= 0).sum())
    probabilities = {name: np.empty((len(rows), len(model.classes))) for name, model in group.items()}
    features = {name: np.empty((kept, layer.in_features), np.float32) for name, layer in layers.items()}
    seconds, common = dict.fromkeys(group, 0.0), 0.0

    def forward(block: Rows) -> list[torch.Tensor]:
        x = load_images(images, rows[block], first.preprocessing, device)
        return [trunk(view) for view in views(x, tta)]

    begun = time.perf_counter()
    for block, seen in batches(forward, order, BLOCK):
        common += time.perf_counter() - begun
        with torch.inference_mode():
            for name, head in heads.items():
                begun = time.perf_counter()
                parts = [logits_and_features(head, layers[name], part) for part in torch.split(seen[0], size)]
                logits = [torch.cat([part for part, _ in parts])]
                logits += [torch.cat([head(part) for part in torch.split(view, size)]) for view in seen[1:]]
                temperature = temperatures.get(name, 1.0)
                by_view = torch.stack([torch.softmax(view.double() / temperature, 1) for view in logits])
                probabilities[name][block] = by_view.mean(0).cpu().numpy()
                seconds[name] += time.perf_counter() - begun
                is_kept = feature_row[block] >= 0
                block_features = torch.cat([part for _, part in parts]).float().cpu().numpy()
                features[name][feature_row[block[is_kept]]] = block_features[is_kept]
                advance(len(block))
        begun = time.perf_counter()
    return {name: ModelPredictions(probabilities[name], features[name], seconds[name] + common) for name in group}


def _head(network: nn.Module) -> nn.Module:
    return network.head if isinstance(network, FrozenTrunk) else network
