"""The faces of a photo, each brought to where a model expects it, and what speaks against trusting it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import note, warn
from fer_cli.faces.alignment import align, centre, look_again
from fer_cli.faces.detection import TINY, Detector
from fer_cli.prediction.model import CropForm, toned

if TYPE_CHECKING:
    from fer_cli.weights.files import WeightsFile

NO_FACE: Final = "no-face"
NO_DETECTOR: Final = "no-detector"
SMALL: Final = "small"
BLURRED: Final = "blurred"
CUT_OFF: Final = "cut-off"
FLAGS: Final = {
    NO_FACE: "no face was found: there is no prediction",
    NO_DETECTOR: "no face detector's weights are on this machine: the whole image was taken as one face",
    SMALL: f"the face is smaller than {TINY:.0f} px, or than half the images that the model was trained on",
    BLURRED: "the face has few fine details, as out of focus, in motion or much compressed",
    CUT_OFF: "a tenth or more of the face's box lies outside the image",
}
"""Every flag of a face, and what it means."""

Mode = Literal["auto", "detect", "whole"]
FETCHED: Final = "retinaface-mobile0.25"
"""The detector that is fetched where none is here."""
_SIDE: Final = 112  # of crops for a model that takes any
_LOOKED_AT: Final = 96  # px of a face at most, to tell how sharp it is
SHARP: Final = 1.5
"""The least :func:`sharpness` of a face that is not blurred.

Of 80 faces of CelebAMask-HQ all have more (the lowest 1% 2.8), JPEG of quality 20 changes nothing, with a Gaussian blur
of 1% of the face's longer side a quarter have less, of 2% nearly all.
"""


@dataclass(frozen=True, slots=True)
class Face:
    """A face of a photo.

    Args:
        crop: uint8 (S, S) or (S, S, 3), as the model takes it.
        box: left, top, right, bottom in the photo's pixels; None where the whole photo was taken.
        score: how sure the detector is, of 1; None likewise.
        flags: keys of :data:`FLAGS`.
    """

    crop: NDArray[np.uint8]
    box: tuple[float, float, float, float] | None
    score: float | None
    flags: tuple[str, ...]


class FaceFinder(Protocol):
    """Finds faces."""

    def find(self, photos: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return the faces of RGB photos (H, W, 3), each of its own size, from left to right."""


