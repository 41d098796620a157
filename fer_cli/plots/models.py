"""What plots of a trained model have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from fer_cli.artifacts.store import Artifact, Store
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.fold_view import dataset_of
from fer_cli.evaluation.predictor import Rows
from fer_cli.systems import registry

SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
SplitOption = Annotated[str | None, typer.Option(help="train, validation or test. [default: test, else validation]")]


def split_of(store: Store, model: Artifact, split: str | None) -> tuple[Dataset, str, Rows]:
    """Return the data set of a model, the split to show and its rows."""
    dataset = dataset_of(store, model)
    split = split or ("test" if "test" in dataset.split_names else "validation")
    return dataset, split, dataset.rows(split)


def described(model: Artifact, data: str) -> str:
    """Return which system and backbone a model is, and on what."""
    return f"{registry.describe(ModelConfig.of(model))}, on {data}"
