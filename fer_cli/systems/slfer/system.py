"""SLFER: region maps are targets of two auxiliary heads, which the model that is kept no longer has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_cli.core import assets
from fer_cli.core.citations import Citation
from fer_cli.systems.base import BACKBONE_PREFIX, BuildInputs, Needs, System, Trainable
from fer_cli.systems.slfer.recipe import SLFERRecipe
from fer_cli.systems.slfer.summary import SLFERSummary

if TYPE_CHECKING:
    from torch import nn

    from fer_cli.models.backbones import Preprocessing


class SLFERSystem(System[SLFERRecipe]):
    """A classifier that is trained with face regions."""

    name = "slfer"
    help = "SLFER (Lv et al.): expression trained together with face regions, the masks of `fer parse-masks`."
    paper = "Lv et al.: Semantic learning for facial expression recognition"
    citations = (
        Citation(
            "lv-slfer",
            "misc",
            "Semantic Learning for Facial Expression Recognition",
            ("Lv, Yuanling", "Huang, Guangyu", "Huang, Yangfan", "Xie, Yixian"),
        ),
    )
    recipe_type = SLFERRecipe
    uses_masks = True
    backbone_prefix = BACKBONE_PREFIX

    @property
    def default_recipe(self) -> Path:
        """The recipe for a laptop."""
        return assets.recipe("slfer/laptop.toml")

    def needs(self, recipe: SLFERRecipe) -> Needs:
        """Return that it takes masks, unless neither auxiliary task is trained."""
        return Needs(masks=recipe.loss.segmentation > 0 or recipe.loss.components > 0)

    def build(self, recipe: SLFERRecipe, inputs: BuildInputs) -> Trainable:
        """Build what a recipe names.

        Raises:
            FerError: timm does not know the backbone, it cannot take attention, size or segmentation, or the weights
                do not fit.
        """
        import torch

        from fer_cli.models.classifier import open_classifier
        from fer_cli.models.face_resnet import ready_to_train
        from fer_cli.systems.slfer.network import HIDDEN, SLFER
        from fer_cli.systems.slfer.targets import SLFERTargets
        from fer_cli.training.inputs import ClassTargets, ImageInputs

        model, loss, dataset = recipe.model, recipe.loss, inputs.dataset
        seed, device = inputs.seed, inputs.device
        built = open_classifier(
            model.backbone,
            classes=len(dataset.classes),
            class_names=dataset.classes,
            size=recipe.data.size,
            crop=recipe.data.crop,
            weights=inputs.weights,
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
        images = ImageInputs(dataset.images, built.preprocessing, recipe.augmentation, seed=seed, device=device)
        if inputs.weights is not None:
            ready_to_train(network.expression.backbone, partial(images, epoch=None), inputs.rows)
        heads = [head for head in (network.segmentation, network.components) if head is not None]
        targets = SLFERTargets(
            ClassTargets(dataset.labels, dataset.targets if loss.soft else None, device),
            inputs.masks,
            recipe.augmentation,
            built.preprocessing,
            top_k=loss.top_k_regions,
            above_median_of=inputs.rows if loss.components and loss.component_target == "above-median" else None,
            background=loss.component_background,
            seed=seed,
            device=device,
        )
        return Trainable(
            network=network,
            groups=[
                *(
                    built.backbone_groups()
                    if inputs.weights is None
                    else built.backbone_groups(rate=recipe.optim.backbone_lr, layer_decay=recipe.optim.layer_decay)
                ),
                (1.0, [*built.fresh_parameters(), *(value for head in heads for value in head.parameters())]),
            ],
            inputs=images,
            targets=targets,
            loss=loss.build(dataset.labels[inputs.rows], dataset.classes, network.expression.width).to(device),
            inference=network.expression,
            preprocessing=built.preprocessing,
            tensors_loaded=built.tensors_loaded,
            classifier=built.classifier,
            summary=SLFERSummary(
                attention_place=built.attention_place,
                head_parameters=sum(value.numel() for head in heads for value in head.parameters()),
                component_target=targets.component_target(inputs.rows) if loss.components else None,
            ),
        )

    def open(self, recipe: SLFERRecipe, classes: int) -> tuple[nn.Module, Preprocessing]:
        """Return the inference network of a trained model's recipe, without its weights, and its preprocessing."""
        from fer_cli.models.classifier import open_classifier
        from fer_cli.systems.slfer.network import HIDDEN

        built = open_classifier(
            recipe.model.backbone,
            classes=classes,
            size=recipe.data.size,
            crop=recipe.data.crop,
            weights=None,
            attention=recipe.model.attention,
            hidden=HIDDEN,
        )
        return built.network, built.preprocessing

    def facts(self, details: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        """Return how much the component task has to say."""
        target = SLFERSummary.model_validate(details).component_target
        return () if target is None else (("component target", str(target)),)

    def map_layer(self, network: nn.Module, size: int) -> nn.Module:
        """Return the last feature map, after attention."""
        from fer_cli.models.classifier import ClassifierNetwork

        assert isinstance(network, ClassifierNetwork)
        return network.map_layer(size)
