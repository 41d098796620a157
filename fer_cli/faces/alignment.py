"""Bringing faces to one place and size: five points of each to those of a template, by a similarity transform."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_cli.core.errors import UsageError
from fer_cli.core.progress import note
from fer_cli.faces.detection import TINY, Detector, Faces, large_enough, main_face
from fer_cli.faces.retinaface import RetinaFace, find_detector

NO_FACE: Final = "no-face"
TINY_FACE: Final = "tiny-face"
SEVERAL: Final = "several-faces"
FLAGS: Final = {
    NO_FACE: "the detector finds no face",
    TINY_FACE: f"no face of {TINY:.0f} px or more is found, only smaller ones",
    SEVERAL: "several faces are found: the largest was taken, weighted by how central it is",
}
"""What the index says of an image."""
WITHOUT: Final = ("centre", "drop")
"""What becomes of an image without a face, or with none that is large enough."""

TEMPLATE: Final = np.array(
    [[0.340, 0.375], [0.660, 0.375], [0.500, 0.577], [0.358, 0.708], [0.642, 0.708]], dtype=np.float64
)
"""Where the five points go, as shares of the side: an upright face from the hairline to below the chin.

The proportions are RetinaFace's mean over 100 faces of CelebAMask-HQ. The template that face recognition uses at
112 px (Deng et al. 2019, ArcFace) has the eyes as far apart, at 0.46 of the height: it cuts chins, and they move.
"""


_NEAR: Final = 320
_NEAR_TEMPLATE: Final = (TEMPLATE - 0.5) * 0.6 + 0.5  # a face of about 170 px with its surroundings


def similarity(points: NDArray[np.float64], targets: NDArray[np.float64]) -> tuple[complex, complex]:
    """Return a and b of the similarity transform z -> a z + b, with x + iy for a point, that fits best.

    The least squares over rotation, scale and shift, without reflection (Umeyama 1991), are linear in complex numbers.

    Args:
        points: (k, 2), not all the same.
        targets: (k, 2), where they should come to lie.
    """
    z, w = points @ (1, 1j), targets @ (1, 1j)
    centred = z - z.mean()
    a = np.vdot(centred, w - w.mean()) / np.vdot(centred, centred).real
    return complex(a), complex(w.mean() - a * z.mean())


def align(
    image: NDArray[np.uint8],
    points: NDArray[np.float64],
    size: int,
    template: NDArray[np.float64] = TEMPLATE,
) -> NDArray[np.uint8]:
    """Return the face (size, size, 3) of an RGB image (H, W, 3) whose five points (5, 2) come to the template's.

    The template (5, 2) is in shares of the side. Bicubic; where the face shrinks, it is drawn larger by a whole factor
    and then scaled down, so that nothing is skipped. What lies outside of the image is black.
    """
    a, b = similarity(points, template * size)
    most = math.isqrt(2 * image.shape[0] * image.shape[1]) // size + 1  # a face beyond that is hardly in it
    factor = max(1, min(math.ceil(1 / abs(a)), most))
    back = 1 / (a * factor)
    shift = -b / a
    matrix = (back.real, -back.imag, shift.real, back.imag, back.real, shift.imag)
    side = size * factor
    source = Image.fromarray(image)
    drawn = source.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return np.asarray(drawn if factor == 1 else drawn.resize((size, size), Image.Resampling.BICUBIC))


def centre(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the largest square in the middle of an RGB image (H, W, 3), resized to (size, size, 3)."""
    height, width = image.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box))


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an image: its pixels (size, size, 3), None where it is dropped, and its flags."""

    pixels: NDArray[np.uint8] | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Aligner:
    """A detector, and what is done with the faces that it finds.

    Args:
        detector: finds faces and their five points.
        size: side of the square that comes out, in pixels.
        without: what becomes of an image without a face, one of :data:`WITHOUT`. ``centre`` keeps the largest square
            in its middle: a test set that loses what a detector does not see becomes easier, and another one.
    """

    detector: Detector
    size: int
    without: str = "centre"

    def record(self) -> dict[str, Any]:
        """Return what decides the pixels that come out, as plain JSON values."""
        return {
            **self.detector.record(),
            "size": self.size,
            "template": TEMPLATE.tolist(),
            "transform": "similarity, least squares of five points; bicubic, antialiased, black outside",
            "points": "looked for again where the face is upright and near",
            "face": "the largest box, weighted by one less its centre's distance from the picture's",
            "tiny": f"below {TINY:.0f} px on the longer side: does not count",
            "no_face": self.without,
        }

    def take(self, images: Sequence[NDArray[np.uint8]]) -> list[Taken]:
        """Align RGB images (H, W, 3), each of its own size.

        The points of the face are looked for again where it stands upright and is as large as the detector sees best.
        """
        detections = self.detector.detect(images)
        chosen = [main_face(faces, *image.shape[1::-1]) for image, faces in zip(images, detections, strict=True)]
        points = {at: detections[at].points[face] for at, face in enumerate(chosen) if face is not None}
        finer = look_again(self.detector, [(images[at], five) for at, five in points.items()])
        points = dict(zip(points, finer, strict=True))
        return [
            self._missed(image, faces)
            if at not in points
            else Taken(align(image, points[at], self.size), (SEVERAL,) if large_enough(faces).sum() > 1 else ())
            for at, (image, faces) in enumerate(zip(images, detections, strict=True))
        ]

    def _missed(self, image: NDArray[np.uint8], faces: Faces) -> Taken:
        flag = TINY_FACE if len(faces.boxes) else NO_FACE
        return Taken(None if self.without == "drop" else centre(image, self.size), (flag,))


def look_again(
    detector: Detector, faces: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]]
) -> list[NDArray[np.float64]]:
    """Return the points (5, 2) of faces as the detector sees them where each stands upright and near.

    Args:
        detector: that found them.
        faces: the RGB image (H, W, 3) of each, and the points (5, 2) where it was found.
    """
    upright = [align(image, five, _NEAR, _NEAR_TEMPLATE) for image, five in faces]
    return [_finer(five, again) for (_, five), again in zip(faces, detector.detect(upright), strict=True)]


def _finer(points: NDArray[np.float64], again: Faces) -> NDArray[np.float64]:
    """Return the points (5, 2) in the image of the face that was found upright; the old ones where it was not.

    Larger neighbours may be there too: it is the face that lies where it should, to less than the eyes' distance.
    """
    targets = _NEAR_TEMPLATE * _NEAR
    away = np.hypot(*np.moveaxis(again.points - targets, 2, 0)).mean(1)
    if not (away < targets[1, 0] - targets[0, 0]).any():
        return points
    a, b = similarity(points, targets)
    finer = (again.points[int(away.argmin())] @ (1, 1j) - b) / a
    return np.stack([finer.real, finer.imag], 1)


def open_aligner(
    *,
    size: int,
    detector: str = "auto",
    weights: str | None = None,
    sha256: str | None = None,
    without: str = "centre",
    device: str = "auto",
) -> Aligner | None:
    """Return the aligner, and say which detector it uses; None where ``auto`` finds no weights on this machine.

    Args:
        size: side of the square that comes out, in pixels.
        detector: one of :data:`fer_cli.faces.retinaface.DETECTORS`, fetched where its weights are not here, or
            ``auto``, which fetches nothing.
        weights: path of a file of weights to take instead.
        sha256: hash to expect instead of the published one.
        without: one of :data:`WITHOUT`.
        device: ``auto``, or torch's name of the device.

    Raises:
        UsageError: one of the words is unknown.
        FerError: the weights have another hash, or cannot be fetched.
    """
    if without not in WITHOUT:
        raise UsageError(f"--no-face {without!r} is unknown", hint=f"take {' or '.join(WITHOUT)}")
    detection = find_detector(detector, weights, sha256)
    if detection is None:
        return None
    name, file = detection
    if detector == "auto":
        note(f"detector {name}: its weights are on this machine")
    return Aligner(RetinaFace(name, file, device=device), size, without)
