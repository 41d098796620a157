"""Weights and consistency of judgement matrices, against numbers worked out by hand and Saaty's own."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_cli.systems.ahm.ahp import (
    RANDOM_INDEX,
    JudgementError,
    check_reciprocal,
    consistency_ratio,
    judgement,
    judgement_matrix,
    priority_weights,
)

FEAR = [["1", "1/5", "1/3"], [5, 1, 3], [3, "1/3", 1]]


def test_fear_has_the_papers_weights() -> None:
    matrix = judgement_matrix(FEAR)
    assert np.round(priority_weights(matrix), 4).tolist() == [0.1047, 0.6370, 0.2583]
    assert round(consistency_ratio(matrix), 3) == 0.033
    brows = judgement_matrix([[1, 3, 1], ["1/3", 1, "1/3"], [1, 3, 1]])
    assert priority_weights(brows) == pytest.approx([3 / 7, 1 / 7, 3 / 7], abs=1e-15)
    assert consistency_ratio(brows) == pytest.approx(0.0, abs=1e-12)
    eyes = judgement_matrix([[1, 5], ["1/5", 1]])
    assert np.round(priority_weights(eyes), 4).tolist() == [0.8333, 0.1667]
    assert consistency_ratio(eyes) == 0.0


def test_the_square_root_that_the_paper_prints_gives_other_weights() -> None:
    matrix = judgement_matrix(FEAR)
    printed = np.sqrt(matrix.prod(axis=1))
    printed = printed / printed.sum()
    assert np.abs(priority_weights(matrix) - printed).max() > 0.05


def test_random_index_is_saatys() -> None:
    assert RANDOM_INDEX == (0, 0, 0.58, 0.90, 1.12, 1.24, 1.32, 1.41, 1.45, 1.49)


def test_consistency_ratio_by_hand() -> None:
    # a = 3b, b = 3c, c = 3a: the weights are equal, each row sums to 1 + 3 + 1/3, which is lambda_max.
    cycle = np.array([[1, 3, 1 / 3], [1 / 3, 1, 3], [3, 1 / 3, 1]])
    assert consistency_ratio(cycle) == pytest.approx((13 / 3 - 3) / 2 / 0.58)
    with pytest.raises(JudgementError, match="contradict each other: consistency ratio 1.149"):
        judgement_matrix(cycle.tolist())


@given(st.lists(st.integers(1, 3), min_size=1, max_size=10))
def test_consistent_matrices_give_their_weights_back(weights: list[int]) -> None:
    rows = [[str(Fraction(a, b)) for b in weights] for a in weights]
    matrix = judgement_matrix(rows)
    assert priority_weights(matrix) == pytest.approx(np.array(weights) / sum(weights), abs=1e-12)
    assert consistency_ratio(matrix) == pytest.approx(0.0, abs=1e-12)


@given(st.permutations(range(3)))
def test_weights_follow_their_items(order: list[int]) -> None:
    matrix = judgement_matrix(FEAR)
    moved = matrix[np.ix_(order, order)]
    assert priority_weights(moved) == pytest.approx(priority_weights(matrix)[order])


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3.0), (0.2, 0.2), ("1/5", 0.2), (" 1 / 7 ", 1 / 7), ("0.33", 0.33), (9, 9.0), ("1/9", 1 / 9), (0.11, 0.11)],
)
def test_judgements_are_numbers_and_fractions(value: object, number: float) -> None:
    assert judgement(value) == pytest.approx(number)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (True, "not a judgement"),
        (None, "not a judgement"),
        ([1], "not a judgement"),
        ("a/b", "not a judgement"),
        ("-1/3", "not a judgement"),
        ("1/0", "divides by zero"),
        (0, "not on Saaty's scale"),
        (-3, "not on Saaty's scale"),
        (9.5, "not on Saaty's scale"),
        ("1/10", "not on Saaty's scale"),
        (10**400, "not on Saaty's scale"),
        (float("nan"), "not on Saaty's scale"),
        (float("inf"), "not on Saaty's scale"),
    ],
)
def test_other_judgements_are_refused(value: object, why: str) -> None:
    with pytest.raises(JudgementError, match=why):
        judgement(value)


@pytest.mark.parametrize(
    ("rows", "why", "row"),
    [
        ([], "list of rows", None),
        ("1", "list of rows", None),
        ([[1, 3]], "row 1 of the judgement matrix holds 2", 0),
        ([[1, 3], 5], "row 2 of the judgement matrix is not a list", 1),
        ([[2]], "row 1, column 1 is 2: an item against itself", 0),
        ([[1, 5], ["1/3", 1]], "not reciprocal: row 2, column 1 is 0.3333 but row 1, column 2 is 5", 1),
        ([[1, 3], [3, 1]], "not reciprocal", 1),
        ([[1, 3], ["x", 1]], "row 2, column 1: 'x' is not a judgement", 1),
        ([[1] * 11] * 11, "a judgement matrix of 11 items", None),
    ],
)
def test_unsound_matrices_are_refused(rows: object, why: str, row: int | None) -> None:
    with pytest.raises(JudgementError) as error:
        judgement_matrix(rows)
    assert why in str(error.value)
    assert error.value.row == row
    assert error.value.hint


def test_reciprocals_may_be_rounded_to_two_decimals_and_no_further() -> None:
    for number, rounded in ((3, 0.33), (5, 0.2), (7, 0.14), (8, 0.13), (9, 0.11)):
        judgement_matrix([[1, number], [rounded, 1]])
    for number, neighbour in ((9, "1/8"), (8, "1/9"), (8, "1/7"), (3, "1/4")):
        with pytest.raises(JudgementError, match="not reciprocal"):
            judgement_matrix([[1, number], [neighbour, 1]])


@pytest.mark.parametrize(("row", "column"), [(i, j) for i in range(4) for j in range(i + 1)])
def test_a_fault_anywhere_in_a_matrix_is_found(row: int, column: int) -> None:
    weights = np.array([1.0, 2.0, 4.0, 8.0])
    matrix = weights[:, None] / weights
    check_reciprocal(matrix)
    matrix[row, column] *= 1.5 if row != column else -1.0  # on the diagonal its product with itself stays 1
    with pytest.raises(JudgementError, match=rf"row {row + 1}, column {column + 1}"):
        check_reciprocal(matrix)
