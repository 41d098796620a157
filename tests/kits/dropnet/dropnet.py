"""A small residual network with dropout, as another package adds it to fer: the system of test_registry.py."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fer_cli.core.recipes import Section, key
from fer_cli.losses.recipe import LogitLoss
from fer_cli.models.backbones import Preprocessing
from fer_cli.systems.base import BuildInputs, System, SystemSummary, Trainable
from fer_cli.training.inputs import ClassTargets, ImageInputs
from fer_cli.training.recipe import Recipe


class DropNetModel(Section):
    """A stack of residual blocks."""

    width: int = key("channels", default=8, ge=1, le=512)
    blocks: int = key("residual blocks", default=2, ge=1, le=50)
    dropout: float = key("share of the channels dropped in a block", default=0.1, ge=0, lt=1)


class DropNetRecipe(Recipe):
    """Recipe of ``fer train dropnet``."""

    model: DropNetModel
    loss: LogitLoss

    def variant(self) -> tuple[str, ...]:
        """Return the number of blocks."""
        return (f"{self.model.blocks}-blocks",)


class DropNetSummary(SystemSummary):
    """What a model's summary says of the network."""

    blocks: int


class Block(nn.Module):
    """A residual block, (n, c, h, w) to the same."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both paths."""
        return torch.relu(x + self.body(x))


class DropNet(System[DropNetRecipe]):
    """Trains and opens the network."""

    name = "dropnet"
    help = "A small residual network with dropout."
    paper = "none"
    recipe_type = DropNetRecipe

    @property
    def default_recipe(self) -> Path:
        """The file beside this one."""
        return Path(__file__).with_name("dropnet.toml")

    def build(self, recipe: DropNetRecipe, inputs: BuildInputs) -> Trainable:
        """Build the network with random weights."""
        dataset, seed, device = inputs.dataset, inputs.seed, inputs.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network, preprocessing = self.open(recipe, len(dataset.classes))
        network.to(device)
        return Trainable(
            network=network,
            groups=[(1.0, list(network.parameters()))],
            inputs=ImageInputs(dataset.images, preprocessing, recipe.augmentation, seed=seed, device=device),
            targets=ClassTargets(dataset.labels, dataset.targets if recipe.loss.soft else None, device),
            loss=recipe.loss.build(dataset.labels[inputs.rows], dataset.classes, recipe.model.width).to(device),
            inference=network,
            preprocessing=preprocessing,
            tensors_loaded=0,
            summary=DropNetSummary(blocks=recipe.model.blocks),
        )

    def open(self, recipe: DropNetRecipe, classes: int) -> tuple[nn.Module, Preprocessing]:
        """Return the network and how images become its input."""
        model = recipe.model
        network = nn.Sequential(
            nn.Conv2d(3, model.width, 4, 4),
            nn.ReLU(),
            *(Block(model.width, model.dropout) for _ in range(model.blocks)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(model.width, classes),
        )
        return network, Preprocessing(recipe.data.size, (0.5,) * 3, (0.5,) * 3, "bilinear")
