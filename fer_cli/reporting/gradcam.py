"""Grad-CAM as a figure: for each class, pictures that were recognised and pictures that were not, heat laid over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.format import whole_percent
from fer_cli.reporting.heatmap import HALF, in_grey, tinted
from fer_cli.reporting.style import GRID, MUTED, heading, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE: Final = 1.3  # inches, of a picture
_CELL: Final = (1.46, 1.66)  # width and height of a picture with its caption


@dataclass(frozen=True, slots=True)
class Example:
    """A picture, where it spoke for the class that was predicted, and how sure that was."""

    image: NDArray[np.uint8]
    """(H, W) grey or (H, W, 3) RGB."""
    map: NDArray[np.float32]
    """(S, S) from 0 to 1, stretched over the picture."""
    predicted: str
    probability: float
    """of the predicted class."""


@dataclass(frozen=True, slots=True)
class Row:
    """The examples of one true class."""

    name: str
    right: Sequence[Example]
    wrong: Sequence[Example]


def gradcam_figure(rows: Sequence[Row], title: str = "Grad-CAM", subtitle: str = "") -> Figure:
    """Draw a row a class: its pictures that were recognised on the left, those that were not on the right.

    The pictures are drawn in grey, so that every colour is heat; a line goes round what has half of the greatest heat
    or more, and survives grey printing.

    Args:
        rows: one a true class.
        title: one line.
        subtitle: one line under it, such as the model, the data set and the split.

    Raises:
        ValueError: no row.
    """
    from matplotlib.lines import Line2D

    if not rows:
        raise ValueError("no class to draw")
    right = max(1, *(len(row.right) for row in rows))
    wrong = max(1, *(len(row.wrong) for row in rows))
    left, gap, top, bottom = 1.25, 0.34, 1.4, 0.72
    middle = left + right * _CELL[0] + gap
    with styled():
        figure = new_figure(max(middle + wrong * _CELL[0] + 0.2, 7.0), top + len(rows) * _CELL[1] + bottom)
        width, height = figure.get_size_inches()
        for x, words in ((left, "right"), (middle, "wrong")):
            figure.text(x / width, 1 - (top - 0.14) / height, words, fontweight="bold", va="bottom")
        x = (middle - gap / 2 - (_CELL[0] - _SIDE) / 2) / width
        ends = [1 - (top - 0.3) / height, (bottom + 0.1) / height]
        figure.add_artist(Line2D([x, x], ends, color=GRID, linewidth=1))
        for k, row in enumerate(rows):
            y = top + k * _CELL[1]
            at = 0.28 / width, 1 - (y + _SIDE / 2) / height
            figure.text(*at, row.name, va="center", fontsize=10, fontweight="bold", parse_math=False)
            for start, examples in ((left, row.right), (middle, row.wrong)):
                if not examples:
                    figure.text(start / width, at[1], "none", va="center", color=MUTED)
                for number, example in enumerate(examples):
                    x = start + number * _CELL[0]
                    place = (x / width, 1 - (y + _SIDE) / height, _SIDE / width, _SIDE / height)
                    _draw(figure.add_axes(place), example)
                    said = example.predicted if example.predicted == row.name else f"{row.name} → {example.predicted}"
                    figure.text(
                        x / width,
                        1 - (y + _SIDE + 0.06) / height,
                        f"{said}, {whole_percent(example.probability)}",
                        va="top",
                        fontsize=7.2,
                        parse_math=False,
                    )
        _key(figure, left, bottom)
        heading(figure, title, subtitle, left=0.28, top=0.25)
    return figure


def _draw(axes: Axes, example: Example) -> None:
    """Draw a picture in grey and its heat over it, with the line at half of the greatest heat."""
    image, heat = example.image, example.map
    h, w = image.shape[:2]
    place: dict[str, Any] = {"extent": (0, w, h, 0), "interpolation": "bilinear"}
    axes.imshow(in_grey(image), cmap="gray", vmin=0, vmax=255, **place)
    axes.imshow(tinted(heat), **place)
    if heat.min() < HALF < heat.max():
        across, down = ((np.arange(n) + 0.5) * side / n for n, side in zip(heat.shape[::-1], (w, h), strict=True))
        axes.contour(across, down, heat, levels=[HALF], colors="white", linewidths=0.9)
    axes.set_xlim(0, w)
    axes.set_ylim(h, 0)
    axes.set_anchor("W")
    axes.set_axis_off()


def _key(figure: Figure, left: float, bottom: float) -> None:
    """Draw the colour bar over a middle grey, as the heat lies over a picture, and say what it means."""
    width, height = figure.get_size_inches()
    y = bottom - 0.42
    bar = figure.add_axes(((left + 0.36) / width, y / height, 1.3 / width, 0.15 / height))
    bar.imshow(np.full((1, 256), 128, np.uint8), cmap="gray", vmin=0, vmax=255, aspect="auto", extent=(0, 1, 0, 1))
    bar.imshow(tinted(np.linspace(0, 1, 256)[None]), aspect="auto", extent=(0, 1, 0, 1))
    bar.axvline(HALF, color="white", linewidth=0.9)
    bar.set_axis_off()
    middle = (y + 0.075) / height
    figure.text((left + 0.3) / width, middle, "less", ha="right", va="center_baseline", fontsize=8)
    figure.text((left + 1.72) / width, middle, "more", va="center_baseline", fontsize=8)
    words = (
        "evidence for the predicted class, as a share of the greatest\n"
        "in the picture; inside the line: half of that or more"
    )
    figure.text((left + 2.2) / width, middle, words, va="center", fontsize=8, color=MUTED, linespacing=1.3)
