"""What plots of an evaluation have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.evaluation.comparison_inputs import KINDS, evaluation_of
from fer_cli.evaluation.metrics_file import read_metrics
from fer_cli.metrics import Metrics

EvaluationArgument = Annotated[
    str | None, typer.Argument(help="The evaluation, or what was scored: its newest. [default: the newest]")
]
PredictorOption = Annotated[
    str | None,
    typer.Option(help="One of the evaluation's predictors, such as 'seed 0' of a study. [default: the chosen one]"),
]


@dataclass(frozen=True, slots=True)
class Scored:
    """One predictor of an evaluation."""

    artifact: Artifact
    predictor: str
    metrics: Metrics
    runs: tuple[str, ...]
    """The predictors whose predictions are shown: of a mean over seeds each seed's, else itself."""
    subtitle: str
    """Which model by which predictor on what."""


def open_scored(store: Store, reference: str | None, predictor: str | None) -> Scored:
    """Open an evaluation at one of its predictors, the chosen one where ``predictor`` is None.

    Raises:
        FerError: the evaluation has no such predictor.
    """
    artifact = evaluation_of(store, store.find(reference, ["evaluation"] if reference is None else KINDS))
    scores = read_metrics(artifact)
    name = predictor or scores.chosen
    if name not in scores.predictors:
        raise FerError(f"{artifact.reference} has no predictor {name!r}", hint=f"it has {', '.join(scores.predictors)}")
    metrics = scores.predictors[name]
    model = next((one.name for one in artifact.manifest.inputs.values() if one.kind != "dataset"), artifact.name)
    what = f"mean of {len(metrics.runs)} seeds" if metrics.runs else name
    subtitle = f"{model} ({what}) on {scores.dataset} {scores.split}, {metrics.n:,} images"
    return Scored(artifact, name, metrics, metrics.runs or (name,), subtitle)
