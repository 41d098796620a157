"""Paired differences of several systems, and over seeds: against plain loops and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fer_cli.metrics import Estimate, evaluate
from fer_cli.metrics.paired import METRICS, difference, difference_over_seeds, mean, paired_difference, score

Labels = NDArray[np.int64]


def drawn(n: int, accuracies: list[float], seed: int) -> tuple[Labels, list[Labels]]:
    rng = np.random.default_rng(seed)
    true = rng.choice(4, size=n, p=[0.4, 0.3, 0.2, 0.1])
    return true, [np.where(rng.random(n) < right, true, rng.integers(4, size=n)) for right in accuracies]


def loop_scores(true: Labels, predicted: Labels) -> list[float]:
    """Accuracy, balanced accuracy and macro F1, item by item."""
    recalls, f1s = [], []
    for name in sorted(set(true.tolist())):
        hits = sum(1 for t, p in zip(true, predicted, strict=True) if t == p == name)
        support = sum(1 for t in true if t == name)
        told = sum(1 for p in predicted if p == name)
        recalls.append(hits / support)
        f1s.append(2 * hits / (support + told))
    return [
        sum(1 for t, p in zip(true, predicted, strict=True) if t == p) / len(true),
        sum(recalls) / len(recalls),
        sum(f1s) / len(f1s),
    ]


def test_scores_and_resamples_are_those_of_a_plain_loop() -> None:
    true, (a, b, c) = drawn(50, [0.5, 0.7, 0.6], 0)
    systems = score(true, [a[None], np.stack([b, c])], groups=None, seed=9, resamples=6)
    draws = np.random.default_rng(9).integers(50, size=(6, 50))
    for one, rows in zip(systems, ([a], [b, c]), strict=True):
        for k, row in enumerate(rows):
            assert one.value[k].tolist() == pytest.approx(loop_scores(true, row))
            for index, draw in enumerate(draws):
                assert one.drawn[index, k].tolist() == pytest.approx(loop_scores(true[draw], row[draw]))
    assert systems[0].units == 50


@pytest.mark.parametrize("groups", [None, "subjects"])
def test_one_training_each_is_the_paired_percentile_interval(groups: str | None) -> None:
    true, (a, b, c) = drawn(120, [0.5, 0.7, 0.6], 1)
    subjects = None if groups is None else np.arange(120) // 6
    first, *others = score(true, [one[None] for one in (a, b, c)], groups=subjects, seed=4, resamples=300)
    for metric in METRICS:
        for one, row in zip(others, (b, c), strict=True):
            assert difference(one, first, metric) == paired_difference(true, row, a, metric, subjects, 4, 300)
    metrics = evaluate(true, np.eye(4)[a], tuple("wxyz"), seed=4, groups=subjects, resamples=300)
    for metric in METRICS:
        expected: Estimate = getattr(metrics, metric)
        got = mean(first, metric)
        np.testing.assert_allclose(
            [got.value, got.low, got.high], [expected.value, expected.low, expected.high], rtol=1e-12
        )


def test_over_seeds_by_hand() -> None:
    true, rows = drawn(80, [0.5, 0.6, 0.7, 0.8, 0.75, 0.85], 2)
    one, other = np.stack(rows[:3]), np.stack(rows[3:])
    a, b = score(true, [one, other], groups=None, seed=0, resamples=500)
    got = difference_over_seeds(b, a, "accuracy")
    value = (other == true).mean() - (one == true).mean()
    draws = np.random.default_rng(0).integers(80, size=(500, 80))
    each = (other == true).mean(axis=0) - (one == true).mean(axis=0)
    items = float(np.var([each[draw].mean() for draw in draws]))
    spread = [float(np.var((part == true).mean(axis=1), ddof=1)) / 3 for part in (one, other)]
    error = math.sqrt(items + sum(spread))
    degrees = error**4 / (items**2 / 79 + spread[0] ** 2 / 2 + spread[1] ** 2 / 2)
    reach = stats.t.ppf(0.975, degrees) * error
    assert got.degrees == pytest.approx(degrees)
    assert got.estimate.value == pytest.approx(value)
    assert (got.estimate.low, got.estimate.high) == pytest.approx((value - reach, value + reach))
    assert got.p == pytest.approx(2 * stats.t.sf(abs(value) / error, degrees))
    assert (got.p < 0.05) == (got.estimate.low > 0 or got.estimate.high < 0)
    assert difference(b, a, "accuracy") == got.estimate
    swapped = difference_over_seeds(a, b, "accuracy").estimate
    assert (swapped.value, swapped.low) == pytest.approx((-got.estimate.value, -got.estimate.high))


def test_other_numbers_of_seeds_and_a_lone_training_without_a_spread() -> None:
    true, rows = drawn(80, [0.5, 0.6, 0.7, 0.8, 0.75], 2)
    one, other = np.stack(rows[:3]), np.stack(rows[3:])
    a, b, alone = score(true, [one, other, other[:1]], groups=None, seed=0, resamples=400)
    items = float((b.drawn[..., 0].mean(axis=1) - a.drawn[..., 0].mean(axis=1)).var())
    spread = [float(np.var((part == true).mean(axis=1), ddof=1)) / len(part) for part in (one, other)]
    got = difference_over_seeds(b, a, "accuracy").estimate
    error = math.sqrt(items + sum(spread))
    degrees = (items + sum(spread)) ** 2 / (items**2 / 79 + spread[0] ** 2 / 2 + spread[1] ** 2)
    assert got.high - got.value == pytest.approx(stats.t.ppf(0.975, degrees) * error)
    items = float((alone.drawn[:, 0, 0] - a.drawn[..., 0].mean(axis=1)).var())
    degrees = (items + spread[0]) ** 2 / (items**2 / 79 + spread[0] ** 2 / 2)
    got = difference_over_seeds(alone, a, "accuracy").estimate
    assert got.high - got.value == pytest.approx(stats.t.ppf(0.975, degrees) * math.sqrt(items + spread[0]))


def test_equal_systems_and_one_unit() -> None:
    true, rows = drawn(40, [0.5, 0.6], 0)
    twice = np.stack(rows)
    one, both = score(true, [twice[:1], twice], groups=None, seed=0, resamples=100)
    same = difference_over_seeds(one, one, "macro_f1")
    assert same.estimate == Estimate(0.0, 0.0, 0.0)
    assert same.p == 1
    again = difference_over_seeds(both, both, "macro_f1")
    assert (again.estimate.value, again.p) == (0.0, 1.0)
    assert again.estimate.low < 0 < again.estimate.high, "other trainings would not be equal"
    a, b = score(true, [twice[:1], twice[1:]], groups=np.zeros(40), seed=0, resamples=100)
    lone = difference(a, b, "accuracy")
    assert not math.isnan(lone.value)
    assert math.isnan(lone.low)
    with pytest.raises(ValueError, match="must be"):
        score(true, [twice[:, 1:]], groups=None, seed=0)


def within(hits: int, trials: int, low: float, high: float) -> bool:
    return bool(stats.binom.ppf(0.001, trials, low) <= hits <= stats.binom.ppf(0.999, trials, high))


def test_false_alarms_of_the_bootstrap_interval() -> None:
    """Two equally good systems with common hard items: the interval leaves out 0 once in twenty test sets."""
    rng = np.random.default_rng(4)
    trials, n = 500, 400
    alarms = dict.fromkeys(METRICS, 0)
    for trial in range(trials):
        true = np.tile([0, 1, 2, 3], n // 4)
        hard = rng.normal(size=n)
        wrong = (true + rng.integers(1, 4, size=(2, n))) % 4
        a, b = np.where(rng.normal(0.8, 1, size=(2, n)) > hard, true, wrong)
        first, other = score(true, [a[None], b[None]], groups=None, seed=trial, resamples=400)
        for metric in METRICS:
            got = difference(other, first, metric)
            alarms[metric] += not got.low <= 0 <= got.high
    for metric in METRICS:
        assert within(alarms[metric], trials, 0.05, 0.06), alarms


@pytest.mark.parametrize("spread", [0.0, 0.15])
def test_false_alarms_over_seeds(spread: float) -> None:
    """Two recipes that are equally good on the mean over all seeds, three trainings each.

    The interval over seeds and items raises five alarms in a hundred at most. Items alone, as if these three trainings
    were all there is, raise far more where seeds differ.
    """
    rng = np.random.default_rng(5)
    trials, n = 500, 300
    alarms = items = 0
    for trial in range(trials):
        hard = rng.normal(size=n)
        shift = rng.normal(0, spread, size=(2, 3, 1))
        right = 0.8 + shift + rng.normal(0, 0.6, size=(2, 3, n)) > hard
        true = np.zeros(n, dtype=np.int64)
        a, b = np.where(right, 0, 1)
        first, other = score(true, [a, b], groups=None, seed=trial, resamples=200)
        got = difference_over_seeds(other, first, "accuracy")
        alarms += got.p < 0.05
        error = (other.drawn[..., 0].mean(axis=1) - first.drawn[..., 0].mean(axis=1)).std()
        items += abs(got.estimate.value) > 1.96 * error
    assert within(alarms, trials, 0.0, 0.05), alarms
    if spread:
        assert items > 0.1 * trials
        assert alarms > 0.005 * trials, "and is no more careful than it must be"
