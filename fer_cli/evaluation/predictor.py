"""What is scored, and what an evaluation found: for its files, its report and the terminal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.manifest import Input
from fer_cli.artifacts.protocol import (
    Batching,
    EvaluationProtocol,
    PredictionsFile,
    StartingModel,
    TrainingProtocol,
    Tta,
)
from fer_cli.artifacts.sections import SplitName
from fer_cli.artifacts.summaries import Measured, Output, runs_of
from fer_cli.core.findings import Finding
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.overlap import CrossCopies
from fer_cli.evaluation.cross_dataset import EvaluationTarget
from fer_cli.evaluation.metrics_file import ByFold
from fer_cli.evaluation.protocol_warnings import ProtocolWarnings
from fer_cli.metrics import Metrics
from fer_cli.metrics.bootstrap import Estimate

if TYPE_CHECKING:
    from fer_cli.models.trained import TrainedModel
    from fer_cli.reporting.report import Cost, FigureSection, RecipeLine

Rows = NDArray[np.int64]
MEAN: Final = "mean of seeds"
"""The output whose scores are the means of the scores of a study's networks. It has no predictions of its own."""
NO_ANSWER: Final = "no answer"
"""The class of an image that a file of predictions has no answer for."""
Tables = dict[str, NDArray[np.float64]]
"""Name of an output -> probabilities (n, C)."""


@dataclass(frozen=True, slots=True)
class ReportExtras:
    """What a report says of the artifact that was scored, beyond its numbers."""

    subtitle: str
    notes: Mapping[str, str]  # how each output is computed
    cost: Cost | None
    figures: tuple[FigureSection, ...]
    commands: tuple[str, ...]  # that make it again from the dataset's artifact on
    recipe: tuple[RecipeLine, ...] = ()  # that it was trained by
    facts: tuple[tuple[str, str], ...] = ()  # names, and what was measured when it was trained


@dataclass(frozen=True, slots=True)
class Origin:
    """Where scores come from: an artifact, or a file of anybody's."""

    artifact: Artifact | None
    source: Input  # what lineage says of it
    name: str  # the evaluation's name begins with it
    title: str  # the report's begins with it
    reference: str  # in messages
    command: tuple[str, ...]  # what ``fer eval`` is given to score it again

    @staticmethod
    def of(artifact: Artifact, title: str) -> Origin:
        """Return the origin that an artifact is."""
        return Origin(
            artifact=artifact,
            source=artifact.as_input(),
            name=f"{artifact.kind}-{artifact.name}",
            title=title,
            reference=artifact.reference,
            command=(artifact.reference,),
        )


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What an artifact was trained on, and what it recorded of itself. Rows are of ``dataset``."""

    dataset: Dataset
    rows: Rows
    select_on: SplitName
    class_names: Mapping[str, tuple[str, ...]]  # of each part of the artifact, the names that it gives its outputs
    accuracy: Mapping[str, float]  # output -> its recorded accuracy on the split that it was selected on


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A model that the weights come from, and what it was trained on; None where that is not in the store."""

    model: StartingModel
    record: TrainingRecord | None


