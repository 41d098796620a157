"""Conv-cut: where backbones are cut, and what the head computes, each against the full network, loops or arithmetic."""

from __future__ import annotations

import math
import re
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from fer_cli.core.errors import FerError
from fer_cli.models.truncation import truncate
from fer_cli.systems.conv_cut import network
from fer_cli.systems.conv_cut.attention import LearnedAttention, SelfAttention, measure_attention
from fer_cli.systems.conv_cut.network import (
    POSITIONS,
    After,
    Attention,
    ConvCutHead,
    DetailBlock,
    Form,
    SeparableConv,
    detail_side,
)
from fer_cli.weights.files import WeightsFile, find_weights, load_tensors

HEADS = pytest.mark.parametrize(("attention", "form"), list(product(get_args(Attention), get_args(Form))))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- the cut


def test_the_published_cut() -> None:
    published = truncate("convnext_base.fb_in22k_ft_in1k", cut="auto", size=224, weights=None)
    assert (published.cut, published.channels, published.side) == ("stage3.block23", 512, 14)
    # the stem, stages 1 and 2, 23 blocks of stage 3, the downsampling before 2 and 3, a convolution and its norm
    block = [width * 49 + 2 * 4 * width * width + 9 * width for width in (128, 256, 512)]
    down = [2 * width + 2 * width * width * 4 + 2 * width for width in (128, 256)]
    expected = 3 * 16 * 128 + 3 * 128 + 3 * block[0] + 3 * block[1] + 23 * block[2] + sum(down) + 512 * 50 + 1024
    assert published.parameters == sum(one.numel() for one in published.network.parameters()) == expected
    assert round(expected / 1e6, 2) == 51.64
    with torch.no_grad():
        y = published.network(noise(1, 3, 224, 224))
    assert y.shape == (1, 512, 14, 14)
    torch.testing.assert_close(y.mean(1), torch.zeros(1, 14, 14), atol=1e-4, rtol=0)  # a norm's output
    torch.testing.assert_close(y.var(1, unbiased=False), torch.ones(1, 14, 14), atol=1e-2, rtol=0)


def module_of(network: Any, cut: str) -> nn.Module:
    stage, _, block = cut.removeprefix("stage").partition(".block")
    if block:
        norm: nn.Module = network.stages[int(stage) - 1].blocks[int(block)].norm
        return norm
    module: nn.Module = network.get_submodule(network.feature_info[int(stage) - 1]["module"])
    return module


WHERE = """test_convnext stage1, test_convnext stage2, test_convnext stage3, test_convnext stage4,
test_convnext stage1.block0, test_convnext stage2.block1, test_convnext stage3.block0, test_convnext stage3.block3,
test_convnext2 stage3.block0, convnext_atto stage3.block2, test_resnet stage1, test_resnet stage3, test_resnet stage5,
tf_efficientnet_lite0 stage1, tf_efficientnet_lite0 stage4, tf_efficientnet_lite0 stage5, test_vit stage4"""
CUTS = [tuple(place.split()) for place in WHERE.split(",")]


def size_for(name: str) -> int | None:
    return None if name == "test_vit" else 64


@pytest.mark.parametrize(("name", "cut"), CUTS)
def test_a_cut_network_computes_what_the_whole_one_does_there(name: str, cut: str, tmp_path: Path) -> None:
    whole: Any = timm.create_model(name, pretrained=False)
    if name.startswith("tf_"):
        weights = find_weights(name, "auto")
        assert weights is not None
        whole.load_state_dict(load_tensors(weights), strict=True)
    else:
        with torch.no_grad():  # what timm starts with is so small in places that no error would show
            for parameter in whole.parameters():
                parameter.copy_(noise(*parameter.shape) * 0.3 + 0.1)
        save_file(whole.state_dict(), tmp_path / "w.safetensors")
        weights = WeightsFile(tmp_path / "w.safetensors", "file", "nothing")
    part = truncate(name, cut=cut, size=size_for(name), weights=weights)
    seen: list[torch.Tensor] = []
    module_of(whole, cut).register_forward_hook(lambda _module, _x, y: seen.append(y))
    x = noise(2, 3, part.preprocessing.size, part.preprocessing.size).double()
    with torch.no_grad():
        whole.double().eval()(x)
        y = part.network.double()(x)
    expected = seen[0]
    if name == "test_vit":
        expected = expected[:, -(part.side**2) :].mT.reshape(y.shape)
    elif "block" in cut and name != "convnext_atto":  # convnext_atto's blocks have channels first
        expected = expected.permute(0, 3, 1, 2)
    assert y.shape == (2, part.channels, part.side, part.side)
    assert part.cut == cut
    assert y.std() > 0.01
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "cut"), CUTS[3:])
def test_every_kept_parameter_counts_and_none_is_trained(name: str, cut: str) -> None:
    part = truncate(name, cut=cut, size=size_for(name), weights=None)
    parameters = list(part.network.parameters())
    assert not any(parameter.requires_grad for parameter in parameters)
    assert part.parameters < sum(one.numel() for one in timm.create_model(name).parameters())
    part.network.requires_grad_(True)
    y = part.network(noise(1, 3, part.preprocessing.size, part.preprocessing.size))
    assert None not in torch.autograd.grad(y.square().sum(), parameters, allow_unused=True)


