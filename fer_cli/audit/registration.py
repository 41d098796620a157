"""How alike two pictures are once they lie on one another: the correlation that decides what is a near copy.

Copies that went through another crop or resize are shifted, scaled and turned a little, so the second picture is moved
onto the first: to the best whole-pixel shift by cross-correlation, from there by Gauss-Newton steps over shift, scale
and turn (Lucas and Kanade 1981, with brightness and contrast taken out). What is correlated then is the fine detail:
the coarse light and dark of two faces is alike whoever they are, and the finest is what resizing and JPEG take away.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

REACH: Final = 4
"""The largest whole-pixel shift, in each direction, that is looked for."""
STEPS: Final = (2, 3)
"""Gauss-Newton steps of all pairs, and further ones of those that are alike by then."""
HOPEFUL: Final = 0.5
"""Correlation of the coarser detail, after the first steps, below which no further ones make a copy of a pair."""
_ALIGNED: Final = (
    1 / 16
)  # of the side: the blur that is taken away where pictures are aligned, so that each finds its way
_FINE: Final = (0.7, 2.0)  # pixels: between these two blurs lies the detail that decides
_FURTHEST: Final = np.array([8, 8, 0.15, 0.15], dtype=np.float32)  # pixels, pixels, scale, radians
_OVERLAP: Final = 0.7  # of the picture that must be covered once they are aligned

Pictures = NDArray[np.float32]


def aligned_correlation(first: Pictures, second: Pictures) -> NDArray[np.float32]:
    """Return the correlation (n,) of the fine details of aligned pairs of pictures; 0 for a picture of one grey.

    Args:
        first: (n, h, w).
        second: the same, each to be moved onto its first.
    """
    height, width = first.shape[1:]
    down = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2
    across = np.arange(width, dtype=np.float32) - (width - 1) / 2
    coarse = max(height, width) * _ALIGNED
    fixed, moving = (pictures - _blurred(pictures, coarse) for pictures in (first, second))
    moves = np.concatenate([_shifts(fixed, moving), np.zeros((len(fixed), 2), np.float32)], axis=1)
    moves, likeness = _refined(fixed, moving, moves, STEPS[0], down, across)
    rest = np.flatnonzero(likeness >= HOPEFUL)
    moves, _ = _refined(fixed[rest], moving[rest], moves[rest], STEPS[1], down, across)
    fixed, moving = (_blurred(part, _FINE[0]) - _blurred(part, _FINE[1]) for part in (first[rest], second[rest]))
    correlation = np.zeros(len(first), np.float32)
    correlation[rest] = _correlation(fixed, *_moved(moving, moves, down, across))
    return correlation


def _refined(
    fixed: Pictures, moving: Pictures, moves: Pictures, steps: int, down: Pictures, across: Pictures
) -> tuple[Pictures, NDArray[np.float32]]:
    """Return the moves (n, 4) with which ``moving`` lies best on ``fixed``, and the correlation (n,) there.

    Moves are pixels down and right, scale and turn.
    """
    height, width = fixed.shape[1:]
    by_row, by_column = np.gradient(fixed, axis=(1, 2))
    slopes = np.stack([by_row, by_column, by_row * down + by_column * across, by_column * down - by_row * across], 1)
    slopes = slopes.reshape(len(fixed), 4, height * width)
    curvature = slopes @ slopes.transpose(0, 2, 1)
    trace = np.trace(curvature, axis1=1, axis2=2)[:, None, None]
    curvature += (1e-4 * trace + 1e-6) * np.eye(4, dtype=np.float32)
    best, most = moves.copy(), np.full(len(fixed), -1, np.float32)
    for step in range(steps + 1):
        moved, inside = _moved(moving, moves, down, across)
        likeness = _correlation(fixed, moved, inside)
        better = likeness > most
        best[better], most[better] = moves[better], likeness[better]
        if step < steps:
            target, norm = _standard(fixed, inside)
            current, current_norm = _standard(moved, inside)
            gain = norm / np.maximum(current_norm, 1e-3)
            error = (target - gain[:, None, None] * current).reshape(len(fixed), height * width, 1)
            moves = np.clip(moves + np.linalg.solve(curvature, slopes @ error)[..., 0], -_FURTHEST, _FURTHEST)
    return best, most


def _blurred(pictures: Pictures, width: float) -> Pictures:
    """Return the pictures blurred by a Gaussian of this standard deviation in pixels."""
    from scipy.ndimage import gaussian_filter1d

    down, across = (
        gaussian_filter1d(np.eye(side, dtype=np.float32), width, axis=0, mode="nearest") for side in pictures.shape[1:]
    )
    return np.asarray(down @ pictures @ across.T, dtype=np.float32)


def _correlation(first: Pictures, second: Pictures, inside: Pictures) -> NDArray[np.float32]:
    """Return the correlation (n,) of pictures where they are inside; 0 where too little of them is."""
    ours, norm = _standard(first, inside)
    theirs, other_norm = _standard(second, inside)
    likeness = (ours * theirs).sum(axis=(1, 2)) / np.maximum(norm * other_norm, 1e-3)
    return np.where(inside.mean(axis=(1, 2)) >= _OVERLAP, likeness, np.float32(0))


def _shifts(fixed: Pictures, moving: Pictures) -> Pictures:
    """Return where to look in ``moving`` for what is at a place of ``fixed``: (n, 2) whole pixels down and right."""
    from scipy import fft

    height, width = (fft.next_fast_len(side + REACH, real=True) for side in fixed.shape[1:])
    spectrum = fft.rfft2(fixed, (height, width)) * np.conj(fft.rfft2(moving, (height, width)))
    surface = fft.irfft2(spectrum, (height, width))
    reach = np.arange(-REACH, REACH + 1)
    near = surface[:, reach[:, None] % height, reach % width].reshape(len(fixed), -1)
    rows, columns = np.divmod(near.argmax(axis=1), len(reach))
    return -np.stack([reach[rows], reach[columns]], axis=1).astype(np.float32)


def _moved(pictures: Pictures, moves: Pictures, down: Pictures, across: Pictures) -> tuple[Pictures, Pictures]:
    """Return the pictures sampled at the moved places (bilinear), and which of these lie inside (1 or 0)."""
    count, height, width = pictures.shape
    shift_down, shift_across, scale, turn = (moves[:, k, None, None] for k in range(4))
    rows = (height - 1) / 2 + shift_down + (1 + scale) * down - turn * across
    columns = (width - 1) / 2 + shift_across + (1 + scale) * across + turn * down
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    top = np.clip(rows, 0, height - 1.001).astype(np.int32)
    left = np.clip(columns, 0, width - 1.001).astype(np.int32)
    lower, right = np.clip(rows - top, 0, 1), np.clip(columns - left, 0, 1)
    flat = pictures.reshape(-1)
    corner = (np.arange(count, dtype=np.int32)[:, None, None] * np.int32(height) + top) * np.int32(width) + left
    upper_left, upper_right = flat.take(corner), flat.take(corner + 1)
    corner += np.int32(width)
    lower_left, lower_right = flat.take(corner), flat.take(corner + 1)
    upper_row = upper_left + (upper_right - upper_left) * right
    lower_row = lower_left + (lower_right - lower_left) * right
    return upper_row + (lower_row - upper_row) * lower, inside.astype(np.float32)


def _standard(pictures: Pictures, inside: Pictures) -> tuple[Pictures, NDArray[np.float32]]:
    """Return the pictures with mean 0 where they are inside and 0 elsewhere, and the norm of each."""
    count = np.maximum(inside.sum(axis=(1, 2)), 1)[:, None, None]
    mean = (pictures * inside).sum(axis=(1, 2))[:, None, None] / count
    centred = (pictures - mean) * inside
    return centred, np.sqrt((centred * centred).sum(axis=(1, 2)))
