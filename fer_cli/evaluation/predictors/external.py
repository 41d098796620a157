"""Scoring anybody's predictions: a file of ids with labels or scores, on a dataset of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.protocol import DatasetProtocol, PredictionsFile
from fer_cli.artifacts.store import Artifact, files_input
from fer_cli.artifacts.summaries import Measured, Output
from fer_cli.core.errors import UsageError
from fer_cli.core.labels import in_order
from fer_cli.datasets.dataset import Dataset, open_dataset, over_classes
from fer_cli.datasets.folder import safe_name
from fer_cli.evaluation.common_classes import in_common, over_common
from fer_cli.evaluation.cross_dataset import EvaluationTarget, classes_in_common, left_out
from fer_cli.evaluation.external_predictions import ExternalPredictions, in_order_of, read_predictions
from fer_cli.evaluation.predictor import Origin, Predictor, ReportExtras, Rows, Tables

PREDICTIONS: Final = "predictions"


@dataclass(kw_only=True)
class ExternalPredictor(Predictor):
    """Predictions that are made already: ``shares`` (n, C), and at ``place`` (N,) the row of each image, or -1."""

    shares: NDArray[np.float64]
    place: NDArray[np.int64]

    def probabilities(self, rows: Rows, tta: str) -> tuple[Tables, Measured]:
        """Return what the file holds of these rows.

        Raises:
            UsageError: a test-time augmentation is asked for.
        """
        if tta != "none":
            raise UsageError("--tta is for models", hint="leave it out: these predictions are made")
        return {PREDICTIONS: self.shares[self.place[rows]]}, Measured()

    def report_extras(self, measured: Measured) -> ReportExtras:
        """Return the file's name and form: nothing else is known."""
        del measured
        assert self.predictions is not None
        subtitle = f"predictions of {self.predictions.file}, as {self.predictions.form}"
        return ReportExtras(subtitle=subtitle, notes={}, cost=None, figures=(), commands=())


def external_predictor(path: Path, data: Artifact, split: str) -> ExternalPredictor:
    """Open a file of predictions on one split of a dataset.

    Labels are scored over the dataset's classes and those that the file names: an answer that no image has is wrong.
    Scores are scored over the classes in common: images of the others are left out.

    Args:
        path: a csv or Parquet file, see :mod:`fer_cli.evaluation.external_predictions`.
        data: the dataset.
        split: its split; the file must hold its ids, all of them and no others.

    Raises:
        FerError: the file is at fault, with its line.
    """
    full = open_dataset(data)
    file = read_predictions(path)
    rows = full.rows(split)
    elsewhere = {str(name): str(of) for name, of in zip(full.ids, full.splits, strict=True) if of != split}
    ids = [str(name) for name in full.ids[rows]]
    place = np.full(len(full.ids), -1, dtype=np.int64)
    place[rows] = in_order_of(file, ids, f"the {split} split of {data.reference}", elsewhere)
    target, shares = _labels_target(full, file) if file.probabilities is None else _scores_target(full, file, path)
    source = files_input(path.name, {PREDICTIONS: path})
    return ExternalPredictor(
        origin=Origin(
            artifact=None,
            source=source,
            name=f"{PREDICTIONS}-{safe_name(path.name.partition('.')[0])[:40].rstrip('._-') or 'file'}",
            title=PREDICTIONS,
            reference=str(path),
            command=("--predictions", str(path)),
        ),
        target=target,
        outputs={PREDICTIONS: Output(kind="file")},
        chosen=PREDICTIONS,
        calibrated=file.probabilities is not None,
        predictions=PredictionsFile(file=path.name, content=source.content, form=file.form),
        cautions=("Predictions from a file: what they were trained and selected on is unknown", *target.cautions),
        shares=shares,
        place=place,
    )


def _labels_target(full: Dataset, file: ExternalPredictions) -> tuple[EvaluationTarget, NDArray[np.float64]]:
    """Return the dataset over its own classes and those that only the file names, and a 1 for each label (n, C)."""
    extra = [name for name in file.classes if name not in full.classes]
    dataset = over_classes(full, in_order([*full.classes, *extra]) if extra else full.classes)
    index = {name: number for number, name in enumerate(dataset.classes)}
    cautions = (f"Answers of {', '.join(extra)}, which {full.artifact.name} lacks, count as wrong",) if extra else ()
    data = DatasetProtocol.of(full.artifact).model_copy(update={"classes": dataset.classes})
    shares = np.eye(len(index))[[index[name] for name in file.predicted]]
    return EvaluationTarget(dataset, data, cautions=cautions), shares


def _scores_target(
    full: Dataset, file: ExternalPredictions, path: Path
) -> tuple[EvaluationTarget, NDArray[np.float64]]:
    """Return the dataset over the classes in common, and the probabilities over these (n, C)."""
    assert file.probabilities is not None
    common = in_common(file.classes, full.classes, path.name)
    dataset = over_classes(full, common.classes)
    shares, silent = over_common(file.probabilities, file.classes, dataset.classes)
    cautions = left_out(common, full)
    if silent:
        cautions = (*cautions, f"{silent:,} rows give nothing to the classes in common: taken as equal over them")
    data = DatasetProtocol.of(full.artifact).model_copy(update={"classes": dataset.classes})
    return EvaluationTarget(dataset, data, None, classes_in_common(common, full), cautions), shares
