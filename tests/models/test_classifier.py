"""Classifiers on timm backbones: what is loaded, what is fresh, what learns, and what attention computes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn
from torch.nn import functional

from fer_cli.core.errors import FerError
from fer_cli.models.attention import AFF, FusedBlock, new_attention
from fer_cli.models.backbones import open_backbone
from fer_cli.models.classifier import Classifier, open_classifier
from fer_cli.weights.files import WeightsFile, find_weights, load_tensors

LITE0 = "tf_efficientnet_lite0"
RESNET = "test_resnet"
ATTENTIONS = ("none", "se", "eca", "cbam", "aff")


def tiny(name: str = RESNET, **options: Any) -> Classifier:
    return open_classifier(name, **{"classes": 7, "size": 64, "weights": None, **options})


def images(n: int, size: int = 64) -> torch.Tensor:
    x = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(n))
    return x.to(memory_format=torch.channels_last)


def saved(path: Path, name: str, **changes: torch.Tensor | None) -> WeightsFile:
    """Write weights of a network with 11 classes whose every tensor differs from any fresh initialisation."""
    rng = torch.Generator().manual_seed(99)
    state = {
        key: value + torch.rand(value.shape, generator=rng) if value.is_floating_point() else value + 5
        for key, value in timm.create_model(name, num_classes=11).state_dict().items()
    }
    kept = {key: value for key, value in {**state, **changes}.items() if value is not None}
    save_file({key: value.contiguous() for key, value in kept.items()}, path)
    return WeightsFile(path, "file", "?")


def shaken(module: nn.Module) -> nn.Module:
    """Give every parameter and statistic of a module a value that no initialisation has; return it in double."""
    rng = torch.Generator().manual_seed(7)
    for value in [*module.parameters(), *module.buffers()]:
        if value.is_floating_point():
            drawn = torch.rand(value.shape, generator=rng)
            value.data = 0.5 + drawn if value.ndim == 1 else (2 * drawn - 1) / value[0].numel() ** 0.5
    return module.double().eval()


def learn(classifier: Classifier) -> dict[str, torch.Tensor]:
    """Take a training step from values of which none is 0 and holds back others' gradients; return those values."""
    network = shaken(classifier.network)
    before = copy.deepcopy(network.state_dict())
    loss: Any = functional.cross_entropy(network.train()(images(4).double()), torch.arange(4))
    loss.backward()
    torch.optim.SGD([value for value in network.parameters() if value.requires_grad], lr=0.1).step()
    return before


# ---- weights


def test_the_tensors_of_the_weights_are_in_the_network_and_its_features_are_the_backbones() -> None:
    found = find_weights(LITE0, "auto")
    assert found is not None
    given = load_tensors(found)
    opened = open_classifier(LITE0, classes=8, size=64, weights=found)
    own = opened.network.state_dict()
    assert set(given) == {key.removeprefix("backbone.") for key in own if key.startswith("backbone.")} | {
        "classifier.weight",
        "classifier.bias",
    }
    for key, value in given.items():
        if not key.startswith("classifier."):
            assert torch.equal(own[f"backbone.{key}"], value), key
    assert opened.tensors_loaded == 294
    assert opened.fresh == ("classifier.weight", "classifier.bias")
    frozen = open_backbone(LITE0, size=64, weights=found)
    assert opened.preprocessing == frozen.preprocessing
    x = images(2)
    with torch.no_grad():
        pooled = opened.network.embed(opened.network.feature_maps(x))
        assert torch.equal(pooled, frozen.features(x))
        expected = pooled @ own["classifier.weight"].T + own["classifier.bias"]
        torch.testing.assert_close(opened.network(x), expected)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_attention_leaves_the_pretrained_tensors_in_their_places(attention: str, tmp_path: Path) -> None:
    weights = saved(tmp_path / "w.safetensors", RESNET)
    given = {key: value for key, value in load_tensors(weights).items() if not key.startswith("fc.")}
    opened = tiny(weights=weights, attention=attention)
    own = opened.network.state_dict()
    assert all(torch.equal(own[f"backbone.{key}"], value) for key, value in given.items())
    assert opened.tensors_loaded == len(given)
    part = {"none": "classifier.", "aff": ".aff."}.get(attention, ".se.")
    assert sorted(opened.fresh) == sorted(
        key for key, _ in opened.network.named_parameters() if part in key or key.startswith("classifier.")
    )
    assert {key.removeprefix("backbone.") for key, _ in opened.network.named_parameters()} - set(given) == {
        key.removeprefix("backbone.") for key in opened.fresh
    }
    by_name = dict(opened.network.named_parameters())
    both = opened.backbone_parameters() + opened.fresh_parameters()
    assert sorted(map(id, both)) == sorted(map(id, by_name.values()))
    assert list(map(id, opened.fresh_parameters())) == [id(by_name[key]) for key in opened.fresh]


