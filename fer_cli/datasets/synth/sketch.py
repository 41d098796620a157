"""A flat sketch of a head: outlines that carry a depth, turned and placed in the picture all at once.

Outlines live in the face frame: x to the picture's right, y down, the origin between the ears, half a face's width as
the unit, the head a half-ellipsoid that bulges towards the viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, auto
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_cli.core.labels import REGIONS
from fer_cli.datasets.synth.parameters import Scene

Array = NDArray[np.float64]

VIEW: Final = 3.3  # what a picture's side covers at scale 1, in face units
_CENTRE_Y: Final = 0.1  # the face frame's y in the middle of the picture
_SUBDIVIDE: Final = 5  # points for each piece of a curve: a piece is at most 12 pixels long at 112
_FAINTEST: Final = 5.0  # of 255: creases below this darkness are left out


class Part(IntEnum):
    """What a supersampled pixel shows; each has one colour before shading, and one region."""

    BACKGROUND = 0
    CLOTH = auto()
    CLOTH_DARK = auto()
    NECK = auto()
    NECK_SHADOW = auto()
    EAR = auto()
    EAR_INNER = auto()
    EARRING = auto()
    SKIN = auto()
    BEARD = auto()
    BEARD_DARK = auto()
    NOSE = auto()
    NOSTRIL = auto()
    SCLERA = auto()
    SCLERA_SHADE = auto()
    CARUNCLE = auto()
    IRIS_RIM = auto()
    IRIS = auto()
    IRIS_LIGHT = auto()
    PUPIL = auto()
    GLINT = auto()
    LASH = auto()
    BROW = auto()
    LIP_UPPER = auto()
    LIP_LOWER = auto()
    LIP_SHINE = auto()
    LIP_LINE = auto()
    CAVITY = auto()
    TONGUE = auto()
    TEETH = auto()
    TEETH_LINE = auto()
    HAIR_BACK = auto()
    HAIR = auto()
    HAIR_LIGHT = auto()
    HAIR_DARK = auto()
    FRAME = auto()


_REGION_OF: Final[dict[str, tuple[Part, ...]]] = {
    "background": (Part.BACKGROUND, Part.CLOTH, Part.CLOTH_DARK),
    "skin": (Part.SKIN, Part.BEARD, Part.BEARD_DARK),
    "eye": (
        *(Part.SCLERA, Part.SCLERA_SHADE, Part.CARUNCLE, Part.IRIS_RIM, Part.IRIS, Part.IRIS_LIGHT),
        *(Part.PUPIL, Part.GLINT, Part.LASH, Part.BROW, Part.FRAME),
    ),
    "ear": (Part.EAR, Part.EAR_INNER, Part.EARRING),
    "nose": (Part.NOSE, Part.NOSTRIL),
    "mouth": (
        *(Part.LIP_UPPER, Part.LIP_LOWER, Part.LIP_SHINE, Part.LIP_LINE),
        *(Part.CAVITY, Part.TONGUE, Part.TEETH, Part.TEETH_LINE),
    ),
    "neck": (Part.NECK, Part.NECK_SHADOW),
    "hair": (Part.HAIR_BACK, Part.HAIR, Part.HAIR_LIGHT, Part.HAIR_DARK),
}
PART_REGION: Final[NDArray[np.uint8]] = np.array(
    [next(REGIONS.index(region) for region, parts in _REGION_OF.items() if part in parts) for part in Part], np.uint8
)
"""The index into ``labels.REGIONS`` of every part."""


@dataclass(frozen=True, slots=True)
class Outlines:
    """Closed outlines of one layer in pixels: point i of outline j is ``points[2*i:2*i+2]`` for i in its range."""

    points: list[float]
    ranges: list[tuple[int, int]]
    fills: list[int]


@dataclass(slots=True)
class Layer:
    """Outlines in painting order, not yet placed."""

    shapes: list[Array] = field(default_factory=list)
    onto: list[float | Array] = field(default_factory=list)
    lifts: list[float | Array] = field(default_factory=list)
    fills: list[int] = field(default_factory=list)

    def add(self, points: Array, fill: int, *, onto: float | Array = 1.0, lift: float | Array = 0.0) -> None:
        """Add a closed outline.

        Args:
            points: (n, 2) in the face frame.
            fill: a :class:`Part`, or a darkness from 0 to 255 in the layer of creases.
            onto: 1 where the outline lies on the head's surface, 0 where it lies in the plane of the ears.
            lift: how far it stands out beyond that, towards the viewer.
        """
        self.shapes.append(points)
        self.onto.append(onto)
        self.lifts.append(lift)
        self.fills.append(fill)

    def extend(self, other: Layer) -> None:
        """Add all outlines of another layer, which stays as it is."""
        self.shapes += other.shapes
        self.onto += other.onto
        self.lifts += other.lifts
        self.fills += other.fills

    def place(self, scene: Scene, pixels: int) -> Outlines:
        """Turn, roll, scale and shift all outlines into a picture of ``pixels`` squared."""
        if not self.shapes:
            return Outlines([], [], [])
        lengths = [len(shape) for shape in self.shapes]
        points = np.concatenate(self.shapes)
        depth = _spread(self.onto, lengths) * surface(points) + _spread(self.lifts, lengths)
        flat = turn(points, depth, scene)
        matrix, offset = similarity(scene, pixels)
        placed = (flat[:, :1] * matrix[:, 0] + flat[:, 1:] * matrix[:, 1] + offset).ravel().tolist()
        ends = np.cumsum([0, *lengths]) * 2
        return Outlines(placed, list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)), self.fills)


def _spread(values: list[float | Array], lengths: list[int]) -> Array:
    """Return one value a point, from one value or an array an outline."""
    spread = np.repeat([0.0 if isinstance(value, np.ndarray) else value for value in values], lengths)
    end = 0
    for value, length in zip(values, lengths, strict=True):
        end += length
        if isinstance(value, np.ndarray):
            spread[end - length : end] = value
    return spread


@dataclass(slots=True)
class Sketch:
    """A head before it is painted: parts, soft creases on the skin, the lenses of glasses, and relief.

    ``relief`` rows: x, y, depth beyond the surface, spread in x, spread in y, height, darkness, redness, shine.
    """

    parts: Layer = field(default_factory=Layer)
    creases: Layer = field(default_factory=Layer)
    lenses: Layer = field(default_factory=Layer)
    relief: list[tuple[float, ...]] = field(default_factory=list)

    def bump(
        self,
        x: float,
        y: float,
        spread_x: float,
        spread_y: float,
        *,
        height: float = 0.0,
        dark: float = 0.0,
        red: float = 0.0,
        shine: float = 0.0,
        lift: float = 0.0,
    ) -> None:
        """Add a soft bump (or a dent, a shadow, a blush) with Gaussian falloff."""
        if height or dark or red or shine:
            self.relief.append((x, y, lift, spread_x, spread_y, height, dark, red, shine))

    def crease(
        self,
        points: ArrayLike,
        widths: list[float],
        darkness: float,
        *,
        side: int = 1,
        start: tuple[float, float] = (0.0, 0.0),
        lift: float = 0.0,
    ) -> None:
        """Add a soft dark line on the skin through points given for the right side; ``darkness`` is from 0 to 255."""
        if darkness >= _FAINTEST:  # most are not: they belong to action units at rest
            line = stroke(curve(points, closed=False), widths)
            self.creases.add(mirrored(line, side) + np.array(start), min(int(darkness), 255), lift=lift)

    def extend(self, other: Sketch) -> None:
        """Add all of another sketch, which stays as it is."""
        self.parts.extend(other.parts)
        self.creases.extend(other.creases)
        self.lenses.extend(other.lenses)
        self.relief += other.relief


def surface(points: Array) -> Array:
    """Return how far the head's surface stands out at each of the (n, 2) points."""
    return 0.9 * np.sqrt(np.clip(1.0 - (points[:, 0] / 1.12) ** 2 - ((points[:, 1] - 0.1) / 1.7) ** 2, 0.0, 1.0))


