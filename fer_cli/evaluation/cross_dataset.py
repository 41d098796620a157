"""Scoring over the classes that a predictor and another dataset have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.manifest import Input
from fer_cli.artifacts.protocol import ClassesInCommon, DatasetProtocol, EvaluationProtocol, TrainedOn
from fer_cli.artifacts.sections import SPLIT_NAMES, SplitName
from fer_cli.datasets.dataset import Dataset, open_dataset, over_classes
from fer_cli.evaluation.common_classes import RULE, InCommon, in_common


@dataclass(frozen=True, slots=True)
class EvaluationTarget:
    """The dataset that is scored on, over the classes in common, and the protocol and cautions that go with it."""

    dataset: Dataset
    data: DatasetProtocol
    trained_on: TrainedOn | None = None
    classes_in_common: ClassesInCommon | None = None
    cautions: tuple[str, ...] = ()


def resolve_target(
    reference: str, training_data: Dataset, seen: DatasetProtocol, known: Sequence[str], data: Artifact | None
) -> EvaluationTarget:
    """Return what an artifact is scored on: its own dataset, or another one.

    Args:
        reference: of the artifact that is scored.
        training_data: the dataset that it was trained on.
        seen: the protocol of that, as the training saw it.
        known: the names of its outputs.
        data: the dataset to score on; None, or one with the same content as its own, is its own.

    Raises:
        FerError: fewer than two classes are in common.
    """
    if data is None or data.manifest.content == training_data.artifact.manifest.content:
        common = in_common(known, training_data.classes, reference)
        return EvaluationTarget(over_classes(training_data, common.classes), seen)
    return other_target(reference, training_data.artifact.as_input(), image_format(training_data), known, data)


def other_target(reference: str, source: Input, images: str, known: Sequence[str], data: Artifact) -> EvaluationTarget:
    """Return another dataset than an artifact's own as what it is scored on; its own need not be in the store.

    Args:
        reference: of the artifact that is scored.
        source: the dataset that it was trained on.
        images: the form of that dataset's images, in words.
        known: the names of its outputs.
        data: the dataset to score on.

    Raises:
        FerError: fewer than two classes are in common.
    """
    full = open_dataset(data)
    common = in_common(known, full.classes, reference)
    text = f"Cross-dataset: trained on {source.name}, scored on {data.name}"
    return EvaluationTarget(
        dataset=over_classes(full, common.classes),
        data=DatasetProtocol.of(data).model_copy(update={"classes": common.classes}),
        trained_on=TrainedOn(dataset=f"{source.name}@{source.version}", images=images),
        classes_in_common=classes_in_common(common, full),
        cautions=(text, *left_out(common, full)),
    )


def classes_in_common(common: InCommon, full: Dataset) -> ClassesInCommon:
    """Return what a protocol says of the classes in common with a dataset."""
    return ClassesInCommon(
        rule=RULE,
        left_out_of_predictor=common.of_predictor,
        left_out_of_dataset=images_left_out(common, full),
    )


def images_left_out(common: InCommon, full: Dataset) -> dict[SplitName, dict[str, int]]:
    """Return split -> class -> images, of the classes that the predictor does not know."""
    return {
        split: {
            name: int(np.sum((full.splits == split) & (full.labels == full.classes.index(name))))
            for name in common.of_dataset
        }
        for split in SPLIT_NAMES
        if common.of_dataset and split in full.split_names
    }


def left_out(common: InCommon, full: Dataset) -> tuple[str, ...]:
    """Say which classes of either side are left out, one sentence without a full stop each."""
    sentences = []
    if common.of_dataset:
        sentences.append(
            f"Left out of {full.artifact.name}: {', '.join(common.of_dataset)}, which the predictor does not know"
        )
    if common.of_predictor:
        sentences.append(
            f"Left out of the predictor: {', '.join(common.of_predictor)}, which {full.artifact.name} lacks; the "
            "probabilities of the others are renormalised"
        )
    return tuple(sentences)


def image_format(dataset: Dataset) -> str:
    """Return the form of a dataset's images, in words."""
    height, width = dataset.images.shape[1:3]
    return f"{width}x{height} px, {'grey' if dataset.images.ndim == 3 else 'colour'}"


def split_counts(protocol: EvaluationProtocol) -> str:
    """Return how many images of the scored split are left out and of what, in words; empty where none are."""
    common = protocol.classes_in_common
    counts = {} if common is None else common.left_out_of_dataset.get(protocol.split, {})
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
