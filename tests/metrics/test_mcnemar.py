"""McNemar's test against SciPy and plain loops, by simulation, and what it says that it could have found."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fer_cli.metrics.mcnemar import detectable, holm, mcnemar, unit_differences


def split(won: int, lost: int, both: int = 5, neither: int = 4) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two systems that differ as told."""
    one = [True] * won + [False] * lost + [True] * both + [False] * neither
    other = [False] * won + [True] * lost + [True] * both + [False] * neither
    return np.array(one), np.array(other)


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_it_is_the_binomial_test_of_the_items_that_differ(won: int, lost: int) -> None:
    got = mcnemar(*split(won, lost), None)
    assert (got.won, got.lost) == (won, lost)
    if not won + lost:
        assert (got.exact, got.mid, got.chi2, got.p_chi2) == (1, 1, 0, 1)
        return
    exact = stats.binomtest(won, won + lost).pvalue
    assert math.isclose(got.exact, exact, rel_tol=1e-9)
    # Fagerland et al., Eq. 5: the point probability is taken off, half of it where both are equal.
    point = stats.binom.pmf(won, won + lost, 0.5)
    assert math.isclose(got.mid, exact - (point / 2 if won == lost else point), rel_tol=1e-9)
    table = max(0, abs(won - lost) - 1) ** 2 / (won + lost)
    assert math.isclose(got.chi2, table, rel_tol=1e-12)
    assert math.isclose(got.p_chi2, math.erfc(math.sqrt(table / 2)), rel_tol=1e-9)


def every_sign(differences: list[int]) -> tuple[float, float]:
    """The exact and the mid-p-value by trying every choice of signs."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(sign * size for sign, size in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    larger = sum(total > observed for total in sums) / len(sums)
    equal = sum(total == observed for total in sums) / len(sums)
    return larger + equal, larger + equal / 2


@pytest.mark.parametrize("seed", range(6))
def test_items_of_one_subject_change_sides_together(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(9, size=60)
    one, other = rng.random(60) < 0.7, rng.random(60) < 0.5
    got = mcnemar(one, other, groups)
    units = [int(one[groups == name].sum() - other[groups == name].sum()) for name in set(groups.tolist())]
    assert sorted(unit for unit in units if unit) == sorted(unit_differences(one, other, groups).tolist())
    exact, mid = every_sign([unit for unit in units if unit])
    assert math.isclose(got.exact, exact, rel_tol=1e-9)
    assert math.isclose(got.mid, mid, rel_tol=1e-9)
    alone = mcnemar(one, other, np.arange(60))
    assert alone == mcnemar(one, other, None)


def within(hits: int, trials: int, rate: float) -> bool:
    """Whether so many hits would not surprise at this rate."""
    return bool(stats.binom.ppf(0.001, trials, rate) <= hits <= stats.binom.ppf(0.999, trials, rate))


def test_false_alarms_at_five_percent() -> None:
    """Two equally good systems that differ on a quarter of 500 items: 4,000 such test sets."""
    rng = np.random.default_rng(1)
    trials, n = 4000, 500
    differ = rng.binomial(n, 0.25, size=trials)
    won = rng.binomial(differ, 0.5)
    found: dict[tuple[int, int], tuple[bool, bool, bool]] = {}
    alarms = np.zeros(3, dtype=int)
    for key in zip(won.tolist(), (differ - won).tolist(), strict=True):
        if key not in found:
            got = mcnemar(*split(*key), None)
            found[key] = (got.exact < 0.05, got.mid < 0.05, got.p_chi2 < 0.05)
        alarms += found[key]
    exact, mid, chi2 = alarms.tolist()
    assert within(mid, trials, 0.05), mid
    assert stats.binom.ppf(0.001, trials, 0.03) <= exact <= stats.binom.ppf(0.999, trials, 0.05), exact
    assert stats.binom.ppf(0.001, trials, 0.03) <= chi2 <= stats.binom.ppf(0.999, trials, 0.05), chi2


def test_false_alarms_where_subjects_are_hard_for_one_system_as_a_whole() -> None:
    """Items taken as if they were independent raise far too many alarms; subjects taken whole do not."""
    rng = np.random.default_rng(2)
    trials, subjects, each = 600, 30, 10
    groups = np.repeat(np.arange(subjects), each)
    items = whole = 0
    for _ in range(trials):
        skill = rng.beta(2, 1, size=(2, subjects))[:, groups]
        one, other = rng.random((2, subjects * each)) < skill
        items += mcnemar(one, other, None).exact < 0.05
        whole += mcnemar(one, other, groups).exact < 0.05
    assert items > 0.15 * trials
    assert stats.binom.ppf(0.001, trials, 0.03) <= whole <= stats.binom.ppf(0.999, trials, 0.05), whole


@pytest.mark.parametrize(
    ("differ", "n", "alpha"), [(8, 100, 0.05), (40, 200, 0.05), (700, 3589, 0.05), (60, 900, 0.01)]
)
def test_what_is_detectable_is_found_in_four_of_five(differ: int, n: int, alpha: float) -> None:
    smallest = detectable(np.ones(differ, dtype=np.int64), n, alpha=alpha)
    rng = np.random.default_rng(differ)
    won = rng.binomial(differ, (1 + smallest * n / differ) / 2, size=4000)
    p = {k: stats.binomtest(k, differ).pvalue for k in set(won.tolist())}
    assert within(sum(p[k] <= alpha for k in won.tolist()), 4000, 0.8)
    if differ > 30:  # Connor (1987): the normal approximation
        share = differ / n
        z = stats.norm.ppf(1 - alpha / 2), stats.norm.ppf(0.8)
        approximate = (z[0] * math.sqrt(share) + z[1] * math.sqrt(share - smallest**2)) / math.sqrt(n)
        assert smallest == pytest.approx(approximate, rel=0.08)


def test_what_is_detectable_by_subjects_and_where_nothing_is() -> None:
    assert math.isnan(detectable(np.array([], dtype=np.int64), 100))
    assert math.isnan(detectable(np.ones(5, dtype=np.int64), 100)), "five that all agree have p = 0.0625"
    assert not math.isnan(detectable(np.ones(6, dtype=np.int64), 100))
    sizes = np.array([3, 1, 2, 2, 5, 1, 1, 4, 2, 1, 3, 2])
    smallest = detectable(sizes, 200)
    rng = np.random.default_rng(0)
    probability = (1 + smallest * 200 / sizes.sum()) / 2
    found = 0
    for _ in range(1000):
        signs = np.where(rng.random(len(sizes)) < probability, 1, -1)
        groups = np.repeat(np.arange(len(sizes)), sizes)
        won = np.repeat(signs > 0, sizes)
        found += mcnemar(won, ~won, groups).exact <= 0.05
    assert within(found, 1000, 0.8)
    assert detectable(np.repeat(sizes, 4), 800) < smallest, "more of the same tells more"


def holm_loop(p_values: list[float]) -> list[float]:
    """Holm's correction as a plain loop over the steps."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        largest = max(largest, (len(p_values) - step) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_holm(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(holm_loop(p_values))


def test_holm_by_hand_and_its_false_alarms() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2]) == [0.2]
    rng = np.random.default_rng(3)
    alarms = sum(min(holm(row)) < 0.05 for row in rng.random((2000, 4)).tolist())
    assert within(alarms, 2000, 0.05)
