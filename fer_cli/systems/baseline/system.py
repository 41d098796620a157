"""The baseline: any timm backbone under a linear classifier, which every other system is measured against."""

from __future__ import annotations

from pathlib import Path

from fer_cli.core import assets
from fer_cli.systems.baseline.recipe import BaselineRecipe
from fer_cli.systems.classifier import ClassifierSystem


class Baseline(ClassifierSystem[BaselineRecipe]):
    """Any timm backbone under a linear classifier."""

    name = "baseline"
    help = "Any timm backbone under a linear classifier: what every other system is measured against."
    paper = "none: the usual fine-tuning of a pretrained network"
    recipe_type = BaselineRecipe

    @property
    def default_recipe(self) -> Path:
        """The recipe for a laptop."""
        return assets.recipe("baseline/laptop.toml")
