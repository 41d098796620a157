"""BiSeNet through facexlib: network, output, classes, weights read back."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fer_cli.core.errors import UsageError
from fer_cli.core.labels import REGIONS
from fer_cli.faces.bisenet import open_bisenet
from fer_cli.faces.parsers import NetworkParser
from fer_cli.faces.regions import grouping
from fer_cli.weights.download import BISENET, find_release
from fer_cli.weights.files import WeightsFile
from tests.kits.parsers import refusal, seeded_bisenet, sha


@pytest.fixture(scope="module")
def real() -> nn.Module:
    return seeded_bisenet()


@pytest.fixture(scope="module")
def checkpoint(real: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bisenet") / "seeded.pth"
    torch.save(real.state_dict(), path)
    return path


def opened(path: Path, *, mirror: bool = False, size: int = 64) -> NetworkParser:
    weights = WeightsFile(path, "file", "?")
    return open_bisenet(weights, grouping=grouping(), size=size, mirror=mirror, device="cpu")


def test_the_network_is_the_one_that_the_published_weights_are_for(real: nn.Module) -> None:
    shapes = sorted((name, tuple(tensor.shape)) for name, tensor in real.state_dict().items())
    assert len(shapes) == 191
    assert hashlib.sha256(repr(shapes).encode()).hexdigest() == (
        "f32b67754d9fd9ea818a66bf58dd393487c21601540b0c23093df85c04d5b305"
    )
    assert dict(shapes)["conv_out.conv_out.weight"] == (19, 256, 1, 1)
    size = sum(tensor.numel() * tensor.element_size() for tensor in real.state_dict().values())
    assert 150 < (BISENET.size - size) / 191 < 250  # bytes that the old form of torch.save adds for each tensor


@pytest.mark.parametrize("form", ["zip", "legacy", "wrapped", "safetensors"])
def test_a_checkpoint_is_read_back_bit_for_bit(real: nn.Module, tmp_path: Path, form: str) -> None:
    state = {name: tensor.contiguous() for name, tensor in real.state_dict().items()}
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "wrapped":  # as it stands in a training's checkpoint
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    generator = torch.get_rng_state()
    parser = opened(path)
    assert torch.equal(generator, torch.get_rng_state())
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        outputs = real(x)
        found = parser.network(x)
    assert found.shape == (2, 19, 64, 64)
    assert torch.equal(found, outputs[0])
    assert not any(torch.allclose(found, other, atol=1e-3) for other in outputs[1:])
    assert not any(module.training for module in parser.network.modules())
    assert not any(parameter.requires_grad for parameter in parser.network.parameters())
    assert (parser.weights.source, parser.weights.sha256, parser.weights.file) == ("file", sha(path), path.name)
    assert (parser.name, parser.device, parser.mirror) == ("bisenet", "cpu", False)


def test_the_input_is_rgb_in_unit_range_standardised_as_for_imagenet(checkpoint: Path) -> None:
    parser = opened(checkpoint)
    seen: list[torch.Tensor] = []
    parser.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    assert parser.parse(images).maps.shape == (1, 64, 64)
    parser.parse(images[..., 0])
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        np.testing.assert_allclose(seen[0][0, channel], (images[0, ..., channel] / 255 - mean) / std, atol=1e-5)
        np.testing.assert_allclose(seen[1][0, channel], (images[0, ..., 0] / 255 - mean) / std, atol=1e-5)
    default = open_bisenet(WeightsFile(checkpoint, "file", "?"), grouping=grouping(), mirror=False, device="cpu")
    assert default.preprocessing.size == 512
    assert default.preprocessing.interpolation == "bilinear"


class Planted(nn.Module):
    """Reads each pixel's class from its red value; where it is 200, the eye on the picture's left is the left eye."""

    def __init__(self, num_class: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.classes = num_class

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        red = ((x[:, 0] * 0.229 + 0.485) * 255).round()
        sides = torch.where(torch.arange(x.shape[-1]) < x.shape[-1] // 2, 4, 5)
        classes = torch.where(red == 200, sides, red / 10).long()
        logits = 50 * self.scale * nn.functional.one_hot(classes, self.classes).permute(0, 3, 1, 2).float()
        return logits, logits.flip(1), logits.roll(7, 1)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("facexlib.parsing.bisenet.BiSeNet", Planted)
    torch.save({"scale": torch.ones(1)}, tmp_path / "planted.pth")
    return tmp_path / "planted.pth"


@pytest.mark.parametrize("mirror", [False, True])
def test_every_class_lands_in_its_region(planted: Path, mirror: bool) -> None:
    # background {0,16,18}, skin {1}, eye {2-6}, ear {7-9}, nose {10}, mouth {11-13}, neck {14,15}, hair {17}
    table = ["background", "skin", "eye", "eye", "eye", "eye", "eye", "ear", "ear", "ear"]
    table += ["nose", "mouth", "mouth", "mouth", "neck", "neck", "background", "hair", "background"]
    images = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    images[..., 1:] = 255
    for number in range(19):
        images[:, :, 3 * number : 3 * number + 3, 0] = 10 * number  # a stripe each, and background to the right
    parsed = opened(planted, mirror=mirror).parse(images)
    for number, region in enumerate(table):
        found = parsed.maps[0, :, 3 * number : 3 * number + 3]
        assert {REGIONS[index] for index in np.unique(found)} == {region}, number
    assert parsed.confidence[0] == pytest.approx(1, abs=1e-6)


def test_the_mirror_image_keeps_places_and_merges_sides(planted: Path) -> None:
    images = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    images[:, 10:20, 8:56, 0] = 200  # eyes: in the mirror image the network calls each by the other's name
    images[:, 30:40, :16, 0] = 100  # a nose far to the left
    parser = opened(planted, mirror=True)
    parsed = parser.parse(images)
    expected = np.zeros((64, 64), dtype=np.uint8)
    expected[10:20, 8:56], expected[30:40, :16] = REGIONS.index("eye"), REGIONS.index("nose")
    np.testing.assert_array_equal(parsed.maps[0], expected)
    assert parsed.confidence[0] == pytest.approx(1, abs=1e-6)
    assert parsed.agreement[0] == 1
    assert parser.record()["mirror"] == 64


@pytest.mark.parametrize("size", [0, -64, 32, 63, 100, 1056])
def test_sizes_that_the_network_does_not_take(checkpoint: Path, size: int) -> None:
    assert "multiple of 32 from 64 to 1024" in refusal(lambda: opened(checkpoint, size=size), UsageError)


def test_weights_of_other_networks_end_in_one_line(real: Any, tmp_path: Path) -> None:
    from facexlib.parsing.bisenet import BiSeNet
    from facexlib.parsing.parsenet import ParseNet

    cases = {
        "resnet": (real.cp.resnet.state_dict(), "160 tensors are missing"),
        "parsenet": (ParseNet(in_size=64, out_size=64, parsing_ch=19).state_dict(), "160 tensors are missing"),
        "eleven": (BiSeNet(11).state_dict(), "conv_out.conv_out.weight: (11, 256, 1, 1), expected (19, 256, 1, 1)"),
    }
    for name, (state, words) in cases.items():
        torch.save(state, path := tmp_path / f"{name}.pth")
        text = refusal(lambda path=path: opened(path))  # type: ignore[misc]
        assert text.startswith(f"{path}: does not fit the network")
        assert words in text
        assert "give facexlib's parsing_bisenet.pth" in text
        assert "backbone" not in text


@pytest.mark.parametrize("error", [ImportError, OSError])
def test_a_machine_without_libgl(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    class NoLibGL:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "cv2":
                raise error("libGL.so.1: cannot open shared object file")

    for name in list(sys.modules):
        if name.partition(".")[0] in {"facexlib", "cv2"}:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NoLibGL, *sys.meta_path])
    text = refusal(lambda: opened(checkpoint))
    assert "facexlib cannot be imported (libGL.so.1" in text
    assert all(word in text for word in ("libgl1", "libglib2.0-0", "opencv-python-headless", "--parser compact"))
    monkeypatch.setitem(sys.modules, "facexlib", None)
    assert "not installed; install facexlib" in refusal(lambda: opened(checkpoint))


def test_facexlibs_own_loader_is_never_used(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import facexlib.parsing
    import facexlib.utils.misc

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("facexlib downloads")

    monkeypatch.setattr(facexlib.parsing, "init_parsing_model", forbidden)
    monkeypatch.setattr(facexlib.parsing, "load_file_from_url", forbidden)
    monkeypatch.setattr(facexlib.utils.misc, "download_url_to_file", forbidden)
    folder = Path(facexlib.parsing.__file__).parent.parent / "weights"
    before = [(path, path.stat().st_mtime_ns) for path in (folder, *sorted(folder.rglob("*")))]
    opened(checkpoint).parse(np.zeros((1, 64, 64), dtype=np.uint8))
    refusal(lambda: find_release(BISENET, None, None, fetch=True))
    assert [(path, path.stat().st_mtime_ns) for path in (folder, *sorted(folder.rglob("*")))] == before
    assert [path.name for path in folder.iterdir()] == ["README.md"]
