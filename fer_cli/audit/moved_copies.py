"""Copies that were turned, shifted, scaled or cropped: proposed by descriptors, decided by registration.

Each picture, and its middle magnified, is looked at with those whose descriptors are most like its own or its mirror
image's. Of a pair, the second is first compared at a grid of moves (turn, scale and shift together) by the lowest
frequencies of its middle; from the best move, Gauss-Newton steps lay it on the first (Baker and Matthews 2004), as a
similarity at a coarse size and then as an affine map, with weights that let go of what only one of the two shows. What
is correlated in the end is the fine detail where both lie, in the rectangle in which they agree best: what came in at
the borders when a copy was turned or shifted, and a caption there, stay outside. Where one of the two is blurred, the
other is blurred to match; both are a little, where a JPEG took the finest detail away.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fer_cli.artifacts.checksums import AnyArray
from fer_cli.audit.descriptors import descriptors, resized
from fer_cli.audit.fingerprints import small_grey
from fer_cli.audit.near_duplicates import MOVED_LIKENESS
from fer_cli.core.progress import track

SMALLEST: Final = 16
"""Side in pixels of pictures that are looked at."""
MAGNIFIED: Final = 1.25
"""How much larger the middle of a picture is looked at: it shows what a smaller copy, or a narrower cut, shows."""
MOST_ALIKE: Final = (64, 16)
"""Pictures with the most alike descriptors that each is looked at with, and its middle; and as many mirror images."""
ALIKE: Final = 0.4
"""Likeness of two descriptors from which a pair is looked at."""
BY_MOVE: Final = 0.8
"""Likeness at the best move below which a pair is dropped."""
SHARE: Final = 0.6
"""Share of the likeness of two descriptors that is added to the likeness at the best move where pairs are ranked."""
REGISTERED: Final = 4
"""Pairs of each picture that are registered, by that rank."""
HOPEFUL: Final = 1.75
"""Likeness of two descriptors and likeness at the best move, added, from which no rank is asked for."""
BARS: Final = (0.6, 0.6, 0.65)
"""Correlation below which a pair is dropped: after the steps at the coarse size, the first and the last at the full."""
BLURS: Final = ((0.0, 0.0), (0.7, 0.0), (1.0, 0.0), (0.0, 0.7), (0.0, 1.0), (0.7, 0.7))
"""Pixels by which the first and the second are blurred before they are compared; the best counts."""
HIDDEN: Final = 1.2
"""What two pictures lack in correlation counts so much more where both are blurred, or magnified, which hides it."""
TURNS: Final = (-20, -10, 0, 10, 20)
"""Degrees, each with each of ``SCALES`` and ``SHIFTS``."""
SCALES: Final = (0.8, 1.0, 1.25)
SHIFTS: Final = (-0.16, -0.08, 0.0, 0.08, 0.16)
"""Parts of the side, down and across."""
_GRID: Final = 24  # pixels: the coarse size
_FREQUENCIES: Final = 7
_STEPS: Final = (4, 1, 3)  # Gauss-Newton steps before each of the bars
_COARSE_BAND: Final = (0.7, 4.0)  # pixels of the coarse size: between these blurs lies what is aligned there
_BAND: Final = (0.8, 3.0)  # the same at the full size
_FINE: Final = (0.7, 2.0)  # pixels: between these lies the detail that decides
_MARGIN: Final = 3.0  # pixels at the borders where blurs mix in what is beyond
_OVERLAP: Final = 0.25  # of the picture that must lie on the other
_BLOCKS: Final = 8  # along the longer side
_LEFT_OUT: Final = 2  # blocks that may stay outside at each border
_NEARLY: Final = 0.8  # agreement from which blurs are tried
_VIEWS: Final = 4  # of a picture: as it is, mirrored, its middle, its middle mirrored
_READ: Final = 256
_ROWS: Final = 512
_SCORES: Final = 2**24  # held at once
_PAIRS: Final = 256

Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]


def moved_copies(images: AnyArray, rows: NDArray[np.int64], groups: NDArray[np.int64]) -> Iterator[Found]:
    """Yield near copies as places in ``rows``, the first before the second, which are mirrored, and their likeness.

    Args:
        images: (N, H, W) grey or (N, H, W, 3) RGB; a memory map is read in parts.
        rows: (n,) of them to look at.
        groups: (n,) pairs of equal numbers are not looked for, of -1 they are.
    """
    if len(rows) < 2 or min(images.shape[1:3]) < SMALLEST:
        return
    with torch.inference_mode():
        described, waves = _looked_up(images, rows)
        first, second, seen, alike = _proposals(described, groups)
        starts, likeness = _best_moves(images, rows, waves, first, second, seen)
        best = most_hopeful(first, second, alike, likeness)
        first, second, seen, starts = first[best], second[best], seen[best], starts[best]
        with track("near copies, moved: registration", len(first)) as advance:
            for at in range(0, len(first), _PAIRS):
                part = slice(at, at + _PAIRS)
                views = _views(_read(images, rows[first[part]]))[seen[part], np.arange(len(seen[part]))]
                likeness = registered(views, _read(images, rows[second[part]]), moves()[starts[part]]).numpy()
                likeness = np.where(seen[part] < 2, likeness, 1 - HIDDEN * (1 - likeness)).astype(np.float32)
                sure = likeness >= MOVED_LIKENESS
                ours, theirs = first[part][sure], second[part][sure]
                mirrored = seen[part][sure] % 2 == 1
                yield np.minimum(ours, theirs), np.maximum(ours, theirs), mirrored, likeness[sure]
                advance(len(likeness))


def most_hopeful(
    first: NDArray[np.int64], second: NDArray[np.int64], alike: NDArray[np.float32], moved: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the places of the pairs that are among the best of one of their pictures, or good whatever their rank."""
    near = np.flatnonzero(moved >= BY_MOVE)
    pictures = np.concatenate([first[near], second[near]])
    order = np.lexsort((np.tile(-(moved + SHARE * alike)[near], 2), pictures))
    ends = np.cumsum(np.bincount(pictures))
    sizes = np.diff(ends, prepend=0)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(ends - sizes, sizes)
    few = (ranks < REGISTERED).reshape(2, -1).any(axis=0)
    return near[few | ((moved + alike)[near] >= HOPEFUL)]


