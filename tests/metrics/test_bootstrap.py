"""Bootstrap intervals: against a plain loop, by simulated coverage, and where there is little to resample."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fer_cli.core.errors import FerError
from fer_cli.metrics import Estimate, bootstrap, evaluate, paired_difference
from fer_cli.metrics.bootstrap import calibration_interval, resampled_sums, sums_by_unit
from fer_cli.metrics.paired import PairedMetric
from fer_cli.metrics.values import Values, item_sums

CLASSES = ("happy", "sad", "anger")


def draw(rng: np.random.Generator, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels of an imbalanced problem and probabilities that know something about them."""
    true = rng.choice(3, size=n, p=[0.6, 0.25, 0.15])
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), true] += 1.2
    table = np.exp(logits)
    return true, table / table.sum(axis=1, keepdims=True)


def covers(one: Estimate, truth: float) -> bool:
    return one.low <= truth <= one.high


def within_binomial_error(hits: int, trials: int, nominal: float = 0.95) -> bool:
    """Whether ``hits`` would not surprise if each trial covered with a probability within .02 of the nominal one.

    The percentile bootstrap is exact only for large n: at n = 300 a deficit of a point is known and allowed.
    """
    low = stats.binom.ppf(0.001, trials, nominal - 0.02)
    high = stats.binom.ppf(0.999, trials, nominal + 0.02)
    return bool(low <= hits <= high)


def test_resampled_sums_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    true, table = draw(rng, 40)
    units = sums_by_unit(item_sums(true, table), None)
    got = np.concatenate(list(resampled_sums(units, seed=5, resamples=7)))
    dense = units.toarray()
    draws = np.random.default_rng(5).integers(40, size=(7, 40))
    expected = np.stack([dense[index].sum(axis=0) for index in draws])
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_groups_are_drawn_whole() -> None:
    true, table = draw(np.random.default_rng(3), 30)
    groups = np.array([f"S{k % 5}" for k in range(30)])
    items = item_sums(true, table)
    units = sums_by_unit(items, groups)
    dense = items.toarray()
    expected = np.stack([dense[groups == f"S{k}"].sum(axis=0) for k in range(5)])
    np.testing.assert_allclose(units.toarray(), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="groups"):
        sums_by_unit(items, groups[:-1])


def test_memory_limit_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    true, table = draw(np.random.default_rng(1), 37)
    whole = evaluate(true, table, CLASSES, seed=9, resamples=101)
    monkeypatch.setattr(bootstrap, "_CHUNK", 37 * 4)
    assert evaluate(true, table, CLASSES, seed=9, resamples=101).to_json() == whole.to_json()
    assert evaluate(true, table, CLASSES, seed=10, resamples=101).accuracy != whole.accuracy


@pytest.fixture(scope="module")
def simulated() -> dict[str, int]:
    """How often each interval of 400 data sets of 300 items covers the value of the population."""
    rng = np.random.default_rng(2024)
    population = evaluate(*draw(rng, 400_000), CLASSES, seed=0, resamples=2)
    hits = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece", "recall", "f1"), 0)
    for seed in range(400):
        got = evaluate(*draw(rng, 300), CLASSES, seed=seed, resamples=400)
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece"):
            hits[name] += covers(getattr(got, name), getattr(population, name).value)
        hits["recall"] += covers(got.per_class[2].recall, population.per_class[2].recall.value)
        hits["f1"] += covers(got.per_class[1].f1, population.per_class[1].f1.value)
    return hits


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece", "recall", "f1"])
def test_intervals_cover_as_often_as_they_say(simulated: dict[str, int], name: str) -> None:
    assert within_binomial_error(simulated[name], 400), simulated


@pytest.mark.parametrize("over", [0.0, 0.02, 0.08])
def test_calibration_error_is_covered_near_zero_too(over: float) -> None:
    """Percentile intervals alone cover a calibrated model's error (0) never."""
    rng = np.random.default_rng(7)
    confidence = rng.uniform(0.55, 0.95, size=(200, 500))
    hit = rng.random((200, 500)) < confidence - over
    # The hit probability is off by the same amount everywhere, so that is the error of the population in every bin.
    covered = 0
    for row, (c, h) in enumerate(zip(confidence, hit, strict=True)):
        got = evaluate(np.where(h, 0, 1), np.stack([c, 1 - c], axis=1), ("yes", "no"), seed=row, resamples=300)
        covered += covers(got.ece, over)
        assert got.ece.low <= got.ece.value <= got.ece.high
    assert covered >= stats.binom.ppf(0.001, 200, 0.93)


def test_items_of_one_subject_need_the_grouped_bootstrap() -> None:
    """Subjects that are easy or hard as a whole: drawing items undercovers, drawing subjects does not."""
    rng = np.random.default_rng(11)
    alone = grouped = 0
    for seed in range(300):
        skill = rng.beta(2, 1, size=60)
        groups = np.repeat(np.arange(60), 10)
        hit = rng.random(600) < skill[groups]
        true = rng.integers(2, size=600)
        table = np.eye(2)[np.where(hit, true, 1 - true)]
        names = ("yes", "no")
        alone += covers(evaluate(true, table, names, seed=seed, resamples=300).accuracy, 2 / 3)
        grouped += covers(evaluate(true, table, names, seed=seed, resamples=300, groups=groups).accuracy, 2 / 3)
    assert alone < 0.85 * 300
    assert within_binomial_error(grouped, 300)


