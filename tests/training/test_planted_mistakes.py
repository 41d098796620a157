"""The known mistakes in PSA-ResNet and SLFER, each planted in the code: the tests of these systems must notice."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from fer_cli.losses import island
from fer_cli.models import psa
from fer_cli.systems.slfer import loss as slfer
from fer_cli.systems.slfer import network as slfer_network
from fer_cli.training import augmentation
from tests.losses import test_island
from tests.models import test_psa
from tests.systems import test_slfer

Check = Callable[[], None]


def planted(module: ModuleType, right: str, wrong: str) -> dict[str, Any]:
    """Return the names of a module in whose source one place is another."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{module.__name__} has {right!r} {source.count(right)} times"
    names: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(source.replace(right, wrong), f"{module.__name__} with a mistake", "exec"), names)
    return names


def notices(check: Check) -> bool:
    try:
        check()
    except Exception:
        return True
    return False


JOINT: dict[str, tuple[str, str]] = {
    "a constant on the diagonal": (" & ~torch.eye(len(norms), dtype=torch.bool, device=norms.device)", ""),
    "the pairs' sign in the loss": ("self.pairs * self._pairs())", "self.pairs * -self._pairs())"),
    "the cosine's sign": ("((cosines + 1) * there)", "((1 - cosines) * there)"),
    "the pairs' sign in the movement": ("delta += self.pairs", "delta -= self.pairs"),
    "no pairs in the movement": ("delta += self.pairs", "delta += 0"),
    "unordered pairs": ("* there).sum()\n", "* there).sum() / 2\n"),
    "centres in the optimiser": (
        'self.register_buffer("centres", torch.zeros(classes, width))',
        "self.centres = torch.nn.Parameter(torch.zeros(classes, width))",
    ),
    "a sum over the batch where the others average": ("apart.square().sum(1).mean()", "apart.square().sum()"),
    "a mean over the features": ("apart.square().sum(1).mean()", "apart.square().mean()"),
    "centres drawn by sums": ("/ (1 + counts)", ""),
    "centres drawn by plain means": ("/ (1 + counts)", "/ counts.clamp(min=1)"),
    "centres that move away": ("self.centres -= self.rate", "self.centres += self.rate"),
    "centres that jump": ("self.rate * delta", "delta"),
    "a cosine with a centre of zero": ("has = norms > 0\n", "has = norms >= 0\n"),
    "a division by a zero centre": ("torch.where(norms > 0, norms, 1)\n", "norms\n"),
    "no half": (".mean() / 2", ".mean()"),
    "lambda over the softmax too": ("return softmax + self.island * (", "return self.island * (softmax + "),
}


