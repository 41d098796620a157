"""Plot ``curves``: how the training of a model, or of all models of a study or an ensemble, went."""

from __future__ import annotations

from typing import Annotated

import typer

from fer_cli.artifacts.store import Store
from fer_cli.evaluation.predictors.ensemble import networks_of
from fer_cli.evaluation.predictors.model import training_figure
from fer_cli.plots.models import described
from fer_cli.plots.registry import Picture


def draw(
    store: Store,
    model: Annotated[str | None, typer.Argument(help="The model, study or ensemble. [default: the newest]")] = None,
) -> Picture:
    """Loss, validation scores and learning rate by epoch, the chosen epoch marked."""
    artifact = store.find(model, ["model", "study", "ensemble"])
    models = networks_of(store, artifact)
    if artifact.kind == "ensemble":
        subtitle = f"{len(models)} networks, on {artifact.manifest.inputs['dataset'].name}"
    else:
        first = next(iter(models.values()))
        subtitle = described(first, first.manifest.inputs["dataset"].name)
    figure = training_figure(models, f"Training of {artifact.name}", subtitle)
    return Picture(artifact.name, figure, artifact.version, lambda inches: training_figure(models, paper=inches))