def test_classes_that_a_resample_lacks_are_left_out() -> None:
    true = np.array([0] * 50 + [1] * 50 + [2])
    table = np.eye(3)[true]
    metrics = evaluate(true, table, CLASSES, seed=0)
    anger = metrics.per_class[2]
    assert abs(anger.missing - math.exp(-1)) < 0.05
    # One item that is right says little of its class, and so of the mean over the classes.
    for one in (anger.recall, anger.precision):
        assert (one.value, one.low, one.high) == pytest.approx((1, 0.025, 1))
    assert (anger.f1.low, anger.f1.high) == pytest.approx((0.05 / 1.025, 1))
    assert metrics.balanced_accuracy.value == metrics.balanced_accuracy.high == 1
    assert metrics.balanced_accuracy.low == pytest.approx((0.025 + 2) / 3, abs=0.01)


def test_one_unit_has_no_interval() -> None:
    true, table = draw(np.random.default_rng(0), 12)
    metrics = evaluate(true, table, CLASSES, seed=0, groups=np.zeros(12, dtype=int))
    assert (metrics.unit, metrics.units) == ("subject", 1)
    assert not math.isnan(metrics.accuracy.value)
    for one in (metrics.accuracy, metrics.ece, metrics.per_class[0].recall):
        assert math.isnan(one.low)
        assert math.isnan(one.high)
    assert metrics.to_json()["accuracy"]["low"] is None


def test_speed_of_a_real_test_set() -> None:
    rng = np.random.default_rng(0)
    true, table = rng.integers(7, size=3589), rng.dirichlet(np.ones(7), size=3589)
    start = time.process_time()
    metrics = evaluate(true, table, tuple("abcdefg"), seed=0)
    assert time.process_time() - start < 2
    assert (metrics.resamples, metrics.units, metrics.unit) == (2000, 3589, "item")


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_paired_difference_is_that_of_the_metrics(metric: PairedMetric) -> None:
    rng = np.random.default_rng(4)
    true, first = draw(rng, 200)
    second = first[rng.permutation(200)]
    got = paired_difference(true, first.argmax(1), second.argmax(1), metric, None, 0)
    separate = [getattr(evaluate(true, one, CLASSES, seed=0, resamples=2), metric).value for one in (first, second)]
    assert math.isclose(got.value, separate[0] - separate[1], rel_tol=1e-12)
    assert got.low < got.value < got.high
    assert got.low > 0  # guessing is worse by far
    swapped = paired_difference(true, second.argmax(1), first.argmax(1), metric, None, 0)
    np.testing.assert_allclose([swapped.value, swapped.low, swapped.high], [-got.value, -got.high, -got.low])


def test_pairing_narrows_the_interval() -> None:
    """Two classifiers that differ on one item in twenty: what is common must cancel."""
    rng = np.random.default_rng(8)
    true = rng.integers(2, size=400)
    a = np.where(rng.random(400) < 0.6, true, 1 - true)
    b = np.where(rng.random(400) < 0.05, true, a)
    paired = paired_difference(true, b, a, "accuracy", None, 0)
    single = evaluate(true, np.eye(2)[a], ("yes", "no"), seed=0).accuracy
    assert paired.high - paired.low < 0.5 * (single.high - single.low)
    same = paired_difference(true, a, a, "macro_f1", None, 0)
    assert same == Estimate(0.0, 0.0, 0.0)


def test_paired_difference_covers() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(300):
        true = rng.integers(3, size=300)
        a = np.where(rng.random(300) < 0.7, true, (true + 1) % 3)
        b = np.where(rng.random(300) < 0.6, true, (true + 2) % 3)
        covered += covers(paired_difference(true, a, b, "accuracy", None, seed, resamples=300), 0.1)
    assert within_binomial_error(covered, 300)


def test_paired_difference_by_groups_and_its_errors() -> None:
    true, a, b = np.array([0, 1, 0, 1]), np.array([0, 1, 0, 0]), np.array([0, 0, 0, 0])
    lone = paired_difference(true, a, b, "accuracy", [1, 1, 1, 1], 0)
    assert lone.value == 0.25
    assert math.isnan(lone.low)
    assert paired_difference(true, a, b, "accuracy", [1, 1, 2, 2], 0).high == 0.5
    with pytest.raises(ValueError, match="alike"):
        paired_difference(true, a[:2], b, "accuracy", None, 0)
    with pytest.raises(ValueError, match="negative"):
        paired_difference(true, a - 1, b, "accuracy", None, 0)
    with pytest.raises(FerError, match="no item"):
        paired_difference(true[:0], a[:0], b[:0], "accuracy", None, 0)


def calibration_values(ece: NDArray[np.float64] | float, gap: NDArray[np.float64]) -> Values:
    """Return values of which nothing but the calibration counts."""
    others = dict.fromkeys(Values._fields, np.array(0.0))
    return Values(**{**others, "ece": np.asarray(ece), "bin_gap": gap})


@pytest.mark.parametrize(
    ("ece", "low", "high"),
    [
        (0.25, 0.105, 2 * 0.25 - 0.105),  # the basic interval's upper end lies above the percentile's
        (0.17, 2 * 0.17 - 0.295, 0.295),  # its lower end below the percentile's
        (0.12, 0.0, 0.295),  # and never below 0
        (0.039, 0.0, 0.295),  # no more than 0.039, the error of which a calibrated model shows less in 97.5%
    ],
)
def test_the_interval_of_the_calibration_error_by_hand(ece: float, low: float, high: float) -> None:
    resampled = np.linspace(0.1, 0.3, 2001)  # 95% of them lie from 0.105 to 0.295
    deviations = np.outer(np.linspace(0.0, 0.04, 2001), np.eye(15)[3])
    gap = np.full(15, 0.01)
    interval = calibration_interval(calibration_values(ece, gap), calibration_values(resampled, gap + deviations))
    assert interval == pytest.approx((low, high))