@dataclass(kw_only=True)
class Predictor(ABC):
    """What can be scored, of whatever kind, on a dataset.

    ``target`` is what it is scored on, over the classes in common. ``outputs`` are the columns that it gives, by name;
    ``chosen`` is the one whose numbers count; ``reference`` is the one that the others' gains are measured from, None
    where there are no gains. ``ancestors`` are the models that the weights of its networks come from. ``parts`` are, of
    a study over folds, each fold's models on the splits that these saw, and ``folds`` (N,) is which of them scores each
    image.
    """

    origin: Origin
    target: EvaluationTarget
    training: TrainingProtocol | None = None  # None: predictions from a file
    training_record: TrainingRecord | None = None  # None: what it was trained on is not known, or not in the store
    ancestors: tuple[Ancestor, ...] = ()
    outputs: Mapping[str, Output]
    chosen: str
    reference: str | None = None
    batching: Batching | None = None  # how images are batched when they are scored; None: they never are
    mixes_batch: bool = False  # whether a prediction depends on the other images in its batch
    calibrated: bool = True  # whether it says how sure it is, or a label alone
    predictions: PredictionsFile | None = None
    findings: tuple[Finding, ...] = ()  # made when it was opened
    unanswered: NDArray[np.bool_] | None = field(default=None, repr=False)  # (N,) images that it has no answer for
    cautions: tuple[str, ...] = ()  # what a reader must know of where the scores come from
    parts: tuple[Predictor, ...] = ()
    folds: NDArray[np.int64] | None = field(default=None, repr=False)
    cross_copies: dict[bytes, CrossCopies] = field(default_factory=dict, repr=False)
    """Rows that were looked for in the dataset that was trained on -> their near copies there: it takes minutes."""

    @abstractmethod
    def probabilities(self, rows: Rows, tta: Tta) -> tuple[Tables, Measured]:
        """Score rows of the dataset: (n, C) for each output, and what was measured on the way."""

    @abstractmethod
    def report_extras(self, measured: Measured) -> ReportExtras:
        """Return what a report says of what was scored, with what was measured."""

    def networks(self) -> Mapping[str, TrainedModel]:
        """Open the networks, by their outputs' names; none where kept features or a file are scored."""
        return {}

    def explain(self, result: EvaluationResult) -> tuple[FigureSection, ...]:
        """Show how a network separates the classes and where it looks, of what was scored last."""
        del result
        return ()

    def runs(self, output: str) -> tuple[str, ...]:
        """Return the outputs whose predictions an output's scores are of: :func:`runs_of`."""
        return runs_of(self.outputs, output)

    @property
    def dataset(self) -> Dataset:
        """The dataset that it is scored on, over the classes in common."""
        return self.target.dataset

    @property
    def is_own(self) -> bool:
        """Whether it is scored on the dataset that it was trained on."""
        record = self.training_record
        if record is None:
            return False
        return record.dataset.artifact.manifest.content == self.dataset.artifact.manifest.content

    @property
    def lacks_training_data(self) -> bool:
        """Whether it is known what it was trained on, but that dataset is not in the store."""
        return self.training is not None and self.training_record is None

    def no_answer(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which of the rows (n,) it has no answer for."""
        return np.zeros(len(rows), dtype=np.bool_) if self.unanswered is None else self.unanswered[rows]

    def by_part(self, rows: Rows) -> list[tuple[Predictor, NDArray[np.intp]]]:
        """Return who scores which of the rows (positions among them): itself all, or each fold's models theirs."""
        if self.folds is None:
            return [(self, np.arange(len(rows)))]
        return [(part, np.flatnonzero(self.folds[rows] == fold)) for fold, part in enumerate(self.parts)]


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """One predictor scored on one split.

    ``rows`` (n,) are the split's rows in the dataset; ``probabilities`` maps each output but a mean to (n, C);
    ``gains`` maps each but the reference to its paired differences from the reference; ``subsets`` maps some of them
    (:mod:`fer_cli.evaluation.subsets`) to the chosen output's metrics on it.
    """

    predictor: Predictor
    split: SplitName
    rows: Rows
    probabilities: Mapping[str, NDArray[np.float64]]
    measured: Measured
    metrics: Mapping[str, Metrics]
    gains: Mapping[str, Mapping[str, Estimate]]
    chosen: str
    subsets: Mapping[str, Metrics]
    protocol: EvaluationProtocol
    warnings: ProtocolWarnings

    @property
    def chosen_tables(self) -> Mapping[str, NDArray[np.float64]]:
        """The probabilities (n, C) behind the chosen output's scores: its own, or those of each run of a mean."""
        return {name: self.probabilities[name] for name in self.predictor.runs(self.chosen)}

    @property
    def dataset(self) -> Dataset:
        """The dataset that it was scored on."""
        return self.predictor.dataset

    def by_fold(self) -> ByFold | None:
        """Return how many images each fold has, and each output's accuracy in each; None where there are no folds.

        Papers print the mean of the latter.
        """
        if self.predictor.folds is None:
            return None
        folds, true = self.predictor.folds[self.rows], self.dataset.labels[self.rows]
        hits = {
            name: np.mean([self.probabilities[run].argmax(axis=1) == true for run in self.predictor.runs(name)], axis=0)
            for name in self.metrics
        }
        numbers = range(int(folds.max()) + 1)
        return ByFold(
            images=tuple(np.bincount(folds).tolist()),
            accuracy={name: tuple(float(hit[folds == fold].mean()) for fold in numbers) for name, hit in hits.items()},
        )
