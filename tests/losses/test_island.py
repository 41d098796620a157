"""The joint loss against loops in float64, and each known mistake in it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fer_cli.core import distributed
from fer_cli.core.errors import FerError
from fer_cli.losses.cross_entropy import CrossEntropy
from fer_cli.losses.island import IslandLoss

ALONE = distributed.Ranks(0, 1, 0, 1)
CLASSES, WIDTH, IMAGES = 4, 5, 9
ISLAND, PAIRS, RATE = 0.3, 2.0, 0.5


def joint(centres: NDArray[np.float64] | None = None) -> IslandLoss:
    loss = IslandLoss(CrossEntropy(), CLASSES, WIDTH, island=ISLAND, pairs=PAIRS, rate=RATE).double()
    if centres is not None:
        loss.centres.copy_(torch.from_numpy(centres))
    return loss


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(generator.normal(0, 2, (IMAGES, CLASSES)))
    features = torch.from_numpy(generator.normal(1, 2, (IMAGES, WIDTH))).requires_grad_()
    return logits, features, torch.from_numpy(generator.integers(0, 3, IMAGES))  # no image of the last class


def some_centres(seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 1.5, (CLASSES, WIDTH))


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))


def by_loops(features: NDArray[np.float64], labels: NDArray[np.int64], centres: NDArray[np.float64]) -> float:
    within = 0.0
    for x, y in zip(features, labels, strict=True):
        within += 0.5 * sum((x[i] - centres[y][i]) ** 2 for i in range(WIDTH)) / len(labels)
    between = 0.0
    for j in range(CLASSES):
        for k in range(CLASSES):
            if j != k and centres[j].any() and centres[k].any():
                between += cosine(centres[j], centres[k]) + 1
    return within + PAIRS * between


def moved_by_loops(
    features: NDArray[np.float64], labels: NDArray[np.int64], centres: NDArray[np.float64]
) -> NDArray[np.float64]:
    moved = centres.copy()
    for j in range(CLASSES):
        delta, count = np.zeros(WIDTH), 0
        for x, y in zip(features, labels, strict=True):
            if y == j:
                delta += centres[j] - x
                count += 1
        delta /= 1 + count
        for k in range(CLASSES):
            if k == j or not centres[j].any() or not centres[k].any():
                continue
            for i in range(WIDTH):  # the cosine's slope, by central differences
                up, down = centres[j].copy(), centres[j].copy()
                up[i] += 1e-6
                down[i] -= 1e-6
                slope = (cosine(up, centres[k]) - cosine(down, centres[k])) / 2e-6
                delta[i] += PAIRS / (CLASSES - 1) * slope
        moved[j] = centres[j] - RATE * delta
    return moved


@pytest.mark.parametrize("zero", [(), (2,), (0, 1, 2, 3)])
def test_the_loss_and_the_centres_are_what_loops_give(zero: tuple[int, ...]) -> None:
    centres = some_centres()
    centres[list(zero)] = 0
    loss = joint(centres)
    logits, features, labels = batch()
    x, y = features.detach().numpy(), labels.numpy()
    softmax = -np.log(np.exp(logits.numpy())[range(IMAGES), y] / np.exp(logits.numpy()).sum(1)).mean()
    value = loss((logits, features), (labels, labels))
    assert float(value.detach()) == pytest.approx(softmax + ISLAND * by_loops(x, y, centres), rel=1e-6)
    value.backward()
    # Of the features: each is drawn to its own centre, as strongly as its share of the mean says.
    assert features.grad is not None
    np.testing.assert_allclose(features.grad.numpy(), ISLAND * (x - centres[y]) / IMAGES, rtol=1e-9)
    loss.advance(ALONE)
    np.testing.assert_allclose(loss.centres.numpy(), moved_by_loops(x, y, centres), rtol=1e-6, atol=1e-8)


def test_the_centre_term_is_the_mean_or_the_sum_over_the_images() -> None:
    centres = some_centres()
    logits, features, labels = batch()
    losses = []
    for summed in (False, True):
        loss = IslandLoss(CrossEntropy(), CLASSES, WIDTH, island=ISLAND, pairs=0, rate=RATE, summed=summed).double()
        loss.centres.copy_(torch.from_numpy(centres))
        losses.append(loss((logits, features), (labels, labels)) - CrossEntropy()(logits, labels))
    within = sum(
        0.5 * float(((features[i].detach() - torch.from_numpy(centres)[y]) ** 2).sum()) for i, y in enumerate(labels)
    )
    assert float(losses[1].detach()) == pytest.approx(ISLAND * within)
    assert float(losses[0].detach()) == pytest.approx(ISLAND * within / IMAGES)


def test_centres_are_no_parameters_and_travel_with_a_checkpoint() -> None:
    loss = joint(some_centres())
    assert list(loss.parameters()) == []
    assert list(loss.state_dict()) == ["centres"]


def test_the_pairs_push_centres_apart() -> None:
    loss = joint(np.abs(some_centres()))  # all in one corner: close in direction
    before = loss._cosines()[0].sum()
    logits, features, labels = batch()
    for _ in range(3):
        loss((logits, features * 0 + 0.01), (labels, labels))
        loss.advance(ALONE)
    assert loss._cosines()[0].sum() < before - 0.5


def test_the_images_draw_the_centres_to_their_means() -> None:
    loss = joint()
    loss.pairs = 0.0
    logits, features, labels = batch()
    for _ in range(60):
        loss((logits, features), (labels, labels))
        loss.advance(ALONE)
    for label in range(3):
        mean = features.detach()[labels == label].mean(0)
        np.testing.assert_allclose(loss.centres[label], mean, atol=1e-6)
    assert not loss.centres[3].any(), "no image of it came"


def test_processes_move_their_centres_as_one_would(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, mine, other = (joint(some_centres()) for _ in range(3))
    logits, features, labels = batch()
    whole((logits, features), (labels, labels))
    whole.advance(ALONE)
    sent: list[torch.Tensor] = []

    def send(tensor: torch.Tensor, _ranks: distributed.Ranks) -> torch.Tensor:
        sent.append(tensor.clone())
        return tensor

    with monkeypatch.context() as patch:
        patch.setattr("fer_cli.losses.island.all_reduce", send)
        other((logits[4:], features[4:]), (labels[4:], labels[4:]))
        other.advance(distributed.Ranks(1, 2, 1, 2))
    with monkeypatch.context() as patch:
        patch.setattr("fer_cli.losses.island.all_reduce", lambda tensor, _ranks: tensor + sent.pop(0))
        mine((logits[:4], features[:4]), (labels[:4], labels[:4]))
        mine.advance(distributed.Ranks(0, 2, 0, 2))
    torch.testing.assert_close(mine.centres, whole.centres)


def test_the_softmax_learns_the_votes_and_the_centres_the_label() -> None:
    logits, features, labels = batch()
    shares = torch.full((IMAGES, CLASSES), 1 / CLASSES, dtype=torch.float64)  # every image is a tie
    hard, soft = joint(some_centres()), joint(some_centres())
    told = float(hard((logits, features), (labels, labels)).detach())
    voted = float(soft((logits, features), (shares, labels)).detach())
    log_shares = logits.log_softmax(1)
    of_label = -log_shares[range(IMAGES), labels].mean()
    assert voted - told == pytest.approx(float(-log_shares.mean() - of_label), rel=1e-6)
    hard.advance(ALONE)
    soft.advance(ALONE)
    assert torch.equal(hard.centres, soft.centres)


def test_a_batch_of_one_class_moves_its_centre_alone_where_no_pair_holds_it() -> None:
    loss = joint()
    logits, features, _ = batch()
    labels = torch.zeros(IMAGES, dtype=torch.int64)
    value = loss((logits, features), (labels, labels))
    value.backward()
    assert torch.isfinite(value)
    loss.advance(ALONE)
    assert loss.centres[0].any()
    assert not loss.centres[1:].any()


def test_one_class_is_refused() -> None:
    with pytest.raises(FerError, match="separates classes, and the dataset has one"):
        IslandLoss(CrossEntropy(), 1, WIDTH, island=1, pairs=1, rate=0.5)
    IslandLoss(CrossEntropy(), 2, WIDTH, island=1, pairs=1, rate=0.5)  # two are enough
