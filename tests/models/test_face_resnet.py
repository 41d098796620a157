"""dlib's face recognition network: its file is read as dlib reads it, and training changes nothing before it begins."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.models.backbones import open_backbone
from fer_cli.models.classifier import open_classifier
from fer_cli.models.face_resnet import (
    CHANNELS,
    Block,
    Convolution,
    FaceResNet,
    ready_to_train,
    restore_statistics,
    tensors_of,
)
from fer_cli.models.truncation import truncate
from fer_cli.systems import registry
from fer_cli.systems.base import BuildInputs
from fer_cli.weights import catalogue
from fer_cli.weights.dlib_file import MOST_BYTES, read_layers
from fer_cli.weights.files import WeightsFile, find_weights
from fer_cli.weights.networks import FACE_RESNET
from tests.kits.toy import toy_dataset

DESCRIPTORS = {
    0: (-0.05861958, 0.11383584, 0.05748753, -0.02313085),
    1: (-0.0465652, 0.12976788, 0.07098202, 0.00608761),
    2: (-0.05793282, 0.10714515, 0.0751901, -0.00815207),
}
"""Seed of :func:`chequered` -> the first numbers of ``compute_face_descriptor`` of dlib 20.0.1, with the same file."""


def chequered(seed: int) -> NDArray[np.uint8]:
    """Return an image (150, 150, 3) of 15x15 colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (15, 15, 3))
    return np.kron(colours, np.ones((10, 10, 1))).astype(np.uint8)


def number(value: int) -> bytes:
    length = max(1, (value.bit_length() + 7) // 8)
    return bytes([length]) + value.to_bytes(length, "little")


def layer(tag: bytes, integers: list[int], shape: tuple[int, int], values: torch.Tensor) -> bytes:
    head = b"\x01" + bytes([len(tag)]) + tag + b"".join(map(number, [*integers, *shape, 1, 1]))
    return head + values.numpy().astype("<f4").tobytes()


def write(path: Path, network: FaceResNet) -> Path:
    """Write a network, whose batch normalisations have no statistics yet, as dlib does."""
    parts = [b"\x01\x01\x01\x0dloss_metric_2", struct.pack("<f", 0.04), b"\x01\x15input_rgb_image_sized"]
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, Convolution):
                both = torch.cat([module.conv.weight.flatten(), module.conv.bias])  # type: ignore[list-item]
                parts.append(layer(b"con_4", [2], (len(both), 1), both))
                both = torch.cat([module.bn.weight / (1 + module.bn.eps) ** 0.5, module.bn.bias])
                parts += [layer(b"affine_", [2], (len(both), 1), both), b"\x01\x08relu_110\x01\x02"]
        parts.append(layer(b"fc_2", [128, 256, 2], (256, 128), network.fc.weight.T.contiguous()))  # type: ignore[operator]
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture(scope="module")
def network() -> FaceResNet:
    torch.manual_seed(0)
    network = FaceResNet().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    return network


@pytest.fixture(scope="module")
def file(network: FaceResNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("dlib") / "random.dat", network)


@pytest.fixture(scope="module")
def published() -> WeightsFile:
    found = find_weights(FACE_RESNET, "auto")
    assert found is not None
    return found


