"""Protocols of made-up datasets, trainings and evaluations, for the tests of what is read in them."""

from __future__ import annotations

from typing import Any

from fer_cli.artifacts.protocol import (
    DatasetProtocol,
    EvaluationProtocol,
    Intervals,
    Pretraining,
    Selection,
    SplitOrigin,
    TrainingProtocol,
)
from tests.kits.toy import CLASSES


def dataset_protocol(**changes: Any) -> DatasetProtocol:
    """Return the protocol of a sound dataset, with changes."""
    values: dict[str, Any] = {
        "dataset": "drawn",
        "family": "other",
        "synthetic": False,
        "classes": tuple(CLASSES),
        "label_rule": "drawn labels",
        "n": {"train": 900, "validation": 200, "test": 210},
        "split_hash": "0" * 64,
        "parts": (),
        "validation": SplitOrigin(kind="own"),
        "test": SplitOrigin(kind="own"),
        "subjects_named": "none",
        "missing": (),
        "duplicates_across_splits": 0,
        "subjects_across_splits": 0,
        "sequences_across_splits": 0,
    }
    return DatasetProtocol(**{**values, **changes})


def training_protocol(data: DatasetProtocol, **changes: Any) -> TrainingProtocol:
    """Return the protocol of a training that was selected on validation."""
    values: dict[str, Any] = {
        "pretraining": Pretraining(kind="package", trained_on="ImageNet-1k", source="package"),
        "selection": Selection(split="validation", metric="accuracy", what="the epoch", tried=3),
    }
    return TrainingProtocol(data=data, **{**values, **changes})


def evaluation_protocol(
    data: DatasetProtocol, *, known: bool = True, training: TrainingProtocol | None = None, **changes: Any
) -> EvaluationProtocol:
    """Return the protocol of an evaluation on the dataset that was trained on; of a file where it is not ``known``."""
    values: dict[str, Any] = {
        "split": "test",
        "predictor": "network",
        "tta": "none",
        "times_these_items_were_scored": 1,
        "intervals": Intervals(unit="item", resamples=100, seed=0),
        "checks": (),
    }
    training = (training or training_protocol(data)) if known else None
    return EvaluationProtocol(data=data, training=training, **{**values, **changes})
