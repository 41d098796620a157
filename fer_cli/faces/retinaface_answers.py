"""What RetinaFace's network is shown and what its answers mean: the same for torch and onnxruntime."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_MEAN: Final = (104.0, 117.0, 123.0)  # blue, green, red
STRIDES: Final = (8, 16, 32)
"""Of the levels that answer, px."""
_ANCHORS: Final = ((16, 32), (64, 128), (256, 512))
"""Sides, in pixels, of the two squares at each place of a level."""
CENTRE, _SIZE = 0.1, 0.2
"""The variances by which places and sides are divided in training."""
BOX: Final = 4
POINTS: Final = 10
"""Numbers of a box, and of five points."""
Answers = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Boxes (n, a, 4), the probabilities of a face (n, a) and points (n, a, 10), all relative to anchors."""


def pixels_of(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the network takes, (n, 3, H, W), of frames (n, H, W, 3): blue, green and red from 0 to 255."""
    return np.ascontiguousarray((frames - np.array(_MEAN, dtype=np.float32)).transpose(0, 3, 1, 2))


def faces_of(
    answers: Answers, size: tuple[int, ...], confidence: float, overlap: float
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Return of each frame the boxes and scores (k, 5) and the points (k, 10) in pixels, the surest face first.

    Args:
        answers: the network's.
        size: height and width of the frames, px.
        confidence: the least score of a face.
        overlap: boxes whose intersection is more than this share of their union are of one face.
    """
    anchors = _anchors(*size)
    boxes, marks = [], []
    for place, score, point in zip(*answers, strict=True):
        sure = np.flatnonzero(score > confidence)
        sure = sure[np.argsort(-score[sure], kind="stable")]
        box = _boxes(place[sure], anchors[sure])
        kept = _apart(box, overlap)
        centre, side = anchors[sure, None, :2], anchors[sure, None, 2:]
        mark = centre + point[sure].reshape(-1, POINTS // 2, 2) * CENTRE * side
        boxes.append(np.concatenate([box, score[sure, None]], 1)[kept].astype(np.float32))
        marks.append(mark.reshape(-1, POINTS)[kept].astype(np.float32))
    return boxes, marks


def _anchors(height: int, width: int) -> NDArray[np.float64]:
    """Return the anchors (a, 4) of a frame: centre and sides, px, in the order of the network's answers."""
    levels = []
    for stride, sides in zip(STRIDES, _ANCHORS, strict=True):
        rows, columns = -(-height // stride), -(-width // stride)
        y, x, side = np.meshgrid(np.arange(rows), np.arange(columns), sides, indexing="ij")
        levels.append(np.stack([(x + 0.5) * stride, (y + 0.5) * stride, side, side], -1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float64)


def _boxes(places: NDArray[np.float32], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return left, top, right, bottom (k, 4) in pixels of what the network says relative to anchors (k, 4)."""
    centre = anchors[:, :2] + places[:, :2] * CENTRE * anchors[:, 2:]
    with np.errstate(over="ignore"):  # weights of another training: what is not finite is sorted out later
        side = anchors[:, 2:] * np.exp(places[:, 2:].astype(np.float64) * _SIZE)
    return np.concatenate([centre - side / 2, centre + side / 2], 1)


def _apart(boxes: NDArray[np.float64], overlap: float) -> list[int]:
    """Return which boxes (k, 4), in order, overlap with none that was taken before."""
    taken: list[int] = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    left = np.arange(len(boxes))
    while len(left):
        first, rest = left[0], left[1:]
        taken.append(int(first))
        with np.errstate(invalid="ignore"):
            sides = np.minimum(boxes[first, 2:], boxes[rest, 2:]) - np.maximum(boxes[first, :2], boxes[rest, :2])
            common = np.maximum(sides, 0).prod(1)
            left = rest[~(common / (areas[first] + areas[rest] - common) > overlap)]
    return taken
