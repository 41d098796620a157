"""Trained models: opening a model artifact, and what a prediction costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from fer_cli.artifacts.store import Artifact
from fer_cli.core.errors import FerError
from fer_cli.models.backbones import Preprocessing
from fer_cli.models.classifier import ClassifierNetwork, open_classifier
from fer_cli.models.gradcam import last_map
from fer_cli.models.psa import Pyramid
from fer_cli.models.truncation import truncate
from fer_cli.systems.conv_cut.network import ConvCut, ConvCutHead
from fer_cli.systems.slfer.network import HIDDEN
from fer_cli.weights.files import WeightsFile, load_strictly, load_tensors

WEIGHTS: Final = "model.safetensors"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained network in evaluation mode: preprocessed pictures (n, 3, S, S) to logits (n, C) of ``classes``."""

    network: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    mixes_batch: bool  # a prediction depends on the images beside it


def open_trained(artifact: Artifact, device: str) -> TrainedModel:
    """Build the network of a model artifact and load its weights strictly.

    Raises:
        FerError: the weights are damaged, or of another network than this fer builds.
    """
    config: dict[str, Any] = artifact.manifest.config
    classes = tuple(config["classes"])
    network, preprocessing = _network(config, len(classes), artifact)
    path = artifact.file(WEIGHTS)
    tensors = load_tensors(WeightsFile(path, "artifact", artifact.reference))
    load_strictly(network, tensors, path, hint="train the model again with --force")
    mixes = bool(artifact.manifest.summary.get("mixes_batch"))
    return TrainedModel(network.eval().requires_grad_(False).to(device), preprocessing, classes, mixes)


def _network(config: dict[str, Any], classes: int, artifact: Artifact) -> tuple[nn.Module, Preprocessing]:
    model, size = config["model"], config["data"]["size"]
    if config["system"] in {"baseline", "psa-resnet", "slfer"}:
        built = open_classifier(
            model["backbone"],
            classes=classes,
            size=size,
            crop=config["data"].get("crop", 0.0),
            weights=None,
            attention=model["attention"],
            pyramid=Pyramid(model["groups"], model["taken"]) if "groups" in model else None,
            hidden=HIDDEN if config["system"] == "slfer" else (),
        )
        return built.network, built.preprocessing
    if config["system"] == "conv-cut":
        cut = truncate(model["backbone"], cut=model["cut"], size=size, weights=None)
        head = ConvCutHead(
            cut.channels,
            cut.side,
            classes,
            detail=model["detail"],
            attention=model["attention"],
            form=model["form"],
        )
        return ConvCut(cut.network, head), cut.preprocessing
    raise FerError(f"{artifact.reference} is of the system {config['system']}", hint="take a newer fer")


def map_layer(model: TrainedModel) -> nn.Module:
    """Return the module whose output is the last feature map that says where in the picture something is."""
    network = model.network
    if isinstance(network, ConvCut):
        return network.backbone
    assert isinstance(network, ClassifierNetwork)
    if not isinstance(network.attention, nn.Identity):
        return network.attention
    return last_map(network.backbone, model.preprocessing.size)


def map_side(model: TrainedModel, layer: nn.Module) -> int:
    """Return the side of the map that a module such as :func:`map_layer` finds gives of a picture, in places."""
    sides: list[int] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: sides.append(output.shape[-1]))
    size, device = model.preprocessing.size, next(model.network.parameters()).device
    try:
        with torch.inference_mode():
            model.network(torch.zeros(1, 3, size, size, device=device))
    finally:
        handle.remove()
    return sides[0]


def cost_of(network: nn.Module, size: int, device: str) -> dict[str, int]:
    """Return a trained network's number of parameters and the multiply-adds of one image of ``size`` px."""
    from torch.utils.flop_counter import FlopCounterMode

    # The counter follows gradients where there are any, and stumbles over parameters that are inputs (ViTs).
    network.eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, size, size, device=device).to(memory_format=torch.channels_last))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": parameters, "multiply_adds": counter.get_total_flops() // 2}
