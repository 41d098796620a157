"""Images with five bright spots at known places, and detectors that need no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_cli.faces.alignment import TEMPLATE
from fer_cli.faces.detection import Faces

NONE = Faces(np.empty((0, 4)), np.empty((0, 5, 2)), np.empty(0))


def turned(degrees: float, scale: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    """Return where the template's points (5, 2) lie once it is ``scale`` px large, turned and its middle shifted."""
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points: NDArray[np.float64] = (TEMPLATE - 0.5) * scale @ rotation.T + shift
    return points


def spots(points: NDArray[np.float64], width: int, height: int, radius: float) -> NDArray[np.uint8]:
    """Return an image (height, width, 3), dark with a soft white spot at each point; a pixel's middle is at .5."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    bright = np.zeros((height, width))
    for px, py in points:
        bright += np.exp(-((x - px) ** 2) / (2 * radius**2)) * np.exp(-((y - py) ** 2) / (2 * radius**2))[:, None]
    return np.repeat(np.round(20 + 200 * np.minimum(bright, 1)).astype(np.uint8)[..., None], 3, axis=2)


def one_face(points: NDArray[np.float64]) -> Faces:
    """Return a face with the box around its points, twice as large."""
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, high - low
    return Faces(np.concatenate([middle - half, middle + half])[None], points[None], np.ones(1))


def faces_at(*boxes: tuple[float, float, float, float]) -> Faces:
    """Return faces that fill boxes of left, top, right, bottom as the template fills its square."""
    corners = np.array(boxes, dtype=np.float64)
    points = corners[:, None, :2] + TEMPLATE * (corners[:, None, 2:] - corners[:, None, :2])
    return Faces(corners, points, np.ones(len(corners)))


class ReportExtras:
    """Finds in each image what a function of its pixels says."""

    def __init__(self, answer: Callable[[NDArray[np.uint8]], Faces]) -> None:
        self.answer = answer
        self.asked: list[tuple[int, ...]] = []

    def record(self) -> dict[str, Any]:
        return {"detector": "told", "weights": "0" * 64}

    def provenance(self) -> dict[str, Any]:
        return {"source": "a test", "sha256": "0" * 64}

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Faces]:
        self.asked.append(tuple(len(image) for image in images))
        return [self.answer(image) for image in images]


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
