"""Metrics against values worked out by hand and against scikit-learn's."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.metrics import Metrics, cautions, evaluate

CLASSES = ("happy", "sad", "anger")
TRUE = np.array([0, 0, 0, 0, 1, 1, 2, 2])
PROBABILITIES = np.array(
    [
        [0.7, 0.2, 0.1],  # hit
        [0.5, 0.25, 0.25],  # hit
        [0.3, 0.6, 0.1],  # sad
        [0.4, 0.4, 0.2],  # a tie: the first one, a hit
        [0.1, 0.8, 0.1],  # hit
        [0.6, 0.3, 0.1],  # happy
        [0.0, 0.9, 0.1],  # sad
        [1.0, 0.0, 0.0],  # happy, with no doubt at all
    ]
)


def close(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)


def measured(
    true: NDArray[Any] = TRUE, table: NDArray[Any] = PROBABILITIES, groups: list[int] | None = None
) -> Metrics:
    return evaluate(true, table, CLASSES, seed=0, groups=groups, resamples=200)


def test_values_by_hand() -> None:
    metrics = measured()
    assert metrics.n == 8
    assert metrics.confusion == ((3, 1, 0), (1, 1, 0), (1, 1, 0))
    assert close(metrics.accuracy.value, 4 / 8)
    assert close(metrics.balanced_accuracy.value, (3 / 4 + 1 / 2 + 0) / 3)
    happy, sad, anger = metrics.per_class
    assert (happy.support, happy.predicted, sad.support, sad.predicted) == (4, 5, 2, 3)
    assert close(happy.precision.value, 3 / 5)
    assert close(happy.recall.value, 3 / 4)
    assert close(happy.f1.value, 6 / 9)
    assert close(sad.precision.value, 1 / 3)
    assert close(sad.f1.value, 2 / 5)
    assert (anger.support, anger.predicted) == (2, 0)
    assert (anger.precision.value, anger.recall.value, anger.f1.value) == (0, 0, 0)
    assert close(metrics.macro_f1.value, (6 / 9 + 2 / 5 + 0) / 3)
    eps = np.finfo(np.float64).eps
    of_true = [0.7, 0.5, 0.3, 0.4, 0.8, 0.3, 0.1, eps]
    assert close(metrics.nll.value, -sum(map(math.log, of_true)) / 8)
    brier = [0.14, 0.375, 0.86, 0.56, 0.06, 0.86, 1.62, 2.0]
    assert close(metrics.brier.value, sum(brier) / 8)


def test_calibration_by_hand() -> None:
    metrics = measured()
    # Top probabilities: .7 .5 .6 .4 .8 .6 .9 1.0, hits 1 1 0 1 1 0 0 0. An edge belongs to the bin below it, so .4, .6
    # and .8 = 6/15, 9/15 and 12/15 fall into bins 6, 9 and 12 (counted from 1), both .6 together.
    held = {round(one.end * 15): one for one in metrics.reliability if one.count}
    assert {k: (one.count, one.accuracy.value) for k, one in held.items()} == {
        6: (1, 1.0), 8: (1, 1.0), 9: (2, 0.0), 11: (1, 1.0), 12: (1, 1.0), 14: (1, 0.0), 15: (1, 0.0)
    }  # fmt: skip
    assert close(held[9].confidence, 0.6)
    assert close(metrics.ece.value, (0.6 + 0.5 + 2 * 0.6 + 0.3 + 0.2 + 0.9 + 1.0) / 8)
    empty = metrics.reliability[0]
    assert empty.count == 0
    assert math.isnan(empty.confidence)
    assert math.isnan(empty.accuracy.value)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 60), c=st.integers(2, 8))
def test_values_are_scikit_learns(seed: int, n: int, c: int) -> None:
    from sklearn import metrics as sk

    rng = np.random.default_rng(seed)
    true = rng.integers(c, size=n)
    table = rng.dirichlet(np.full(c, 0.5), size=n)
    predicted = table.argmax(axis=1)
    names = tuple(f"class {k}" for k in range(c))
    got = evaluate(true, table, names, seed=seed, resamples=2)
    present = np.unique(true)
    assert close(got.accuracy.value, sk.accuracy_score(true, predicted))
    recalls = sk.recall_score(true, predicted, labels=present, average="macro", zero_division=0)
    assert close(got.balanced_accuracy.value, recalls)
    f1 = sk.f1_score(true, predicted, labels=present, average="macro", zero_division=0)
    assert close(got.macro_f1.value, f1)
    assert got.confusion == tuple(map(tuple, sk.confusion_matrix(true, predicted, labels=range(c)).tolist()))
    assert close(got.nll.value, sk.log_loss(true, table, labels=range(c)))
    assert close(got.brier.value, ((table - np.eye(c)[true]) ** 2).sum(axis=1).mean())
    precision = sk.precision_score(true, predicted, labels=range(c), average=None, zero_division=0)
    for k, one in enumerate(got.per_class):
        assert close(one.precision.value, precision[k])
        assert math.isnan(one.recall.value) == (k not in present)
        assert math.isnan(one.f1.value) == (k not in present)


def test_absent_class_counts_nowhere_but_is_named() -> None:
    keep = TRUE != 2
    metrics = measured(TRUE[keep], PROBABILITIES[keep])
    assert close(metrics.balanced_accuracy.value, (3 / 4 + 1 / 2) / 2)
    anger = metrics.per_class[2]
    assert math.isnan(anger.recall.value)
    assert math.isnan(anger.recall.low)
    assert anger.precision.value == 0
    assert anger.missing == 1.0
    assert "No item of anger" in cautions(metrics)[0]


def test_cautions_name_what_they_are_about() -> None:
    said = " | ".join(cautions(measured()))
    assert "happy (4), sad (2), anger (2)" in said
    assert "Never predicted: anger" in said
    assert "Only 4 subjects" in " | ".join(cautions(measured(groups=[0, 0, 1, 1, 2, 2, 3, 3])))
    plenty = np.repeat([0, 1, 2], 40)
    assert cautions(measured(plenty, np.eye(3)[plenty])) == ()


@pytest.mark.parametrize(
    ("true", "table", "what"),
    [
        (TRUE, PROBABILITIES[:-1], "do not match"),
        (TRUE, PROBABILITIES[:, :2], "do not match"),
        (TRUE[:0], PROBABILITIES[:0], "no item"),
        (TRUE * 1.0, PROBABILITIES, "not integers"),
        (np.where(TRUE == 2, 3, TRUE), PROBABILITIES, "row 7: label 3"),
        (TRUE - 1, PROBABILITIES, "row 1: label -1"),
        (TRUE, PROBABILITIES * np.where(np.arange(8) == 4, 0.9, 1)[:, None], "row 5"),
        (TRUE, np.where(np.arange(8)[:, None] == 2, np.nan, PROBABILITIES), "row 3"),
        (TRUE, PROBABILITIES + np.where(np.arange(8) == 6, 1, 0)[:, None] * [-0.2, 0.2, 0], "row 7"),
    ],
)
def test_what_cannot_be_scored_is_said(true: NDArray[Any], table: NDArray[Any], what: str) -> None:
    with pytest.raises(FerError, match=what):
        measured(true, table)


def test_classes_must_be_distinct() -> None:
    with pytest.raises(FerError, match="cannot be scored"):
        evaluate(TRUE, PROBABILITIES, ("sad", "sad", "anger"), seed=0)


def test_json_round_trip() -> None:
    keep = TRUE != 2
    metrics = measured(TRUE[keep], PROBABILITIES[keep])
    text = json.dumps(metrics.to_json(), allow_nan=False)
    back = Metrics.from_json(json.loads(text))
    assert json.dumps(back.to_json()) == text
    assert back.accuracy == metrics.accuracy
    assert back.per_class[0] == metrics.per_class[0]
    assert math.isnan(back.per_class[2].recall.value)
    assert isinstance(back.confusion[0], tuple)


def _spoil(key: str, value: object) -> dict[str, Any]:
    return measured().to_json() | {key: value}


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "the whole"),
        ([], "the whole"),
        ({}, "n: Field required"),
        (_spoil("surplus", 1), "surplus"),
        (_spoil("n", "8"), "n: "),
        (_spoil("n", 9), "n = 9"),
        (_spoil("classes", ["happy", "sad"]), "not 2 x 2"),
        (_spoil("classes", ["happy", "sad", "fear"]), "per_class"),
        (_spoil("ece", {"value": 0.1, "low": 0.0}), "ece.high"),
        (_spoil("confusion", [[1]]), "not 3 x 3"),
        (_spoil("accuracy", object()), "not JSON serializable"),
    ],
)
def test_damaged_json_is_refused(value: object, what: str) -> None:
    with pytest.raises(FerError, match=what):
        Metrics.from_json(value)


def test_cautions_name_some_of_many_classes() -> None:
    classes = tuple(f"state {k}" for k in range(40))
    true = np.arange(80) % 40
    found = cautions(evaluate(true, np.eye(40)[np.zeros(80, dtype=np.int64)], classes, seed=0, resamples=20))
    never = next(text for text in found if text.startswith("Never predicted"))
    assert never == f"Never predicted: {', '.join(classes[1:11])} and 29 more classes; " + never.partition("; ")[2]
    few = next(text for text in found if text.startswith("Fewer"))
    assert few.count("(2)") == 10
    assert "and 30 more classes: the intervals" in few
