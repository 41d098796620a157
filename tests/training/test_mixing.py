"""Mixup, CutMix, sharpness-aware minimisation and rates by level, against what they are by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.losses.cross_entropy import CrossEntropy, cross_entropy
from fer_cli.models.classifier import open_classifier
from fer_cli.stages.train import train
from fer_cli.systems.registry import read_recipe
from fer_cli.training.mixing import MixedTarget, loss_of, mix
from fer_cli.training.optimizer import ascended
from fer_cli.training.recipe import Augmentation
from tests.kits.toy import toy_dataset

IMAGES = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 20, 10)
LABELS = torch.tensor([0, 1, 2, 3])


def mixed(epoch: int, seed: int = 0, **how: float) -> tuple[torch.Tensor, torch.Tensor | MixedTarget]:
    return mix(IMAGES, LABELS, torch.arange(4), seed=seed, epoch=epoch, settings=Augmentation(**how))


def test_mixup_blends_each_image_and_its_target_with_the_one_before() -> None:
    x, target = mixed(0, mixup=1.0)
    assert isinstance(target, MixedTarget)
    assert target.own.tolist() == [0, 1, 2, 3]
    assert target.other.tolist() == [3, 0, 1, 2]
    share = target.share
    expected = [share * own + (1 - share) * other for own, other in [(0, 3), (1, 0), (2, 1), (3, 2)]]
    assert torch.allclose(x[:, 0, 0, 0], torch.tensor(expected))
    assert torch.equal(x, x[:, :1, :1, :1].expand_as(x))


def test_cutmix_pastes_a_rectangle_whose_area_is_the_share_of_the_other() -> None:
    for epoch in range(50):
        x, target = mixed(epoch, cutmix=1.0)
        assert isinstance(target, MixedTarget)
        pasted = x[1, 0] == 0
        rows, columns = pasted.any(1).nonzero(), pasted.any(0).nonzero()
        assert target.share == pytest.approx(1 - pasted.float().mean().item())
        assert int(pasted.sum()) == len(rows) * len(columns)  # a rectangle, in every channel
        assert torch.equal(x[1, 0], x[1, 2])
        assert torch.equal(IMAGES[1], torch.ones(3, 20, 10))  # the batch that was given stays


@pytest.mark.parametrize(("alpha", "variance"), [(1.0, 1 / 12), (0.2, 1 / 5.6), (4.0, 1 / 36)])
def test_shares_are_of_the_beta_distribution(alpha: float, variance: float) -> None:
    targets = [mixed(epoch, mixup=alpha)[1] for epoch in range(2000)]
    shares = np.array([target.share for target in targets if isinstance(target, MixedTarget)])
    assert len(shares) == 2000
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(variance, rel=0.1)


def test_some_batches_stay_as_they_are_and_either_mixture_comes() -> None:
    results = [mixed(epoch, mixup=1.0, cutmix=1.0, mixed=0.5) for epoch in range(600)]
    untouched = [x for x, target in results if not isinstance(target, MixedTarget)]
    assert all(torch.equal(x, IMAGES) for x in untouched)
    assert len(untouched) == pytest.approx(300, abs=50)
    blended = [x for x, target in results if isinstance(target, MixedTarget) and float(x[1].min()) == float(x[1].max())]
    # A rectangle may be too small to be seen, then the share is 1.
    assert len(blended) == pytest.approx(150, abs=45)


def test_what_is_drawn_depends_on_seed_epoch_and_image_alone() -> None:
    def share(seed: int, epoch: int, first: int) -> float:
        index = torch.tensor([first, 50, 60, 70])
        _, target = mix(IMAGES, LABELS, index, seed=seed, epoch=epoch, settings=Augmentation(mixup=1.0))
        assert isinstance(target, MixedTarget)
        return target.share

    assert share(1, 2, 3) == share(1, 2, 3)
    assert len({share(1, 2, 3), share(2, 2, 3), share(1, 3, 3), share(1, 2, 4)}) == 4


def test_the_loss_of_mixed_images_is_that_of_the_mixed_targets() -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    loss = CrossEntropy(smoothing=0.1)
    shares = 0.3 * torch.nn.functional.one_hot(LABELS, 5) + 0.7 * torch.nn.functional.one_hot(LABELS.roll(1), 5)
    expected = cross_entropy(logits, shares, smoothing=0.1)
    assert torch.allclose(loss_of(loss, logits, MixedTarget(LABELS, LABELS.roll(1), 0.3)), expected)
    assert torch.equal(loss_of(loss, logits, LABELS), loss(logits, LABELS))


def test_a_loss_with_state_of_its_own_images_is_refused_for_mixtures() -> None:
    with pytest.raises(FerError, match=r"augmentation.mixup and cutmix mix targets, and those of loss.name = 'island'"):
        read_recipe("baseline", None, ["augmentation.mixup=0.2", "loss.name=island"])
    with pytest.raises(FerError, match=r"loss.name = 'slfer' cannot be mixed"):
        read_recipe("slfer", None, ["augmentation.cutmix=1.0"])


def gradient_of(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_ascended_weights_are_rho_along_the_gradient_and_come_back() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network(torch.randn(8, 3)).square().sum().backward()
    before = copy.deepcopy(network.state_dict())
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    start = torch.cat([p.detach().flatten() for p in network.parameters()])
    with ascended(network, 0.05):
        there = torch.cat([p.detach().flatten() for p in network.parameters()])
        assert torch.allclose(there - start, 0.05 * gradient / gradient.norm(), atol=1e-7)
        network.zero_grad()
        network(torch.randn(8, 3)).square().sum().backward()
        uphill = [gradient_of(p).clone() for p in network.parameters()]
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # the running statistics too
    assert all(torch.equal(a, gradient_of(p)) for a, p in zip(uphill, network.parameters(), strict=True))
    network(torch.randn(8, 3))
    assert not torch.equal(before["1.running_mean"], network.state_dict()["1.running_mean"])  # they follow again


def test_rates_fall_by_level_from_the_classifier_down() -> None:
    built = open_classifier("test_efficientnet", classes=7, size=32, weights=None)
    groups = built.backbone_groups(rate=0.5, layer_decay=0.8)
    assert [factor for factor, _ in groups] == pytest.approx([0.5 * 0.8**depth for depth in range(len(groups))])
    grouped = [id(value) for _, level in groups for value in level]
    assert sorted(grouped) == sorted(map(id, built.backbone_parameters()))
    stem = built.network.backbone.conv_stem.weight
    assert any(value is stem for value in groups[-1][1])
    assert not any(value is stem for _, level in groups[:-1] for value in level)
    assert built.backbone_groups() == [(1.0, built.backbone_parameters())]


def test_the_face_network_has_levels() -> None:
    built = open_classifier("face_resnet29", classes=7, size=64, weights=None)
    groups = built.backbone_groups(layer_decay=0.5)
    assert [factor for factor, _ in groups] == [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125]  # five stages and the stem
    assert sum(len(level) for _, level in groups) == len(built.backbone_parameters())


@pytest.mark.parametrize(
    ("system", "changes"),
    [("baseline", ["model.frozen=true", "model.drop_path=0.0"]), ("conv-cut", [])],
)
def test_rates_by_level_of_a_frozen_backbone_are_refused(system: str, changes: list[str]) -> None:
    with pytest.raises(FerError, match=r"optim.layer_decay has no effect"):
        read_recipe(system, None, [*changes, "optim.layer_decay=0.8"])


@pytest.mark.parametrize(
    "change",
    ["augmentation.mixup=0.4", "augmentation.cutmix=1.0", "optim.sam=0.05"],
)
def test_each_is_a_setting_that_trains_and_changes_the_result(store: Store, change: str) -> None:
    toy_dataset(store, images=105)
    small = [
        *("model.backbone=test_efficientnet", "model.weights=none", "model.dropout=0.3", "model.drop_path=0.0"),
        *("data.size=32", "train.batch=20", "train.epochs=1", "optim.lr=3e-3"),
    ]
    models = [
        train(store=store, system="baseline", changes=[*small, *more], device="cpu").whole.artifact
        for more in ([], [change], [change])
    ]
    assert models[1].version == models[2].version
    assert models[0].version != models[1].version
    assert models[0].file("model.safetensors").read_bytes() != models[1].file("model.safetensors").read_bytes()