class WholePhotos:
    """Takes each photo as one face crop.

    Args:
        crops: what the model takes.
        flags: of every face.
    """

    def __init__(self, crops: CropForm, flags: tuple[str, ...] = ()) -> None:
        self._crops, self._flags = crops, flags

    def find(self, photos: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return one face a photo: its largest square, scaled to the model's images."""
        return [[self._face(photo)] for photo in photos]

    def _face(self, photo: NDArray[np.uint8]) -> Face:
        side = self._crops.side or _SIDE
        # A crop that is as the model's images are is not touched: it is scored as ``fer eval`` would score it.
        pixels = photo if photo.shape[:2] == (side, side) else centre(photo, side)
        shortest = float(min(photo.shape[:2]))
        flags = quality(centre(photo, _looked_at(shortest)), shortest, side)
        return Face(toned(pixels, self._crops), None, None, (*self._flags, *flags))


class DetectedFaces:
    """Finds faces by a detector and aligns them.

    Args:
        detector: finds them.
        crops: what the model takes.
        least: score of a detection that counts.
    """

    def __init__(self, detector: Detector, crops: CropForm, least: float = 0.0) -> None:
        self._detector, self._crops, self._least = detector, crops, least

    def find(self, photos: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return the faces of each photo; none where none is found."""
        seen = self._detector.detect(photos)
        kept = [
            (at, *found)
            for at, faces in enumerate(seen)
            for found in zip(faces.boxes, faces.points, faces.scores, strict=True)
            if found[2] >= self._least
        ]
        finer = look_again(self._detector, [(photos[at], points) for at, _, points, _ in kept])
        faces: list[list[Face]] = [[] for _ in photos]
        for (at, box, _, score), points in zip(kept, finer, strict=True):
            faces[at].append(self._face(photos[at], box, points, float(score)))
        return [sorted(of, key=lambda face: face.box or ()) for of in faces]

    def _face(
        self, photo: NDArray[np.uint8], box: NDArray[np.float64], points: NDArray[np.float64], score: float
    ) -> Face:
        side = self._crops.side or _SIDE
        pixels = align(photo, points, side, self._crops.points)
        left, top, right, bottom = (float(edge) for edge in box)
        shortest = min(right - left, bottom - top)
        flags = quality(align(photo, points, _looked_at(shortest)), shortest, side)
        height, width = photo.shape[:2]
        inside = max(0.0, min(right, width) - max(left, 0)) * max(0.0, min(bottom, height) - max(top, 0))
        if inside <= 0.9 * (right - left) * (bottom - top):
            flags = (*flags, CUT_OFF)
        return Face(toned(pixels, self._crops), (left, top, right, bottom), score, flags)


def open_finder(
    mode: Mode, crops: CropForm, *, detector: str, weights: str | None, sha256: str | None, device: str, least: float
) -> FaceFinder:
    """Return what finds faces, and say so where nothing can.

    Args:
        mode: ``whole``, ``detect``, or ``auto``: detect, and whole photos where no detector can be had.
        crops: what the model takes.
        detector: a name of :data:`fer_cli.faces.retinaface.DETECTORS`, or auto.
        weights: a file with its weights.
        sha256: hash to expect of it.
        device: auto, or torch's name of it.
        least: score of a detection that counts.

    Raises:
        FerError: a detector that was asked for cannot be had.
        UsageError: an option is unknown, or has no effect.
    """
    if mode == "whole":
        if detector != "auto" or weights is not None or sha256 is not None:
            raise UsageError("--faces whole looks for no faces", hint="leave --detector and its weights out")
        return WholePhotos(crops)
    from fer_cli.faces.retinaface import SIDES_OF_PHOTOS, RetinaFace, find_detector

    try:
        found = _exported(weights, sha256) or find_detector(detector, weights, sha256)
        if found is None:
            note(f"no face detector's weights are here: fetching {FETCHED} to find faces; --faces whole needs none")
            found = find_detector(FETCHED)
    except UsageError:
        raise
    except FerError as error:
        if mode == "detect" or detector != "auto" or weights is not None:
            raise
        warn(f"{error.what}: each image is taken as one face crop; run 'fer weights fetch {FETCHED}'")
        found = None
    if found is None:
        return WholePhotos(crops, (NO_DETECTOR,))
    return DetectedFaces(RetinaFace(*found, device=device, sides=SIDES_OF_PHOTOS, batch=1), crops, least)


def _exported(weights: str | None, sha256: str | None) -> tuple[str, WeightsFile] | None:
    """Return a detector that ``fer export`` wrote as ONNX, which says itself which one it is; None of other files.

    Raises:
        FerError: it is no such file, or has another hash.
    """
    if weights is None or Path(weights).suffix.lower() != ".onnx":
        return None
    from fer_cli.faces.retinaface_onnx import open_network
    from fer_cli.weights.files import UNKNOWN, WeightsFile

    file = WeightsFile(Path(weights), "file", UNKNOWN)
    name = open_network(file.path).record.detector
    if sha256 is not None and (found := file.sha256()) != sha256.lower():
        raise FerError(f"its sha256 is {found[:16]}, expected {sha256[:16].lower()}", hint="get it again", path=weights)
    return name, file


def quality(seen: NDArray[np.uint8], shortest: float, side: int) -> tuple[str, ...]:
    """Return the flags of a face by its size and its sharpness.

    Args:
        seen: the face (s, s, 3), no larger than it is in the photo.
        shortest: its shorter side in the photo, px.
        side: of the model's images, px.
    """
    if shortest < max(TINY, side / 2):
        return (SMALL,)
    return (BLURRED,) if sharpness(seen) < SHARP else ()


def sharpness(pixels: NDArray[np.uint8]) -> float:
    """Return how much fine detail a face (s, s, 3) has: ten times its Laplacian's standard deviation by its own."""
    grey = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float64)
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return float(10 * laplacian.std() / max(1.0, grey.std()))


def _looked_at(shortest: float) -> int:
    """Return at which side a face is looked at to tell how sharp it is: enlarged, it would seem blurred."""
    return int(min(max(shortest, TINY), _LOOKED_AT))