def turn(points: Array, depth: Array, scene: Scene) -> Array:
    """Turn (n, 2) points with their depths by yaw and pitch, and project them in parallel: (n, 2)."""
    yaw, pitch = np.deg2rad(scene.yaw), np.deg2rad(scene.pitch)
    x = points[:, 0] * np.cos(yaw) + depth * np.sin(yaw)
    near = depth * np.cos(yaw) - points[:, 0] * np.sin(yaw)
    return np.stack([x, points[:, 1] * np.cos(pitch) + near * np.sin(pitch)], axis=1)


def similarity(scene: Scene, pixels: int) -> tuple[Array, Array]:
    """Return the (2, 2) matrix and the (2,) offset that take the turned face frame to pixel coordinates."""
    roll, factor = np.deg2rad(scene.roll), scene.scale * pixels / VIEW
    matrix = factor * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    middle = np.array([scene.shift_x, scene.shift_y]) * pixels / VIEW + pixels / 2.0
    return matrix, middle - matrix @ np.array([0.0, _CENTRE_Y])


def curve(points: ArrayLike, *, closed: bool = True) -> Array:
    """Return a smooth curve (Catmull-Rom) through (n, 2) points."""
    corners = np.asarray(points, dtype=np.float64)
    return np.asarray(_spline(len(corners), closed) @ corners)


