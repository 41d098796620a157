"""Scoring over the classes that a predictor and another data set have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fer_cli.artifacts.store import Artifact
from fer_cli.datasets.dataset import Dataset, open_dataset, over_classes
from fer_cli.evaluation.common_classes import RULE, InCommon, in_common

_OF_TRAINING: Final = ("label_rule", "classes", "n", "split_hash", "fold")


@dataclass(frozen=True, slots=True)
class EvaluationTarget:
    """The data set that is scored on, over the classes in common, and the protocol and cautions that go with it."""

    dataset: Dataset
    protocol: dict[str, Any]
    cautions: tuple[str, ...]


def resolve_target(
    artifact: Artifact, learned: Dataset, known: Sequence[str], data: Artifact | None
) -> EvaluationTarget:
    """Return what an artifact is scored on: its own data set, or another one.

    Args:
        artifact: what is scored.
        learned: the data set that it learned from.
        known: the names of its outputs.
        data: the data set to score on; None, or one with the same content as its own, is its own.

    Raises:
        FerError: fewer than two classes are in common.
    """
    inherited = artifact.manifest.protocol
    if data is None or data.manifest.content == learned.artifact.manifest.content:
        common = in_common(known, learned.classes, artifact.reference)
        return EvaluationTarget(over_classes(learned, common.classes), dict(inherited), ())
    full = open_dataset(data)
    common = in_common(known, full.classes, artifact.reference)
    dataset = over_classes(full, common.classes)
    of_data = learned.artifact.manifest.protocol
    protocol: dict[str, Any] = {
        **data.manifest.protocol,
        **{key: value for key, value in inherited.items() if key not in {*of_data, "fold"}},
        "trained_on": {
            "dataset": f"{learned.artifact.name}@{learned.artifact.version}",
            **{key: inherited[key] for key in _OF_TRAINING if key in inherited},
            "pictures": pictures(learned),
        },
        **common_protocol(common, full),
    }
    text = f"Cross-dataset: learned from {learned.artifact.name}, scored on {data.name}"
    return EvaluationTarget(dataset, protocol, (text, *left_out(common, full)))


def common_protocol(common: InCommon, full: Dataset) -> dict[str, Any]:
    """Return what a protocol says of the classes in common with a data set."""
    return {
        "classes": list(common.classes),
        "classes_in_common": {
            "rule": RULE,
            "predictors_left_out": list(common.of_predictor),
            "data_sets_left_out": images_left_out(common, full),
        },
    }


def images_left_out(common: InCommon, full: Dataset) -> dict[str, dict[str, int]]:
    """Return split -> class -> images, of the classes that the predictor does not know."""
    return {
        split: {
            name: int(np.sum((full.splits == split) & (full.labels == full.classes.index(name))))
            for name in common.of_dataset
        }
        for split in full.split_names
        if common.of_dataset
    }


def left_out(common: InCommon, full: Dataset) -> tuple[str, ...]:
    """Say which classes of either side are left out, one sentence without a full stop each."""
    said = []
    if common.of_dataset:
        said.append(
            f"Left out of {full.artifact.name}: {', '.join(common.of_dataset)}, which the predictor does not know"
        )
    if common.of_predictor:
        said.append(
            f"Left out of the predictor: {', '.join(common.of_predictor)}, which {full.artifact.name} lacks; what it "
            "gives to the others is divided by its sum"
        )
    return tuple(said)


def pictures(dataset: Dataset) -> str:
    """Return the form of a data set's pictures, in words."""
    height, width = dataset.images.shape[1:3]
    return f"{width}x{height} px, {'grey' if dataset.images.ndim == 3 else 'colour'}"


def split_counts(protocol: Mapping[str, Any], split: str) -> str:
    """Return how many images of a split are left out and of what, in words; empty where none are."""
    of = protocol.get("classes_in_common", {}).get("data_sets_left_out", {}).get(split, {})
    return ", ".join(f"{count:,} {name}" for name, count in of.items())
