"""Pyramid split attention against loops in float64, its sizes, and what it keeps of a ResNet50."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from fer_cli.core.errors import FerError
from fer_cli.models.classifier import open_classifier
from fer_cli.models.psa import PSA, Pyramid, pyramid_in_bottlenecks
from fer_cli.weights.files import WeightsFile

BRANCHES = 4
GROUPS = {"reference": (1, 4, 8, 16), "paper": (2, 4, 8, 16)}
FORMS = [Pyramid(groups, taken) for groups in ("reference", "paper") for taken in ("whole", "split")]


def convolved(x: NDArray[Any], weight: NDArray[Any], stride: int, groups: int) -> NDArray[Any]:
    """Return a convolution of (C, H, W), padded by half the kernel, by loops."""
    out, per_group, kernel, _ = weight.shape
    pad = kernel // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    side = (x.shape[1] - 1) // stride + 1
    y = np.zeros((out, side, side))
    for channel in range(out):
        first = channel // (out // groups) * per_group
        for row in range(side):
            for column in range(side):
                part = padded[first : first + per_group, row * stride :, column * stride :][:, :kernel, :kernel]
                y[channel, row, column] = (part * weight[channel]).sum()
    return y


def by_loops(psa: PSA, x: NDArray[Any], form: Pyramid, stride: int) -> NDArray[Any]:
    """Return PSA of one image (C, H, W)."""
    maps, gates = [], []
    parts: Any = psa.se
    down, up = parts[1], parts[3]
    for place in range(BRANCHES):
        taken = x if form.branch_input == "whole" else np.split(x, BRANCHES)[place]
        weight: Any = psa.convs[place].weight
        y = convolved(taken, weight.detach().numpy(), stride, GROUPS[form.groups][place])
        inner = down.weight[:, :, 0, 0].detach().numpy() @ y.mean((1, 2)) + down.bias.detach().numpy()
        outer = up.weight[:, :, 0, 0].detach().numpy() @ np.maximum(inner, 0) + up.bias.detach().numpy()
        maps.append(y)
        gates.append([1 / (1 + math.exp(-value)) for value in outer])
    weighed = []
    for place, y in enumerate(maps):
        for channel in range(len(y)):
            total = sum(math.exp(gates[other][channel]) for other in range(BRANCHES))
            weighed.append(y[channel] * math.exp(gates[place][channel]) / total)
    return np.stack(weighed)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_it_is_what_loops_give(form: Pyramid, stride: int) -> None:
    torch.manual_seed(0)
    psa = PSA(64, 64, stride=stride, form=form).double()
    x = torch.randn(2, 64, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        found = psa(x).numpy()
    for image in range(2):
        np.testing.assert_allclose(found[image], by_loops(psa, x[image].numpy(), form, stride), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("form", "parameters"),
    [
        (Pyramid("reference", "whole"), 22_561_715),
        (Pyramid("paper", "whole"), 21_147_059),
        (Pyramid("paper", "split"), 15_974_723),
    ],
    ids=str,
)
def test_resnet50_has_the_published_sizes(form: Pyramid, parameters: int) -> None:
    import timm

    with torch.device("meta"):
        network = timm.create_model("resnet50", num_classes=1000)
        names = pyramid_in_bottlenecks(network, form)
    assert len(names) == 16
    assert sum(value.numel() for value in network.parameters()) == parameters


def test_all_but_the_3x3_convolutions_and_the_classifier_come_from_the_weights(tmp_path: Path) -> None:
    import timm

    plain = timm.create_model("resnet50", num_classes=1000)
    save_file(plain.state_dict(), tmp_path / "w.safetensors")
    weights = WeightsFile(tmp_path / "w.safetensors", "test", "none")
    network = open_classifier("resnet50", classes=7, size=32, weights=weights, attention="psa").network
    own = dict(network.backbone.named_parameters()) | dict(network.backbone.named_buffers())
    theirs = plain.state_dict()
    replaced = {name for name in theirs if ".conv2." in name and name.startswith("layer")}
    assert len(replaced) == 16
    for name, value in theirs.items():
        if name not in replaced and not name.startswith("fc."):
            assert torch.equal(own[name], value), name
    assert {name for name in own if name not in theirs} == {
        name for name in own if ".conv2.convs." in name or ".conv2.se." in name
    }
    assert network.backbone.layer2[0].conv2.convs[3].stride == (2, 2), "the stride is on all branches"


def test_it_needs_bottlenecks() -> None:
    with pytest.raises(
        FerError, match="psa replaces the 3x3 convolutions in the bottlenecks of a ResNet, which resnet18"
    ):
        open_classifier("resnet18", classes=7, size=32, weights=None, attention="psa")
    with pytest.raises(
        FerError, match=r"plain bottlenecks of a multiple of 64 channels; layer1\.0 has 128 channels in 32"
    ):
        open_classifier("resnext50_32x4d", classes=7, size=32, weights=None, attention="psa")