@pytest.mark.parametrize(("name", "attention"), [(RESNET, "se"), (RESNET, "aff"), ("test_efficientnet", "cbam")])
def test_what_is_fresh_depends_on_the_seed_alone(name: str, attention: str, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    one = tiny(name, attention=attention, seed=1)
    torch.manual_seed(123)
    weights = saved(tmp_path / "w.safetensors", name)
    loaded = tiny(name, attention=attention, seed=1, weights=weights, frozen=True, dropout=0.3)
    other = tiny(name, attention=attention, seed=2, weights=weights)
    pairs = [zip(one.fresh_parameters(), two.fresh_parameters(), strict=True) for two in (loaded, other)]
    assert all(torch.equal(a, b) for a, b in pairs[0])
    assert {a.ndim > 1 and not torch.equal(a, b) for a, b in pairs[1]} == {True, False}
    plain = tiny(name, seed=1).network
    last = [dict(network.named_parameters())["classifier.weight"] for network in (plain, one.network, other.network)]
    assert torch.equal(last[0], last[1])
    assert not torch.equal(last[0], last[2])
    assert (
        torch.equal(plain.backbone.conv_stem.weight, one.network.backbone.conv_stem.weight) if "eff" in name else True
    )
    torch.set_rng_state(before)
    tiny(name, attention=attention)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_that_do_not_fit_are_refused_by_the_first_tensors_name(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, torch.Tensor | None], str]] = [
        ({"bn1.bias": None}, r"1 tensors are missing \(bn1.bias\)"),
        ({"stranger": torch.zeros(1)}, r"1 do not belong to it \(stranger\)"),
        ({"layer1.0.se.fc1.weight": torch.zeros(1)}, r"do not belong to it \(layer1.0.se.fc1.weight\)"),
        ({"bn1.bias": torch.zeros(3)}, r"another shape \(bn1.bias: \(3,\), expected"),
    ]
    for number, (changes, words) in enumerate(cases):
        with pytest.raises(FerError, match=words) as caught:
            tiny(weights=saved(tmp_path / f"{number}.safetensors", RESNET, **changes), attention="se")
        assert f"{number}.safetensors" in str(caught.value)
    headless = saved(tmp_path / "headless.safetensors", RESNET, **{"fc.weight": None, "fc.bias": None})
    assert (
        tiny(weights=headless).tensors_loaded == tiny(weights=saved(tmp_path / "w.safetensors", RESNET)).tensors_loaded
    )


# ---- attention


