"""The result of an evaluation: every metric with its interval, as frozen dataclasses and as plain JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import ArrayLike
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fer_cli.core.errors import FerError
from fer_cli.metrics.bootstrap import (
    RESAMPLES,
    Estimate,
    calibration_interval,
    percentile_interval,
    resampled_sums,
    sums_by_unit,
)
from fer_cli.metrics.exact import widened
from fer_cli.metrics.values import BIN_EDGES, Floats, Values, check_predictions, item_sums, values_from_sums

NAMED: Final = 10
"""Classes that a sentence names; of more the rest are counted."""
FEW: Final = 20
"""Below this many items or groups a bootstrap interval is too narrow to lean on."""


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """One class. ``recall`` and ``f1`` are NaN where the class has no item; ``precision`` is 0 where never predicted.

    ``missing``: the share of the resamples that held no item of the class; they are left out of its recall and F1.
    """

    name: str
    support: int
    predicted: int | float  # a mean over runs need not be whole
    precision: Estimate
    recall: Estimate
    f1: Estimate
    missing: float


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The items whose largest probability lies in (``start``, ``end``]; confidence and accuracy are NaN if none do."""

    start: float
    end: float
    count: int | float
    confidence: float
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Metrics:
    """Every metric of one set of predictions, or its mean over ``runs``. Conventions: :mod:`fer_cli.metrics.values`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    n: int
    classes: tuple[str, ...]
    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    ece: Estimate
    nll: Estimate
    brier: Estimate
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int | float, ...], ...]  # true classes in rows
    reliability: tuple[ReliabilityBin, ...]
    unit: str  # what a resample draws: "item", "subject" ...
    units: int
    resamples: int
    seed: int
    runs: tuple[str, ...] = ()  # whose mean it is (:mod:`fer_cli.metrics.runs`); none where it is of one

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together: a damaged file must not become a report."""
        c = len(self.classes)
        if len(self.confusion) != c or any(len(row) != c for row in self.confusion):
            raise ValueError(f"the confusion matrix is not {c} x {c}")
        if tuple(one.name for one in self.per_class) != self.classes:
            raise ValueError("the classes of per_class are not those of classes")
        if abs(sum(map(sum, self.confusion)) - self.n) > 1e-6 * self.n:
            raise ValueError(f"the confusion matrix does not hold n = {self.n} items")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; what is undefined (NaN) becomes null, what only a mean over runs has is absent."""
        plain: dict[str, Any] = _replace(_told(asdict(self)), _nan_to_none)
        return plain

    @staticmethod
    def from_json(value: object) -> Metrics:
        """Return what :meth:`to_json` wrote.

        Raises:
            FerError: ``value`` does not have that shape.
        """
        try:
            # JSON mode: there a list is a tuple's only form, so that strict types can be asked for.
            return _adapter().validate_json(json.dumps(_replace(value, _none_to_nan)))
        except (ValidationError, TypeError, ValueError) as error:
            if isinstance(error, ValidationError):
                first = error.errors(include_url=False, include_context=False, include_input=False)[0]
                where, what = ".".join(map(str, first["loc"])) or "the whole", first["msg"]
            else:
                where, what = "the whole", str(error)
            raise FerError(f"these are no metrics: {where}: {what}", hint="run `fer eval` again") from error


@cache
def _adapter() -> TypeAdapter[Metrics]:
    return TypeAdapter(Metrics)


def _told(value: Any) -> Any:  # noqa: ANN401 -- a tree of plain values
    """Return a tree without the spread over runs where there is none: one run has no SD."""
    if isinstance(value, dict):
        kept = {
            key: item for key, item in value.items() if not (key == "sd" and item is None) and (key != "runs" or item)
        }
        return {key: _told(item) for key, item in kept.items()}
    return [_told(item) for item in value] if isinstance(value, tuple) else value


def _nan_to_none(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _none_to_nan(value: object) -> object:
    return math.nan if value is None else value


def _replace(value: object, leaf: Callable[[object], object]) -> Any:  # noqa: ANN401 -- a JSON tree
    if isinstance(value, dict):
        return {key: _replace(item, leaf) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace(item, leaf) for item in value]
    return leaf(value)


def evaluate(
    true: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str],
    *,
    seed: int,
    groups: ArrayLike | None = None,
    unit: str | None = None,
    resamples: int = RESAMPLES,
    calibrated: bool = True,
) -> Metrics:
    """Return every metric with its 95% bootstrap interval.

    Args:
        true: (N,) indices into ``classes``.
        probabilities: (N, C); the predicted class is the first of the largest.
        classes: the C class names, in the order of the columns.
        seed: of the resamples.
        groups: (N,) ids of items that belong together, such as subjects: they are drawn whole.
        unit: what a group is called; by default "item" without groups and "subject" with them.
        resamples: how many.
        calibrated: whether the probabilities say how sure a predictor is. Where it gave a label alone (a row of one 1
            and zeros) they do not: calibration error, log loss and Brier score are NaN, and the bins are empty.

    Returns:
        The metrics. Where all items are right, or none, intervals are exact (:mod:`fer_cli.metrics.exact`). With fewer
        than two items (or groups) there is nothing to resample and every interval is NaN.

    Raises:
        FerError: labels or probabilities that cannot be scored (:func:`check_predictions`).
        ValueError: ``groups`` has another length.
    """
    labels, table = check_predictions(true, probabilities, classes)
    items = item_sums(labels, table)
    units = sums_by_unit(items, groups)
    c, n_units = len(classes), int(units.shape[0])
    total = np.asarray(units.sum(axis=0), dtype=np.float64)
    value = values_from_sums(total, c)
    if n_units < 2:
        low = high = Values(*(np.full_like(part, np.nan) for part in value))
        missing = np.zeros(c)
    else:
        batches = [values_from_sums(sums, c) for sums in resampled_sums(units, seed=seed, resamples=resamples)]
        drawn = Values(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
        ends = [percentile_interval(part) for part in drawn]
        low, high = Values(*(end[0] for end in ends)), Values(*(end[1] for end in ends))
        ece_low, ece_high = calibration_interval(value, drawn)
        low, high = low._replace(ece=np.asarray(ece_low)), high._replace(ece=np.asarray(ece_high))
        low, high = widened(value, low, high, units, c)
        missing = np.isnan(drawn.recall).mean(axis=0)

    def estimate(name: str, index: int | None = None) -> Estimate:
        parts: list[Floats] = [getattr(one, name) for one in (value, low, high)]
        return Estimate(*(float(part if index is None else part[index]) for part in parts))

    if not calibrated:
        value, low, high = (_without_calibration(part) for part in (value, low, high))
        total[c * c :] = 0
    confusion = total[: c * c].reshape(c, c).astype(np.int64)
    counts = total[c * c : c * c + len(BIN_EDGES) - 1].astype(np.int64)
    return Metrics(
        n=len(labels),
        classes=tuple(classes),
        accuracy=estimate("accuracy"),
        balanced_accuracy=estimate("balanced_accuracy"),
        macro_f1=estimate("macro_f1"),
        ece=estimate("ece"),
        nll=estimate("nll"),
        brier=estimate("brier"),
        per_class=tuple(
            ClassMetrics(
                name=name,
                support=int(confusion[k].sum()),
                predicted=int(confusion[:, k].sum()),
                precision=estimate("precision", k),
                recall=estimate("recall", k),
                f1=estimate("f1", k),
                missing=float(missing[k]),
            )
            for k, name in enumerate(classes)
        ),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
        reliability=tuple(
            ReliabilityBin(
                start=float(BIN_EDGES[k]),
                end=float(BIN_EDGES[k + 1]),
                count=int(counts[k]),
                confidence=float(value.bin_confidence[k]),
                accuracy=estimate("bin_accuracy", k),
            )
            for k in range(len(BIN_EDGES) - 1)
        ),
        unit=unit or ("item" if groups is None else "subject"),
        units=n_units,
        resamples=resamples,
        seed=seed,
    )


def _without_calibration(values: Values) -> Values:
    unknown = {name: np.full_like(getattr(values, name), np.nan) for name in ("ece", "nll", "brier")}
    bins = {name: np.full_like(getattr(values, name), np.nan) for name in ("bin_accuracy", "bin_confidence")}
    return values._replace(**unknown, **bins)


def _named(classes: Sequence[str]) -> str:
    """Return names of classes as a list; of many the first, and how many more there are."""
    more = len(classes) - NAMED
    return ", ".join(classes) if more <= 1 else f"{', '.join(classes[:NAMED])} and {more} more classes"


def cautions(metrics: Metrics) -> tuple[str, ...]:
    """Return what a reader of these numbers must know, one sentence each without a full stop; mostly nothing."""
    found = []
    if absent := [one.name for one in metrics.per_class if not one.support]:
        found.append(f"No item of {_named(absent)}: left out of balanced accuracy and macro F1")
    if few := [f"{one.name} ({one.support})" for one in metrics.per_class if 0 < one.support < FEW]:
        found.append(f"Fewer than {FEW} items of {_named(few)}: the intervals of these classes are too narrow")
    if silent := [one.name for one in metrics.per_class if one.support and not one.predicted]:
        found.append(f"Never predicted: {_named(silent)}; precision is undefined there and counted as 0")
    if metrics.units < 2:
        found.append(f"One {metrics.unit} alone: there is nothing to resample, so there are no intervals")
    elif metrics.unit != "item" and metrics.units < FEW:
        found.append(f"Only {metrics.units} {metrics.unit}s to resample: the intervals are too narrow")
    return tuple(found)
