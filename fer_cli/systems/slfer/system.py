"""SLFER on the engine: region maps are targets, and the heads that learn them are gone in the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from math import log2
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_cli.core.labels import REGIONS
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import Dataset
from fer_cli.faces.masks import Masks
from fer_cli.models.classifier import open_classifier
from fer_cli.systems.base import System
from fer_cli.systems.slfer.loss import SLFERLoss, largest_regions
from fer_cli.systems.slfer.network import HIDDEN, SLFER
from fer_cli.training import augmentation
from fer_cli.training.inputs import class_targets, picture_inputs
from fer_cli.training.objectives import new_softmax
from fer_cli.training.recipe import SLFERRecipe
from fer_cli.weights.files import WeightsFile

Rows = NDArray[np.int64]
BLOCK = 1024


def slfer(
    recipe: SLFERRecipe,
    dataset: Dataset,
    masks: Masks | None,
    rows: Rows,
    weights: WeightsFile | None,
    seed: int,
    device: str,
) -> System:
    """Build what a recipe of SLFER names.

    Args:
        recipe: what it is.
        dataset: gives pictures and classes.
        masks: of the data set; None where neither auxiliary task is wanted.
        rows: that are trained on.
        weights: of the backbone; None is random.
        seed: of everything that the weights do not give, and of the augmentation.
        device: torch's name of the device.

    Raises:
        FerError: timm does not know the backbone, it cannot take attention, size or segmentation, or the weights do not
            fit.
    """
    model, loss = recipe.model, recipe.loss
    built = open_classifier(
        model.backbone,
        classes=len(dataset.classes),
        size=recipe.data.size,
        crop=recipe.data.crop,
        weights=weights,
        attention=model.attention,
        dropout=model.dropout,
        hidden=HIDDEN,
        seed=seed,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        network = SLFER(
            built.network,
            segmentation=loss.segmentation > 0,
            components=loss.components > 0,
            size=built.preprocessing.size,
        ).to(device)
    heads = [head for head in (network.segmentation, network.components) if head is not None]

    def whole(tensors: dict[str, torch.Tensor]) -> nn.Module:
        network.load_state_dict(tensors)
        return network.expression

    classes = class_targets(dataset.labels, dataset.targets if loss.soft else None, device)

    def moved(of: Masks, some: Rows, epoch: int) -> torch.Tensor:
        return augmentation.apply_to_maps(
            torch.from_numpy(of.maps(some % len(of))).to(device),
            torch.from_numpy(some),
            seed=seed,
            epoch=epoch,
            how=recipe.augmentation,
            preprocessing=built.preprocessing,
        )

    def targets(some: Rows, epoch: int) -> Any:  # noqa: ANN401 - what SLFERLoss takes
        if masks is None:
            return classes(some, epoch), None, None
        maps = moved(masks, some, epoch)
        return classes(some, epoch), maps, largest_regions(maps, loss.largest)

    learned = masks if loss.components else None

    return System(
        network=network,
        groups=[
            (1.0 if weights is None else recipe.optim.backbone_lr, built.backbone_parameters()),
            (1.0, [*built.fresh_parameters(), *(value for head in heads for value in head.parameters())]),
        ],
        inputs=picture_inputs(dataset.images, built.preprocessing, recipe.augmentation, seed=seed, device=device),
        targets=targets,
        loss=SLFERLoss(
            new_softmax(loss, dataset.labels[rows], dataset.classes),
            segmentation=loss.segmentation,
            components=loss.components,
        ).to(device),
        whole=whole,
        preprocessing=built.preprocessing,
        tensors_loaded=built.tensors_loaded,
        told={
            "attention_place": built.attention_place,
            "head_parameters": sum(value.numel() for head in heads for value in head.parameters()),
            **({} if learned is None else _component_target(partial(moved, learned), rows, loss.largest)),
        },
    )


def _component_target(moved: Callable[[Rows, int], torch.Tensor], rows: Rows, number: int) -> dict[str, Any]:
    """Return how much the component task has to say: the entropy, in bits, of which regions are the largest.

    Of the first epoch's maps: what is cropped away or moved out of the picture is not there to be learned.
    """
    counts: Counter[tuple[bool, ...]] = Counter()
    for start in range(0, len(rows), BLOCK):
        counts.update(tuple(one) for one in largest_regions(moved(rows[start : start + BLOCK], 0), number).tolist())
    shares = [count / len(rows) for count in counts.values()]
    entropy = -sum(share * log2(share) for share in shares)
    most, count = counts.most_common(1)[0]
    names = [region for region, is_large in zip(REGIONS, most, strict=True) if is_large]
    note(
        f"component target: {entropy:.2f} bits; {', '.join(names)} are the largest in {count / len(rows):.1%} of "
        f"{len(rows):,} training images"
    )
    return {
        "component_target": {
            "entropy_bits": round(entropy, 4),
            "different": len(counts),
            "most_common": names,
            "most_common_share": round(count / len(rows), 4),
        }
    }
