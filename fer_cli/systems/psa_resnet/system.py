"""PSA-ResNet: a ResNet with pyramid split attention, trained by the joint softmax and island loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fer_cli.core import assets
from fer_cli.core.citations import Citation
from fer_cli.systems.classifier import ClassifierSystem
from fer_cli.systems.psa_resnet.recipe import PSAResNetRecipe

if TYPE_CHECKING:
    from fer_cli.models.psa import Pyramid


class PSAResNet(ClassifierSystem[PSAResNetRecipe]):
    """The classifier with psa in its bottlenecks."""

    name = "psa-resnet"
    help = "PSA-ResNet (Gu & Jin): pyramid split attention in a ResNet50, joint softmax and island loss."
    paper = "Gu, Jin: An expression recognition model combining attention and residual networks"
    citations = (
        Citation(
            "gu-psa-resnet",
            "misc",
            "An Expression Recognition Model Combining Attention and Residual Networks",
            ("Gu, Jiale", "Jin, Xiaohong"),
        ),
    )
    recipe_type = PSAResNetRecipe

    @property
    def default_recipe(self) -> Path:
        """The recipe for a laptop."""
        return assets.recipe("psa-resnet/laptop.toml")

    def pyramid(self, recipe: PSAResNetRecipe) -> Pyramid:
        """Return the form of psa."""
        from fer_cli.models.psa import Pyramid

        return Pyramid(recipe.model.groups, recipe.model.branch_input)
