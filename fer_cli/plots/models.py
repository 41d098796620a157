"""What plots of a trained model have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.fold_view import dataset_of
from fer_cli.evaluation.predictor import Rows
from fer_cli.systems import registry
from fer_cli.training.study import models_of

SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
ModelArgument = Annotated[
    str | None, typer.Argument(help="The model, or a study: its first run. [default: the newest]")
]
SplitOption = Annotated[str | None, typer.Option(help="train, validation or test. [default: test, else validation]")]


def split_of(store: Store, model: Artifact, split: str | None) -> tuple[Dataset, str, Rows]:
    """Return the data set of a model, the split to show and its rows."""
    dataset = dataset_of(store, model)
    split = split or ("test" if "test" in dataset.split_names else "validation")
    return dataset, split, dataset.rows(split)


def first_run(store: Store, artifact: Artifact) -> Artifact:
    """Return a model as it is, and of a study its first run, which is said: what one network sees has no mean."""
    if artifact.kind != "study":
        return artifact
    models = models_of(store, artifact)
    (name, model), *others = models.items()
    if others:
        note(f"{name} of {artifact.reference}; name a run for another: {', '.join(other.name for _, other in others)}")
    return model


def described(model: Artifact, data: str) -> str:
    """Return which system and backbone a model is, and on what."""
    return f"{registry.describe(ModelConfig.of(model))}, on {data}"


def run_of(named: Artifact, model: Artifact) -> str:
    """Return which of a study's runs a picture shows, for its caption; empty where a model was named itself."""
    if named.kind != "study":
        return ""
    config = ModelConfig.of(model)
    fold = "" if config.fold is None else f"fold {config.fold}, "
    return f"{fold}seed {config.seed}, the first of {len(named.manifest.inputs)} runs; "
