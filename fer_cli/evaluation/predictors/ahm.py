"""Scoring an ahm artifact: its four predictors on kept features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.payload import read_table, read_tensors
from fer_cli.artifacts.store import Artifact, Store
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.evaluation.common_classes import over_common
from fer_cli.evaluation.cross_dataset import resolve_target
from fer_cli.evaluation.predictor import Origin, Predictor, ReportExtras, Rows, TrainingRecord
from fer_cli.evaluation.report import command_line
from fer_cli.models.features import open_features
from fer_cli.reporting.curves import ParameterPath, path_figure
from fer_cli.reporting.report import Cost, FigureSection
from fer_cli.stages.extract import extract
from fer_cli.systems.ahm.hierarchy import default_hierarchy
from fer_cli.systems.ahm.predictors import PREDICTORS, Predictors

REFERENCE: Final = "logistic"
"""The plain classifier that the others' gains are measured from."""
NOTES: Final = {
    "nearest-mean": "nearest class mean of the standardised features",
    "logistic": "multinomial logistic regression on the same features",
    "ahm-semantic": "feature projected to the semantic space, largest cosine with a prototype",
    "ahm-visual": "prototype projected to the feature space, largest cosine with the feature",
}


def ahm_predictor(store: Store, artifact: Artifact, device: str = "auto", data: Artifact | None = None) -> Predictor:
    """Open an ahm artifact with its features and its data set, or with the same features of another data set."""
    parent = open_parent(store, artifact, "features")
    learned = open_dataset(open_parent(store, parent, "dataset"))
    summary = artifact.manifest.summary
    known = tuple(summary["classes"])
    on = resolve_target(artifact, learned, known, data)
    dataset = on.dataset
    features = open_features(_same_features(store, parent, learned, dataset, device), len(dataset.images))
    predictors = Predictors.from_tensors(read_tensors(artifact.file("ahm.safetensors")), known)

    def probabilities(rows: Rows, tta: str) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        views = ["original"] if tta == "none" else ["original", "flip"]
        found: dict[str, NDArray[np.float64]] = {}
        for name in PREDICTORS:
            parts = [
                predictors.probabilities(predictors.scores(features.rows(view, rows), name), name) for view in views
            ]
            found[name] = over_common(np.mean(parts, axis=0), known, dataset.classes)[0]
        return found, {}

    return Predictor(
        origin=Origin.of(artifact),
        dataset=dataset,
        protocol=on.protocol,
        predictors=tuple(PREDICTORS),
        chosen=summary["chosen"],
        reference=REFERENCE,
        probabilities=probabilities,
        told=lambda _: _told(artifact, parent, learned),
        learned=TrainingRecord(
            dataset=learned,
            trained=learned.rows("train"),
            select_on=artifact.manifest.protocol["selection"]["split"],
            named=dict.fromkeys(PREDICTORS, known),
            recorded={name: float(scores["accuracy"]) for name, scores in summary["validation"].items()},
        ),
        cautions=on.cautions,
    )


def _same_features(store: Store, parent: Artifact, learned: Dataset, dataset: Dataset, device: str) -> Artifact:
    """Return the features of a data set that another one's model takes: its own, or what the same network makes.

    Raises:
        FerError: the network or its weights are not what they were.
    """
    if dataset.artifact.manifest.content == learned.artifact.manifest.content:
        return parent
    made = parent.manifest.config
    found = extract(
        store=store,
        dataset=dataset.artifact.reference,
        backbone=made["backbone"],
        level=made["level"],
        size=made["preprocessing"]["size"],
        views=made["views"],
        weights=weights_option(parent.manifest.summary),
        dtype=made["dtype"],
        device=device,
    ).artifact
    if odd := next((key for key, value in made.items() if found.manifest.config[key] != value), None):
        raise FerError(
            f"{found.reference} was not made as {parent.reference} was: {odd} differs",
            hint="bring back the weights that those features were made with ('fer weights ls')",
        )
    note(f"features: {found.reference}")
    return found


def _told(model: Artifact, features: Artifact, dataset: Dataset) -> ReportExtras:
    config = features.manifest.config
    return ReportExtras(
        subtitle=f"{config['backbone']} features, {config['level']}, {config['preprocessing']['size']} px",
        notes=NOTES,
        cost=_cost(features),
        figures=(_selection(model),),
        commands=tuple(_commands(model, features, dataset.artifact)),
    )


def _cost(features: Artifact) -> Cost:
    summary, measured = features.manifest.summary, features.manifest.measured
    return Cost(
        parameters=summary["parameters"],
        multiply_adds=summary["multiply_adds"],
        images_per_second=measured.get("images_per_second"),
        peak_memory=measured.get("peak_memory"),
        device=f"{measured['device']}, {measured['threads']} threads, batches of {measured['batch']}",
    )


def _selection(model: Artifact) -> FigureSection:
    """Return validation accuracy along the path of lambdas, and along that of logistic regression's C."""
    table = read_table(model.file("path.parquet")).to_pylist()
    chosen = model.manifest.summary["chosen"]
    paths = []
    for parameter in dict.fromkeys(row["parameter"] for row in table):
        rows = [row for row in table if row["parameter"] == parameter]
        values = sorted({row["value"] for row in rows})
        names = list(dict.fromkeys(row["predictor"] for row in rows))
        lines = {name: {row["value"]: row["accuracy"] for row in rows if row["predictor"] == name} for name in names}
        marked = chosen if chosen in names else names[0]
        best = next((row["value"] for row in rows if row["predictor"] == marked and row["chosen"]), None)
        paths.append(
            ParameterPath(
                parameter,
                values,
                {name: [line.get(value, float("nan")) for value in values] for name, line in lines.items()},
                None if best is None else (marked, best),
            )
        )
    note = "Accuracy on the validation split by the hyper-parameter of each predictor; the ring is what was chosen."
    return FigureSection("selection", "Model selection", note, path_figure(paths))


def _commands(model: Artifact, features: Artifact, dataset: Artifact) -> Iterator[str]:
    made = features.manifest.config
    yield command_line(
        "extract",
        f"{dataset.name}@{dataset.version}",
        backbone=made["backbone"],
        level=made["level"],
        size=made["preprocessing"]["size"],
        views=",".join(made["views"]),
        dtype=made["dtype"],
        weights=weights_option(features.manifest.summary),
    )
    fitted = model.manifest.config
    hierarchy = model.file("hierarchy.toml")
    is_own = hierarchy.read_text(encoding="utf-8") == default_hierarchy().text
    own = {} if is_own else {"hierarchy": str(hierarchy)}
    yield command_line(
        "fit-ahm",
        f"{features.name}@{features.version}",
        **own,
        paths=fitted["paths"],
        lambdas=",".join(repr(value) for value in fitted["relative_lambdas"]),
        ridge=fitted["ridge"],
        metric=fitted["metric"],
    )


def weights_option(summary: Mapping[str, Any]) -> str:
    """Return what to give to ``--weights``: ``auto`` finds again what a package or a hub gave, a file must be named."""
    weights = summary["weights"]
    if weights is None:
        return "none"
    return str(weights["file"]) if weights["source"] in {"file", "$FER_WEIGHTS"} else "auto"
