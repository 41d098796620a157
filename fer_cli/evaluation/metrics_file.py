"""``metrics.json`` of an evaluation: every predictor's metrics, the gains and the warnings, in the file's one form."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.payload import read_json
from fer_cli.artifacts.sections import Record
from fer_cli.core.errors import FerError
from fer_cli.metrics import Metrics
from fer_cli.metrics.bootstrap import Estimate

METRICS: Final = "metrics.json"


class ByFold(Record):
    """Images of each fold, and each predictor's accuracy in each."""

    images: tuple[int, ...]
    accuracy: dict[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class EvaluationMetrics:
    """The whole of ``metrics.json``. ``gains`` are paired differences from ``reference``, by predictor and metric."""

    dataset: str
    split: str
    chosen: str
    reference: str | None
    predictors: dict[str, Metrics]
    gains: dict[str, dict[str, Estimate]]
    subsets: dict[str, Metrics]
    by_fold: ByFold | None
    unsound: tuple[str, ...]
    cautions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; what is undefined (NaN) becomes null."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "chosen": self.chosen,
            "reference": self.reference,
            "predictors": {name: metrics.to_json() for name, metrics in self.predictors.items()},
            "gain_over_reference": {
                name: {metric: _plain(estimate) for metric, estimate in gain.items()}
                for name, gain in self.gains.items()
            },
            "subsets": {name: metrics.to_json() for name, metrics in self.subsets.items()},
            **({} if self.by_fold is None else {"by_fold": self.by_fold.record()}),
            "unsound": list(self.unsound),
            "cautions": list(self.cautions),
        }


def read_metrics(artifact: Artifact) -> EvaluationMetrics:
    """Return the metrics of an evaluation.

    Raises:
        FerError: the file does not have this form.
    """
    path = artifact.file(METRICS)
    value = read_json(path)
    try:
        return EvaluationMetrics(
            dataset=str(value["dataset"]),
            split=str(value["split"]),
            chosen=str(value["chosen"]),
            reference=value["reference"],
            predictors={name: Metrics.from_json(of) for name, of in value["predictors"].items()},
            gains={
                name: {metric: _estimate(of) for metric, of in gain.items()}
                for name, gain in value["gain_over_reference"].items()
            },
            subsets={name: Metrics.from_json(of) for name, of in value["subsets"].items()},
            by_fold=ByFold.model_validate_json(json.dumps(value["by_fold"])) if "by_fold" in value else None,
            unsound=tuple(value["unsound"]),
            cautions=tuple(value["cautions"]),
        )
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        hint = "run `fer eval` again with --force"
        raise FerError(f"these are no metrics of an evaluation ({error})", hint=hint, path=path) from error


def _plain(estimate: Estimate) -> dict[str, float | None]:
    numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: None if math.isnan(number) else number for name, number in numbers.items()}


def _estimate(value: dict[str, float | None]) -> Estimate:
    numbers = (value[name] for name in ("value", "low", "high"))
    return Estimate(*(math.nan if number is None else float(number) for number in numbers))
