"""The analytic hierarchy process (Saaty): from a matrix of pairwise judgements to weights.

Source: Zhang & Dong, Eq. 1-3 and Tables 1-2. Their Eq. 2 prints a square root over the product of a row; the
geometric mean of a row of n judgements is the **n-th** root, and the two give other weights for every n above 2.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.errors import FerError

Matrix = NDArray[np.float64]

RANDOM_INDEX: Final = (0.0, 0.0, 0.58, 0.90, 1.12, 1.24, 1.32, 1.41, 1.45, 1.49)
"""Saaty's mean consistency index of random reciprocal matrices of size 1 to 10."""

MAX_CONSISTENCY_RATIO: Final = 0.1
LARGEST_JUDGEMENT: Final = 9.0

TOLERANCE: Final = 0.05
"""How far ``r_ij * r_ji`` may be from 1. Two decimals of 1/7 or 1/8 (0.14, 0.13) pass; a neighbouring step of the
scale does not: it is at least 1/9 away."""

_NUMBER = re.compile(r"\s*(\d{1,6}(?:\.\d{1,12})?)\s*(?:/\s*(\d{1,6}(?:\.\d{1,12})?)\s*)?")


class JudgementError(FerError):
    """A judgement matrix cannot be used. ``row`` and ``column`` count from 0 where one entry is at fault."""

    def __init__(self, what: str, *, hint: str, row: int | None = None, column: int | None = None) -> None:
        super().__init__(what, hint=hint)
        self.row = row
        self.column = column


def judgement(value: object) -> float:
    """Return one judgement, given as a number or as a fraction in a string (``"1/5"``).

    Raises:
        JudgementError: it is neither, or it is not on Saaty's scale (1/9 to 9).
    """
    hint = 'write a number from 1 to 9, or a fraction such as "1/5"'
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if match is None:
            raise JudgementError(f"{value!r} is not a judgement", hint=hint)
        below = Fraction(match[2] or 1)
        if below == 0:
            raise JudgementError(f"{value!r} divides by zero", hint=hint)
        number = float(Fraction(match[1]) / below)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        # An int of many digits does not fit a float, and infinity fails the range check below like any other number.
        number = float(value) if abs(value) < 1e6 else math.inf
    else:
        raise JudgementError(f"{value!r} is not a judgement", hint=hint)
    # The lower bound leaves room for 1/9 rounded to two decimals.
    if not (1 - TOLERANCE) / LARGEST_JUDGEMENT <= number <= LARGEST_JUDGEMENT:
        raise JudgementError(f"the judgement {value!r} is not on Saaty's scale, 1/9 to 9", hint=hint)
    return number


def judgement_matrix(rows: object) -> Matrix:
    """Return a checked judgement matrix (n, n) float64 from nested lists of numbers and fractions.

    Checked: square, n from 1 to 10, every entry on Saaty's scale, a diagonal of ones, reciprocal, and a consistency
    ratio of at most 0.1. The reciprocity needs its own check: a 2x2 matrix has CR 0 whatever its entries.

    Raises:
        JudgementError: one of these does not hold.
    """
    if not isinstance(rows, list | tuple) or not rows:
        raise JudgementError(
            "a judgement matrix is a list of rows", hint='write it like [[1, "1/3"], [3, 1]], or [[1]] for one item'
        )
    size = len(rows)
    if size > len(RANDOM_INDEX):
        raise JudgementError(
            f"a judgement matrix of {size} items",
            hint=f"the consistency ratio is defined up to {len(RANDOM_INDEX)}: group the items",
        )
    matrix = np.ones((size, size))
    for i, row in enumerate(rows):
        if not isinstance(row, list | tuple) or len(row) != size:
            held = f"holds {len(row)}" if isinstance(row, list | tuple) else "is not a list"
            raise JudgementError(
                f"row {i + 1} of the judgement matrix {held}",
                hint=f"the matrix has {size} rows, so each row needs {size} judgements",
                row=i,
            )
        for j, value in enumerate(row):
            try:
                matrix[i, j] = judgement(value)
            except JudgementError as error:
                raise JudgementError(
                    f"row {i + 1}, column {j + 1}: {error.what}", hint=error.hint, row=i, column=j
                ) from None
    check_reciprocal(matrix)
    ratio = consistency_ratio(matrix)
    if ratio > MAX_CONSISTENCY_RATIO:
        raise JudgementError(
            f"the judgements contradict each other: consistency ratio {ratio:.3f}, above {MAX_CONSISTENCY_RATIO}",
            hint="if a is 3 over b and b is 3 over c, a should be well over 3 over c",
        )
    return matrix


def check_reciprocal(matrix: Matrix) -> None:
    """Check that a matrix (n, n) has ones on its diagonal and ``r_ij * r_ji = 1`` elsewhere, within ``TOLERANCE``.

    Raises:
        JudgementError: at the first entry, in reading order below the diagonal, where it does not hold.
    """
    for i in range(len(matrix)):
        for j in range(i + 1):
            if abs(matrix[i, j] * matrix[j, i] - 1.0) <= TOLERANCE and (i != j or matrix[i, i] == 1.0):
                continue
            if i == j:
                raise JudgementError(
                    f"row {i + 1}, column {i + 1} is {matrix[i, i]:.4g}: an item against itself",
                    hint="write 1 on the diagonal",
                    row=i,
                    column=i,
                )
            raise JudgementError(
                f"the judgement matrix is not reciprocal: row {i + 1}, column {j + 1} is {matrix[i, j]:.4g} but "
                f"row {j + 1}, column {i + 1} is {matrix[j, i]:.4g}",
                hint=f"write {Fraction(1 / matrix[j, i]).limit_denominator(9)} or change the other",
                row=i,
                column=j,
            )


def priority_weights(matrix: Matrix) -> NDArray[np.float64]:
    """Return the weights (n,) of n items, summing to 1: the normalised geometric means of the rows (Eq. 2-3).

    Args:
        matrix: (n, n) positive judgements.
    """
    means = np.exp(np.log(matrix).mean(axis=1))
    return np.asarray(means / means.sum(), dtype=np.float64)


def consistency_ratio(matrix: Matrix) -> float:
    """Return CI / RI with CI = (lambda_max - n) / (n - 1): 0 for a consistent matrix, about 1 for a random one.

    lambda_max is the largest eigenvalue itself, not its estimate from the weights. Matrices of one or two items
    have a ratio of 0: two items cannot contradict each other.

    Args:
        matrix: (n, n) positive reciprocal judgements, n from 1 to 10.
    """
    size = len(matrix)
    if size <= 2:
        return 0.0
    largest = float(np.linalg.eigvals(matrix).real.max())
    # lambda_max >= n for a reciprocal matrix: what lies below is rounding.
    return max(0.0, (largest - size) / (size - 1)) / RANDOM_INDEX[size - 1]
