"""Plot ``masks``: faces with their region maps overlaid, parsers side by side, or a data set's mean region map."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import MasksSummary
from fer_cli.core.errors import UsageError
from fer_cli.core.labels import REGIONS
from fer_cli.core.progress import note, track
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.faces.masks import Masks, open_masks
from fer_cli.faces.region_scores import RegionScores
from fer_cli.plots.registry import Picture
from fer_cli.reporting.lettering import fitted, measured, printable
from fer_cli.reporting.page import (
    MARGIN,
    Box,
    draw_image,
    drawn_size,
    largest_size,
    new_page,
    write,
)
from fer_cli.reporting.style import INK, MUTED, REGION_COLOURS, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VIEWS: Final = ("faces", "mean")
MAPS_AT_ONCE: Final = 512
_LEAST: Final = 1300  # width of a page: the legend's
_TOP: Final = 244  # below title, subtitle and legend
_LINE: Final = 29  # height of a caption's line
_SMALL: Final = 7.2  # points, of a caption
_OPACITY: Final = 0.5
_DRAWN: Final = ("skin", "hair", "neck", "ear", "nose", "mouth", "eye")  # where two meet, the later one's outline shows
_GREY: Final = "#d5d7dc"  # of the background, where no picture shows through


def draw(
    store: Store,
    masks: Annotated[str | None, typer.Argument(help="The masks. [default: the newest]")] = None,
    view: Annotated[
        str, typer.Option(help="faces: the best and the least certain maps; mean: how often each region is where.")
    ] = "faces",
    faces: Annotated[int, typer.Option(min=1, max=60, help="How many of the best, and of the least certain.")] = 12,
    compare_with: Annotated[
        str | None, typer.Option(help="Other masks of the same data set, to see how much the two agree.")
    ] = None,
) -> Picture:
    """Faces with their region maps overlaid, or the mean region map of a data set."""
    if view not in VIEWS:
        raise UsageError(f"--view {view!r} is not a choice", hint=f"choose {' or '.join(VIEWS)}")
    if view == "mean" and compare_with is not None:
        raise UsageError("--view mean shows one set of masks", hint="leave out --compare-with, or plot the others too")
    artifact = store.find(masks, ["masks"])
    dataset = open_dataset(open_parent(store, artifact, "dataset"))
    opened = open_masks(artifact, dataset)
    summary = MasksSummary.of(artifact)
    described = f"{summary.parser} on {dataset.artifact.name}"
    if view == "mean":
        title = f"Mean region map of {dataset.artifact.name}"
        figure = mean_map_figure(_mean_shares(opened), title, f"{described}, {len(opened):,} images")
        return Picture(artifact.name, figure, artifact.version)
    if compare_with is not None:
        other = open_masks(store.find(compare_with, ["masks"]), dataset)
        name = f"{artifact.name}-vs-{MasksSummary.of(other.artifact).parser}"
        both = f"{artifact.version}-{other.artifact.version}"
        return Picture(name, _compared(opened, other, dataset, faces), both)
    uncertain = summary.doubtful
    subtitle = f"{described}; {uncertain:,} of {len(opened):,} maps low-confidence ({uncertain / len(opened):.1%})"
    return Picture(
        artifact.name,
        _best_and_worst(opened, dataset, faces, f"Face regions of {dataset.artifact.name}", subtitle),
        artifact.version,
    )


def _best_and_worst(opened: Masks, dataset: Dataset, faces: int, title: str, subtitle: str) -> Figure:
    scores = opened.scores().select(["id", "pixels", "doubt", "reasons", "agreement"]).to_pylist()
    unique = {score["pixels"]: row for row, score in reversed(list(enumerate(scores)))}
    rows = sorted(unique.values(), key=lambda row: (scores[row]["doubt"], scores[row]["id"]))
    best = [row for row in rows if not scores[row]["reasons"]][:faces]
    worst = [row for row in reversed(rows) if scores[row]["reasons"]][:faces]

    def shown(chosen: list[int]) -> list[MaskedFace]:
        maps = opened.maps(chosen)
        return [
            MaskedFace(np.asarray(dataset.images[row]), regions, "\n".join([scores[row]["id"], *_remarks(scores[row])]))
            for row, regions in zip(chosen, maps, strict=True)
        ]

    return masks_figure({"Best maps": shown(best), "Least certain maps": shown(worst)}, title, subtitle)


def _compared(first: Masks, second: Masks, dataset: Dataset, faces: int) -> Figure:
    rows = np.sort(np.random.default_rng(0).choice(len(first), min(faces, len(first)), replace=False))
    names = [str(MasksSummary.of(masks.artifact).parser) for masks in (first, second)]
    if names[0] == names[1]:
        names = [masks.artifact.reference.removeprefix("masks/") for masks in (first, second)]
    scores = mask_agreement(first, second)
    regions = [(name, value) for name, value in zip(REGIONS, scores.iou, strict=True) if np.isfinite(value)]
    note(f"mIoU {scores.miou:.4f} over {len(first):,} images: {', '.join(f'{n} {v:.3f}' for n, v in regions)}")
    weakest = sorted(regions, key=lambda region: region[1])[:3]
    return compare_figure(
        [np.asarray(dataset.images[row]) for row in rows],
        {name: list(masks.maps(rows)) for name, masks in zip(names, (first, second), strict=True)},
        f"Face regions of {dataset.artifact.name}: {names[0]} and {names[1]}",
        f"mIoU {scores.miou:.3f} over {len(first):,} images; lowest for "
        + ", ".join(f"{name} {value:.2f}" for name, value in weakest),
    )


def mask_agreement(first: Masks, second: Masks) -> RegionScores:
    """Return how much two sets of masks of one data set agree."""
    scores = RegionScores.none()
    for start in range(0, len(first), MAPS_AT_ONCE):
        rows = range(start, min(len(first), start + MAPS_AT_ONCE))
        scores = scores.plus(second.maps(rows), first.maps(rows))
    return scores


def _remarks(scores: dict[str, Any]) -> list[str]:
    if scores["reasons"]:
        return [", ".join(scores["reasons"])]
    return [] if scores["agreement"] is None else [f"agrees with its flip {scores['agreement']:.0%}"]


def _mean_shares(opened: Masks) -> NDArray[np.float64]:
    """Return how often each region is at each pixel: (regions, H, W)."""
    counts = np.zeros((len(REGIONS), opened.height, opened.width))
    with track("reading the maps", len(opened)) as advance:
        for start in range(0, len(opened), MAPS_AT_ONCE):
            maps = opened.maps(range(start, min(len(opened), start + MAPS_AT_ONCE)))
            for region in range(len(REGIONS)):
                counts[region] += (maps == region).sum(0)
            advance(len(maps))
    return counts / len(opened)


@dataclass(frozen=True, slots=True)
class MaskedFace:
    """A picture, its region map and what there is to say about them."""

    image: NDArray[np.uint8]
    """(H, W) grey or (H, W, 3) RGB."""
    map: NDArray[np.uint8]
    """(H, W) indices into :data:`fer_cli.core.labels.REGIONS`."""
    caption: str
    """The id in the first line, and remarks on the map in those that follow."""


def masks_figure(groups: Mapping[str, Sequence[MaskedFace]], title: str, subtitle: str) -> Figure:
    """Draw faces in pairs, the picture and the picture with its map overlaid; the groups one under the other.

    Args:
        groups: heading -> faces, which may be none. A caption that is too long for its place is shortened.
        title: one line.
        subtitle: one line under it.
    """
    images = [face.image for group in groups.values() for face in group]
    wide, tall = largest_size(images, 200)
    columns = _columns([len(group) for group in groups.values()], (tall + 100) / (wide + 25))
    side = {1: 480, 2: 330, 3: 260}.get(columns, 200)
    wide, tall = largest_size(images, side)
    room = max(2 * wide + 6, 280) + 22
    width = max(2 * MARGIN + columns * (room + 22) - 44, _LEAST)
    with styled():
        captioned = [[(face, _caption(face.caption, room)) for face in group] for group in groups.values()]
        rows = [[group[k : k + columns] for k in range(0, len(group), columns)] for group in captioned]
        heights = [[tall + 44 + _LINE * max(len(lines) for _, lines in row) for row in group] for group in rows]
        height = _TOP + sum(78 + (sum(group) or 50) for group in heights)
        figure, page = _page(width, height, title, subtitle, legend=True)
        y = _TOP
        for name, group, needed in zip(groups, rows, heights, strict=True):
            write(page, MARGIN, y, fitted(name, width - 2 * MARGIN, 11, "bold"), 11, fontweight="bold")
            y += 54
            if not group:
                write(page, MARGIN, y, "none", 9.5, color=MUTED)
                y += 50
            for row, used in zip(group, needed, strict=True):
                for x, (face, lines) in zip(range(MARGIN, width, room + 22), row, strict=False):
                    w, h = drawn_size(face.image, side)
                    draw_image(page, face.image, (x, y, w, h))
                    _draw_map(page, face.image, face.map, (x + w + 6, y, w, h))
                    for k, (line, colour) in enumerate(lines):
                        write(page, x, y + tall + 10 + _LINE * k, line, _SMALL, color=colour)
                y += used
            y += 24
    return figure


def compare_figure(
    images: Sequence[NDArray[np.uint8]], columns: Mapping[str, Sequence[NDArray[np.uint8]]], title: str, subtitle: str
) -> Figure:
    """Draw pictures in rows of at most eight, and below each its map by each of several parsers.

    Args:
        images: (H, W) grey or (H, W, 3) RGB uint8.
        columns: parser -> one map an image, (H, W) indices into :data:`fer_cli.core.labels.REGIONS`.
        title: one line.
        subtitle: one line under it.
    """
    assert all(len(maps) == len(images) for maps in columns.values()), "one map an image"
    per_row = ceil(len(images) / ceil(len(images) / 8)) if images else 1
    side = {1: 440, 2: 360, 3: 300, 4: 260}.get(per_row, 200)
    wide, tall = largest_size(images, side)
    with styled():
        names = ["image", *(fitted(name, 300, 9.5) for name in columns)]
        left = MARGIN + ceil(max(measured(name, 9.5) for name in names)) + 26
        width = max(left + per_row * (wide + 12) - 12 + MARGIN, _LEAST)
        used = len(names) * (tall + 12) + 40
        rows = [range(len(images))[k : k + per_row] for k in range(0, len(images), per_row)]
        figure, page = _page(width, _TOP + (len(rows) * used or 60), title, subtitle, legend=True)
        if not images:
            write(page, MARGIN, _TOP, "none", 9.5, color=MUTED)
        for number, row in enumerate(rows):
            for line, (name, maps) in enumerate(zip(names, [None, *columns.values()], strict=True)):
                y = _TOP + number * used + line * (tall + 12)
                write(page, left - 26, y + tall / 2, name, 9.5, ha="right", va="center")
                for k in row:
                    box = (left + k % per_row * (wide + 12), y, *drawn_size(images[k], side))
                    if maps is None:
                        draw_image(page, images[k], box)
                    else:
                        _draw_map(page, images[k], maps[k], box)
    return figure


def mean_map_figure(shares: NDArray[np.float64], title: str, subtitle: str) -> Figure:
    """Draw where in a data set's pictures the regions lie: the most frequent one at each pixel, and each by itself.

    Args:
        shares: (regions, H, W), which part of the pictures shows the region at the pixel, 0 to 1.
        title: one line.
        subtitle: one line under it.
    """
    from matplotlib.colors import LinearSegmentedColormap

    assert shares.shape[:-2] == (len(REGIONS),), "(regions, H, W)"
    assert 0 <= shares.min() <= shares.max() <= 1 + 1e-9, "shares lie between 0 and 1"
    most = np.round(255 + shares.max(axis=0)[:, :, None] * (_rgb()[shares.argmax(axis=0)] - 255)).astype(np.uint8)
    w, h = drawn_size(most, 700)
    scale = (h - 90) / 2 / len(most)
    scale = int(scale) if scale >= 3 else scale
    small_w, small_h = scale * most.shape[1], scale * len(most)
    top, left, pitch = 210, MARGIN + w + 60, max(small_w + 34, 290)
    with styled():
        width = ceil(max(left + 4 * pitch - 34 + MARGIN, _LEAST))
        figure, page = _page(width, top + h + 110, title, subtitle, legend=False)
        shades = LinearSegmentedColormap.from_list("share", ["#f3f6fa", "#a9c7e8", "#3f7fc1", "#123e73"])
        write(page, MARGIN, top - 28, "most frequent region", 9, va="center")
        draw_image(page, most, (MARGIN, top, w, h))
        for k, name in enumerate(REGIONS[1:]):
            x, y = left + k % 4 * pitch, top if k < 4 else top + h - small_h
            _named(page, name, x, y - 28, f"{name}  {shares[k + 1].mean():.1%}")
            draw_image(page, shares[k + 1], (x, y, small_w, small_h), shades=shades, full=1)
        x, y = left + 3 * pitch, top + h - small_h
        write(page, x, y - 28, "share of the images", 9, va="center")
        draw_image(page, np.linspace(1, 0, 256)[:, None], (x, y, 30, small_h), shades=shades, full=1)
        for share, va in ((1, "top"), (0.5, "center"), (0, "bottom")):
            write(page, x + 42, y + (1 - share) * small_h, f"{share:.0%}", 8, va=va, color=MUTED)
        x = _named(page, REGIONS[0], MARGIN, top + h + 36, f"{REGIONS[0]}  {shares[0].mean():.1%}", bare=_GREY)
        note = "Percentages are shares of all pixels. On the left, the paler a colour, the fewer images agree on it."
        write(page, x, top + h + 36, note, 8.2, va="center", color=MUTED)
    return figure


def _page(width: int, height: int, title: str, subtitle: str, *, legend: bool) -> tuple[Figure, Axes]:
    """Return a figure with its heading and legend, and axes over all of it that count dots from the upper left."""
    figure, page = new_page(width, height, title, subtitle)
    x = float(MARGIN)
    for name in REGIONS if legend else ():
        x = _named(page, name, x, 182, name)
    return figure, page


def _named(page: Axes, name: str, x: float, middle: float, text: str, bare: str = "white") -> float:
    """Write ``text`` next to a region's colour, ``bare`` for the background, and return where the next may begin."""
    from matplotlib.patches import Rectangle

    colour = REGION_COLOURS.get(name, bare)
    page.add_patch(Rectangle((x, middle - 14), 28, 28, facecolor=colour, edgecolor=MUTED, linewidth=0.5))
    write(page, x + 40, middle, text, 9, va="center")
    return x + 40 + measured(text, 9) + 34