@lru_cache(maxsize=64)
def _spline(count: int, closed: bool) -> Array:
    pieces = count if closed else count - 1
    t = np.arange(_SUBDIVIDE) / _SUBDIVIDE
    basis = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], axis=1
    )
    matrix = np.zeros((pieces * _SUBDIVIDE + (not closed), count))
    for piece in range(pieces):
        rows = slice(piece * _SUBDIVIDE, (piece + 1) * _SUBDIVIDE)
        for offset in range(4):
            corner = piece + offset - 1
            matrix[rows, corner % count if closed else min(max(corner, 0), count - 1)] += basis[:, offset]
    if not closed:
        matrix[-1, -1] = 1.0
    return matrix


def stroke(line: Array, widths: float | Sequence[float] | Array) -> Array:
    """Return the outline of a pen stroke along an open (n, 2) line; ``widths`` are spread evenly along it."""
    points = np.ascontiguousarray(line).view(np.complex128)[:, 0]
    along = np.empty_like(points)
    along[1:-1] = points[2:] - points[:-2]
    along[0], along[-1] = points[1] - points[0], points[-1] - points[-2]
    knots = np.atleast_1d(np.asarray(widths, dtype=np.float64))
    half = 0.5j * (_taper(len(points), len(knots)) @ knots)
    across = along * (half / np.maximum(np.abs(along), 1e-9))
    return np.concatenate([points + across, (points - across)[::-1]]).view(np.float64).reshape(-1, 2)


@lru_cache(maxsize=64)
def _taper(count: int, knots: int) -> Array:
    """Return the (count, knots) matrix that interpolates evenly spaced knots linearly."""
    places = np.linspace(0.0, knots - 1.0, count)[:, None]
    return np.asarray(np.clip(1.0 - np.abs(places - np.arange(knots)), 0.0, None))


def ellipse(x: float, y: float, radius_x: float, radius_y: float, count: int = 20) -> Array:
    """Return the (count, 2) outline of an upright ellipse."""
    return np.asarray(np.array([x, y]) + _circle(count) * np.array([radius_x, radius_y]))


@lru_cache(maxsize=8)
def _circle(count: int) -> Array:
    angle = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return np.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=1))


def mirrored(points: Array, side: int) -> Array:
    """Return points drawn for the right of the picture (side 1) on the side asked for."""
    return points if side > 0 else points * np.array([-1.0, 1.0])
