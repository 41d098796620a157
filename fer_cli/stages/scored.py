"""What is scored, and what an evaluation found: for its files, its report and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.store import Artifact
from fer_cli.datasets.dataset import Dataset
from fer_cli.evaluation import Metrics
from fer_cli.evaluation.bootstrap import Estimate
from fer_cli.evaluation.soundness import Soundness

if TYPE_CHECKING:
    from fer_cli.reporting.charts import Curve
    from fer_cli.reporting.heat import Looks
    from fer_cli.reporting.report import Cost
    from fer_cli.reporting.scatter import Scatter

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Told:
    """What a report says of the artifact that was scored, beyond its numbers."""

    subtitle: str
    notes: Mapping[str, str]  # how each predictor decides
    cost: Cost
    curves: tuple[Curve, ...]
    commands: tuple[str, ...]  # that make it again from the data set's artifact on


@dataclass(frozen=True, slots=True)
class Subject:
    """An artifact that can be scored, of whatever kind.

    ``probabilities`` maps rows of the data set and a test-time augmentation to (n, C) for each predictor, and what was
    measured on the way. ``reference`` is the predictor that the others' gains are measured from; None has no gains.
    ``look`` shows what a network looks at and how it separates the classes, of what ``probabilities`` scored last.
    """

    artifact: Artifact
    dataset: Dataset
    predictors: tuple[str, ...]
    chosen: str
    reference: str | None
    probabilities: Callable[[Rows, str], tuple[dict[str, NDArray[np.float64]], dict[str, Any]]]
    told: Callable[[Mapping[str, Any]], Told]  # of what was measured
    batching: str | None = None  # what stands beside an image when it is scored; None: nothing ever does
    mixes_batch: bool = False  # whether that matters
    look: Callable[[Scored], tuple[Looks, Scatter]] | None = None  # None: it is no network


@dataclass(frozen=True, slots=True)
class Scored:
    """One subject scored on one split.

    ``rows`` (n,) are the split's rows in the data set; ``probabilities`` maps each predictor to (n, C); ``gains`` maps
    each but the reference to its paired differences from the reference.
    """

    subject: Subject
    split: str
    rows: Rows
    probabilities: Mapping[str, NDArray[np.float64]]
    measured: Mapping[str, Any]
    metrics: Mapping[str, Metrics]
    gains: Mapping[str, Mapping[str, Estimate]]
    chosen: str
    protocol: Mapping[str, Any]
    soundness: Soundness

    @property
    def model(self) -> Artifact:
        """The artifact that was scored."""
        return self.subject.artifact

    @property
    def dataset(self) -> Dataset:
        """The data set that it was scored on."""
        return self.subject.dataset
