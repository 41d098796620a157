"""What an evaluation found: for its files, its report and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.store import Artifact
from fer_cli.datasets.dataset import Dataset
from fer_cli.evaluation import Metrics
from fer_cli.evaluation.bootstrap import Estimate
from fer_cli.evaluation.soundness import Soundness

REFERENCE: Final = "logistic"
"""The plain classifier that the others' gains are measured from."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One model scored on one split.

    ``rows`` (n,) are the split's rows in ``dataset``; ``probabilities`` maps each predictor to (n, C); ``gains`` maps
    each but the reference to its paired differences from the reference.
    """

    model: Artifact
    dataset: Dataset
    split: str
    rows: NDArray[np.int64]
    probabilities: Mapping[str, NDArray[np.float64]]
    metrics: Mapping[str, Metrics]
    gains: Mapping[str, Mapping[str, Estimate]]
    chosen: str
    protocol: Mapping[str, Any]
    soundness: Soundness
