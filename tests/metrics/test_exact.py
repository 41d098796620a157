"""Intervals where all items are right, or none: against SciPy's, by hand, and by how often they cover."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from fer_cli.metrics import Estimate, evaluate
from fer_cli.metrics.exact import least_mean, least_share, widened_mean
from fer_cli.metrics.paired import METRICS, mean, score

CLASSES = ("happy", "sad", "anger")


@pytest.mark.parametrize("n", [1, 2, 4, 20, 3589])
def test_the_ends_are_those_of_clopper_and_pearson(n: int) -> None:
    interval = scipy.stats.binomtest(n, n).proportion_ci(0.95, method="exact")
    assert float(least_share(n)) == pytest.approx(interval.low, rel=1e-9)
    none = scipy.stats.binomtest(0, n).proportion_ci(0.95, method="exact")
    assert 1 - float(least_share(n)) == pytest.approx(none.high, rel=1e-9)
    assert widened_mean(Estimate(0.0, 0.0, 0.0), float(least_share(n))).high == pytest.approx(none.high)


def ends(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def test_by_hand() -> None:
    np.testing.assert_allclose(least_share([0, 1, 4]), [0, 0.025, 0.3976353644])
    assert least_mean([4]) == pytest.approx(0.3976353644)
    assert least_mean([3, 3]) == pytest.approx(0.025 ** (1 / 6))
    ordinary = Estimate(0.5, 0.4, 0.6)
    assert widened_mean(ordinary, 0.1) == ordinary
    assert math.isnan(widened_mean(Estimate(1.0, math.nan, math.nan), 0.1).low)


@pytest.mark.parametrize("units", [[1, 5, 20], [2, 50, 50, 7], [8] * 7])
def test_the_least_mean_is_the_least(units: list[int]) -> None:
    """Against many ways to share the chance of 0.025 among the classes."""
    n = np.array(units, dtype=float)
    shares = np.random.default_rng(0).dirichlet(np.full(len(n), 0.5), size=400_000)
    means = (0.025 ** (shares / n)).mean(axis=1)
    assert means.min() >= least_mean(n)
    assert means.min() == pytest.approx(least_mean(n), abs=0.02)


def test_a_handful_of_images_all_wrong_or_all_right() -> None:
    true = np.array([0, 0, 1, 2])
    right = evaluate(true, np.eye(3)[true], CLASSES, seed=0)
    wrong = evaluate(true, np.eye(3)[(true + 1) % 3], CLASSES, seed=0)
    assert ends(right.accuracy) == pytest.approx((1.0, (0.3976353644), 1.0))
    assert ends(wrong.accuracy) == pytest.approx((0.0, 0.0, 1 - 0.3976353644))
    assert ends(right.balanced_accuracy) == pytest.approx((1.0, (least_mean([2, 1, 1])), 1.0))
    assert ends(wrong.macro_f1) == pytest.approx((0.0, 0.0, 1 - least_mean([2, 1, 1])))
    happy, unhappy = right.per_class[0], wrong.per_class[0]
    assert ends(happy.recall) == pytest.approx((1.0, (0.025**0.5), 1.0))
    share = 0.025 ** (1 / 3)  # two are happy, and one was said to be
    assert ends(unhappy.f1) == pytest.approx((0.0, 0.0, 2 * (1 - share) / (2 - share)))
    assert right.reliability[-1].accuracy == right.accuracy
    never = evaluate(true, np.eye(3)[np.zeros(4, dtype=int)], CLASSES, seed=0).per_class[1]
    assert ends(never.precision) == pytest.approx((0.0, 0.0, 1.0)), "nothing was said, so nothing is known"


def test_subjects_are_the_units() -> None:
    true = np.repeat([0, 1, 2], 20)
    groups = np.tile(np.repeat([0, 1, 2, 3, 4], 4), 3)
    metrics = evaluate(true, np.eye(3)[true], CLASSES, seed=0, groups=groups)
    assert ends(metrics.accuracy) == pytest.approx((1.0, (0.025 ** (1 / 5)), 1.0))
    assert metrics.per_class[2].recall == metrics.accuracy


def test_ordinary_intervals_are_those_of_the_resamples() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(3, size=400)
    said = np.where(rng.random(400) < 0.9, true, (true + 1) % 3)
    metrics = evaluate(true, np.eye(3)[said], CLASSES, seed=0)
    hits = rng.binomial(400, (true == said).mean(), size=4000) / 400
    assert (metrics.accuracy.low, metrics.accuracy.high) == pytest.approx(np.quantile(hits, [0.025, 0.975]), abs=0.006)


def test_a_compared_system_has_the_same_interval_as_by_itself() -> None:
    true = np.array([0, 0, 1, 2, 1])
    right = evaluate(true, np.eye(3)[true], CLASSES, seed=0)
    alone, twice = score(true, [true[None], np.stack([true, true])], groups=None, seed=0)
    for metric in METRICS:
        assert mean(alone, metric) == getattr(right, metric)
        assert mean(twice, metric) == replace(getattr(right, metric), sd=0.0)


@pytest.mark.parametrize("share", [0.75, 0.9, 0.97])
def test_few_images_are_covered(share: float) -> None:
    """Where the bootstrap of ten images alone covers 0.97 in one of four samples."""
    rng, n, trials = np.random.default_rng(1), 10, 400
    covered = 0
    for trial in range(trials):
        true = np.arange(n) % 2
        said = np.where(rng.random(n) < share, true, 1 - true)
        accuracy = evaluate(true, np.eye(2)[said], ("yes", "no"), seed=trial, resamples=200).accuracy
        covered += accuracy.low <= share <= accuracy.high
    assert covered >= 0.9 * trials