def _read(images: AnyArray, rows: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(small_grey(np.asarray(images[rows])))


def _views(pictures: Tensor) -> Tensor:
    """Return pictures (n, h, w) as they are, mirrored, their middles magnified to their size, and these mirrored."""
    height, width = pictures.shape[1:]
    middle = functional.grid_sample(
        pictures[:, None], _middle(height, width).expand(len(pictures), -1, -1, -1), mode="bicubic", align_corners=False
    )[:, 0]
    return torch.stack([pictures, pictures.flip(2), middle, middle.flip(2)])


@cache
def _middle(height: int, width: int) -> Tensor:
    return functional.affine_grid(torch.eye(3)[None, :2] / MAGNIFIED, [1, 1, height, width], align_corners=False)


def _looked_up(images: AnyArray, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return of the views of each picture, (v, n, d) each, the descriptor and the middle's frequencies."""
    described, waves = [], []
    middle = _moved_waves()[len(moves()) // 2]
    with track("descriptors", len(rows)) as advance:
        for at in range(0, len(rows), _READ):
            views = _views(_read(images, rows[at : at + _READ]))
            described.append(torch.stack([descriptors(part) for part in views[: len(views) - 1]]))
            small = torch.stack([resized(part, _GRID) for part in views]).flatten(2)
            waves.append(functional.normalize(small @ middle, dim=2))
            advance(views.shape[1])
    return torch.cat(described, dim=1), torch.cat(waves, dim=1)


def _proposals(
    described: Tensor, groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the pairs with the most alike descriptors, in the order of the second, and how alike they are.

    The third array is the view of the first picture that is like the second.
    """
    plain, mirror, middle = described
    count = len(plain)
    outside = torch.from_numpy(groups)
    height = max(1, min(_ROWS, _SCORES // count))
    pairs = []
    with track("near copies, moved: proposals", count) as advance:
        for top in range(0, count, height):
            queries = torch.arange(top, min(top + height, count))
            known = outside[queries] >= 0
            for view, (ours, theirs) in enumerate(itertools.product((plain, middle), (plain, mirror))):
                scores = ours[queries] @ theirs.T
                scores[queries - top, queries] = -1
                if known.any():
                    scores[known] = scores[known].masked_fill(outside[queries[known], None] == outside, -1)
                values, places = scores.topk(min(MOST_ALIKE[view // 2], count), dim=1)
                rest = values >= ALIKE
                query, near = queries[:, None].expand_as(places)[rest], places[rest]
                if view < 2:  # whichever of the two
                    query, near = torch.minimum(query, near), torch.maximum(query, near)
                pair = (near * count + query) * _VIEWS + view
                pairs.append(torch.stack([pair, (values[rest].double() * 1e6).long()]))
            advance(len(queries))
    every, alike = torch.cat(pairs, dim=1).numpy()
    keys, places = np.unique(every, return_index=True)
    second, first = np.divmod(keys // _VIEWS, count)
    seen = keys % _VIEWS
    return first, second, seen, (alike[places] / 1e6).astype(np.float32)


def _best_moves(
    images: AnyArray,
    rows: NDArray[np.int64],
    waves: Tensor,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    seen: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the number of the move at which each pair is most alike, and how alike it is there."""
    matrices = _moved_waves()
    count, pixels, length = matrices.shape
    matrix = matrices.transpose(0, 1).reshape(pixels, -1)
    best, alike = torch.zeros(len(first), dtype=torch.int64), torch.zeros(len(first))
    views, places = torch.from_numpy(seen), torch.from_numpy(first)
    unique, starts = np.unique(second, return_index=True)
    ends = np.append(starts[1:], len(second))
    with track("near copies, moved: best moves", len(unique)) as advance:
        for at in range(0, len(unique), _PAIRS):
            pictures = resized(_read(images, rows[unique[at : at + _PAIRS]]), _GRID).flatten(1)
            theirs = functional.normalize((pictures @ matrix).view(len(pictures), count, length), dim=2)
            for moved, low, high in zip(theirs, starts[at : at + _PAIRS], ends[at : at + _PAIRS], strict=True):
                ours = waves[views[low:high], places[low:high]]
                alike[low:high], best[low:high] = (ours @ moved.T).max(dim=1)
            advance(len(pictures))
    return best.numpy(), alike.numpy()


@cache
def moves() -> Tensor:
    """Return the moves (m, 2, 3): where, from the middle and in sides, to look in a picture; the middle one is none."""
    found = []
    for turn in TURNS:
        for scale in SCALES:
            cosine, sine = scale * math.cos(math.radians(turn)), scale * math.sin(math.radians(turn))
            found += [[[cosine, -sine, down], [sine, cosine, across]] for down in SHIFTS for across in SHIFTS]
    return torch.tensor(found)


@cache
def _moved_waves() -> Tensor:
    """Return the matrices (m, pixels, d) from a coarse picture to the lowest frequencies of its middle at each move."""
    places = (torch.arange(_GRID) + 0.5) / _GRID - 0.5
    disc = torch.sigmoid((0.8 - 2 * torch.hypot(places[:, None], places)) / 0.12).reshape(-1, 1)  # of the half side
    frequencies = torch.arange(_FREQUENCIES)[:, None]
    cosines = torch.cos(math.pi * frequencies * (places + 0.5))
    cosines[0] /= math.sqrt(2)
    waves = torch.einsum("ar,bc->rcab", cosines, cosines).reshape(_GRID * _GRID, -1)[:, 1:] * disc
    waves -= disc / disc.sum() * waves.sum(dim=0)
    down, across = torch.meshgrid(places, places, indexing="ij")
    points = torch.stack([down.reshape(-1), across.reshape(-1), torch.ones(_GRID * _GRID)])
    matrices = torch.zeros(len(moves()), _GRID * _GRID, waves.shape[1])
    for matrix, move in zip(matrices, moves(), strict=True):
        at = ((move @ points + 0.5) * _GRID - 0.5).clamp(0, _GRID - 1.001)
        corner, part = at.floor().long(), at - at.floor()
        for lower in (0, 1):
            for right in (0, 1):
                weight = (part[0] if lower else 1 - part[0]) * (part[1] if right else 1 - part[1])
                matrix.index_add_(0, (corner[0] + lower) * _GRID + corner[1] + right, weight[:, None] * waves)
    return matrices


def registered(first: Tensor, second: Tensor, start: Tensor) -> Tensor:
    """Return how alike pairs of pictures are once the second lies on the first: (n,), 0 for what is dropped early.

    Args:
        first: (n, h, w) grey.
        second: the same.
        start: (n, 2, 3), the moves to begin with, as in :func:`moves`.
    """
    likeness = torch.zeros(len(first))
    sides = torch.tensor(first.shape[1:], dtype=torch.float32)
    coarse = [_band(resized(part, _GRID), _COARSE_BAND) for part in (first, second)]
    scale = torch.ones(2, 3)
    scale[:, 2] = _GRID
    found, alike = _refined(coarse[0], coarse[1], start * scale, _STEPS[0], similar=True)
    rest = torch.nonzero(alike >= BARS[0])[:, 0]
    scale = torch.tensor([[1, sides[0] / sides[1], sides[0] / _GRID], [sides[1] / sides[0], 1, sides[1] / _GRID]])
    found = found[rest] * scale
    fixed, moving = _band(first[rest], _BAND), _band(second[rest], _BAND)
    for steps, bar in zip(_STEPS[1:], BARS[1:], strict=True):
        found, alike = _refined(fixed, moving, found, steps, similar=False)
        near = alike >= bar
        rest, found, fixed, moving = rest[near], found[near], fixed[near], moving[near]
    likeness[rest] = _agreement(first[rest], second[rest], found)
    return likeness


def _refined(first: Tensor, second: Tensor, moved: Tensor, steps: int, *, similar: bool) -> tuple[Tensor, Tensor]:
    """Return the moves (n, 2, 3), in pixels, with which ``second`` lies best on ``first``, and the correlation there.

    ``similar``: only shift, scale and turn change, no shear.
    """
    count, height, width = first.shape
    down, across = _places(height, width)
    by_row, by_column = torch.gradient(first, dim=(1, 2))
    slopes = [by_row, by_column]
    if similar:
        slopes += [by_row * down + by_column * across, by_column * down - by_row * across]
    else:
        slopes += [by_row * down, by_row * across, by_column * down, by_column * across]
    stacked = torch.stack(slopes, dim=1).flatten(2)
    best, most = moved.clone(), torch.full((count,), -1.0)
    for step in range(steps + 1):
        current, inside = _sampled(second, moved)
        ours, theirs = (_centred(part, inside) for part in (first, current))
        gain = ours.square().sum(dim=(1, 2)).sqrt() / theirs.square().sum(dim=(1, 2)).sqrt().clamp_min(1e-6)
        error = ours - theirs * gain[:, None, None]
        typical = error.abs().sum(dim=(1, 2), keepdim=True) / inside.sum(dim=(1, 2), keepdim=True).clamp_min(1)
        weight = inside / (1 + (error / (1.5 * typical).clamp_min(1e-6)).square())
        alike = _correlation(first, current, weight) * (inside.mean(dim=(1, 2)) > _OVERLAP)
        better = alike > most
        best[better], most[better] = moved[better], alike[better]
        if step == steps:
            break
        weighted = stacked * weight.flatten(1)[:, None]
        curvature = weighted @ stacked.transpose(1, 2)
        trace = curvature.diagonal(dim1=1, dim2=2)
        curvature += torch.diag_embed(1e-3 * trace + 1e-6)
        change = torch.linalg.solve(curvature, weighted @ error.flatten(1)[..., None])[..., 0]
        change[:, :2] = change[:, :2].clamp(-height / 12, height / 12)
        change[:, 2:] = change[:, 2:].clamp(-0.1, 0.1)
        small = torch.eye(3).repeat(count, 1, 1)
        small[:, :2, 2] += change[:, :2]
        if similar:
            small[:, :2, :2] += change[:, 2, None, None] * torch.eye(2)
            small[:, :2, :2] += change[:, 3, None, None] * torch.tensor([[0.0, -1.0], [1.0, 0.0]])
        else:
            small[:, :2, :2] += change[:, 2:].view(count, 2, 2)
        moved = torch.cat([moved, torch.tensor([[[0.0, 0.0, 1.0]]]).expand(count, 1, 3)], dim=1).matmul(small)[:, :2]
    return best, most


def _agreement(first: Tensor, second: Tensor, moved: Tensor) -> Tensor:
    """Return the correlation (n,) of the detail in the rectangle that agrees best, with the blur that suits best."""
    height, width = first.shape[1:]
    down, across = _places(height, width)
    current, inside = _sampled(second, moved, "bicubic", _MARGIN)
    inside *= (down.abs() <= (height - 1) / 2 - _MARGIN) & (across.abs() <= (width - 1) / 2 - _MARGIN)
    best = torch.zeros(len(first))
    rest = torch.arange(len(first))
    for ours, theirs in BLURS:
        pictures = ((_blurred(part[rest], by) if by else part[rest]) for part, by in ((first, ours), (current, theirs)))
        fixed, moving = (_centred(_band(part, _FINE), inside[rest]) for part in pictures)
        alike = _in_rectangles(fixed, moving, inside[rest])
        best[rest] = torch.maximum(best[rest], 1 - HIDDEN * (1 - alike) if ours and theirs else alike)
        rest = rest[best[rest] >= _NEARLY]
    return best


def _in_rectangles(first: Tensor, second: Tensor, inside: Tensor) -> Tensor:
    """Return the highest correlation (n,), at most 1, of all rectangles that leave out blocks at the borders alone."""
    height, width = first.shape[1:]
    side = max(1, max(height, width) // _BLOCKS)
    products = torch.stack([first * second, first * first, second * second, inside], dim=1)
    blocks = functional.avg_pool2d(products, side, ceil_mode=True, divisor_override=1)
    down, across = blocks.shape[2:]
    best = torch.zeros(len(first))
    for top, bottom, left, right in itertools.product(range(_LEFT_OUT + 1), repeat=4):
        part = blocks[:, :, top : max(down - bottom, top), left : max(across - right, left)]
        both, ours, theirs, covered = part.sum(dim=(2, 3)).T
        alike = both / (ours * theirs).sqrt().clamp_min(1e-6)
        best = torch.where((covered > _OVERLAP * height * width) & (alike > best), alike, best)
    return best.clamp_max(1)


def _places(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return how far each pixel is from the middle, down and across, (h, w) each."""
    down, across = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    return torch.meshgrid(down, across, indexing="ij")  # type: ignore[return-value]


def _sampled(pictures: Tensor, moved: Tensor, mode: str = "bilinear", margin: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the pictures at the moved places, and which of these lie inside by the margin (1 or 0)."""
    count, height, width = pictures.shape
    down, across = _places(height, width)
    points = moved @ torch.stack([down.flatten(), across.flatten(), torch.ones(height * width)])
    inside = (points[:, 0].abs() <= (height - 1) / 2 - margin) & (points[:, 1].abs() <= (width - 1) / 2 - margin)
    grid = torch.stack([points[:, 1] * (2 / (width - 1)), points[:, 0] * (2 / (height - 1))], dim=-1)
    found = functional.grid_sample(
        pictures[:, None], grid.view(count, height, width, 2), mode=mode, padding_mode="border", align_corners=True
    )
    return found[:, 0], inside.view(count, height, width).float()


def _band(pictures: Tensor, widths: tuple[float, float]) -> Tensor:
    """Return what lies between two Gaussian blurs of these standard deviations in pixels."""
    return _blurred(pictures, widths[0]) - _blurred(pictures, widths[1])


def _blurred(pictures: Tensor, width: float) -> Tensor:
    down, across = (_gaussian(side, width) for side in pictures.shape[1:])
    return down @ pictures @ across.T


@cache
def _gaussian(side: int, width: float) -> Tensor:
    from scipy.ndimage import gaussian_filter1d

    return torch.from_numpy(gaussian_filter1d(np.eye(side, dtype=np.float32), width, axis=0, mode="nearest"))


def _centred(pictures: Tensor, inside: Tensor) -> Tensor:
    """Return the pictures with mean 0 where they are inside, and 0 elsewhere."""
    mean = (pictures * inside).sum(dim=(1, 2), keepdim=True) / inside.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    return (pictures - mean) * inside


def _correlation(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    total = weight.sum(dim=(1, 2), keepdim=True).clamp_min(1e-6)
    ours, theirs = (part - (part * weight).sum(dim=(1, 2), keepdim=True) / total for part in (first, second))
    norms = (ours.square() * weight).sum(dim=(1, 2)) * (theirs.square() * weight).sum(dim=(1, 2))
    return (ours * theirs * weight).sum(dim=(1, 2)) / norms.sqrt().clamp_min(1e-6)
