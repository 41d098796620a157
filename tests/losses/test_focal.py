"""Focal loss against loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fer_cli.losses.cross_entropy import cross_entropy
from fer_cli.losses.focal import FocalLoss
from fer_cli.losses.recipe import FocalConfig

CLASSES = ("neutral", "happy", "sad", "fear")


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_it_is_what_loops_give(gamma: float, weighted: bool, soft: bool) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (6, 4))
    labels = generator.integers(0, 4, 6)
    shares = generator.dirichlet(np.ones(4), 6)
    weights = generator.uniform(0.2, 3, 4).astype(np.float32) if weighted else None
    total = 0.0
    for row in range(6):
        exponentials = [math.exp(value) for value in logits[row]]
        for column in range(4):
            p = exponentials[column] / sum(exponentials)
            target = shares[row, column] if soft else float(labels[row] == column)
            alpha = 1.0 if weights is None else float(weights[column])
            total -= alpha * target * (1 - p) ** gamma * math.log(p)
    loss = FocalLoss(gamma=gamma, weights=weights)
    value = loss(torch.from_numpy(logits), torch.from_numpy(shares if soft else labels))
    assert float(value) == pytest.approx(total / 6, rel=1e-5)


def test_without_focusing_it_is_cross_entropy_and_a_sure_answer_counts_for_less() -> None:
    logits, labels = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 4
    assert float(FocalLoss(gamma=0.0)(logits, labels)) == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-6)
    sure, unsure = torch.tensor([[4.0, 0, 0, 0]]), torch.tensor([[0.5, 0, 0, 0]])
    first = torch.tensor([0])
    ratios = [float(FocalLoss(gamma=2.0)(x, first) / cross_entropy(x, first)) for x in (sure, unsure)]
    assert ratios[0] < 0.01 < 0.4 < ratios[1]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_its_gradient_is_that_of_differences_and_finite_where_an_answer_is_certain(gamma: float) -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.1], [1.0, 1.5, -0.5, 0.0]], requires_grad=True)
    labels = torch.tensor([0, 3])
    loss = FocalLoss(gamma=gamma)
    (slope,) = torch.autograd.grad(loss(logits, labels), logits)
    logits = logits.detach()
    for row in range(2):
        for column in range(4):
            step = torch.zeros(2, 4)
            step[row, column] = 1e-2
            difference = float(loss(logits + step, labels) - loss(logits - step, labels)) / 2e-2
            assert float(slope[row, column]) == pytest.approx(difference, abs=2e-3)
    certain = torch.tensor([[200.0, 0, 0, 0], [-200.0, 0, 0, 0]], requires_grad=True)
    (slope,) = torch.autograd.grad(loss(certain, torch.tensor([0, 0])), certain)
    assert bool(torch.isfinite(slope).all())


def test_a_recipe_builds_it_with_balanced_weights() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2] * 2 + [3])
    config = FocalConfig(name="focal", gamma=1.5, class_weights="balanced")
    loss = config.build(labels, CLASSES, 8)
    assert isinstance(loss, FocalLoss)
    assert loss.gamma == 1.5
    assert loss.weights is not None
    assert loss.weights.tolist() == pytest.approx([12 / (4 * count) for count in (6, 3, 2, 1)])
    assert config.variant() == ("focal", "gamma-1.5")
    assert FocalConfig(name="focal").variant() == ("focal",)