@pytest.mark.parametrize("mistake", JOINT)
def test_a_mistake_in_the_joint_loss_is_noticed(monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.setattr(test_island, "IslandLoss", planted(island, *JOINT[mistake])["IslandLoss"])
    checks: list[Check] = [
        lambda: test_island.test_the_loss_and_the_centres_are_what_loops_give(()),
        lambda: test_island.test_the_loss_and_the_centres_are_what_loops_give((2,)),
        test_island.test_centres_are_no_parameters_and_travel_with_a_checkpoint,
    ]
    assert any(notices(check) for check in checks)


PSA: dict[str, tuple[str, str]] = {
    "weighed against its own channels": ("gates.softmax(1)", "gates.softmax(2)"),
    "not weighed against each other": ("gates.softmax(1)", "gates"),
    "gates without their sigmoid": (", nn.Sigmoid()\n", "\n"),
    "pooled over all branches": ("self.se(maps.flatten(0, 1))", "self.se(maps.mean(1).repeat_interleave(branches, 0))"),
    "the stride on the first branch": (
        "nn.Conv2d(width, branch, kernel, stride, kernel // 2,",
        "nn.Conv2d(width, branch, kernel, stride if kernel == 3 else 1, kernel // 2,",
    ),
    "branches interleaved": ("weighed.reshape(", "weighed.transpose(1, 2).reshape("),
    "the paper's groups for the reference's": ('"reference": (1, 4, 8, 16)', '"reference": (2, 4, 8, 16)'),
    "the input always whole": ("x.chunk(len(KERNELS), 1) if self.split else ", ""),
}


@pytest.mark.parametrize("mistake", PSA)
def test_a_mistake_in_psa_is_noticed(monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.setattr(test_psa, "PSA", planted(psa, *PSA[mistake])["PSA"])
    assert any(
        notices(lambda form=form, stride=stride: test_psa.test_it_is_what_loops_give(form, stride))  # type: ignore[misc]
        for form in test_psa.FORMS
        for stride in (2, 1)
    )


SLFER: dict[str, tuple[str, str]] = {
    "equation 3 as printed": ("loss + self.components *", "loss - self.components *"),
    "a mean over regions": ("each.sum(1).mean()", "each.mean()"),
    "a sum over images": ("each.sum(1).mean()", "each.sum()"),
    "lambda1 for lambda2": (
        "self.segmentation, self.components = segmentation",
        "self.components, self.segmentation = segmentation",
    ),
    "a sum over pixels": ("maps.long())", 'maps.long(), reduction="sum")'),
    "logits taken for shares": (
        "binary_cross_entropy_with_logits(large.float()",
        "binary_cross_entropy(large.float().clamp(0, 1)",
    ),
}


@pytest.mark.parametrize("mistake", SLFER)
def test_a_mistake_in_slfers_loss_is_noticed(monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.setattr(test_slfer, "SLFERLoss", planted(slfer, *SLFER[mistake])["SLFERLoss"])
    assert notices(test_slfer.test_the_losses_are_what_loops_give)


LARGEST: dict[str, tuple[str, str]] = {
    "the smallest": ("descending=True", "descending=False"),
    "one too many": ("order[:, :number]", "order[:, : number + 1]"),
    "regions that are not there": ("return large & (areas > 0)", "return large"),
    "pixels counted in one direction": (".sum((1, 2))", ".any(1).sum(1)"),
}


@pytest.mark.parametrize("mistake", LARGEST)
def test_a_mistake_in_the_component_target_is_noticed(monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.setattr(test_slfer, "largest_regions", planted(slfer, *LARGEST[mistake])["largest_regions"])
    assert notices(test_slfer.test_the_largest_regions_are_those_that_counting_gives)


NETWORK: dict[str, tuple[str, str]] = {
    "the training skips the attention": ("maps = own.attention(last)", "maps = last"),
    "the training skips the hidden layers": ("own.classifier(own.dropout(features))", "own.classifier[-1](features)"),
}


@pytest.mark.parametrize("mistake", NETWORK)
def test_a_mistake_in_slfers_network_is_noticed(monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.setattr(slfer_network, "SLFER", planted(slfer_network, *NETWORK[mistake])["SLFER"])
    assert notices(lambda: test_slfer.test_what_is_trained_is_what_is_tested("tf_efficientnet_lite0", "se"))


MOVED: dict[str, tuple[str, str]] = {
    "a map is not mirrored": ("    maps = _flipped(maps, draw, how)\n", ""),
    "a map is not cropped": (
        "movement = _movement(draw, how, preprocessing.crop).to(maps.device)",
        "movement = _movement(draw, how, 0.0).to(maps.device)",
    ),
    "a map lies half a pixel beside": (
        'movement, preprocessing.size, "nearest")',
        'movement + 1 / preprocessing.size, preprocessing.size, "nearest")',
    ),
}


@pytest.mark.parametrize("mistake", MOVED)
def test_a_mistake_in_moving_maps_is_noticed(monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.setattr(test_slfer, "apply_to_maps", planted(augmentation, *MOVED[mistake])["apply_to_maps"])
    checks = (
        test_slfer.test_maps_move_with_their_pictures,
        test_slfer.test_a_map_moves_by_parts_of_a_pixel_as_its_picture_does,
    )
    assert any(notices(check) for check in checks)


def test_without_a_mistake_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_island, "IslandLoss", planted(island, "no direction", "no direction")["IslandLoss"])
    test_island.test_the_loss_and_the_centres_are_what_loops_give((2,))
    monkeypatch.setattr(test_psa, "PSA", planted(psa, "softmax(1)", "softmax(1)")["PSA"])
    test_psa.test_it_is_what_loops_give(test_psa.FORMS[0], 1)
    monkeypatch.setattr(test_slfer, "SLFERLoss", planted(slfer, "lacks", "lacks")["SLFERLoss"])
    test_slfer.test_the_losses_are_what_loops_give()