def test_it_stays_in_evaluation_mode() -> None:
    network = truncate("test_efficientnet", cut="stage3", size=64, weights=None).network
    x = noise(2, 3, 64, 64)
    before = network(x)
    model = nn.Sequential(network, nn.Flatten()).train()
    assert model.training
    assert not any(module.training for module in network.modules())
    model(noise(4, 3, 64, 64, seed=1))
    torch.testing.assert_close(network(x), before, rtol=0, atol=0)


AUTO = """tf_efficientnet_lite0 224 stage4 14, tf_efficientnet_lite0 48 stage1 24, test_convnext 160 stage2 20,
test_resnet 448 stage5 14, test_convnext 448 stage4 14"""


@pytest.mark.parametrize("case", AUTO.split(","))
def test_auto_is_the_deepest_level_of_14_positions_a_side(case: str) -> None:
    name, size, cut, side = case.split()
    part = truncate(name, cut="auto", size=int(size), weights=None)
    assert (part.cut, part.side) == (cut, int(side))


def test_auto_says_which_size_would_do() -> None:
    with pytest.raises(FerError, match=r"no feature level of test_convnext .* at 48 px.*take \d+ px") as caught:
        truncate("test_convnext", cut="auto", size=48, weights=None)
    size = int(re.findall(r"take (\d+) px or more", str(caught.value))[0])
    assert truncate("test_convnext", cut="auto", size=size, weights=None).side >= 14
    with pytest.raises(FerError, match=f"take {size} px or more"):
        truncate("test_convnext", cut="auto", size=size - 4, weights=None)
    with pytest.raises(FerError, match="name the cut, stage1 to stage6, or take another backbone"):
        truncate("test_vit", cut="auto", size=None, weights=None)


@pytest.mark.parametrize("cut", ["stage5", "stage3.block4", "stage3.block", "stage0", "stage３", "pooled", ""])
def test_unknown_cuts_are_refused(cut: str) -> None:
    valid = "take auto, stage1 to stage4, stage1.block0 to .block0, stage2.block0 to .block1, stage3.block0 to .block3"
    with pytest.raises(FerError, match=f"test_convnext has no cut '{cut}'; {valid}"):
        truncate("test_convnext", cut=cut, size=64, weights=None)


def test_other_faults_are_named() -> None:
    with pytest.raises(FerError, match="no cut 'stage3.block0'; take auto, stage1 to stage5 .*ConvNeXt networks only"):
        truncate("test_resnet", cut="stage3.block0", size=64, weights=None)
    with pytest.raises(FerError, match="timm has no backbone"):
        truncate("no_such_network", cut="auto", size=64, weights=None)
    with pytest.raises(FerError, match="test_convnext cannot process images of 1 px .*take 160 px"):
        truncate("test_convnext", cut="stage1", size=1, weights=None)


# ---- the detail block


def test_parameters_of_the_detail_block() -> None:
    def count(layers: int) -> int:
        return sum(one.numel() for one in DetailBlock(512, layers).parameters())

    assert count(2) == 206_336
    assert (count(1), count(3)) == (206_336 - 66_816, 206_336 + 66_816)
    head = ConvCutHead(512, 14, 7, detail=2, attention="tokens", form="code")
    parameters = 206_336 + 512 + 256 * 32 + 32 + 64 + 32 * 7 + 7
    assert sum(one.numel() for one in head.parameters()) == parameters
    learned = ConvCutHead(512, 14, 7, detail=2, attention="learned", form="code")
    assert sum(one.numel() for one in learned.parameters()) == parameters + 3 * 256 * 256


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_sides(layers: int) -> None:
    assert detail_side(14, layers) == {1: 4, 2: 2, 3: 1}[layers]
    for side in range(13, 31):
        assert DetailBlock(8, layers)(noise(1, 8, side, side)).shape[2:] == 2 * (detail_side(side, layers),)