def test_a_file_gives_the_network_that_was_written(network: FaceResNet, file: Path) -> None:
    again = FaceResNet().eval()
    again.load_state_dict(tensors_of(file))
    x = torch.randn(2, 3, 150, 150)
    with torch.no_grad():
        torch.testing.assert_close(again(x), network(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", DESCRIPTORS)
def test_descriptors_are_those_of_dlib(published: WeightsFile, seed: int) -> None:
    backbone = open_backbone(FACE_RESNET, size=None, weights=published)
    x = backbone.preprocessing.apply(torch.from_numpy(chequered(seed))[None])
    with torch.no_grad():
        descriptor = backbone.network(x)[0]
    assert descriptor.shape == (128,)
    torch.testing.assert_close(descriptor[:4], torch.tensor(DESCRIPTORS[seed]), rtol=0, atol=1e-6)


def test_the_published_file_is_known(published: WeightsFile) -> None:
    assert published.source.startswith("package face-recognition-models ")
    assert published.kind == "package"
    assert published.pretraining == catalogue.PACKAGES[FACE_RESNET].trained_on


def test_another_file_in_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    package = catalogue.PACKAGES[FACE_RESNET]
    other = catalogue.Package(package.name, package.file, package.trained_on, package.licence, "0" * 64)
    monkeypatch.setitem(catalogue.PACKAGES, FACE_RESNET, other)
    with pytest.raises(FerError, match="its sha256 is 55533b28a95800a5, that of the published file 0000000000000000"):
        find_weights(FACE_RESNET, "auto")


def test_a_file_of_the_user_is_taken(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = file.parent / "folder"
    folder.mkdir(exist_ok=True)
    (folder / f"{FACE_RESNET}.dat").write_bytes(file.read_bytes())
    monkeypatch.setenv("FER_WEIGHTS", str(folder))
    found = find_weights(FACE_RESNET, "auto")
    assert found is not None
    assert (found.kind, found.pretraining) == ("folder", "unknown")
    assert open_backbone(FACE_RESNET, size=64, weights=found).tensors_loaded == 29 * 7 + 1


@pytest.mark.parametrize("share", [0.0, 1e-6, 0.001, 0.3, 0.5, 0.97, 0.9999999])
def test_a_cut_file_is_refused(file: Path, tmp_path: Path, share: float) -> None:
    data = file.read_bytes()
    path = tmp_path / "cut.dat"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FerError, match="ends early, or is damaged|holds no layer|is another network"):
        tensors_of(path)


def test_other_files_are_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.dat"
    data = file.read_bytes()
    path.write_bytes(data + layer(b"affine_", [2], (4, 1), torch.zeros(4)))
    with pytest.raises(FerError, match="is another network"):
        tensors_of(path)
    path.write_bytes(data.replace(b"affine_", b"affone_", 1))
    with pytest.raises(FerError, match="is another network"):
        tensors_of(path)
    huge = b"\x01\x05con_4" + number(2) + number(2**63 - 1) + number(2**63 - 1) + number(1) + number(1)
    path.write_bytes(huge)
    with pytest.raises(FerError, match="ends early, or is damaged, at byte"):
        read_layers(path)
    with path.open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)
    with pytest.raises(FerError, match="64,000,001 bytes"):
        read_layers(path)
    with pytest.raises(FerError, match="cannot be read"):
        read_layers(tmp_path / "missing.dat")


def test_statistics_are_restored_and_nothing_else_changes(file: Path) -> None:
    network = FaceResNet().eval()
    network.load_state_dict(tensors_of(file))
    x = torch.randn(48, 3, 64, 64)
    with torch.no_grad():
        before = network(x)
        restore_statistics(network, x)
        torch.testing.assert_close(network(x), before, rtol=1e-4, atol=1e-5)
        stem = network.conv1
        torch.testing.assert_close(stem.bn.running_mean, stem.conv(x).mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(stem.bn.running_var, stem.conv(x).var((0, 2, 3), correction=0), rtol=1e-4, atol=1e-5)
        network.train()  # by the statistics of the batch, which are those that were measured
        torch.testing.assert_close(network(x), before, rtol=1e-3, atol=1e-4)


def test_statistics_come_from_rows_all_over_and_are_restored_once(file: Path) -> None:
    network = FaceResNet().eval()
    network.load_state_dict(tensors_of(file))
    asked: list[NDArray[np.int64]] = []

    def inputs(rows: NDArray[np.int64]) -> torch.Tensor:
        asked.append(rows)
        return torch.randn(4, 3, 64, 64)

    ready_to_train(network, inputs, np.arange(1000, 5000))
    ready_to_train(network, inputs, np.arange(1000, 5000))
    ready_to_train(torch.nn.Conv2d(3, 3, 3), inputs, np.arange(9))
    (rows,) = asked
    assert (len(rows), rows[0], rows[-1]) == (256, 1000, 4999)
    assert len(np.unique(rows)) == 256


@pytest.mark.parametrize(
    ("size", "sides"), [(64, [14, 7, 3, 1, 1]), (112, [26, 13, 6, 3, 1]), (150, [35, 17, 8, 4, 2])]
)
def test_levels(network: FaceResNet, size: int, sides: list[int]) -> None:
    with torch.no_grad():
        maps = network.forward_intermediates(torch.zeros(1, 3, size, size), intermediates_only=True)
    assert [tuple(one.shape[1:]) for one in maps] == [(*pair, pair[1]) for pair in zip(CHANNELS, sides, strict=True)]


def test_cuts_and_classifiers(file: Path) -> None:
    weights = WeightsFile(file, "file", "unknown")
    cut = truncate(FACE_RESNET, cut="auto", size=150, weights=weights)
    assert (cut.cut, cut.channels, cut.side) == ("stage2", 64, 17)
    assert cut.network(torch.zeros(1, 3, 150, 150)).shape == (1, 64, 17, 17)
    built = open_classifier(FACE_RESNET, classes=7, size=64, weights=weights, attention="se")
    assert built.attention_place == "last map"
    assert built.network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    assert not any(".fc." in key for key in built.network.state_dict())


@pytest.mark.parametrize("weights", ["auto", "none"])
def test_only_pretrained_layers_get_statistics_before_training(weights: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    opened = open_dataset(toy_dataset(store, images=60))
    recipe = registry.read_recipe(
        "baseline", None, [f"model.backbone={FACE_RESNET}", f"model.weights={weights}", "data.size=64"]
    )
    found = find_weights(FACE_RESNET, weights)
    built = registry.load("baseline").build(
        recipe, BuildInputs(dataset=opened, rows=opened.rows("train"), weights=found, seed=0, device="cpu")
    )
    (variance,) = {bool((b == 1).all()) for key, b in built.network.named_buffers() if key.endswith("running_var")}
    assert variance is (weights == "none")


def test_a_skipped_path_leaves_the_shortcut_and_its_mean_is_the_whole() -> None:
    torch.manual_seed(0)
    block = Block(8, 8, halves=False, skipped=0.5).train()
    x = torch.rand(4000, 8, 4, 4) + 10  # above any of the path's values: the ReLU after the sum changes nothing
    with torch.no_grad():
        y, path = block(x), block.conv2(torch.relu(block.conv1(x)))
        assert 0.4 < float((y == x).flatten(1).all(1).float().mean()) < 0.6
        kept = (y != x).flatten(1).any(1)
        assert torch.allclose(y[kept], x[kept] + 2 * path[kept], atol=1e-4)
        assert torch.equal(block.eval()(x), Block.forward(block, x))


def test_more_paths_are_skipped_the_deeper_they_are() -> None:
    network = FaceResNet(7, drop_path_rate=0.2)
    skipped = [module.skipped for module in network.modules() if isinstance(module, Block)]
    assert skipped == pytest.approx([0.2 * index / 13 for index in range(14)])


def test_a_model_on_the_face_network_is_opened_without_timm_and_torchvision() -> None:
    program = (
        "import sys; from fer_cli.models.classifier import open_classifier; "
        "open_classifier('face_resnet29', classes=7, size=64, weights=None); "
        "print(sorted({'timm', 'torchvision', 'torch'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['torch']"
