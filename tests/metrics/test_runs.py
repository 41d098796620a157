"""The mean over the runs of a study: its values against loops, its interval against known truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_cli.metrics import Metrics, evaluate, evaluate_runs
from fer_cli.metrics.paired import METRICS, mean, score

CLASSES = ("happy", "sad", "fear")


def answers(seed: int, n: int = 60, runs: int = 2) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Return labels, and the probabilities of runs that are right more often than not."""
    rng = np.random.default_rng(seed)
    true = rng.integers(3, size=n)
    tables = {}
    for run in range(runs):
        logits = rng.normal(size=(n, 3))
        logits[np.arange(n), true] += 0.8 + 0.5 * run
        tables[f"seed {run}"] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return true, tables


def test_every_metric_is_the_mean_of_the_runs_and_the_sd_is_theirs() -> None:
    true, tables = answers(0, runs=3)
    found = evaluate_runs(true, tables, CLASSES, seed=0, resamples=200)
    each = [evaluate(true, table, CLASSES, seed=0, resamples=200) for table in tables.values()]
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece", "nll", "brier"):
        scores = [getattr(one, name).value for one in each]
        assert getattr(found, name).value == pytest.approx(np.mean(scores))
        assert getattr(found, name).sd == pytest.approx(np.std(scores, ddof=1))
    for k in range(3):
        for name in ("recall", "precision", "f1"):
            scores = [getattr(one.per_class[k], name).value for one in each]
            assert getattr(found.per_class[k], name).value == pytest.approx(np.mean(scores))
            assert getattr(found.per_class[k], name).sd == pytest.approx(np.std(scores, ddof=1))
        assert found.per_class[k].support == each[0].per_class[k].support
        assert found.per_class[k].predicted == pytest.approx(np.mean([one.per_class[k].predicted for one in each]))
    assert np.array(found.confusion) == pytest.approx(np.mean([one.confusion for one in each], axis=0))
    for k, held in enumerate(found.reliability):
        counts = [one.reliability[k].count for one in each]
        assert held.count == pytest.approx(np.mean(counts))
        if sum(counts):
            right = sum(
                one.reliability[k].accuracy.value * one.reliability[k].count for one in each if one.reliability[k].count
            )
            assert held.accuracy.value == pytest.approx(right / sum(counts))
    assert found.runs == ("seed 0", "seed 1", "seed 2")


def test_it_is_not_the_score_of_the_ensemble() -> None:
    true = np.array([0, 0, 1, 1])
    sure, unsure = [0.9, 0.1], [0.45, 0.55]
    tables = {"seed 0": np.array([sure, unsure, unsure, unsure]), "seed 1": np.array([unsure, sure, unsure, unsure])}
    found = evaluate_runs(true, tables, ("happy", "sad"), seed=0, resamples=100)
    ensemble = evaluate(true, np.mean(list(tables.values()), axis=0), ("happy", "sad"), seed=0, resamples=100)
    assert found.accuracy.value == 0.75
    assert found.accuracy.sd == 0.0
    assert found.confusion == ((1.0, 1.0), (0.0, 2.0))
    assert ensemble.accuracy.value == 1.0


def test_it_is_what_a_comparison_says_of_the_study() -> None:
    true, tables = answers(1)
    groups = np.arange(60) // 3
    found = evaluate_runs(true, tables, CLASSES, seed=0, groups=groups, resamples=300)
    [same] = score(
        true, [np.stack([table.argmax(axis=1) for table in tables.values()])], groups=groups, seed=0, resamples=300
    )
    for metric in METRICS:
        compared, evaluated = mean(same, metric), getattr(found, metric)
        assert (evaluated.value, evaluated.low, evaluated.high, evaluated.sd) == pytest.approx(
            (compared.value, compared.low, compared.high, compared.sd)
        )
    assert (found.unit, found.units) == ("subject", 20)


def test_runs_that_agree_have_the_interval_of_the_items_and_no_sd() -> None:
    true, tables = answers(2, n=200)
    found = evaluate_runs(true, {"seed 0": tables["seed 0"], "seed 1": tables["seed 0"]}, CLASSES, seed=0)
    alone = evaluate(true, tables["seed 0"], CLASSES, seed=0)
    assert found.accuracy.sd == 0
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx(
        (alone.accuracy.low, alone.accuracy.high), abs=0.01
    )
    assert (found.ece.value, found.ece.low, found.ece.high) == pytest.approx(
        (alone.ece.value, alone.ece.low, alone.ece.high)
    )