def _draw_map(page: Axes, image: NDArray[np.uint8], regions: NDArray[np.uint8], box: Box) -> None:
    """Draw a picture with its map overlaid: the regions half transparent, their outlines opaque."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    assert regions.shape == image.shape[:2], "a map has its picture's height and width"
    assert regions.max() < len(REGIONS), "a map holds indices into REGIONS"
    picture = image if image.ndim == 3 else image[:, :, None]
    opacity = np.where(regions > 0, _OPACITY, 0.0)[:, :, None]
    draw_image(page, np.round((1 - opacity) * picture + opacity * _rgb()[regions]).astype(np.uint8), box)
    x, y, w, h = box
    for name in _DRAWN:
        ends = _outline(regions == REGIONS.index(name)) * (w / image.shape[1], h / image.shape[0]) + (x, y)
        path = Path(ends, [Path.MOVETO, Path.LINETO] * (len(ends) // 2))
        page.add_patch(PathPatch(path, fill=False, ec=REGION_COLOURS[name], lw=0.72, capstyle="projecting"))


def _outline(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return a region's outline along the edges of pixels, but for the picture's border: (2n, 2) ends of n lines."""
    pieces = []
    for area, turned in ((inside, False), (inside.T, True)):
        edge = np.pad(area[1:] != area[:-1], ((1, 0), (1, 1)))  # row y: between the pixels above and below y
        starts, ends = np.argwhere(edge[:, 1:] & ~edge[:, :-1]), np.argwhere(edge[:, :-1] & ~edge[:, 1:])
        found = np.stack([starts, ends], axis=1).reshape(-1, 2).astype(np.float64)
        pieces.append(found if turned else found[:, ::-1])
    return np.concatenate(pieces)


