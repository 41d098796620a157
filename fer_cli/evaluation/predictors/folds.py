"""Scoring a study over folds: each image by the models that never saw it, all images together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.protocol import Batching, TrainingProtocol, Tta
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import Measured, ModelConfig, StudyConfig
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import open_dataset, over_classes
from fer_cli.datasets.folds import of_fold
from fer_cli.evaluation.cross_dataset import EvaluationTarget
from fer_cli.evaluation.predictor import EvaluationResult, Predictor, ReportExtras, Rows, Tables, TrainingRecord
from fer_cli.evaluation.predictors.model import ModelsPredictor, Networks, models_predictor
from fer_cli.training.study import by_seed, models_of

if TYPE_CHECKING:
    from fer_cli.models.trained import TrainedModel
    from fer_cli.reporting.report import FigureSection


@dataclass(kw_only=True)
class FoldsPredictor(Predictor):
    """A study over folds: :attr:`parts` are each fold's models."""

    parts: tuple[ModelsPredictor, ...]

    def probabilities(self, rows: Rows, tta: Tta) -> tuple[Tables, Measured]:
        """Score each image by the models of its fold."""
        tables: Tables = {
            name: np.full((len(rows), len(self.dataset.classes)), np.nan)
            for name, output in self.outputs.items()
            if output.kind != "mean"
        }
        seconds, measured = 0.0, Measured()
        for part, places in self.by_part(rows):
            scored, measured = part.probabilities(rows[places], tta)
            for name, table in scored.items():
                tables[name][places] = table
            assert measured.images_per_second is not None, "networks were run"
            seconds += len(places) / measured.images_per_second
        return tables, measured.model_copy(update={"images_per_second": round(len(rows) / seconds, 1)})

    def networks(self) -> Mapping[str, TrainedModel]:
        """Open the networks of the first fold alone: those of all would fill the memory."""
        return self.parts[0].networks()

    def explain(self, result: EvaluationResult) -> tuple[FigureSection, ...]:
        """Show where the first fold's model looks: the network of another has a space of features of its own."""
        part, places = self.by_part(result.rows)[0]
        tables = {name: table[places] for name, table in result.probabilities.items()}
        return part.explain(replace(result, rows=result.rows[places], probabilities=tables))

    def report_extras(self, measured: Measured) -> ReportExtras:
        """Return what is said of the first fold's models, which stands for all."""
        return self.parts[0].report_extras(measured)


def folds_predictor(
    store: Store, artifact: Artifact, device: str, batching: Batching | None, data: Artifact | None = None
) -> FoldsPredictor:
    """Open a study over folds: the models of every seed are an output, and so are both means of several seeds.

    Its only split is test, which holds every image of the dataset.

    Raises:
        FerError: ``data`` is another dataset than its own, or its models do not know the same classes.
    """
    models = list(models_of(store, artifact).values())
    whole = open_dataset(open_parent(store, models[0], "dataset"))
    if data is not None and data.manifest.content != whole.artifact.manifest.content:
        raise FerError(
            f"{artifact.reference} is over folds, and no image of {data.reference} is in one of them",
            hint=f"score one of its models there, such as {models[0].reference}",
        )
    networks = Networks(device)
    folds = StudyConfig.of(artifact).folds or ()
    parts = tuple(
        models_predictor(
            artifact,
            of_fold(whole, fold),
            by_seed([model for model in models if ModelConfig.of(model).fold == fold]),
            networks,
            batching,
            folds=len(folds),
        )
        for fold in folds
    )
    first = parts[0]
    classes = first.dataset.classes
    for fold, part in zip(folds, parts, strict=True):
        if part.dataset.classes != classes:
            raise FerError(
                f"{artifact.reference} holds models of different classes: those of fold {fold} know "
                f"{', '.join(part.dataset.classes)}",
                hint="train the study again",
            )
    everything = replace(whole, splits=np.full(len(whole.ids), "test"))
    training = TrainingProtocol.of(artifact)
    return FoldsPredictor(
        origin=first.origin,
        target=EvaluationTarget(over_classes(everything, classes), training.data),
        training=training,
        training_record=_training_record(parts),
        outputs=first.outputs,
        chosen=first.chosen,
        batching=first.batching,
        mixes_batch=any(part.mixes_batch for part in parts),
        parts=parts,
        folds=whole.folds,
    )


def _training_record(parts: tuple[ModelsPredictor, ...]) -> TrainingRecord:
    """Return what all models together were trained on; a part says it of those that score an image."""
    records = [part.training_record for part in parts if part.training_record is not None]
    return TrainingRecord(
        dataset=records[0].dataset,
        rows=np.unique(np.concatenate([record.rows for record in records])),
        select_on=records[0].select_on,
        class_names={
            f"fold {fold}, {name}": names
            for fold, record in enumerate(records)
            for name, names in record.class_names.items()
        },
        accuracy={
            f"fold {fold}, {name}": value
            for fold, record in enumerate(records)
            for name, value in record.accuracy.items()
        },
    )
