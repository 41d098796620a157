"""Scoring a study over folds: each image by the models that never saw it, all images together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.store import Artifact, Store
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import open_dataset, over_classes
from fer_cli.datasets.folds import of_fold
from fer_cli.evaluation.predictor import EvaluationResult, Origin, Predictor, Rows, TrainingRecord
from fer_cli.evaluation.predictors.model import Networks, by_seed, models_of, models_predictor

if TYPE_CHECKING:
    from fer_cli.reporting.report import FigureSection


def folds_predictor(
    store: Store, artifact: Artifact, device: str, batching: str | None, data: Artifact | None = None
) -> Predictor:
    """Open a study over folds: the models of every seed are a predictor, and so is the mean of their probabilities.

    Its only split is test, which holds every image of the data set.

    Raises:
        FerError: ``data`` is another data set than its own, or its models do not know the same classes.
    """
    models = list(models_of(store, artifact).values())
    whole = open_dataset(open_parent(store, models[0], "dataset"))
    if data is not None and data.manifest.content != whole.artifact.manifest.content:
        raise FerError(
            f"{artifact.reference} is over folds, and no image of {data.reference} is in one of them",
            hint=f"score one of its models there, such as {models[0].reference}",
        )
    networks = Networks(device)
    folds: list[int] = artifact.manifest.config["folds"]
    parts = tuple(
        models_predictor(
            artifact,
            of_fold(whole, fold),
            by_seed([model for model in models if model.manifest.config["fold"] == fold]),
            networks,
            batching,
            folds=len(folds),
        )
        for fold in folds
    )
    classes = parts[0].dataset.classes
    for fold, part in zip(folds, parts, strict=True):
        if part.dataset.classes != classes:
            raise FerError(
                f"{artifact.reference} holds models of different classes: those of fold {fold} know "
                f"{', '.join(part.dataset.classes)}",
                hint="train the study again",
            )
    everything = replace(whole, splits=np.full(len(whole.ids), "test"))

    def probabilities(rows: Rows, tta: str) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        found = {name: np.full((len(rows), len(classes)), np.nan) for name in subject.predictors}
        seconds, measured = 0.0, dict[str, Any]()
        for part, places in subject.parted(rows):
            tables, measured = part.probabilities(rows[places], tta)
            for name, table in tables.items():
                found[name][places] = table
            seconds += len(places) / measured["images_per_second"]
        return found, {**measured, "images_per_second": round(len(rows) / seconds, 1)}

    def look(scored: EvaluationResult) -> tuple[FigureSection, ...]:
        # The first fold's alone: the network of another has a space of features of its own.
        part, places = subject.parted(scored.rows)[0]
        assert part.look is not None
        tables = {name: table[places] for name, table in scored.probabilities.items()}
        return part.look(replace(scored, rows=scored.rows[places], probabilities=tables))

    subject = replace(
        parts[0],
        origin=Origin.of(artifact),
        dataset=over_classes(everything, classes),
        protocol=artifact.manifest.protocol,
        probabilities=probabilities,
        mixes_batch=any(part.mixes_batch for part in parts),
        look=look,
        learned=_learned(parts),
        parts=parts,
        folds=whole.folds,
    )
    return subject


def _learned(parts: tuple[Predictor, ...]) -> TrainingRecord:
    """Return what all models together learned from; what those learned from that score an image is in their part."""
    found = [part.learned for part in parts if part.learned is not None]
    return TrainingRecord(
        dataset=found[0].dataset,
        trained=np.unique(np.concatenate([one.trained for one in found])),
        select_on=found[0].select_on,
        named={f"fold {fold}, {name}": of for fold, one in enumerate(found) for name, of in one.named.items()},
        recorded={f"fold {fold}, {name}": of for fold, one in enumerate(found) for name, of in one.recorded.items()},
    )
