"""Region maps as figures: faces with their maps laid over, parsers side by side, and a data set's mean map."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.errors import one_line
from fer_cli.labels import REGIONS
from fer_cli.reporting.style import INK, MUTED, REGION_COLOURS, heading, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]  # left, top, width, height

# Lengths are in dots of 1/200 inch, the resolution of save_figure. Where the pixels of a picture can be seen, each
# takes a whole number of them, so that none is wider than the next.
_DOTS: Final = 200
_MARGIN: Final = 56
_LEAST: Final = 1300  # width of a page: the legend's
_TOP: Final = 244  # below title, subtitle and legend
_LINE: Final = 29  # height of a caption's line
_SMALL: Final = 7.2  # points, of a caption
_OPACITY: Final = 0.5
_DRAWN: Final = ("skin", "hair", "neck", "ear", "nose", "mouth", "eye")  # where two meet, the later one's outline shows
_GREY: Final = "#d5d7dc"  # of the background, where no picture shows through


@dataclass(frozen=True, slots=True)
class MaskedFace:
    """A picture, its region map and what there is to say about them."""

    image: NDArray[np.uint8]
    """(H, W) grey or (H, W, 3) RGB."""
    map: NDArray[np.uint8]
    """(H, W) indices into :data:`fer_cli.labels.REGIONS`."""
    caption: str
    """The id in the first line, and why the map is doubtful in those that follow."""


def masks_figure(groups: Mapping[str, Sequence[MaskedFace]], title: str, subtitle: str) -> Figure:
    """Draw faces in pairs, the picture and the picture with its map laid over; the groups one under the other.

    Args:
        groups: heading -> faces, which may be none. A caption that is too long for its place is shortened.
        title: one line.
        subtitle: one line under it.
    """
    images = [face.image for group in groups.values() for face in group]
    wide, tall = _largest(images, 200)
    columns = _columns([len(group) for group in groups.values()], (tall + 100) / (wide + 25))
    side = {1: 480, 2: 330, 3: 260}.get(columns, 200)
    wide, tall = _largest(images, side)
    room = max(2 * wide + 6, 280) + 22
    width = max(2 * _MARGIN + columns * (room + 22) - 44, _LEAST)
    with styled():
        captioned = [[(face, _caption(face.caption, room)) for face in group] for group in groups.values()]
        rows = [[group[k : k + columns] for k in range(0, len(group), columns)] for group in captioned]
        heights = [[tall + 44 + _LINE * max(len(lines) for _, lines in row) for row in group] for group in rows]
        height = _TOP + sum(78 + (sum(group) or 50) for group in heights)
        figure, page = _page(width, height, title, subtitle, legend=True)
        y = _TOP
        for name, group, needed in zip(groups, rows, heights, strict=True):
            _text(page, _MARGIN, y, _fitted(name, width - 2 * _MARGIN, 11, "bold"), 11, fontweight="bold")
            y += 54
            if not group:
                _text(page, _MARGIN, y, "none", 9.5, color=MUTED)
                y += 50
            for row, used in zip(group, needed, strict=True):
                for x, (face, lines) in zip(range(_MARGIN, width, room + 22), row, strict=False):
                    w, h = _size(face.image, side)
                    _draw(page, face.image, (x, y, w, h))
                    _draw_map(page, face.image, face.map, (x + w + 6, y, w, h))
                    for k, (line, colour) in enumerate(lines):
                        _text(page, x, y + tall + 10 + _LINE * k, line, _SMALL, color=colour)
                y += used
            y += 24
    return figure


def compare_figure(
    images: Sequence[NDArray[np.uint8]], columns: Mapping[str, Sequence[NDArray[np.uint8]]], title: str, subtitle: str
) -> Figure:
    """Draw pictures in rows of at most eight, and below each its map by each of several parsers.

    Args:
        images: (H, W) grey or (H, W, 3) RGB uint8.
        columns: parser -> one map an image, (H, W) indices into :data:`fer_cli.labels.REGIONS`.
        title: one line.
        subtitle: one line under it.
    """
    assert all(len(maps) == len(images) for maps in columns.values()), "one map an image"
    per_row = ceil(len(images) / ceil(len(images) / 8)) if images else 1
    side = {1: 440, 2: 360, 3: 300, 4: 260}.get(per_row, 200)
    wide, tall = _largest(images, side)
    with styled():
        names = ["picture", *(_fitted(name, 300, 9.5) for name in columns)]
        left = _MARGIN + ceil(max(_measured(name, 9.5) for name in names)) + 26
        width = max(left + per_row * (wide + 12) - 12 + _MARGIN, _LEAST)
        used = len(names) * (tall + 12) + 40
        rows = [range(len(images))[k : k + per_row] for k in range(0, len(images), per_row)]
        figure, page = _page(width, _TOP + (len(rows) * used or 60), title, subtitle, legend=True)
        if not images:
            _text(page, _MARGIN, _TOP, "none", 9.5, color=MUTED)
        for number, row in enumerate(rows):
            for line, (name, maps) in enumerate(zip(names, [None, *columns.values()], strict=True)):
                y = _TOP + number * used + line * (tall + 12)
                _text(page, left - 26, y + tall / 2, name, 9.5, ha="right", va="center")
                for k in row:
                    box = (left + k % per_row * (wide + 12), y, *_size(images[k], side))
                    if maps is None:
                        _draw(page, images[k], box)
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
    w, h = _size(most, 700)
    scale = (h - 90) / 2 / len(most)
    scale = int(scale) if scale >= 3 else scale
    small_w, small_h = scale * most.shape[1], scale * len(most)
    top, left, pitch = 210, _MARGIN + w + 60, max(small_w + 34, 290)
    with styled():
        width = ceil(max(left + 4 * pitch - 34 + _MARGIN, _LEAST))
        figure, page = _page(width, top + h + 110, title, subtitle, legend=False)
        shades = LinearSegmentedColormap.from_list("share", ["#f3f6fa", "#a9c7e8", "#3f7fc1", "#123e73"])
        _text(page, _MARGIN, top - 28, "most frequent region", 9, va="center")
        _draw(page, most, (_MARGIN, top, w, h))
        for k, name in enumerate(REGIONS[1:]):
            x, y = left + k % 4 * pitch, top if k < 4 else top + h - small_h
            _named(page, name, x, y - 28, f"{name}  {shares[k + 1].mean():.1%}")
            _draw(page, shares[k + 1], (x, y, small_w, small_h), shades=shades, full=1)
        x, y = left + 3 * pitch, top + h - small_h
        _text(page, x, y - 28, "share of the pictures", 9, va="center")
        _draw(page, np.linspace(1, 0, 256)[:, None], (x, y, 30, small_h), shades=shades, full=1)
        for share, va in ((1, "top"), (0.5, "center"), (0, "bottom")):
            _text(page, x + 42, y + (1 - share) * small_h, f"{share:.0%}", 8, va=va, color=MUTED)
        x = _named(page, REGIONS[0], _MARGIN, top + h + 36, f"{REGIONS[0]}  {shares[0].mean():.1%}", bare=_GREY)
        note = "Percentages are shares of all pixels. On the left, the paler a colour, the fewer pictures agree on it."
        _text(page, x, top + h + 36, note, 8.2, va="center", color=MUTED)
    return figure


def _page(width: int, height: int, title: str, subtitle: str, *, legend: bool) -> tuple[Figure, Axes]:
    """Return a figure with its heading and legend, and axes over all of it that count dots from the upper left."""
    figure = new_figure(width / _DOTS, height / _DOTS)
    page = figure.add_axes((0, 0, 1, 1))
    page.set_xlim(0, width)
    page.set_ylim(height, 0)
    page.set_axis_off()
    page.autoscale(False)
    title, subtitle = _fitted(title, width - 2 * _MARGIN, 13.5, "bold"), _fitted(subtitle, width - 2 * _MARGIN, 9.5)
    heading(figure, title, subtitle, left=_MARGIN / _DOTS, top=0.25)
    x = float(_MARGIN)
    for name in REGIONS if legend else ():
        x = _named(page, name, x, 182, name)
    return figure, page


def _named(page: Axes, name: str, x: float, middle: float, text: str, bare: str = "white") -> float:
    """Write ``text`` beside a region's colour, ``bare`` for the background, and return where the next may begin."""
    from matplotlib.patches import Rectangle

    colour = REGION_COLOURS.get(name, bare)
    page.add_patch(Rectangle((x, middle - 14), 28, 28, facecolor=colour, edgecolor=MUTED, linewidth=0.5))
    _text(page, x + 40, middle, text, 9, va="center")
    return x + 40 + _measured(text, 9) + 34


