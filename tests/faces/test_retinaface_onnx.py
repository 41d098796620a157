"""``fer export`` of a detector: its file finds what the network finds, without torch."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fer_cli.core.errors import FerError
from fer_cli.export import detector as exporting
from fer_cli.faces.retinaface_answers import STRIDES, faces_of, pixels_of
from fer_cli.faces.retinaface_onnx import open_network
from fer_cli.prediction.faces import open_finder
from fer_cli.prediction.model import CropForm
from fer_cli.weights.files import WeightsFile

SMALL = "retinaface-mobile0.25"
RNG = np.random.default_rng(0)


class Tiny(nn.Module):
    """Answers in the form of the network, of a convolution a level, so that its export takes seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(3, 2 * 16, stride, stride) for stride in STRIDES)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        parts = [level(x / 64).permute(0, 2, 3, 1).reshape(len(x), -1, 16) for level in self.levels]
        answers = torch.cat(parts, 1)
        return answers[..., 2:6], torch.softmax(answers[..., :2], -1)[..., 1], answers[..., 6:]


@pytest.fixture(scope="module")
def network() -> Tiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Tiny().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def exported(network: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, exported as if it were the small detector."""
    path = tmp_path_factory.mktemp("detector") / "detector.onnx"
    path.with_suffix(".pth").write_bytes(b"weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "open_torch", lambda *_: network)
        data, record = exporting.export_detector(SMALL, WeightsFile(path.with_suffix(".pth"), "file", "?"), path)
    assert record.weights == hashlib.sha256(b"weights").hexdigest()
    assert 0 <= record.largest_difference < 1e-4
    path.write_bytes(data)
    return path


def test_the_file_answers_as_the_network_whatever_the_size_of_the_images(network: Tiny, exported: Path) -> None:
    file = open_network(exported)
    for shape in ((1, 320, 320, 3), (3, 64, 160, 3)):
        frames = RNG.integers(0, 256, shape).astype(np.float32)
        with torch.inference_mode():
            ours = [part.numpy() for part in network(torch.from_numpy(pixels_of(frames)))]
        for mine, other in zip(ours, file.answers(pixels_of(frames)), strict=True):
            np.testing.assert_allclose(other, mine, atol=1e-4)
        boxes, points = file.batched_detect_faces(frames, 0.9, 0.4)
        expected, marks = faces_of((ours[0], ours[1], ours[2]), shape[1:3], 0.9, 0.4)
        for at in range(len(frames)):
            np.testing.assert_allclose(boxes[at], expected[at], atol=0.01)
            np.testing.assert_allclose(points[at], marks[at], atol=0.01)
        assert sum(map(len, boxes)) > 0


def test_it_runs_without_torch(exported: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from fer_cli.prediction.faces import open_finder\n"
        "from fer_cli.prediction.model import CropForm\n"
        "from fer_cli.faces.alignment import TEMPLATE\n"
        f"options = dict(detector='auto', weights={str(exported)!r}, sha256=None, device='auto', least=0.0)\n"
        "finder = open_finder('detect', CropForm(48, True, TEMPLATE), **options)\n"
        "finder.find([np.zeros((90, 90, 3), np.uint8)])\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_file_that_answers_otherwise_is_not_written(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    program = SimpleNamespace(model_proto=onnx.load(exported))
    other = Tiny().eval().requires_grad_(False)
    monkeypatch.setattr(exporting, "open_torch", lambda *_: other)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: program)
    with pytest.raises(FerError, match="answers otherwise than the network: scores differ by"):
        exporting.export_detector(SMALL, WeightsFile(exported, "file", "?"), exported)


def test_files_that_are_no_detector_are_one_line(exported: Path, tmp_path: Path) -> None:
    import onnx

    proto = onnx.load(exported)
    del proto.metadata_props[:]
    (tmp_path / "other.onnx").write_bytes(proto.SerializeToString())
    (tmp_path / "torn.onnx").write_bytes(exported.read_bytes()[:1000])
    for name, words in (("other.onnx", "not of a detector"), ("torn.onnx", "is damaged"), ("none.onnx", "No such")):
        with pytest.raises(FerError, match=words):
            open_network(tmp_path / name)
    crops = CropForm(48, True, np.zeros((5, 2)))
    with pytest.raises(FerError, match="its sha256 is"):
        open_finder("detect", crops, detector="auto", weights=str(exported), sha256="0" * 64, device="cpu", least=0.0)
