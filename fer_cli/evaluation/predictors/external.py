"""Scoring anybody's predictions: a file of ids with labels or scores, on a data set of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.store import Artifact, files_input
from fer_cli.core.errors import UsageError
from fer_cli.core.labels import in_order
from fer_cli.datasets.dataset import open_dataset, over_classes
from fer_cli.datasets.folder import safe_name
from fer_cli.evaluation.common_classes import in_common, over_common
from fer_cli.evaluation.cross_dataset import common_protocol, left_out
from fer_cli.evaluation.external_predictions import in_order_of, read_predictions
from fer_cli.evaluation.predictor import Origin, Predictor, ReportExtras, Rows

PREDICTIONS = "predictions"
NOT_KNOWN = "not known"


def external_predictor(path: Path, data: Artifact, split: str) -> Predictor:
    """Open a file of predictions on one split of a data set.

    Labels are scored over the data set's classes and those that the file names: an answer that no image has is wrong.
    Scores are scored over the classes in common: images of the others are left out.

    Args:
        path: a csv or Parquet file, see :mod:`fer_cli.evaluation.external_predictions`.
        data: the data set.
        split: its split; the file must hold its ids, all of them and no others.

    Raises:
        FerError: the file is at fault, with its line.
    """
    full = open_dataset(data)
    foreign = read_predictions(path)
    rows = full.rows(split)
    elsewhere = {str(name): str(of) for name, of in zip(full.ids, full.splits, strict=True) if of != split}
    ids = [str(name) for name in full.ids[rows]]
    place = np.full(len(full.ids), -1, dtype=np.int64)
    place[rows] = in_order_of(foreign, ids, f"the {split} split of {data.reference}", elsewhere)
    said: tuple[str, ...] = ()
    if foreign.probabilities is None:
        extra = [name for name in foreign.classes if name not in full.classes]
        dataset = over_classes(full, in_order([*full.classes, *extra]) if extra else full.classes)
        index = {name: number for number, name in enumerate(dataset.classes)}
        shares = np.eye(len(index))[[index[name] for name in foreign.predicted]]
        protocol: dict[str, Any] = {"classes": list(dataset.classes)}
        if extra:
            said = (f"Answers of {', '.join(extra)}, which {data.name} lacks, count as wrong",)
    else:
        common = in_common(foreign.classes, full.classes, path.name)
        dataset = over_classes(full, common.classes)
        shares, silent = over_common(foreign.probabilities, foreign.classes, dataset.classes)
        protocol = common_protocol(common, full)
        said = left_out(common, full)
        if silent:
            said = (*said, f"{silent:,} rows give nothing to the classes in common: taken as equal over them")

    source = files_input(path.name, {PREDICTIONS: path})

    def probabilities(rows: Rows, tta: str) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        if tta != "none":
            raise UsageError("--tta is for models", hint="leave it out: these predictions are made")
        return {PREDICTIONS: shares[place[rows]]}, {}

    return Predictor(
        origin=Origin(
            artifact=None,
            source=source,
            name=f"{PREDICTIONS}-{safe_name(path.name.partition('.')[0])[:40].rstrip('._-')}",
            title=PREDICTIONS,
            reference=str(path),
            command=("--predictions", str(path)),
        ),
        dataset=dataset,
        protocol={
            **data.manifest.protocol,
            **protocol,
            "pretraining": NOT_KNOWN,
            "selection": {"split": NOT_KNOWN, "metric": NOT_KNOWN, "what": NOT_KNOWN, "tried": NOT_KNOWN},
            "predictions": {"file": path.name, "content": source.content, "form": foreign.form},
        },
        predictors=(PREDICTIONS,),
        chosen=PREDICTIONS,
        reference=None,
        probabilities=probabilities,
        told=lambda _: ReportExtras(
            subtitle=f"predictions of {path.name}, as {foreign.form}",
            notes={},
            cost=None,
            figures=(),
            commands=(),
        ),
        calibrated=foreign.probabilities is not None,
        cautions=("Predictions from a file: what they were learned and chosen from is not known", *said),
    )