def _draw(page: Axes, image: NDArray[Any], box: Box, *, shades: str | Colormap = "gray", full: float = 255) -> None:
    x, y, w, h = box
    # "none" leaves the pixels as they are, in SVG and PDF too; where they are too small to be seen, they are averaged.
    interpolation = "none" if w >= 3 * image.shape[1] else "antialiased"
    page.imshow(
        image, cmap=shades, vmin=0, vmax=full, extent=(x, x + w, y + h, y), aspect="auto", interpolation=interpolation
    )


def _draw_map(page: Axes, image: NDArray[np.uint8], regions: NDArray[np.uint8], box: Box) -> None:
    """Draw a picture with its map laid over: the regions half transparent, their outlines opaque."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    assert regions.shape == image.shape[:2], "a map has its picture's height and width"
    assert regions.max() < len(REGIONS), "a map holds indices into REGIONS"
    picture = image if image.ndim == 3 else image[:, :, None]
    opacity = np.where(regions > 0, _OPACITY, 0.0)[:, :, None]
    _draw(page, np.round((1 - opacity) * picture + opacity * _rgb()[regions]).astype(np.uint8), box)
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


def _size(image: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Return the width and height at which a picture is drawn: at most about ``side`` squared in area."""
    assert image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3), "(H, W) grey or (H, W, 3) RGB"
    height, width = image.shape[:2]
    scale = side / (height * width) ** 0.5
    scale = int(scale) if scale >= 3 else scale
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _largest(images: Sequence[NDArray[np.uint8]], side: int) -> tuple[int, int]:
    sizes = [_size(image, side) for image in images] or [(side, side)]
    return max(w for w, _ in sizes), max(h for _, h in sizes)