def _rgb() -> NDArray[np.float64]:
    """Return (regions, 3) colours from 0 to 255."""
    from matplotlib.colors import to_rgb

    return 255 * np.array([to_rgb(REGION_COLOURS.get(name, _GREY)) for name in REGIONS])


def _columns(counts: Sequence[int], aspect: float) -> int:
    """Return how many pairs, of a height by width, stand in a row: all of a few, else four to eight."""
    if max(counts, default=0) <= 4:
        return max([1, *counts])
    wanted = (0.55 * aspect * sum(counts)) ** 0.5  # a page somewhat wider than high
    return min(range(4, 9), key=lambda columns: abs(columns - wanted) + 0.25 * sum(-n % columns for n in counts))


def _caption(caption: str, room: float) -> list[tuple[str, str]]:
    """Return at most three lines, each with its colour: the id, whose end tells as much as its start, and reasons."""
    first, _, rest = caption.partition("\n")
    lines = [(fitted(first, room, _SMALL, middle=True), INK)] if first else []
    words = printable(" ".join(rest.split())).split(" ")
    taken = bisect_right(range(2, len(words) + 1), room, key=lambda n: measured(" ".join(words[:n]), _SMALL)) + 1
    parts = [" ".join(words[:taken]), " ".join(words[taken:])]
    return lines + [(fitted(part, room, _SMALL), MUTED) for part in parts if part]
