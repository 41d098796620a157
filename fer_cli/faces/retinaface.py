"""RetinaFace (Deng et al. 2020): finds faces in whole images, with five points of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_cli.artifacts.atomic_io import sha256_file
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.machine import device_name
from fer_cli.faces.detection import Faces
from fer_cli.weights.download import RELEASES, find_release
from fer_cli.weights.files import WeightsFile, load_strictly, load_tensors

if TYPE_CHECKING:
    from fer_cli.faces.retinaface_network import RetinaFaceNetwork

DETECTORS: Final = ("retinaface-resnet50", "retinaface-mobile0.25")
"""The better first."""
SIDES: Final = (320, 640)
"""Between which the longer side of an image is brought, in pixels: a face that fills it is not enlarged in vain."""
SIDES_OF_PHOTOS: Final = (320, 640, 1280)
"""The same of photos in which many small faces may stand."""
CONFIDENCE: Final = 0.8
"""What the network must give a face, of 1."""
OVERLAP: Final = 0.4
"""Boxes whose intersection is more than this share of their union are of one face."""
_BATCH: Final = 4
_GREY: Final = (123, 117, 104)  # what the network subtracts: nothing is there


def find_detector(name: str, weights: str | None = None, sha256: str | None = None) -> tuple[str, WeightsFile] | None:
    """Return a detector's name and its weights.

    Args:
        name: one of :data:`DETECTORS`, fetched where its weights are not here; or ``auto``, the first whose weights
            are here, and None where none are: nothing is fetched.
        weights: path of a file to take instead.
        sha256: hash to expect instead of the published one.

    Raises:
        UsageError: nobody knows the name, or ``auto`` comes with a file that is none of the published ones.
        FerError: the weights have another hash, or cannot be fetched.
    """
    if name != "auto":
        if name not in DETECTORS:
            raise UsageError(f"--detector {name!r} is unknown", hint=f"take auto, {' or '.join(DETECTORS)}")
        found = find_release(RELEASES[name], weights, sha256, fetch=True)
        assert found is not None, "fetched or refused"
        return name, found
    if weights is not None or sha256 is not None:
        if weights is not None and not Path(weights).is_file():
            raise FerError("no such file", hint="give a detector's weights", path=weights)
        digest = None if weights is None else sha256_file(Path(weights))
        for known in DETECTORS:
            if digest == RELEASES[known].sha256:
                return find_detector(known, weights, sha256)
        what = "a file of weights does not say which detector it belongs to, and this is none of the published ones"
        raise UsageError(what, hint=f"add --detector {' or '.join(DETECTORS)}")
    for known in DETECTORS:
        if (here := find_release(RELEASES[known], None, None, fetch=False)) is not None:
            return known, here
    return None


class RetinaFace:
    """A network of RetinaFace's, opened when the first image comes.

    Args:
        name: one of :data:`DETECTORS`.
        weights: whose hash is checked already (:func:`find_detector`).
        device: ``auto``, or torch's name of the device.
        sides: of the canvases, in pixels, in rising order; the longer side of an image is brought between the first
            and the last.
        batch: canvases that are seen at once, always so many.
    """

    def __init__(
        self,
        name: str,
        weights: WeightsFile,
        *,
        device: str = "auto",
        sides: Sequence[int] = SIDES,
        batch: int = _BATCH,
    ) -> None:
        self.name = name
        self.weights = weights
        self._device = device
        self._sides, self._batch = sides, batch
        self._network: Network | None = None

    def record(self) -> dict[str, Any]:
        """Return what decides its answers."""
        return {
            "detector": self.name,
            "network": 2,  # raised when its answers change, be it by rounding
            "weights": self.weights.sha256(),
            "longer_side": [self._sides[0], self._sides[-1]],
            "confidence": CONFIDENCE,
            "overlap": OVERLAP,
        }

    def provenance(self) -> dict[str, Any]:
        """Return what is told of its weights."""
        return self.weights.record().record()

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Faces]:
        """Return the faces of RGB images (H, W, 3), each of its own size, the surest first.

        Raises:
            FerError: the weights are damaged, or another network's.
        """
        found: list[Faces] = [_NONE] * len(images)
        for look in range(2):
            sides = {
                index: self._side(images[index], look) for index, faces in enumerate(found) if not len(faces.boxes)
            }
            for canvas in self._sides:
                group = [index for index, side in sides.items() if min(c for c in self._sides if c >= side) == canvas]
                for start in range(0, len(group), self._batch):
                    chunk = group[start : start + self._batch]
                    seen = self._look([images[index] for index in chunk], [sides[index] for index in chunk], canvas)
                    for index, faces in zip(chunk, seen, strict=True):
                        found[index] = faces
        return found

    def _side(self, image: NDArray[np.uint8], look: int) -> int:
        """Return how large an image is shown: at first as near to its own size as may be, then at the further end."""
        least, most = self._sides[0], self._sides[-1]
        first = min(max(*image.shape[:2], least), most)
        return first if look == 0 else least if first - least > most - first else most

    def _look(self, images: Sequence[NDArray[np.uint8]], sides: Sequence[int], canvas: int) -> Iterator[Faces]:
        """Yield the faces of at most one batch, seen with their longer sides at ``sides`` px, at most ``canvas``."""
        if self._network is None:
            self._network = _opened(self.name, self.weights, self._device)
        # Always a whole batch: an image's faces then do not depend on how many images come with it.
        canvases = np.full((self._batch, canvas, canvas, 3), _GREY, dtype=np.uint8)
        places = [_place(*each) for each in zip(images, sides, canvases, strict=False)]
        frames = canvases[..., ::-1].astype(np.float32)  # the network's colours are blue first
        boxes, points = self._network.batched_detect_faces(frames, CONFIDENCE, OVERLAP)
        for (scale, shift), box, point in zip(places, boxes, points, strict=False):
            scored = np.reshape(np.asarray(box, dtype=np.float64), (-1, 5))
            corners = scored[:, :4].reshape(-1, 2, 2)
            five = np.reshape(np.asarray(point, dtype=np.float64), (-1, 5, 2))
            # Weights of somebody's own may give no numbers, or five times the same point.
            sound = np.isfinite(corners).all((1, 2)) & np.isfinite(five).all((1, 2)) & (np.ptp(five, 1).max(1) > 0)
            yield Faces(
                ((corners[sound] - shift) * scale).reshape(-1, 4), (five[sound] - shift) * scale, scored[sound, 4]
            )


_NONE: Final = Faces(np.empty((0, 4)), np.empty((0, 5, 2)), np.empty(0))


def _place(
    image: NDArray[np.uint8], side: int, canvas: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Put an image into the middle of a canvas; return what leads back: pixels of it for one, and where it begins."""
    own = np.array(image.shape[1::-1])
    width, height = np.maximum(np.round(own * side / own.max()), 1).astype(np.int64)
    seen = Image.fromarray(image).resize((int(width), int(height)), Image.Resampling.BILINEAR)
    left, top = (np.array(canvas.shape[1::-1]) - (width, height)) // 2
    canvas[top : top + height, left : left + width] = np.asarray(seen)
    return own / (width, height), np.array([left, top])