def _columns(counts: Sequence[int], aspect: float) -> int:
    """Return how many pairs, of a height by width, stand in a row: all of a few, else four to eight."""
    if max(counts, default=0) <= 4:
        return max([1, *counts])
    wanted = (0.55 * aspect * sum(counts)) ** 0.5  # a page somewhat wider than high
    return min(range(4, 9), key=lambda columns: abs(columns - wanted) + 0.25 * sum(-n % columns for n in counts))


def _caption(caption: str, room: float) -> list[tuple[str, str]]:
    """Return at most three lines, each with its colour: the id, whose end tells as much as its start, and reasons."""
    first, _, rest = caption.partition("\n")
    lines = [(_fitted(first, room, _SMALL, middle=True), INK)] if first else []
    words = _printable(" ".join(rest.split())).split(" ")
    taken = bisect_right(range(2, len(words) + 1), room, key=lambda n: _measured(" ".join(words[:n]), _SMALL)) + 1
    parts = [" ".join(words[:taken]), " ".join(words[taken:])]
    return lines + [(_fitted(part, room, _SMALL), MUTED) for part in parts if part]


def _text(page: Axes, x: float, y: float, text: str, size: float, **look: str) -> None:
    page.text(x, y, text, {"fontsize": size, "color": INK, "va": "top"} | look, parse_math=False)


def _fitted(text: str, room: float, size: float, weight: str = "normal", *, middle: bool = False) -> str:
    """Return one line of at most ``room`` dots: an ellipsis takes the place of what is too much."""
    text = _printable(text)
    if _measured(text, size, weight) <= room:
        return text

    def short(kept: int) -> str:
        tail = kept // 2 if middle else 0
        return text[: kept - tail].rstrip() + "…" + text[len(text) - tail :]

    return short(bisect_right(range(1, len(text)), room, key=lambda kept: _measured(short(kept), size, weight)))


def _printable(text: str) -> str:
    """Return ``text`` with what the font does not have, and what would break a line, written as escapes."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    return "".join(c if font.get_char_index(ord(c)) else c.encode("unicode_escape").decode() for c in one_line(text))


def _measured(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a text in dots."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) * _DOTS / 72