@pytest.mark.parametrize(
    ("side", "same", "stride"),
    [
        (14, True, 4),
        (13, True, 4),
        (15, True, 4),
        (16, True, 4),
        (3, True, 4),
        (9, False, 4),
        (14, True, 1),
        (9, True, 2),
    ],
)
def test_a_separable_convolution_is_what_loops_give(side: int, same: bool, stride: int) -> None:
    """TensorFlow: the padding's total is (out - 1) * stride + kernel - side, and the smaller half comes first."""
    layer = SeparableConv(3, 5, kernel=4, stride=stride, same=same).double()
    bias = noise(5).double()
    layer.load_state_dict({**layer.state_dict(), "pointwise.bias": bias})
    x = noise(2, 3, side, side).double()
    out = math.ceil(side / stride) if same else (side - 4) // stride + 1
    total = max((out - 1) * stride + 4 - side, 0) if same else 0
    padded = np.zeros((2, 3, side + total, side + total))
    padded[:, :, total // 2 : total // 2 + side, total // 2 : total // 2 + side] = x.numpy()
    depthwise, pointwise = layer.depthwise.weight.detach().numpy(), layer.pointwise.weight.detach().numpy()
    expected = np.zeros((2, 5, out, out))
    for image, row, column in np.ndindex(2, out, out):
        filtered = [
            (padded[image, c, stride * row :, stride * column :][:4, :4] * depthwise[c, 0]).sum() for c in range(3)
        ]
        for o, own in enumerate(bias.tolist()):
            value = sum(pointwise[o, c, 0, 0] * filtered[c] for c in range(3))
            expected[image, o, row, column] = max(0.0, value + own)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


# ---- the head


def trained_head(
    attention: Attention, form: Form = "code", detail: int = 2, classes: int = 5, after: After = "last"
) -> ConvCutHead:
    """Return a head whose every number differs from its start, in evaluation mode and in float64."""
    torch.manual_seed(1)
    head = ConvCutHead(24, 14, classes, detail=detail, attention=attention, form=form, after=after).double()
    with torch.no_grad():
        for tensor in [*head.parameters(), *(b for b in head.buffers() if b.is_floating_point())]:
            tensor.add_(torch.rand_like(tensor), alpha=0.1)
    return head.eval()


def brute_attention(
    rows: NDArray[np.float64], state: dict[str, NDArray[np.float64]] | None = None
) -> NDArray[np.float64]:
    queries = keys = values = rows
    if state is not None and "attention.query.weight" in state:
        queries, keys, values = (rows @ state[f"attention.{part}.weight"].T for part in ("query", "key", "value"))
    out = np.zeros_like(rows)
    for i, query in enumerate(queries):
        scores = keys @ query / math.sqrt(rows.shape[1])
        shares = np.exp(scores - max(scores))
        out[i] = sum(shares[:, None] * values) / sum(shares)
    return out if values is rows else rows + out


def brute_head(head: ConvCutHead, x: torch.Tensor, form: Form) -> NDArray[np.float64]:
    """Return the logits in loops over the images, but for the layers of the detail block."""

    state = {name: value.numpy() for name, value in head.state_dict().items()}

    def normed(y: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-3)
        return np.asarray((y - state[f"{name}.running_mean"]) * scale + state[f"{name}.bias"])

    maps = x.permute(0, 2, 3, 1).numpy()
    if form == "paper":
        maps = normed(maps, "norm_input")
    layers = list(head.detail) if isinstance(head.detail, DetailBlock) else []
    for number, layer in enumerate(layers):
        with torch.no_grad():
            maps = layer(torch.from_numpy(maps).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
        if number == 0 and head.after == "first":
            maps = np.stack([brute_attention(one.reshape(-1, one.shape[-1]), state).reshape(one.shape) for one in maps])
    over_positions = head.over == "positions" and head.after == "last"
    vectors = []
    for image in maps:
        rows = image.reshape(-1, image.shape[-1])
        if form == "code":
            spread = np.sqrt(rows.var(1, keepdims=True) + 1e-3)
            rows = (rows - rows.mean(1, keepdims=True)) / spread * state["norm.weight"] + state["norm.bias"]
        vector = (brute_attention(rows, state) if over_positions else rows).mean(0)
        if form == "code":
            vector = normed(np.maximum(state["dense.1.weight"] @ vector + state["dense.1.bias"], 0), "dense.3")
        vectors.append(brute_attention(vector[:, None])[:, 0] if head.over == "channels" else vector)
    features = np.stack(vectors)
    if head.over == "batch":
        features = brute_attention(features)
    return np.asarray(features @ state["classifier.weight"].T + state["classifier.bias"])


@HEADS
@pytest.mark.parametrize("detail", [0, 1, 2])
def test_logits_are_what_loops_give(attention: Attention, form: Form, detail: int) -> None:
    head = trained_head(attention, form, detail)
    x = noise(3, 24, 14, 14).double()
    logits = head(x).detach().numpy()
    assert logits.shape == (3, 5)
    np.testing.assert_allclose(logits, brute_head(head, x, form), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("attention", "form"), list(product(POSITIONS, get_args(Form))))
def test_attention_behind_the_first_layer_is_what_loops_give(attention: Attention, form: Form) -> None:
    head = trained_head(attention, form, after="first")
    x = noise(3, 24, 14, 14).double()
    np.testing.assert_allclose(head(x).detach().numpy(), brute_head(head, x, form), rtol=1e-9, atol=1e-9)
    last = trained_head(attention, form)
    last.load_state_dict(head.state_dict())
    assert float((last(x) - head(x)).detach().abs().max()) > 1e-3, "it sees other positions"


@HEADS
def test_only_the_published_attention_lets_images_see_their_neighbours(attention: Attention, form: Form) -> None:
    head = trained_head(attention, form)
    x = noise(6, 24, 14, 14).double()
    together = head(x).detach()
    alone = torch.cat([head(one[None]).detach() for one in x])
    moved = float((together - alone).abs().max())
    assert moved > 1e-3 if attention == "batch" else moved < 1e-12
    if attention == "batch":
        torch.testing.assert_close(alone, trained_head("none", form)(x).detach(), rtol=1e-12, atol=1e-12)


def test_attention_of_one_row_is_the_identity_and_large_scores_stay_finite() -> None:
    attention, y = SelfAttention(), noise(1, 32)
    torch.testing.assert_close(attention(y), y)
    assert attention(1e4 * noise(4, 32)).isfinite().all()


def test_what_attention_does_is_measured() -> None:
    """Against what stands in for it, and numbers worked out by hand."""
    own = LearnedAttention(2)
    y = torch.tensor([[[1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]], [[-1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]]])
    with torch.no_grad():
        own.query.weight.zero_()  # all weights are equal: a mean
        own.key.weight.zero_()
        own.value.weight.copy_(torch.eye(2))

    def logits(x: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = own(x)
        return seen[:, 0]  # of the first position

    measure = measure_attention(own, logits, [y[:1], y[1:]])
    assert (measure.images, measure.rows, measure.self_weight) == (2, 3, round(1 / 3, 4))
    assert (measure.from_mean, measure.changed_by_mean) == (0, 0)
    # values are +-(1, -1): each mean is a third of them, so apart is sqrt(1 - 1/9)
    assert measure.from_identity == measure.identity_from_mean == pytest.approx(math.sqrt(8 / 9), abs=1e-4)
    assert measure.is_idle == (measure.changed_by_identity == 0)
    with torch.no_grad():
        own.query.weight.copy_(50 * torch.eye(2))
        own.key.weight.copy_(50 * torch.eye(2))
        own.value.weight.copy_(-3 * torch.eye(2))
    apart = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])  # each attends to itself alone
    measure = measure_attention(own, logits, [apart])
    assert (measure.self_weight, measure.from_identity, measure.changed_by_identity) == (1, 0, 0)
    assert (measure.from_mean, measure.changed_by_mean) == (measure.identity_from_mean, 1)
    assert measure.from_mean == pytest.approx(1)
    assert measure.is_idle
    assert own.stand_in is None


def test_algorithm_1_on_normed_positions_is_near_the_identity() -> None:
    """Behind a layer norm over 256 channels a position's product with itself is 16, and the mean hides the rest."""
    torch.manual_seed(0)
    head = ConvCutHead(24, 14, 5, detail=2, attention="tokens", form="code").eval()
    maps = 500 * noise(32, 24, 14, 14)  # of trained maps too the norm's epsilon is a small part
    assert head.attention is not None
    seen: list[torch.Tensor] = []
    head.attention.register_forward_hook(lambda _module, x, _y: seen.append(x[0]))
    with torch.no_grad():
        head(maps)
    assert float((seen[0].square().sum(-1) / 16).mean()) == pytest.approx(16, rel=0.05)
    independent = SelfAttention().weights(noise(8, 4, 256))[0]
    assert float(independent.diagonal(dim1=1, dim2=2).min()) > 0.999


@HEADS
@pytest.mark.parametrize("detail", [0, 2])
def test_every_parameter_learns(attention: Attention, form: Form, detail: int) -> None:
    torch.manual_seed(0)
    head = ConvCutHead(24, 14, 5, detail=detail, attention=attention, form=form)
    loss = nn.functional.cross_entropy(head(noise(8, 24, 14, 14)), torch.arange(8) % 5)
    slopes = torch.autograd.grad(loss, list(head.parameters()), allow_unused=True)
    names = [name for name, _ in head.named_parameters()]
    assert not [name for name, slope in zip(names, slopes, strict=True) if slope is None or not slope.any()]


def test_dropout_takes_whole_channels() -> None:
    head = trained_head("none", "paper", detail=1).train()
    torch.manual_seed(0)
    y = head.spatial_dropout(torch.ones(64, 50, 9).double())
    gone = y == 0
    assert torch.equal(gone.any(-1), gone.all(-1))
    assert 0.08 < gone.double().mean() < 0.12


def test_weights_start_as_in_keras() -> None:
    head = ConvCutHead(512, 14, 7, detail=2, attention="none", form="code")
    bounds = {
        "detail.0.depthwise.weight": 16 * (1 + 512),
        "detail.1.pointwise.weight": 256 + 256,
        "dense.1.weight": 256 + 32,
        "classifier.weight": 32 + 7,
    }
    for name, fans in bounds.items():
        largest = float(head.get_parameter(name).detach().abs().max())
        assert 0.9 < largest / math.sqrt(6 / fans) <= 1.0001, name
    assert not any(head.get_parameter(n).any() for n in ("detail.0.pointwise.bias", "dense.1.bias", "classifier.bias"))


REFUSED: dict[tuple[int, int, Attention], str] = {
    (
        14,
        3,
        "tokens",
    ): r"over positions \(tokens\) needs 4 of them or more, and a 14x14 map after 3 detail layers has 1; "
    "take --set model.detail=2, or --set model.attention_after=first, or --set model.detail_stride=1, "
    r"or a data.size about 2.1 times as large \(a map of 29x29\)",
    (
        7,
        2,
        "learned",
    ): "take --set model.detail=1, or --set model.attention_after=first, or --set model.detail_stride=2, "
    r"or a data.size about 1.9 times as large \(a map of 13x13\)",
    (1, 0, "tokens"): r"a 1x1 map has 1; take a data.size about 2.0 times as large \(a map of 2x2\)",
    (4, 2, "none"): r"2 detail layers leave nothing of a 4x4 map; take --set model.detail=1, or .*\(a map of 5x5\)",
    (7, 3, "batch"): "3 detail layers leave nothing of a 7x7 map; take --set model.detail=2",
}


@pytest.mark.parametrize(("side", "detail", "attention"), REFUSED)
def test_maps_that_are_too_small_are_refused(side: int, detail: int, attention: Attention) -> None:
    with pytest.raises(FerError, match=REFUSED[side, detail, attention]):
        ConvCutHead(8, side, 5, detail=detail, attention=attention, form="code")


def test_three_layers_at_224_px() -> None:
    for attention, after, stride in (("learned", "first", 4), ("tokens", "first", 4), ("learned", "last", 1)):
        head = ConvCutHead(8, 14, 5, detail=3, attention=attention, form="code", after=after, stride=stride)  # type: ignore[arg-type]
        assert head(noise(2, 8, 14, 14)).shape == (2, 5)


def test_what_the_refusal_advises_works() -> None:
    attentions: tuple[Attention, ...] = ("learned", "none")
    refused = 0
    for side, detail, attention, stride in product(range(1, 40), range(4), attentions, (1, 2, 4)):
        for after in get_args(After):
            seen = min(detail, 1) if after == "first" else detail
            enough = attention == "none" or detail_side(side, seen, stride) >= 2
            if enough and detail_side(side, detail, stride) >= 1:
                network._check_side(side, detail, attention, after, stride)
                continue
            refused += 1
            with pytest.raises(FerError) as caught:
                network._check_side(side, detail, attention, after, stride)
            said = str(caught.value)
            if fewer := re.findall(r"model.detail=(\d)", said):
                network._check_side(side, int(fewer[0]), attention, after, stride)
            if "attention_after=first" in said:
                network._check_side(side, detail, attention, "first", stride)
            if smaller := re.findall(r"detail_stride=(\d)", said):
                network._check_side(side, detail, attention, after, int(smaller[0]))
            larger = re.findall(r"map of (\d+)x", said)
            network._check_side(int(larger[0]), detail, attention, after, stride)
    assert refused > 100