def test_where_all_runs_are_right_or_none_is_the_intervals_are_exact() -> None:
    true = np.repeat([0, 1, 2], 10)
    right, swapped = np.eye(3)[true], np.eye(3)[np.array([0, 2, 1])[true]]
    found = evaluate_runs(true, {"seed 0": right, "seed 1": right}, CLASSES, seed=0, resamples=100)
    alone = evaluate(true, right, CLASSES, seed=0, resamples=100)
    assert found.accuracy.low == pytest.approx(0.025 ** (1 / 30))
    for metric in METRICS:
        one, two = getattr(found, metric), getattr(alone, metric)
        assert (one.value, one.low, one.high, one.sd) == (1.0, two.low, 1.0, 0.0)
    found = evaluate_runs(true, {"seed 0": swapped, "seed 1": swapped}, CLASSES, seed=0, resamples=100)
    alone = evaluate(true, swapped, CLASSES, seed=0, resamples=100)
    for one, two in zip(found.per_class, alone.per_class, strict=True):
        assert (one.recall.low, one.recall.high) == (two.recall.low, two.recall.high)
        assert (one.f1.low, one.f1.high) == (two.f1.low, two.f1.high)
    assert found.per_class[1].recall.high == pytest.approx(1 - 0.025 ** (1 / 10))
    last, other = found.reliability[-1].accuracy, alone.reliability[-1].accuracy
    assert last.value == other.value
    assert last.low == pytest.approx(other.low)


def test_metrics_of_runs_and_of_one_go_through_json() -> None:
    true, tables = answers(3)
    for metrics in (
        evaluate_runs(true, tables, CLASSES, seed=0, resamples=100),
        evaluate(true, tables["seed 0"], CLASSES, seed=0, resamples=100),
    ):
        plain = metrics.to_json()
        assert Metrics.from_json(json.loads(json.dumps(plain))).to_json() == plain
        assert ("sd" in plain["accuracy"], "runs" in plain) == (bool(metrics.runs),) * 2


def test_a_class_without_items_and_a_single_unit_are_undefined() -> None:
    true, tables = answers(4)
    found = evaluate_runs(np.where(true == 2, 0, true), tables, CLASSES, seed=0, resamples=100)
    assert np.isnan([found.per_class[2].recall.value, found.per_class[2].recall.low]).all()
    assert not np.isnan([found.macro_f1.value, found.macro_f1.low]).any()
    one = evaluate_runs(true, tables, CLASSES, seed=0, groups=np.zeros(60, dtype=int), resamples=100)
    assert np.isnan([one.accuracy.low, one.ece.high, one.per_class[0].recall.low]).all()
    assert one.accuracy.sd == pytest.approx(found_sd(true, tables))
    with pytest.raises(ValueError, match="no spread"):
        evaluate_runs(true, {"seed 0": tables["seed 0"]}, CLASSES, seed=0)


def found_sd(true: NDArray[np.int64], tables: dict[str, NDArray[np.float64]]) -> float:
    """Return the standard deviation of the runs' accuracies."""
    return float(np.std([(table.argmax(axis=1) == true).mean() for table in tables.values()], ddof=1))


@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.03), (3, 0.03), (3, 0.0), (5, 0.03)])
def test_the_interval_covers_items_and_seeds(seeds: int, spread: float) -> None:
    """Subjects of four images each; images differ in difficulty, seeds in how good they are: 0.7 is the truth."""
    rng, trials, subjects = np.random.default_rng(seeds), 300, 75
    groups = np.repeat(np.arange(subjects), 4)
    covered = items_alone = 0
    for _ in range(trials):
        difficulty = np.repeat(rng.uniform(-0.25, 0.25, subjects), 4)
        chance = 0.7 + difficulty + rng.normal(0, spread, seeds)[:, None]
        predicted = (rng.uniform(size=(seeds, len(groups))) > chance).astype(np.int64)
        true = np.zeros(len(groups), dtype=np.int64)
        [scores, first] = score(true, [predicted, predicted[:1]], groups=groups, seed=0, resamples=150)
        over, alone = mean(scores, "accuracy"), mean(first, "accuracy")
        covered += over.low <= 0.7 <= over.high
        items_alone += alone.low <= 0.7 <= alone.high
    assert 0.93 <= covered / trials <= 1.0
    if spread:
        assert items_alone / trials < 0.92, "one seed's interval does not cover other seeds"
