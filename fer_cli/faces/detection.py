"""Faces found in an image, and which of them is the one that the image shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

TINY: Final = 24.0
"""A face whose box is less than this on its longer side, in the image's own pixels, shows no expression."""


@dataclass(frozen=True, slots=True)
class Faces:
    """The k faces of one image, in its pixels; positions are continuous, the first pixel reaches from 0 to 1.

    ``boxes`` (k, 4) holds left, top, right, bottom. ``points`` (k, 5, 2) holds x and y of the eye on the image's
    left, the eye on its right, the tip of the nose, and the corners of the mouth on the left and on the right.
    ``scores`` (k,) is how sure the detector is, of 1.
    """

    boxes: NDArray[np.float64]
    points: NDArray[np.float64]
    scores: NDArray[np.float64]


class Detector(Protocol):
    """Finds faces and their five points."""

    def record(self) -> dict[str, Any]:
        """Return what decides its answers, as plain JSON values: its name as ``detector``, its ``weights``' hash ..."""

    def provenance(self) -> dict[str, Any]:
        """Return what is told of its weights: where they are from, what they were trained on."""

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Faces]:
        """Return the faces of RGB images (H, W, 3), each of its own size, the surest first."""


def large_enough(faces: Faces) -> NDArray[np.bool_]:
    """Tell of each face (k,) whether it is not tiny."""
    sides: NDArray[np.float64] = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1, initial=0)
    return sides >= TINY


def main_face(faces: Faces, width: int, height: int) -> int | None:
    """Return which face an image of that size shows: the largest, weighted by how central it is.

    The weight is the area of the box times one less the distance of its centre from the image's, which is 0 there
    and 1 in a corner. Tiny faces do not count; None where there are no others.
    """
    counted = large_enough(faces)
    if not counted.any():
        return None
    extent = faces.boxes[:, 2:] - faces.boxes[:, :2]
    middle = (faces.boxes[:, 2:] + faces.boxes[:, :2]) / 2
    away = np.hypot(*(middle - (width / 2, height / 2)).T) / np.hypot(width / 2, height / 2)
    weight = extent.prod(1) * np.maximum(1 - away, 0)
    return int(np.argmax(np.where(counted, weight, -1.0)))
