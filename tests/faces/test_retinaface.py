"""RetinaFace: networks, weights, and the way of a picture into the network and of its points back."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from fer_cli.core.errors import FerError
from fer_cli.core.labels import REGIONS
from fer_cli.datasets.synth.loader import Synth
from fer_cli.faces import retinaface
from fer_cli.faces.alignment import NO_FACE, open_aligner
from fer_cli.faces.retinaface import DETECTORS, SIDES, RetinaFace, find_detector
from fer_cli.weights.download import RELEASES, Release
from fer_cli.weights.files import WeightsFile
from tests.kits.parsers import refusal, sha

SMALL = "retinaface-mobile0.25"
SHAPES = {  # number of tensors, and the hash of their names and shapes
    SMALL: (300, "d3c4ec15f23ecf30"),
    "retinaface-resnet50": (456, "e46f15f46150834c"),
}


def seeded(name: str = SMALL) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = retinaface._network(name)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.uniform_(-0.5, 0.5)
    return network.eval()


def facexlibs(name: str) -> Any:
    """Return the network that the weights are published for."""
    from facexlib.detection.retinaface import RetinaFace as Theirs

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Theirs(name.removeprefix("retinaface-"), device=torch.device("cpu"))


@pytest.mark.parametrize("name", DETECTORS)
def test_the_networks_answers_are_facexlibs(name: str) -> None:
    ours, theirs = seeded(name), facexlibs(name)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0)) * 60
    with torch.inference_mode():
        answers, reference = ours(x), theirs(x)
    assert torch.allclose(answers[0], reference[0], atol=1e-4)
    assert torch.allclose(answers[1], reference[1][..., 1], atol=1e-5)
    assert torch.allclose(answers[2], reference[2], atol=1e-4)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return seeded()


@pytest.fixture(scope="module")
def checkpoint(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("retinaface") / "seeded.pth"
    torch.save({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, path)  # as published
    return path


@pytest.fixture
def unsure(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> float:
    """Let some dozen places of noise pass as faces of a network that never saw one."""
    noise = torch.from_numpy(np.random.default_rng(7).integers(0, 256, (1, 3, 320, 320))).float() - 114
    with torch.inference_mode():
        scores = network(noise)[1][0]
    confidence = float(scores.quantile(0.98))
    monkeypatch.setattr(retinaface, "CONFIDENCE", confidence)
    monkeypatch.setattr(retinaface, "OVERLAP", 1.0)  # of two that are as sure but for rounding, either would go
    return confidence


def opened(path: Path, name: str = SMALL) -> RetinaFace:
    return RetinaFace(name, WeightsFile(path, "file", "?"), device="cpu")


@pytest.mark.parametrize("name", DETECTORS)
def test_the_networks_are_those_that_the_published_weights_are_for(name: str) -> None:
    state = retinaface._network(name).state_dict()
    shapes = sorted((key, tuple(tensor.shape)) for key, tensor in state.items())
    assert (len(shapes), hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]) == SHAPES[name]
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert 150 < (RELEASES[name].size - size) / len(shapes) < 300  # bytes that torch.save adds for each tensor


def test_what_facexlib_finds_in_one_picture_is_what_is_found_here(
    network: nn.Module, checkpoint: Path, unsure: float
) -> None:
    picture = np.random.default_rng(7).integers(
        0, 256, (SIDES[0], SIDES[0], 3), dtype=np.uint8
    )  # shown at its own size
    generator = torch.get_rng_state()
    detector = opened(checkpoint)
    (found,) = detector.detect([picture])
    assert torch.equal(generator, torch.get_rng_state())
    theirs = facexlibs(SMALL)
    theirs.load_state_dict(network.state_dict())
    with torch.inference_mode():
        reference = theirs.detect_faces(picture[..., ::-1].copy(), unsure, 1.0)
    assert len(found.boxes) == len(reference) > 50
    ours = np.concatenate([found.boxes, found.points.reshape(-1, 10)], 1)
    theirs = np.delete(reference, 4, 1)
    apart = abs(ours[:, None] - theirs).max(2).min(1)
    assert apart.max() < 0.01


@pytest.mark.usefixtures("unsure")
def test_what_is_found_does_not_depend_on_the_other_pictures(checkpoint: Path) -> None:
    detector = opened(checkpoint)
    rng = np.random.default_rng(8)
    pictures = [rng.integers(0, 256, (90 + index, 110, 3), dtype=np.uint8) for index in range(6)]
    pictures.insert(2, rng.integers(0, 256, (400, 410, 3), dtype=np.uint8))
    together = detector.detect(pictures)
    assert any(len(faces.boxes) for faces in together)
    for index in (0, 2, 5):
        (alone,) = detector.detect([pictures[index]])
        np.testing.assert_array_equal(alone.boxes, together[index].boxes)
        np.testing.assert_array_equal(alone.points, together[index].points)


class Red(nn.Module):
    """Finds the reddest pixel of a canvas, where the picture on it is as large as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.finds: set[int] | None = None
        self.batches: list[tuple[int, int]] = []  # size of the canvas, pictures

    def batched_detect_faces(
        self, frames: NDArray[np.float32], confidence: float, overlap: float
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        assert (confidence, overlap) == (0.8, 0.4)
        assert frames.dtype == np.float32
        count, height, width, channels = frames.shape
        assert (count, height, channels) == (4, width, 3)
        boxes, points = [], []
        used = 0
        for frame in frames:
            shown = (frame != (104, 117, 123)).any(-1)  # blue is first
            used += shown.any()
            longer = max(shown.any(0).sum(), shown.any(1).sum())
            if not longer or (self.finds is not None and longer not in self.finds):
                boxes.append(np.array([], dtype=np.float32))
                points.append(np.array([], dtype=np.float32))
                continue
            reddest = frame[..., 2] - frame[..., 0]
            y, x = (found.mean() for found in np.nonzero(reddest > reddest.max() / 2))
            spot = np.array([x + 0.5, y + 0.5], dtype=np.float32)
            boxes.append(np.array([[*(spot - 30), *(spot + 30), 0.9]], dtype=np.float32))
            points.append((spot + np.arange(5)[:, None] / 1000).reshape(1, 10).astype(np.float32))
        self.batches.append((width, used))
        return boxes, points


@pytest.fixture
def red(monkeypatch: pytest.MonkeyPatch) -> tuple[RetinaFace, Red]:
    stand_in = Red()
    detector = RetinaFace(SMALL, WeightsFile(Path("absent"), "file", "?"), device="cpu")
    monkeypatch.setattr(retinaface, "_opened", lambda *_: stand_in)
    return detector, stand_in


def dotted(width: int, height: int, x: int, y: int) -> NDArray[np.uint8]:
    """Return a grey picture with a red square around the pixel at x and y."""
    picture = np.full((height, width, 3), 90, dtype=np.uint8)
    reach = max(width, height) // 60
    picture[y - reach : y + reach + 1, x - reach : x + reach + 1] = (255, 0, 0)
    return picture


SIZES = [(300, 200, 40, 30), (97, 1300, 50, 1200), (30, 30, 20, 11), (641, 640, 600, 620), (2000, 1500, 100, 1400)]
SHOWN = [320, 640, 320, 640, 640]


def test_points_lead_back_into_the_picture(red: tuple[RetinaFace, Red]) -> None:
    detector, stand_in = red
    found = detector.detect([dotted(*size) for size in SIZES])
    assert stand_in.batches == [(320, 2), (640, 3)]
    for (width, height, x, y), side, faces in zip(SIZES, SHOWN, found, strict=True):
        scale = max(width, height) / side
        np.testing.assert_allclose(faces.points, np.tile([x + 0.5, y + 0.5], (1, 5, 1)), atol=0.1 + 0.3 * scale)
        np.testing.assert_allclose(faces.boxes[0, 2:] - faces.boxes[0, :2], 60 * scale, rtol=0.03)
        middle = (faces.boxes[0, 2:] + faces.boxes[0, :2]) / 2
        np.testing.assert_allclose(middle, faces.points[0, 0], atol=1e-3)


def test_a_picture_without_a_face_is_looked_at_again_in_another_size(red: tuple[RetinaFace, Red]) -> None:
    detector, stand_in = red
    pictures = [dotted(200, 200, 150, 60), dotted(900, 600, 150, 60), dotted(400, 90, 150, 60)]
    for finds, which in (({320}, [0]), ({640}, [1]), ({400}, [2])):
        stand_in.finds, stand_in.batches = finds, []
        found = detector.detect([*pictures, *pictures[:2]])
        again = [index for index, faces in enumerate(found) if len(faces.boxes)]
        seconds = {0: 640, 1: 320, 2: 640}
        expected = [0, 1, 2, 0, 1]
        assert again == [at for at, kind in enumerate(expected) if kind in which or seconds[kind] in finds]
        for at in again:
            np.testing.assert_allclose(found[at].points[0, 0], (150.5, 60.5), atol=1)
    stand_in.finds = set()
    found = detector.detect(pictures)
    assert [len(faces.boxes) for faces in found] == [0, 0, 0]
    assert (found[0].boxes.shape, found[0].points.shape) == ((0, 4), (0, 5, 2))
    assert detector.detect([]) == []
    assert detector.detect([np.zeros((1, 3000, 3), dtype=np.uint8)])[0].boxes.shape == (0, 4)


def test_no_numbers_are_no_faces(red: tuple[RetinaFace, Red], monkeypatch: pytest.MonkeyPatch) -> None:
    detector, stand_in = red
    box = np.array([[10, 10, 90, 90, 0.9]] * 4, dtype=np.float32)
    five = np.arange(40, dtype=np.float32).reshape(4, 10)
    box[0, 2], five[1, 3], five[2] = np.nan, np.inf, 7
    monkeypatch.setattr(stand_in, "batched_detect_faces", lambda *_: ([box] * 4, [five] * 4))
    (found,) = detector.detect([np.zeros((320, 320, 3), dtype=np.uint8)])
    np.testing.assert_array_equal(found.points, five[3:].reshape(1, 5, 2))
    np.testing.assert_array_equal(found.boxes, box[3:, :4])


def test_weights_of_other_networks_end_in_one_line(network: nn.Module, checkpoint: Path, tmp_path: Path) -> None:
    blank = np.zeros((8, 8, 3), dtype=np.uint8)
    text = refusal(lambda: opened(checkpoint, "retinaface-resnet50").detect([blank]))
    assert text.startswith(f"{checkpoint}: does not fit the network")
    assert "give facexlib's detection_Resnet50_Final.pth" in text
    torch.save({"conv.weight": torch.ones(1)}, path := tmp_path / "other.pth")
    assert "does not fit the network" in refusal(lambda: opened(path).detect([blank]))
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch sprung'\ntR.")
    assert "not a file of plain tensors" in refusal(lambda: opened(path).detect([blank]))


def test_a_face_is_found_without_opencv_facexlib_and_torchvision(checkpoint: Path) -> None:
    program = (
        "import sys, numpy, pathlib; from fer_cli.faces.retinaface import RetinaFace; "
        "from fer_cli.weights.files import WeightsFile; "
        f"detector = RetinaFace({SMALL!r}, WeightsFile(pathlib.Path({str(checkpoint)!r}), 'file', '?'), device='cpu'); "
        "detector.detect([numpy.zeros((8, 8, 3), numpy.uint8)]); "
        "print(sorted({'cv2', 'facexlib', 'torchvision', 'timm', 'torch'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['torch']"


def test_where_weights_came_from_does_not_decide_what_is_made(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes(checkpoint.read_bytes())
    one, other = opened(checkpoint), RetinaFace(SMALL, WeightsFile(copy, "$FER_WEIGHTS", "?"))
    assert one.record() == other.record()
    assert one.record()["weights"] == one.provenance()["sha256"] == sha(checkpoint)
    assert one.provenance()["source"] != other.provenance()["source"]


def test_which_detector_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    releases = {}
    for name in DETECTORS:
        path = folder / f"{name}.pth"
        path.write_bytes(name.encode())
        releases[name] = Release(path.name, f"https://example.org/{path.name}", path.stat().st_size, sha(path), "toys")
    monkeypatch.setattr(retinaface, "RELEASES", releases)
    assert find_detector("auto") is None
    assert "$HF_HUB_OFFLINE forbids downloading it" in refusal(lambda: find_detector(SMALL))
    monkeypatch.setenv("FER_WEIGHTS", str(folder))
    best = WeightsFile(folder / "retinaface-resnet50.pth", "$FER_WEIGHTS", "toys", "folder")
    assert find_detector("auto") == ("retinaface-resnet50", best)
    best.path.unlink()
    small = WeightsFile(folder / f"{SMALL}.pth", "$FER_WEIGHTS", "toys", "folder")
    assert find_detector("auto") == find_detector(SMALL) == (SMALL, small)
    other = tmp_path / "other.pth"
    other.write_bytes(b"other")
    text = refusal(lambda: find_detector(SMALL, str(other)))
    assert text.startswith(f"{other}: its sha256 is {sha(other)[:16]}, expected {releases[SMALL].sha256[:16]}")
    assert find_detector(SMALL, str(other), sha(other)) == (SMALL, WeightsFile(other, "file", "unknown"))
    small.path.write_bytes(b"damaged")
    with pytest.raises(FerError, match="its sha256 is"):
        find_detector("auto")


REAL = os.environ.get("FER_TEST_WEIGHTS", "")
THERE = [name for name in DETECTORS if REAL and (Path(REAL) / RELEASES[name].file).is_file()]


@pytest.mark.skipif(not THERE, reason="FER_TEST_WEIGHTS names no folder with a published detector")
@pytest.mark.parametrize("name", THERE)
def test_the_published_weights_find_drawn_faces_turned_and_far(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_WEIGHTS", REAL)
    drawn = Synth(images=49, subjects=7, size=160, imbalance=1, contempt=False, grey=False, jobs=1, seed=0)
    blocks = list(drawn.blocks())
    faces = np.concatenate([block.images for block in blocks])[::3][:14]
    masks = np.concatenate([block.masks for block in blocks if block.masks is not None])[::3][:14]
    stills, eyes = [], []
    for index, (face, mask) in enumerate(zip(faces, masks, strict=True)):
        degrees = -35 + 5 * index
        still = Image.new("RGB", (480, 400), (90, 110, 130))
        alpha = Image.new("L", (160, 160), 255).rotate(degrees, expand=True)
        turned = Image.fromarray(face).rotate(degrees, Image.Resampling.BICUBIC, expand=True)
        left, top = 10 + 12 * index, 8 * index
        still.paste(turned, (left, top), alpha)
        stills.append(np.asarray(still))
        rows, columns = np.nonzero(mask == REGIONS.index("eye"))
        middle = complex(columns.mean() + 0.5, rows.mean() + 0.5) - (80 + 80j)  # between the eyes
        eyes.append(
            middle * np.exp(-1j * np.deg2rad(degrees)) + complex(left + turned.width / 2, top + turned.height / 2)
        )
    aligner = open_aligner(size=112, detector=name)
    assert aligner is not None
    found = aligner.detector.detect(stills)
    taken = aligner.take([*stills, np.full((200, 300, 3), 90, dtype=np.uint8)])
    assert [one.flags for one in taken] == [()] * 14 + [(NO_FACE,)]
    again = aligner.detector.detect([one.pixels for one in taken[:14] if one.pixels is not None])
    for faces_there, middle, upright in zip(found, eyes, again, strict=True):
        left_eye, right_eye = faces_there.points[0, :2] @ (1, 1j)
        assert abs((left_eye + right_eye) / 2 - middle) < 0.35 * abs(right_eye - left_eye)
        eye_line = upright.points[0, 1] - upright.points[0, 0]
        assert abs(np.rad2deg(np.arctan2(eye_line[1], eye_line[0]))) < 7
        assert np.hypot(*eye_line) == pytest.approx(0.32 * 112, rel=0.15)
