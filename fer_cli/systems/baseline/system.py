"""The baseline: any timm backbone under a linear classifier, which every other system is measured against.

PSA-ResNet is one of them: a ResNet with pyramid split attention, trained by the joint loss.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fer_cli.datasets.dataset import Dataset
from fer_cli.models.classifier import open_classifier
from fer_cli.systems.base import System
from fer_cli.training.inputs import class_targets, picture_inputs
from fer_cli.training.objectives import new_objective
from fer_cli.training.recipe import BaselineRecipe, PSAResNetRecipe
from fer_cli.weights.files import WeightsFile

Rows = NDArray[np.int64]


def baseline(
    recipe: BaselineRecipe | PSAResNetRecipe,
    dataset: Dataset,
    rows: Rows,
    weights: WeightsFile | None,
    seed: int,
    device: str,
) -> System:
    """Build what a recipe of the baseline or of PSA-ResNet names.

    Args:
        recipe: what it is.
        dataset: gives pictures and classes.
        rows: that are trained on.
        weights: of the backbone; None is random.
        seed: of everything that the weights do not give, and of the augmentation.
        device: torch's name of the device.

    Raises:
        FerError: timm does not know it, it cannot take the attention or the size, or the weights do not fit.
    """
    model = recipe.model
    built = open_classifier(
        model.backbone,
        classes=len(dataset.classes),
        size=recipe.data.size,
        crop=recipe.data.crop,
        weights=weights,
        attention=model.attention,
        dropout=model.dropout,
        drop_path=model.drop_path,
        frozen=model.frozen,
        pyramid=model.pyramid,
        seed=seed,
    )
    network = built.network.to(device)
    labels = dataset.labels[rows]
    joint = recipe.loss.name == "joint"
    classes = class_targets(dataset.labels, None, device)
    shares = class_targets(dataset.labels, dataset.targets if recipe.loss.soft else None, device)

    def both(some: NDArray[np.int64], epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        return shares(some, epoch), classes(some, epoch)

    def whole(tensors: dict[str, torch.Tensor]) -> nn.Module:
        network.load_state_dict(tensors)
        return network

    network.tells_features = joint
    return System(
        network=network,
        groups=[
            (1.0 if weights is None else recipe.optim.backbone_lr, built.backbone_parameters()),
            (1.0, built.fresh_parameters()),
        ],
        inputs=picture_inputs(dataset.images, built.preprocessing, recipe.augmentation, seed=seed, device=device),
        targets=both if joint else shares,
        loss=new_objective(recipe.loss, labels, dataset.classes, network.width).to(device),
        whole=whole,
        preprocessing=built.preprocessing,
        tensors_loaded=built.tensors_loaded,
        told={"attention_place": built.attention_place},
    )
