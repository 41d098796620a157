"""The baseline: any timm backbone with a linear classifier, which every other system is measured against."""

from __future__ import annotations

from fer_cli.models.classifier import Classifier, open_classifier
from fer_cli.models.weights import WeightsFile
from fer_cli.training.recipe import BaselineRecipe


def build_baseline(
    recipe: BaselineRecipe, classes: tuple[str, ...], weights: WeightsFile | None, seed: int
) -> Classifier:
    """Build the network that a recipe names.

    Args:
        recipe: what it is.
        classes: names of its outputs.
        weights: of the backbone; None is random.
        seed: of everything that the weights do not give.

    Raises:
        FerError: timm does not know it, it cannot take the attention or the size, or the weights do not fit.
    """
    model = recipe.model
    return open_classifier(
        model.backbone,
        classes=len(classes),
        size=recipe.data.size,
        weights=weights,
        attention=model.attention,
        dropout=model.dropout,
        drop_path=model.drop_path,
        frozen=model.frozen,
        seed=seed,
    )
