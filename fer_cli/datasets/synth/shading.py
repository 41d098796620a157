"""Light on a synthetic face: relief becomes normals, normals become light, and all of it is warped into the picture.

The relief is smooth, so it is computed on a coarse grid of the face frame, whatever the size of the picture.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_cli.datasets.synth.parameters import Scene
from fer_cli.datasets.synth.sketch import Array, similarity, surface, turn

_GRID: Final = 64
_REACH: Final = 2.1  # the grid covers [-_REACH, _REACH] in both directions of the turned face frame
_TICKS: Final = np.linspace(-_REACH, _REACH, _GRID)
_DOME: Final = 0.8 * np.sqrt(
    np.clip(1.0 - (_TICKS[None, :] / 1.2) ** 2 - ((_TICKS[:, None] - 0.1) / 1.75) ** 2, 0.03, None)
).astype(np.float32)


def shade(
    relief: list[tuple[float, ...]], scene: Scene, pixels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return what the light does to a face: three (pixels, pixels) fields.

    The first multiplies colours (1: as lit from the front), the second is redness, the third the gloss to add.
    """
    rows = np.array(relief, dtype=np.float64)
    turned = turn(rows[:, :2], surface(rows[:, :2]) + rows[:, 2], scene)
    bell_x = np.exp(-0.5 * ((_TICKS - turned[:, :1]) / rows[:, 3:4]) ** 2).astype(np.float32)
    bell_y = np.exp(-0.5 * ((_TICKS - turned[:, 1:]) / rows[:, 4:5]) ** 2).astype(np.float32)
    height, dark, red, shine = (_sum_of_bells(bell_x, bell_y, rows[:, column]) for column in range(5, 9))
    slope_y, slope_x = np.gradient(_DOME + height, np.float32(_TICKS[1] - _TICKS[0]))
    steep = np.sqrt(1.0 + slope_x**2 + slope_y**2)
    light = _light_in_face(scene)

    def facing(direction: Array) -> NDArray[np.float32]:
        across, down, ahead = (np.float32(part) for part in direction)
        return np.asarray(np.maximum((ahead - slope_x * across - slope_y * down) / steep, 0.0), np.float32)

    diffuse = np.float32(scene.ambient) + np.float32(1.25 * (1.0 - scene.ambient)) * facing(light)
    lit = diffuse * (1.0 - np.clip(dark, 0.0, 0.6))
    half = light + np.array([0.0, 0.0, 1.0])
    gloss = facing(half / np.linalg.norm(half)) ** 24 * (0.1 + shine) * np.float32(1.0 - 0.6 * scene.ambient)
    a, b, c = (_into_picture(field, scene, pixels) for field in (lit, red, gloss))
    return a, b, c


def _light_in_face(scene: Scene) -> Array:
    """Return the unit vector towards the light in the face frame, which rolls with the head."""
    cos, sin = np.cos(np.deg2rad(scene.roll)), np.sin(np.deg2rad(scene.roll))
    x, y = scene.light_x, scene.light_y
    light = np.array([x * cos + y * sin, y * cos - x * sin, 1.0])
    return np.asarray(light / np.linalg.norm(light))


def _sum_of_bells(
    bell_x: NDArray[np.float32], bell_y: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sum separable bells: (n, grid) twice and (n,) to (grid, grid).

    Not a matrix product: BLAS may round differently with another number of threads, and pictures must not.
    """
    used = weights != 0.0
    across = bell_x[used] * weights[used, None].astype(np.float32)
    return np.asarray(np.add.reduce(bell_y[used, :, None] * across[:, None, :], axis=0))


def _into_picture(field: NDArray[np.float32], scene: Scene, pixels: int) -> NDArray[np.float32]:
    """Warp a field of the face frame's grid into the picture, bilinearly."""
    matrix, offset = similarity(scene, pixels)
    back = np.linalg.inv(matrix)
    per_cell = (_GRID - 1) / (2.0 * _REACH)
    start = (back @ -offset + _REACH) * per_cell + 0.5  # Pillow's coordinates: the first cell's middle is at 0.5
    coefficients = (
        *(back[0, 0] * per_cell, back[0, 1] * per_cell, start[0]),
        *(back[1, 0] * per_cell, back[1, 1] * per_cell, start[1]),
    )
    image = Image.fromarray(field)
    warped = image.transform(
        (pixels, pixels), Image.Transform.AFFINE, coefficients, resample=Image.Resampling.BILINEAR, fillcolor=1.0
    )
    return np.asarray(warped)