class Network(Protocol):
    """RetinaFace's network, in torch or as an exported file."""

    def batched_detect_faces(
        self, frames: NDArray[np.float32], confidence: float, overlap: float
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return of frames (n, H, W, 3), blue first, the boxes and scores (k, 5) and the points (k, 10) of each."""


def _opened(name: str, weights: WeightsFile, device: str) -> Network:
    if weights.path.suffix.lower() == ".onnx":
        from fer_cli.faces.retinaface_onnx import open_network

        return open_network(weights.path)
    return open_torch(name, weights, device)


def open_torch(name: str, weights: WeightsFile, device: str) -> RetinaFaceNetwork:
    """Open the network of a detector in torch.

    Raises:
        FerError: the weights are damaged, or another network's.
    """
    import torch

    tensors = load_tensors(weights)
    network = _network(name)
    hint = f"give facexlib's {RELEASES[name].file}, or other weights of the same network"
    load_strictly(network, tensors, weights.path, hint=hint)
    return network.eval().requires_grad_(False).to(device_name(device)).to(memory_format=torch.channels_last)


def _network(name: str) -> RetinaFaceNetwork:
    import torch

    from fer_cli.faces.retinaface_network import RetinaFaceNetwork

    with torch.random.fork_rng(devices=[]):  # it initialises itself, in vain
        return RetinaFaceNetwork(name.removeprefix("retinaface-"))
