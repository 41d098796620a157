"""Cross-entropy as an objective: what it is without arguments, its class weights, and what a checkpoint holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fer_cli.losses.cross_entropy import CrossEntropy, cross_entropy

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
LABELS = torch.tensor([0, 2])
LOG_SUMS = (math.log(math.exp(2) + 1 + math.exp(-1)), math.log(2 * math.exp(0.5) + 1))


def test_without_arguments_it_is_the_mean_of_minus_log_p() -> None:
    expected = ((LOG_SUMS[0] - 2) + LOG_SUMS[1]) / 2
    assert float(cross_entropy(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-6)
    assert float(CrossEntropy()(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-6)
    assert CrossEntropy().weights is None


def test_weights_multiply_each_images_loss() -> None:
    loss = CrossEntropy(np.array([0.5, 1.0, 3.0], dtype=np.float32))
    expected = (0.5 * (LOG_SUMS[0] - 2) + 3.0 * LOG_SUMS[1]) / 2
    assert float(loss(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-6)


def test_smoothing_moves_the_target_towards_the_even_distribution() -> None:
    terms = [(LOG_SUMS[0] - value for value in (2.0, 0.0, -1.0)), (LOG_SUMS[1] - value for value in (0.5, 0.5, 0.0))]
    shares = [(0.7 + 0.1, 0.1, 0.1), (0.1, 0.1, 0.7 + 0.1)]
    expected = sum(
        q * term for share, row in zip(shares, terms, strict=True) for q, term in zip(share, row, strict=True)
    )
    assert float(CrossEntropy(smoothing=0.3)(LOGITS, LABELS)) == pytest.approx(expected / 2, rel=1e-6)


def test_weights_are_no_part_of_a_checkpoint_but_move_with_the_network() -> None:
    loss = CrossEntropy(np.ones(3, dtype=np.float32))
    assert loss.state_dict() == {}
    assert loss.weights is not None
    assert loss.to(torch.float64).weights.dtype == torch.float64  # type: ignore[union-attr]
