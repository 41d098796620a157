"""Scoring an ensemble: its members, and the mean of their calibrated probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.protocol import Batching, TrainingProtocol, Tta
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import EnsembleSummary, Measured, ModelConfig, ModelSummary, Output, member_role
from fer_cli.core import machine
from fer_cli.core.errors import FerError
from fer_cli.core.progress import track
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.fold_view import dataset_of
from fer_cli.datasets.overlap import alike
from fer_cli.evaluation.common_classes import over_common
from fer_cli.evaluation.cross_dataset import image_format, resolve_target
from fer_cli.evaluation.explain import embedded_items, explain
from fer_cli.evaluation.predictor import (
    EvaluationResult,
    Origin,
    Predictor,
    ReportExtras,
    Rows,
    Tables,
    TrainingRecord,
)
from fer_cli.evaluation.predictors.model import Networks
from fer_cli.reporting.report import Cost
from fer_cli.training.ensemble import Ensemble, Member, mixed, read_ensemble
from fer_cli.training.study import models_of

if TYPE_CHECKING:
    from fer_cli.models.trained import TrainedModel
    from fer_cli.reporting.report import FigureSection

ENSEMBLE: Final = "ensemble"


@dataclass(frozen=True, slots=True)
class Members:
    """The networks of an ensemble's members, by names of their own, and the name of the member that each is of."""

    models: dict[str, Artifact]
    of: dict[str, str]
    temperatures: dict[str, float]

    @classmethod
    def named(cls, opened: Sequence[tuple[str, dict[str, Artifact], Sequence[float]]]) -> Members:
        """Name the networks of members, given as output, models by name, and their temperatures."""
        models: dict[str, Artifact] = {}
        of: dict[str, str] = {}
        temperatures: dict[str, float] = {}
        for output, inner, degrees in opened:
            for (name, model), degree in zip(inner.items(), degrees, strict=True):
                own = output if len(inner) == 1 else f"{output}, {name}"
                models[own], of[own], temperatures[own] = model, output, degree
        return cls(models, of, temperatures)

    @property
    def mixes_batch(self) -> bool:
        """Whether a prediction of one of them depends on the other images in its batch."""
        return any(ModelSummary.of(model).mixes_batch for model in self.models.values())

    def means(self, tables: Mapping[str, NDArray[np.float64]]) -> Tables:
        """Return of each member the mean of its networks' probabilities."""
        outputs = dict.fromkeys(self.of.values())
        return {
            output: np.mean([tables[name] for name, of in self.of.items() if of == output], axis=0)
            for output in outputs
        }


def members_of(store: Store, artifact: Artifact) -> tuple[Ensemble, list[Artifact], Members]:
    """Return what an ensemble says of its members, the members, and their networks.

    Raises:
        FerError: a member is gone, or not what it was.
    """
    ensemble = read_ensemble(artifact)
    members = [open_parent(store, artifact, member_role(number)) for number in range(len(ensemble.members))]
    opened = [
        (said.output, models_of(store, member), said.temperatures)
        for said, member in zip(ensemble.members, members, strict=True)
    ]
    return ensemble, members, Members.named(opened)


def networks_of(store: Store, artifact: Artifact) -> dict[str, Artifact]:
    """Return by their names the models that answer together in an ensemble or a study, or the one that a model is.

    Raises:
        FerError: a member is gone, or not what it was.
    """
    return members_of(store, artifact)[2].models if artifact.kind == "ensemble" else models_of(store, artifact)


