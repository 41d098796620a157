"""Scoring an ahm artifact: its four predictors on kept features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.payload import read_table, read_tensors
from fer_cli.artifacts.protocol import TrainingProtocol, Tta
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import (
    AhmConfig,
    AhmSummary,
    FeaturesConfig,
    FeaturesSummary,
    Measured,
    Output,
    ReducedClass,
)
from fer_cli.core.errors import UsageError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.evaluation.common_classes import over_common
from fer_cli.evaluation.cross_dataset import resolve_target
from fer_cli.evaluation.predictor import Origin, Predictor, ReportExtras, Rows, Tables, TrainingRecord
from fer_cli.evaluation.report import command_line
from fer_cli.models.features import Features, open_features
from fer_cli.reporting.curves import ParameterPath, path_figure
from fer_cli.reporting.report import Cost, FigureSection
from fer_cli.systems.ahm.hierarchy import default_hierarchy
from fer_cli.systems.ahm.predictors import PREDICTORS, SOFTMAX, Predictors

REFERENCE: Final = "logistic"
"""The plain classifier that the others' gains are measured from, where the features are of no trained model."""
NOTES: Final = {
    "nearest-mean": "nearest class mean of the standardised features",
    "logistic": "multinomial logistic regression on the same features",
    SOFTMAX: "the classifier of the trained model that the features are of, over the classes of the dataset",
    "ahm-semantic": "feature projected to the semantic space, largest cosine with a prototype",
    "ahm-visual": "prototype projected to the feature space, largest cosine with the feature",
}


@dataclass(kw_only=True)
class AhmPredictor(Predictor):
    """An ahm artifact; ``features`` are those of the dataset that is scored."""

    artifact: Artifact
    trained_on_features: Artifact
    classes: tuple[str, ...]
    predictors: Predictors
    features: Features

    def probabilities(self, rows: Rows, tta: Tta) -> tuple[Tables, Measured]:
        """Score kept features; ``flip`` is the mean over both views."""
        if tta == "ten-crop":
            raise UsageError("--tta ten-crop is for deep models", hint="take flip: AHM sees features that were kept")
        views = ["original"] if tta == "none" else ["original", "flip"]
        tables: Tables = {}
        if SOFTMAX in self.outputs:
            each = [self.features.probabilities(view, rows, self.classes) for view in views]
            tables[SOFTMAX] = over_common(np.mean(each, axis=0), self.classes, self.dataset.classes)[0]
        for name in PREDICTORS:
            each = [
                self.predictors.probabilities(self.predictors.scores(self.features.rows(view, rows), name), name)
                for view in views
            ]
            tables[name] = over_common(np.mean(each, axis=0), self.classes, self.dataset.classes)[0]
        return tables, Measured()

    def report_extras(self, measured: Measured) -> ReportExtras:
        """Return the backbone, its cost, the paths of lambda and C, and the commands."""
        del measured  # the features were there: their extraction is what costs
        assert self.training_record is not None
        config = FeaturesConfig.of(self.trained_on_features)
        return ReportExtras(
            subtitle=f"{config.backbone} features, {config.level}, {config.size} px",
            notes={name: note for name, note in NOTES.items() if name in self.outputs},
            cost=_cost(self.trained_on_features),
            figures=(_selection(self.artifact),),
            commands=tuple(_commands(self.artifact, self.trained_on_features, self.training_record.dataset.artifact)),
        )


def ahm_predictor(
    store: Store, artifact: Artifact, data: Artifact | None = None, features: Artifact | None = None
) -> AhmPredictor:
    """Open an ahm artifact with its features and its dataset, or with the same features of another dataset.

    Args:
        store: where artifacts are.
        artifact: which.
        data: the dataset to score on, over the classes in common; its own where it is None.
        features: those of ``data``, made as its own were; its own where it is None.
    """
    parent = open_parent(store, artifact, "features")
    trained_on = open_dataset(open_parent(store, parent, "dataset"))
    training, summary = TrainingProtocol.of(artifact), AhmSummary.of(artifact)
    assert training.selection is not None, "fit-ahm selects"
    names = [*([SOFTMAX] if SOFTMAX in summary.validation else []), *PREDICTORS]
    target = resolve_target(artifact.reference, trained_on, training.data, summary.classes, data)
    return AhmPredictor(
        origin=Origin.of(artifact, artifact.kind),
        target=target,
        training=training,
        training_record=TrainingRecord(
            dataset=trained_on,
            rows=trained_on.rows("train"),  # all of them, where some were left out: the features are of a network
            select_on=training.selection.split,
            class_names=dict.fromkeys(names, summary.classes),
            accuracy={name: scores.accuracy for name, scores in summary.validation.items()},
        ),
        outputs={name: Output(kind="network" if name == SOFTMAX else "classifier") for name in names},
        chosen=summary.chosen,
        reference=names[0] if SOFTMAX in names else REFERENCE,
        cautions=target.cautions,
        artifact=artifact,
        trained_on_features=parent,
        classes=summary.classes,
        predictors=Predictors.from_tensors(read_tensors(artifact.file("ahm.safetensors")), summary.classes),
        features=open_features(features or parent, target.dataset.artifact),
    )


def _cost(features: Artifact) -> Cost:
    summary, measured = FeaturesSummary.of(features), Measured.of(features)
    return Cost(
        parameters=summary.parameters,
        multiply_adds=summary.multiply_adds,
        images_per_second=measured.images_per_second,
        peak_memory=measured.peak_memory,
        device=f"{measured.device}, {measured.threads} threads, batches of {measured.batch}",
    )


def _selection(model: Artifact) -> FigureSection:
    """Return validation accuracy along the path of lambdas, and along that of logistic regression's C."""
    table = read_table(model.file("path.parquet")).to_pylist()
    chosen = AhmSummary.of(model).chosen
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
    extracted = FeaturesConfig.of(features)
    of_model = features.manifest.inputs.get("model")
    data = f"{dataset.name}@{dataset.version}"
    yield command_line(
        "extract",
        *([data] if of_model is None else [f"model/{of_model.name}@{of_model.version}"]),
        **({"backbone": extracted.backbone} if of_model is None else {"data": data}),
        level=extracted.level,
        size=extracted.size,
        views=",".join(extracted.views),
        dtype=extracted.dtype,
        **({"weights": weights_option(features)} if of_model is None else {}),
    )
    fitted = AhmConfig.of(model)
    hierarchy = model.file("hierarchy.toml")
    is_own = hierarchy.read_text(encoding="utf-8") == default_hierarchy().text
    own = {} if is_own else {"hierarchy": str(hierarchy)}
    yield command_line(
        "fit-ahm",
        f"{features.name}@{features.version}",
        **own,
        paths=fitted.paths,
        lambdas=",".join(repr(value) for value in fitted.relative_lambdas),
        ridge=fitted.ridge,
        metric=fitted.metric,
        **({} if fitted.centring is None else {"centring": fitted.centring}),
        **({} if fitted.reduced is None else {"reduce": _reduced(fitted.reduced), "seed": fitted.reduced_seed}),
    )


def _reduced(reduced: Mapping[str, ReducedClass]) -> str:
    return ",".join(f"{name}={one.share!r}" for name, one in reduced.items())


def weights_option(features: Artifact) -> str:
    """Return what to give to ``--weights``: ``auto`` finds again what a package or a hub gave, a file must be named."""
    weights = FeaturesSummary.of(features).weights
    if weights is None:
        return "none"
    return weights.file if weights.kind in {"file", "folder"} else "auto"
