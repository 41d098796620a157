"""What the baseline and PSA-ResNet share: a timm backbone under a linear classifier, with attention by name.

It imports no torch: methods do.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from pydantic import model_validator

from fer_cli.core.recipes import key
from fer_cli.losses.recipe import FeatureLoss
from fer_cli.systems.base import BACKBONE_PREFIX, BuildInputs, System, SystemSummary, Trainable
from fer_cli.training.recipe import Backbone, Recipe

if TYPE_CHECKING:
    from torch import nn

    from fer_cli.models.backbones import Preprocessing
    from fer_cli.models.psa import Pyramid

Attention = Literal["none", "se", "eca", "cbam", "aff", "psa"]


class ClassifierModel(Backbone):
    """Any timm backbone, with attention where one is wanted."""

    attention: Attention = key("attention in the blocks, or on the last feature map", default="none")
    frozen: bool = key("train the classifier and the attention alone", default=False)
    dropout: float = key("share of the pooled features dropped before the classifier", default=0.0, ge=0, lt=1)
    drop_path: float = key("share of images that skip the last residual path", default=0.0, ge=0, lt=1)


class ClassifierRecipe(Recipe):
    """Recipe of a classifier."""

    model: ClassifierModel
    loss: FeatureLoss

    @model_validator(mode="after")
    def _trainable(self) -> Self:
        model = self.model
        if model.frozen and model.attention == "psa":
            raise ValueError("model.attention = 'psa' replaces layers of a frozen backbone: set model.frozen to false")
        if model.frozen and self.optim.layer_decay != 1:
            raise ValueError("optim.layer_decay has no effect on a frozen backbone: set it to 1")
        if model.frozen and model.attention == "none" and self.loss.needs_features:
            raise ValueError(
                f"loss.name = {self.loss.name!r} cannot move the features of a frozen backbone: take cross-entropy"
            )
        return self


class ClassifierSummary(SystemSummary):
    """Where the attention is."""

    attention_place: Literal["blocks", "last map"] | None


C = TypeVar("C", bound=ClassifierRecipe)


class ClassifierSystem(System[C]):
    """Trains a classifier and opens it."""

    backbone_prefix = BACKBONE_PREFIX

    def pyramid(self, recipe: C) -> Pyramid | None:  # noqa: ARG002 - the usual one
        """Return the form of psa, where that is the attention."""
        return None

    def build(self, recipe: C, inputs: BuildInputs) -> Trainable:
        """Build what a recipe names."""
        from fer_cli.models.classifier import open_classifier
        from fer_cli.models.face_resnet import ready_to_train
        from fer_cli.training.inputs import ClassTargets, ImageInputs, ShareAndClassTargets

        model, dataset, device = recipe.model, inputs.dataset, inputs.device
        built = open_classifier(
            model.backbone,
            classes=len(dataset.classes),
            class_names=dataset.classes,
            size=recipe.data.size,
            crop=recipe.data.crop,
            weights=inputs.weights,
            attention=model.attention,
            dropout=model.dropout,
            drop_path=model.drop_path,
            frozen=model.frozen,
            pyramid=self.pyramid(recipe),
            seed=inputs.seed,
        )
        network = built.network.to(device)
        network.returns_features = recipe.loss.needs_features
        images = ImageInputs(dataset.images, built.preprocessing, recipe.augmentation, seed=inputs.seed, device=device)
        if inputs.weights is not None:
            ready_to_train(network.backbone, partial(images, epoch=None), inputs.rows)
        targets = ClassTargets(dataset.labels, dataset.targets if recipe.loss.soft else None, device)
        return Trainable(
            network=network,
            groups=[
                *(
                    built.backbone_groups()
                    if inputs.weights is None
                    else built.backbone_groups(rate=recipe.optim.backbone_lr, layer_decay=recipe.optim.layer_decay)
                ),
                (1.0, built.fresh_parameters()),
            ],
            inputs=images,
            targets=ShareAndClassTargets(targets, ClassTargets(dataset.labels, None, device))
            if recipe.loss.needs_features
            else targets,
            loss=recipe.loss.build(dataset.labels[inputs.rows], dataset.classes, network.width).to(device),
            inference=network,
            preprocessing=built.preprocessing,
            tensors_loaded=built.tensors_loaded,
            classifier=built.classifier,
            summary=ClassifierSummary(attention_place=built.attention_place),
        )

    def open(self, recipe: C, classes: int) -> tuple[nn.Module, Preprocessing]:
        """Return the inference network of a trained model's recipe, without its weights, and its preprocessing."""
        from fer_cli.models.classifier import open_classifier

        built = open_classifier(
            recipe.model.backbone,
            classes=classes,
            size=recipe.data.size,
            crop=recipe.data.crop,
            weights=None,
            attention=recipe.model.attention,
            pyramid=self.pyramid(recipe),
        )
        return built.network, built.preprocessing

    def map_layer(self, network: nn.Module, size: int) -> nn.Module:
        """Return the last feature map, after attention."""
        from fer_cli.models.classifier import ClassifierNetwork

        assert isinstance(network, ClassifierNetwork)
        return network.map_layer(size)
