"""Trained models: opening a model artifact, and what a prediction costs."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.core.errors import FerError, UsageError
from fer_cli.models.trained import WEIGHTS, TrainedModel
from fer_cli.systems import registry
from fer_cli.systems.base import System
from fer_cli.training.recipe import Recipe
from fer_cli.weights.files import WeightsFile, load_strictly, load_tensors


def open_trained(artifact: Artifact, device: str) -> TrainedModel:
    """Build the network of a model artifact and load its weights strictly.

    Raises:
        FerError: the weights are damaged, or of another network than this fer builds.
    """
    classes = ModelConfig.of(artifact).classes
    system = system_of(artifact)
    recipe = _recipe(artifact, system)
    network, preprocessing = system.open(recipe, len(classes))
    path = artifact.file(WEIGHTS)
    tensors = load_tensors(WeightsFile(path, "artifact", artifact.reference, "artifact"))
    load_strictly(network, tensors, path, hint="train the model again with --force")
    network = network.eval().requires_grad_(False).to(device)
    return TrainedModel(network, preprocessing, classes, system.mixes_batch(recipe))


def system_of(artifact: Artifact) -> System[Any]:
    """Return the system of a model artifact.

    Raises:
        FerError: it is not installed here.
    """
    name = ModelConfig.of(artifact).system
    try:
        return registry.load(name)
    except UsageError:
        raise FerError(
            f"{artifact.reference} is a model of the system {name!r}, which is not installed",
            hint="install the package that it comes with, or a newer fer",
        ) from None


def _recipe(artifact: Artifact, system: System[Any]) -> Recipe:
    try:
        recipe: Recipe = system.recipe_type.from_record(ModelConfig.of(artifact).recipe)
    except ValidationError as error:
        setting = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise FerError(
            f"{artifact.reference} was trained by another version of fer, whose {setting} is unknown here",
            hint=f"train it again with 'fer train {system.name}'",
        ) from None
    return recipe


def map_layer(artifact: Artifact, model: TrainedModel) -> nn.Module:
    """Return the module of an opened model artifact whose output is the last feature map: Grad-CAM's layer.

    Raises:
        FerError: there is none.
    """
    return system_of(artifact).map_layer(model.network, model.preprocessing.size)


def map_side(model: TrainedModel, layer: nn.Module) -> int:
    """Return the side of the map that a module such as :func:`map_layer` finds gives of an image, in positions."""
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
