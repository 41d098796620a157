"""What is scored, and what an evaluation found: for its files, its report and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.manifest import Input
from fer_cli.artifacts.store import Artifact
from fer_cli.datasets.dataset import Dataset
from fer_cli.evaluation.findings import Finding
from fer_cli.evaluation.protocol_warnings import ProtocolWarnings
from fer_cli.metrics import Metrics
from fer_cli.metrics.bootstrap import Estimate

if TYPE_CHECKING:
    from fer_cli.models.trained import TrainedModel
    from fer_cli.reporting.report import Cost, FigureSection

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ReportExtras:
    """What a report says of the artifact that was scored, beyond its numbers."""

    subtitle: str
    notes: Mapping[str, str]  # how each predictor decides
    cost: Cost | None
    figures: tuple[FigureSection, ...]
    commands: tuple[str, ...]  # that make it again from the data set's artifact on


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
    def of(artifact: Artifact) -> Origin:
        """Return the origin that an artifact is."""
        config = artifact.manifest.config
        return Origin(
            artifact=artifact,
            source=artifact.as_input(),
            name=f"{artifact.kind}-{artifact.name}",
            title=str(config.get("system", artifact.kind)),
            reference=artifact.reference,
            command=(artifact.reference,),
        )


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What an artifact learned from, and what it recorded of itself. Rows are of ``dataset``."""

    dataset: Dataset
    trained: Rows
    select_on: str  # the split that it was selected on
    named: Mapping[str, tuple[str, ...]]  # of each part of the artifact, the names that it gives its outputs
    recorded: Mapping[str, float]  # predictor -> its accuracy on the split that it was selected on


@dataclass(frozen=True, slots=True)
class Predictor:
    """What can be scored, of whatever kind, on a data set.

    ``dataset`` is the one that is scored on, over the classes in common. ``probabilities`` maps rows of it and a
    test-time augmentation to (n, C) for each predictor, and what was measured on the way. ``reference`` is the
    predictor that the others' gains are measured from; None has no gains. ``look`` shows what a network looks at and
    how it separates the classes, of what ``probabilities`` scored last. ``parts`` are, of a study over folds, each
    fold's models on the splits that these saw, and ``folds`` (N,) is which of them scores each image.
    """

    origin: Origin
    dataset: Dataset
    protocol: Mapping[str, Any]
    predictors: tuple[str, ...]
    chosen: str
    reference: str | None
    probabilities: Callable[[Rows, str], tuple[dict[str, NDArray[np.float64]], dict[str, Any]]]
    told: Callable[[Mapping[str, Any]], ReportExtras]  # of what was measured
    batching: str | None = None  # what stands beside an image when it is scored; None: nothing ever does
    mixes_batch: bool = False  # whether that matters
    look: Callable[[EvaluationResult], tuple[FigureSection, ...]] | None = None  # None: it is no network
    calibrated: bool = True  # whether it says how sure it is, or a label alone
    learned: TrainingRecord | None = None  # None: nobody here knows
    networks: Callable[[], Mapping[str, TrainedModel]] | None = None  # opens its networks
    cautions: tuple[str, ...] = ()  # what a reader must know of where the scores come from
    parts: tuple[Predictor, ...] = ()
    folds: NDArray[np.int64] | None = None

    def parted(self, rows: Rows) -> list[tuple[Predictor, NDArray[np.intp]]]:
        """Return who scores which of the rows (positions among them): itself all, or each fold's models theirs."""
        if self.folds is None:
            return [(self, np.arange(len(rows)))]
        return [(part, np.flatnonzero(self.folds[rows] == fold)) for fold, part in enumerate(self.parts)]

    @property
    def is_own(self) -> bool:
        """Whether it is scored on the data set that it learned from."""
        return (
            self.learned is not None
            and self.learned.dataset.artifact.manifest.content == self.dataset.artifact.manifest.content
        )


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """One subject scored on one split.

    ``rows`` (n,) are the split's rows in the data set; ``probabilities`` maps each predictor to (n, C); ``gains`` maps
    each but the reference to its paired differences from the reference; ``subsets`` maps some of them
    (:mod:`fer_cli.evaluation.subsets`) to the chosen predictor's metrics on it.
    """

    subject: Predictor
    split: str
    rows: Rows
    probabilities: Mapping[str, NDArray[np.float64]]
    measured: Mapping[str, Any]
    metrics: Mapping[str, Metrics]
    gains: Mapping[str, Mapping[str, Estimate]]
    chosen: str
    subsets: Mapping[str, Metrics]
    protocol: Mapping[str, Any]
    soundness: ProtocolWarnings
    findings: tuple[Finding, ...] = ()

    @property
    def dataset(self) -> Dataset:
        """The data set that it was scored on."""
        return self.subject.dataset

    def by_fold(self) -> dict[str, Any] | None:
        """Return how many images each fold has, and each predictor's accuracy in each; None where there are no folds.

        Papers print the mean of the latter.
        """
        if self.subject.folds is None:
            return None
        folds, true = self.subject.folds[self.rows], self.dataset.labels[self.rows]
        hits = {name: table.argmax(axis=1) == true for name, table in self.probabilities.items()}
        numbers = range(int(folds.max()) + 1)
        return {
            "images": np.bincount(folds).tolist(),
            "accuracy": {name: [float(hit[folds == fold].mean()) for fold in numbers] for name, hit in hits.items()},
        }
