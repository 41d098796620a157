"""A trained model as a backbone: its features at any level, and its own answers beside them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.core.errors import FerError
from fer_cli.inference.embedding import last_linear, logits_and_features
from fer_cli.models.backbones import POOLED, Backbone, preprocessing_of
from fer_cli.models.classifier import ClassifierNetwork
from fer_cli.models.truncation import cut_at
from fer_cli.systems.trained import open_trained


class _Pooled(nn.Module):
    """The pooled features of a classifier, after its attention; in timm's words."""

    def __init__(self, network: ClassifierNetwork) -> None:
        super().__init__()
        self.network = network

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.feature_maps(x)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = True) -> torch.Tensor:  # noqa: ARG002
        return self.network.embed(maps)


class _LastLayer(nn.Module):
    """What the last linear layer of any other network takes; in timm's words."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return logits_and_features(self.network, last_linear(self.network), x)[1]

    def forward_head(self, features: torch.Tensor, pre_logits: bool = True) -> torch.Tensor:  # noqa: ARG002
        return features


def open_model_level(model: Artifact, *, level: str, size: int | None) -> Backbone:
    """Open a model at one level: ``pooled``, what its classifier takes, or a cut of its backbone.

    ``pooled`` is after the attention of a model, and a cut before one that acts on the last map. Its own logits come
    with either. A network that keeps no whole backbone (Conv-cut) has what its last layer takes as ``pooled``.

    Args:
        model: a model artifact.
        level: as of :func:`fer_cli.models.truncation.truncate`, or ``pooled``.
        size: side of the input, px; the model's own where it is None.

    Raises:
        FerError: it has no such level or size, or its answers depend on the other images of a batch.
    """
    opened = open_trained(model, "cpu")
    if opened.mixes_batch:
        raise FerError(
            f"an image's features of {model.reference} depend on the other images of its batch",
            hint="take a model that mixes no batch (model.attention=tokens)",
        )
    network, own = opened.network, opened.preprocessing
    name, loaded = str(ModelConfig.of(model).recipe["model"]["backbone"]), len(network.state_dict())
    if not isinstance(network, ClassifierNetwork):
        if level != POOLED or size not in {None, own.size}:
            what = f"{model.reference} is a {ModelConfig.of(model).system}: its features are those of its last layer"
            raise FerError(f"{what}, of images of {own.size} px", hint="leave --level and --size out")
        return Backbone(
            _LastLayer(network), name, POOLED, own, own.size, loaded, whole=network, answer=lambda x, _: network(x)
        )
    preprocessing = own if size in {None, own.size} else preprocessing_of(network.backbone, name, size, own.crop)
    if level == POOLED:
        pooled = _Pooled(network)
        return Backbone(
            pooled,
            name,
            POOLED,
            preprocessing,
            own.size,
            loaded,
            whole=network,
            answer=lambda _, features: network.classifier(features),
        )
    kept = Backbone(deepcopy(network.backbone), name, POOLED, preprocessing, own.size, loaded)
    cut = cut_at(kept, level)
    return replace(kept, network=cut.network, level=cut.cut, whole=network, answer=lambda x, _: network(x))
