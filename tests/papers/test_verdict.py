"""The rule by which a paper's figure counts as reproduced, at its edges."""

from __future__ import annotations

import math

import pytest

from fer_cli.papers.verdict import Judged, detectable, judge_gain, judge_value


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (69.4, 70.6, Judged("reproduced", "reached")),
        (72.0, 75.0, Judged("reproduced", "reached")),  # above the figure, however wide
        (67.0, 69.9, Judged("not reproduced", "below the figure")),
        (68.0, 71.0, Judged("undecided", "interval too wide")),
        (math.nan, math.nan, Judged("undecided", "interval too wide")),
    ],
)
def test_a_value_is_judged_by_its_interval(low: float, high: float, expected: Judged) -> None:
    assert judge_value(70.0, low, high, comparable=True, one_seed=False) == expected


def test_a_value_of_other_data_or_of_one_seed_is_not_judged() -> None:
    assert judge_value(70.0, 60.0, 61.0, comparable=False, one_seed=False).verdict == "not comparable"
    assert judge_value(70.0, 60.0, 61.0, comparable=True, one_seed=True) == Judged("undecided", "one seed")
    assert judge_value(None, 60.0, 61.0, comparable=True, one_seed=False).reason == "no figure in the paper"


@pytest.mark.parametrize(
    ("figure", "low", "high", "differs", "effect", "expected"),
    [
        (4.0, 1.0, 5.0, True, 2.9, Judged("reproduced", "same sign")),
        (4.0, 0.1, 1.9, True, 1.3, Judged("not reproduced", "less than half")),
        (4.0, 0.1, 2.0, True, 1.3, Judged("reproduced", "same sign")),  # half is enough
        (4.0, -3.0, -1.0, True, 1.4, Judged("not reproduced", "other sign")),
        (-4.0, -3.0, -1.0, True, 1.4, Judged("reproduced", "same sign")),
        (4.0, -1.0, 1.0, False, 1.4, Judged("not reproduced", "no gain found")),
        (4.0, -1.0, 5.0, False, 4.3, Judged("undecided", "interval too wide")),
        (4.0, -1.0, 1.0, False, math.nan, Judged("undecided", "interval too wide")),
        (0.0, 1.0, 2.0, True, 1.0, Judged("not comparable", "no figure in the paper")),
    ],
)
def test_a_gain_is_judged_by_sign_size_and_power(
    figure: float, low: float, high: float, differs: bool, effect: float, expected: Judged
) -> None:
    assert judge_gain(figure, low, high, differs=differs, effect=effect, one_seed=False) == expected
    assert judge_gain(figure, low, high, differs=differs, effect=effect, one_seed=True) in {
        Judged("undecided", "one seed"),
        Judged("not comparable", "no figure in the paper"),
    }


def test_the_minimum_detectable_effect_of_an_interval() -> None:
    assert detectable(-1.96, 1.96) == pytest.approx(2.80, abs=0.005)  # (1.96 + 0.84) standard errors
