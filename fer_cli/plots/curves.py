"""Plot ``curves``: how the training of a model, or of all models of a study, went."""

from __future__ import annotations

from typing import Annotated

import typer

from fer_cli.artifacts.store import Store
from fer_cli.evaluation.predictors.model import models_of, read_history
from fer_cli.plots.models import described
from fer_cli.plots.registry import Picture


def draw(
    store: Store,
    model: Annotated[str | None, typer.Argument(help="The model or study. [default: the newest]")] = None,
) -> Picture:
    """Loss, validation scores and learning rate by epoch, the chosen epoch marked."""
    from fer_cli.reporting.curves import curves_figure

    artifact = store.find(model, ["model", "study"])
    models = models_of(store, artifact)
    first = next(iter(models.values()))
    metric = first.manifest.config["train"]["monitor"]
    figure = curves_figure(
        {name: read_history(one) for name, one in models.items()},
        chosen={name: one.manifest.summary["epoch"] for name, one in models.items()},
        metric=metric if metric in {"accuracy", "balanced_accuracy", "macro_f1"} else "balanced_accuracy",
        title=f"Training of {artifact.name}",
        subtitle=described(first, first.manifest.inputs["dataset"].name),
    )
    return Picture(artifact.name, figure)
