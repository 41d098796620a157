"""Exchanged class names: what a confusion matrix must show before fer speaks of them."""

from __future__ import annotations

import pytest

from fer_cli.evaluation.label_permutation import swapped_names


def test_an_exchange_is_named_with_what_renaming_would_give() -> None:
    confusion = [
        [10, 90, 0, 0, 0],
        [90, 10, 0, 0, 0],
        [0, 0, 100, 0, 0],
        [0, 0, 0, 0, 0],  # not in the split: no part of the mean
        [0, 0, 0, 0, 1],
    ]
    swap = swapped_names(confusion)
    assert swap is not None
    assert swap.pairs == ((0, 1), (1, 0))
    assert swap.balanced_accuracy == pytest.approx((0.1 + 0.1 + 1 + 1) / 4)
    assert swap.if_renamed == pytest.approx((0.9 + 0.9 + 1 + 1) / 4)


@pytest.mark.parametrize(("right", "found"), [(425, False), (375, True)])
def test_each_class_must_gain_a_fifth_on_average(right: int, found: bool) -> None:
    """0.15 and 0.25 of recall: both far more than chance gives of a thousand items."""
    confusion = [[right, 1000 - right], [1000 - right, right]]
    assert (swapped_names(confusion) is not None) is found


@pytest.mark.parametrize(("right", "wrong", "found"), [(15, 35, False), (24, 56, True)])
def test_the_gain_must_be_five_standard_errors(right: int, wrong: int, found: bool) -> None:
    """By hand: 0.77 at a standard error of 0.181 (4.2), 0.78 at 0.144 (5.4)."""
    assert (swapped_names([[right, wrong], [wrong, right]]) is not None) is found


def test_a_class_without_images_is_exchanged_with_none() -> None:
    assert swapped_names([[0, 100, 0], [0, 0, 0], [0, 0, 100]]) is None