def brute_context(x: NDArray[Any], layers: Any) -> NDArray[Any]:
    def norm(y: NDArray[Any], layer: Any) -> NDArray[Any]:
        mean, var, weight, bias = (
            getattr(layer, key).detach().numpy()[:, None, None]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return np.asarray((y - mean) / np.sqrt(var + layer.eps) * weight + bias)

    first, second = (layers[place].weight.detach().numpy()[:, :, 0, 0] for place in (0, 3))
    y = np.maximum(norm(np.einsum("oc,nchw->nohw", first, x), layers[1]), 0)
    return norm(np.einsum("oc,nchw->nohw", second, y), layers[4])


def brute_aff(x: NDArray[Any], y: NDArray[Any], fusion: AFF) -> NDArray[Any]:
    n, _, height, width = x.shape
    whole = np.stack([(x + y)[i].sum((1, 2)) / (height * width) for i in range(n)])[:, :, None, None]
    share = 1 / (1 + np.exp(-brute_context(x + y, fusion.local) - brute_context(whole, fusion.whole)))
    return np.asarray(2 * share * x + 2 * (1 - share) * y)


def test_aff_is_what_its_formula_gives() -> None:
    fusion = shaken(AFF(12))
    assert isinstance(fusion, AFF)
    assert fusion.local[0].weight.shape == (3, 12, 1, 1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (2, 3, 12, 5, 4))
    found = fusion(torch.from_numpy(x), torch.from_numpy(y)).detach().numpy()
    expected = brute_aff(x, y, fusion)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert np.abs(expected - x - y).max() > 0.1


@pytest.mark.parametrize(("kind", "channels"), [(BasicBlock, 32), (Bottleneck, 64)])
@pytest.mark.parametrize("down", [False, True])
def test_aff_fuses_what_the_plain_block_adds(kind: Any, channels: int, down: bool) -> None:
    downsample = nn.Sequential(nn.Conv2d(channels, channels, 1, 2), nn.BatchNorm2d(channels)) if down else None
    width = channels // kind.expansion
    plain = shaken(kind(channels, width, 2 if down else 1, downsample))
    fused = FusedBlock(copy.deepcopy(plain))
    assert set(plain.state_dict()) == {key for key in fused.state_dict() if not key.startswith("aff.")}
    x = torch.randn(2, channels, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fused.double().eval()
    with torch.no_grad():
        torch.testing.assert_close(fused(x), plain(x))  # an untrained fusion is the sum
        shaken(fused.aff)
        shortcut = x if downsample is None else downsample(x)
        setattr(plain, "act3" if kind is Bottleneck else "act2", nn.Identity())
        main = plain(x) - shortcut
        expected = np.maximum(brute_aff(main.numpy(), shortcut.numpy(), fused.aff), 0)
        torch.testing.assert_close(fused(x), torch.from_numpy(expected))


@pytest.mark.parametrize(("attention", "gate"), [("se", 0.98201379), ("eca", 0.5), ("cbam", 0.98201379**2)])
def test_attention_begins_as_an_open_gate_that_is_the_same_everywhere(attention: str, gate: float) -> None:
    x = torch.randn(2, 64, 7, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(new_attention(attention, 64).eval()(x), gate * x, rtol=1e-5, atol=1e-6)


def test_aff_begins_without_any_change() -> None:
    with torch.no_grad():
        assert torch.equal(tiny(attention="aff").network(images(2)), tiny().network(images(2)))


# By hand for ResNet18: two blocks each of 64, 128, 256 and 512 channels.
# se: c to r and back with biases, where r is c/16 but at least 8.
# eca: one kernel, |log2(c) + 1| / 2 made odd: 3, 5, 5, 5.
# cbam: c to c/16 and back with biases; 7 x 7 over two maps, and a batch norm.
# aff: twice c to c/4 and back without biases, each with a batch norm.
BY_HAND = {
    "se": 2 * sum(2 * c * r + r + c for c, r in ((64, 8), (128, 8), (256, 16), (512, 32))),
    "eca": 2 * (3 + 5 + 5 + 5),
    "cbam": 2 * sum(2 * c * (c // 16) + c // 16 + c + 2 * 49 + 2 for c in (64, 128, 256, 512)),
    "aff": 2 * sum(2 * (2 * c * (c // 4) + 2 * (c // 4) + 2 * c) for c in (64, 128, 256, 512)),
}


@pytest.mark.parametrize("attention", BY_HAND)
def test_attention_is_in_every_block_of_resnet18(attention: str) -> None:
    opened = open_classifier("resnet18", classes=7, size=32, weights=None, attention=attention)
    assert opened.attention_place == "blocks"
    assert len(opened.network.inside) == 8
    backbone = 11_689_512 - 513_000  # published, less the classifier of 1,000
    assert sum(value.numel() for value in opened.network.parameters()) == backbone + 7 * 513 + BY_HAND[attention]
    assert sum(value.numel() for value in opened.backbone_parameters()) == backbone


@pytest.mark.parametrize("attention", ["se", "eca", "cbam"])
@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_other_networks_have_it_on_the_last_map(name: str, attention: str) -> None:
    opened = tiny(name, attention=attention)
    assert opened.attention_place == "last map"
    assert {key.partition(".")[0] for key in opened.fresh} == {"attention", "classifier"}
    network = opened.network.eval()
    x = images(2)
    shaken(network.attention).float()
    with torch.no_grad():
        maps = network.backbone.forward_features(x)
        expected = network.backbone.forward_head(network.attention(maps), pre_logits=True)
        assert not torch.allclose(expected, network.backbone.forward_head(maps, pre_logits=True))
        torch.testing.assert_close(network(x), network.classifier(expected))


def test_a_resnet_with_attention_of_its_own_keeps_it() -> None:
    opened = open_classifier("seresnet18", classes=7, size=32, weights=None, attention="eca")
    assert opened.attention_place == "last map"
    assert tiny().attention_place is None


# ---- learning


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_frozen_backbone_does_not_move_in_a_bit(attention: str) -> None:
    opened = tiny(attention=attention, frozen=True, dropout=0.5)
    assert opened.backbone_parameters() == []
    before = learn(opened)
    moved = {key for key, value in opened.network.state_dict().items() if not torch.equal(value, before[key])}
    assert {"classifier.weight", "classifier.bias"} <= moved
    prefixes = ("classifier.", *(f"backbone.{name}." for name in opened.network.inside))
    assert all(key.startswith(prefixes) for key in moved)
    assert {key for key in moved if not key.startswith("classifier.")} == {
        key for key in before if key.startswith(prefixes[1:])
    }
    assert opened.network.dropout.training
    opened.network.eval()
    assert not any(module.training for module in opened.network.modules())


@pytest.mark.parametrize(
    ("name", "attention"),
    [*((RESNET, attention) for attention in ATTENTIONS), ("test_convnext", "se"), ("test_convnext", "cbam")],
)
def test_everything_learns_where_nothing_is_frozen(name: str, attention: str) -> None:
    opened = tiny(name, attention=attention)
    before = learn(opened)
    assert all(value.grad is not None and bool(value.grad.any()) for value in opened.network.parameters())
    after = opened.network.state_dict()
    assert [key for key in before if torch.equal(before[key], after[key])] == []


@pytest.mark.parametrize("frozen", [False, True])
def test_dropout_acts_before_the_classifier_in_training_alone(frozen: bool) -> None:
    network = tiny("test_convnext", dropout=0.25, frozen=frozen).network
    seen: list[torch.Tensor] = []
    network.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        network.train()(images(16))
        network.eval()(images(16))
    zeros = [float((value == 0).float().mean()) for value in seen]
    assert zeros[0] == pytest.approx(0.25, abs=0.05)
    assert zeros[1] == 0


def test_drop_path_grows_with_depth() -> None:
    rates = [getattr(module, "drop_prob", None) for module in tiny(drop_path=0.3, attention="aff").network.modules()]
    assert [rate for rate in rates if rate is not None] == pytest.approx([0.1, 0.2, 0.3])


# ---- logits and errors


@pytest.mark.parametrize(("name", "attention"), [*((RESNET, kind) for kind in ATTENTIONS), ("test_convnext", "se")])
def test_logits_are_finite_and_do_not_depend_on_the_neighbours(name: str, attention: str) -> None:
    opened = tiny(name, attention=attention)
    x = images(3)
    with torch.no_grad():
        three, one = opened.network(x), opened.network(x[1:2])
    assert three.shape == (3, 7)
    assert bool(three.isfinite().all())
    assert len(three.unique(dim=0)) == 3
    torch.testing.assert_close(one, three[1:2], rtol=1e-4, atol=1e-6)
    kernels = [value for value in opened.network.parameters() if value.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_the_size_is_the_one_that_was_asked_for_or_the_networks_own() -> None:
    assert tiny(size=None).preprocessing.size == 160
    assert tiny(size=48).preprocessing.size == 48
    assert not tiny().network.training


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet43", {}, "timm has no backbone 'resnet43'; did you mean resnet"),
        (RESNET, {"attention": "sa"}, "unknown attention 'sa'; take none, se, eca, cbam, aff"),
        (
            "test_efficientnet",
            {"attention": "aff"},
            "plain residual blocks of a ResNet, which test_efficientnet does not have",
        ),
        ("seresnet18", {"attention": "aff"}, "which seresnet18 does not have; take resnet18"),
        ("test_vit", {"attention": "se", "size": None}, "test_vit has no last map of channels, rows and columns"),
        ("test_vit", {}, "test_vit takes images of 160 px only"),
        ("test_convnext", {"size": 16}, "test_convnext cannot process images of 16 px"),
        ("densenet121", {"drop_path": 0.1}, "densenet121 has no residual paths to drop"),
        (RESNET, {"drop_path": 0.1, "frozen": True}, "drop_path has no effect on a frozen backbone"),
    ],
)
def test_networks_that_cannot_be(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(FerError) as caught:
        tiny(name, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_networks_without_drop_paths_or_maps_still_classify() -> None:
    with torch.no_grad():
        assert tiny("test_vit", size=None).network(images(1, 160)).shape == (1, 7)
        assert tiny("densenet121", size=32).network(images(1, 32)).shape == (1, 7)