@dataclass(kw_only=True)
class EnsemblePredictor(Predictor):
    """Models and studies that were trained on the same images, and the weighted mean of their probabilities."""

    members: Members
    weights: dict[str, float]
    temperature: float
    classes: tuple[str, ...]
    opener: Networks
    summary: EnsembleSummary
    kept: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    """What the last layers took of the images that were scored last."""
    tables: Tables = field(default_factory=dict, repr=False)
    """What each network answered to them."""

    def probabilities(self, rows: Rows, tta: Tta) -> tuple[Tables, Measured]:
        """Run the networks."""
        import torch

        from fer_cli.inference.predict import SIZES
        from fer_cli.inference.views import COUNT

        assert self.batching is not None
        dataset = self.dataset
        answers, features, seconds = run(self.members, self.networks(), dataset, rows, tta=tta, batching=self.batching)
        self.kept.update(features)
        self.tables.update({name: self._common(table) for name, table in answers.items()})
        means = self.members.means(answers)
        means[ENSEMBLE] = mixed([means[name] for name in self.weights], list(self.weights.values()), self.temperature)
        return {name: self._common(table) for name, table in means.items()}, Measured(
            images_per_second=round(len(rows) * COUNT[tta] / seconds, 1),
            batch=SIZES[self.batching],
            device=machine.device_name(self.opener.device),
            threads=torch.get_num_threads(),
            peak_memory=machine.peak_memory(),
        )

    def _common(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        return over_common(table, self.classes, self.dataset.classes)[0]

    def networks(self) -> Mapping[str, TrainedModel]:
        """Open the networks of all members."""
        return self.opener.of(self.members.models)

    def explain(self, result: EvaluationResult) -> tuple[FigureSection, ...]:
        """Show where the first network looks, and what its last layer took."""
        name = next(iter(self.members.models))
        return explain({name: self.members.models[name]}, self.kept, replace(result, probabilities=self.tables), name)

    def report_extras(self, measured: Measured) -> ReportExtras:
        """Return the members, their weights and what a prediction costs."""
        summary = self.summary
        notes = {
            name: f"weight {self.weights[name]:.3g}: {reference}"
            for name, reference in zip(summary.outputs, summary.members, strict=True)
        }
        notes[ENSEMBLE] = f"the mean of the members' calibrated probabilities, at temperature {self.temperature:.3g}"
        return ReportExtras(
            subtitle=f"{summary.networks} networks of {len(summary.members)} members",
            notes=notes,
            cost=Cost(
                parameters=summary.parameters,
                multiply_adds=summary.multiply_adds,
                images_per_second=measured.images_per_second,
                peak_memory=measured.peak_memory,
                device=f"{measured.device}, {measured.threads} threads, batches of {measured.batch}",
            ),
            figures=(),
            commands=tuple(_commands(self.origin)),
        )


def _commands(origin: Origin) -> list[str]:
    """Return the command that makes the ensemble again of its members."""
    assert origin.artifact is not None
    command = Measured.of(origin.artifact).command
    return [] if command is None else [command]


def run(
    members: Members,
    networks: Mapping[str, TrainedModel],
    dataset: Dataset,
    rows: Rows,
    *,
    tta: Tta,
    batching: Batching,
) -> tuple[Tables, dict[str, NDArray[np.float32]], float]:
    """Run the networks of an ensemble on rows of a dataset.

    Returns:
        By their names the calibrated probabilities (n, C) and the kept features, and the seconds that it took.
    """
    from fer_cli.inference.predict import predict

    with track("score", len(rows) * len(networks)) as advance:
        answers = predict(
            networks,
            dataset.images,
            dataset.labels,
            rows,
            tta=tta,
            batching=batching,
            kept=embedded_items(dataset.labels[rows]),
            advance=advance,
            temperatures=members.temperatures,
        )
    return (
        {name: answer.probabilities for name, answer in answers.items()},
        {name: answer.features for name, answer in answers.items()},
        sum(answer.seconds for answer in answers.values()),
    )


def ensemble_predictor(
    store: Store, artifact: Artifact, device: str, batching: Batching | None, data: Artifact | None = None
) -> EnsemblePredictor:
    """Open an ensemble on the dataset that its members were trained on, or on another one.

    Raises:
        FerError: a member is gone or not what it was.
    """
    ensemble, _, members = members_of(store, artifact)
    summary, training = EnsembleSummary.of(artifact), TrainingProtocol.of(artifact)
    trained_on = shared_dataset(store, members)
    target = resolve_target(artifact.reference, trained_on, training.data, summary.classes, data)
    outputs = {one.output: _output(one) for one in ensemble.members}
    mixes = members.mixes_batch
    return EnsemblePredictor(
        origin=Origin.of(artifact, f"ensemble of {len(ensemble.members)}"),
        target=target,
        training=training,
        training_record=_training_record(store, trained_on, members, training, summary),
        outputs={**outputs, ENSEMBLE: Output(kind="ensemble")},
        chosen=ENSEMBLE,
        batching=batching or ("alone" if mixes else "stored"),
        mixes_batch=mixes,
        cautions=target.cautions,
        members=members,
        weights={one.output: one.weight for one in ensemble.members},
        temperature=ensemble.temperature,
        classes=summary.classes,
        opener=Networks(device),
        summary=summary,
    )


def _output(member: Member) -> Output:
    return Output(kind="network" if member.kind == "model" else "ensemble")


def shared_dataset(store: Store, members: Members) -> Dataset:
    """Return the dataset of all networks: the largest, of which the others' hold the same splits.

    Another dataset may lack training images, such as copies that were left out, and nothing else.

    Raises:
        FerError: networks were trained on other images, labels, splits or folds.
    """
    datasets: dict[str, Dataset] = {}
    by_source: dict[tuple[str, int | None], Dataset] = {}
    for name, model in members.models.items():
        source = (model.manifest.inputs["dataset"].content, ModelConfig.of(model).fold)
        if source not in by_source:
            by_source[source] = dataset_of(store, model)
        datasets[name] = by_source[source]
    widest_name, widest = max(datasets.items(), key=lambda pair: len(pair[1].ids))
    for name, dataset in datasets.items():
        if dataset is widest:
            continue
        if (what := _difference(dataset, widest)) is not None:
            raise FerError(
                f"{name} was trained on {_described(dataset, members.models[name])} and {widest_name} on "
                f"{_described(widest, members.models[widest_name])}: {what}",
                hint="take members that were trained on the same splits of the same images",
            )
    return widest


def _described(dataset: Dataset, model: Artifact) -> str:
    fold = ModelConfig.of(model).fold
    return f"{dataset.artifact.name}@{dataset.artifact.version}{'' if fold is None else f', fold {fold}'}"


def _difference(dataset: Dataset, widest: Dataset) -> str | None:
    """Return in what a dataset is not a part of another one with the same splits; None where it is."""
    if dataset.classes != widest.classes:
        return "other classes, or in another order"
    if dataset.images.shape[1:] != widest.images.shape[1:]:
        return f"images of {image_format(dataset)} and of {image_format(widest)}"
    rows = rows_in(dataset, np.arange(len(dataset.ids)), widest)
    if (rows < 0).any():
        return "it holds other images"
    if (dataset.splits != widest.splits[rows]).any():
        return "images are in other splits"
    if (dataset.labels != widest.labels[rows]).any():
        return "images have other labels"
    left_out = np.setdiff1d(np.arange(len(widest.ids)), rows)
    if (widest.splits[left_out] != "train").any():
        return "images of the validation or test split are in one alone"
    if not alike(dataset, np.arange(len(rows)), widest, rows).all():
        return "other images have the same ids"
    return None


def rows_in(dataset: Dataset, rows: Rows, other: Dataset) -> Rows:
    """Return where images of a dataset stand in another one, by id; -1 where they are not there."""
    if dataset is other:
        return rows
    row_of = {name: row for row, name in enumerate(other.ids.tolist())}
    return np.array([row_of.get(name, -1) for name in dataset.ids[rows].tolist()], dtype=np.int64)


def training_rows(store: Store, members: Members, shared: Dataset) -> Rows:
    """Return the rows of the shared dataset that any of the networks was trained on, sorted."""
    from fer_cli.training.inputs import limited

    rows: list[Rows] = []
    seen: set[tuple[str, int | None]] = set()
    for model in members.models.values():
        limit = ModelConfig.of(model).recipe["data"]["limit"]
        if (key := (model.manifest.inputs["dataset"].content, limit)) in seen:
            continue
        seen.add(key)
        own = key[0] == shared.artifact.manifest.content
        dataset = shared if own else dataset_of(store, model)
        train = dataset.rows("train")
        rows.append(rows_in(dataset, limited(train, dataset.labels[train], limit, seed=0), shared))
    return np.unique(np.concatenate(rows))


def _training_record(
    store: Store, dataset: Dataset, members: Members, training: TrainingProtocol, summary: EnsembleSummary
) -> TrainingRecord:
    """Return what any member was trained on. What they scored where they were selected is recorded of validation."""
    assert training.selection is not None
    select_on = training.selection.split
    recorded = {**dict(zip(summary.outputs, summary.member_accuracy, strict=True)), ENSEMBLE: summary.selected.accuracy}
    return TrainingRecord(
        dataset=dataset,
        rows=training_rows(store, members, dataset),
        select_on=select_on,
        class_names={name: ModelConfig.of(model).classes for name, model in members.models.items()},
        accuracy=recorded if select_on == "validation" else {},
    )
