"""Grad-CAM as a figure: for each class, recognised and unrecognised pictures with their heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.format import whole_percent
from fer_cli.reporting.heatmap import overlaid
from fer_cli.reporting.lettering import fitted
from fer_cli.reporting.page import MARGIN, draw_image, new_page, write
from fer_cli.reporting.style import MUTED, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In dots of 1/200 inch.
_SIDE: Final = 260  # of a picture
_CELL: Final = (292, 352)  # width and height of a picture with its caption
_LEFT: Final = 260  # of the first picture, beyond the class's name
_GAP: Final = 76  # between right and wrong answers
_PIXELS: Final = 208  # of a picture's longer side
_SMALL: Final = 7.4  # points


@dataclass(frozen=True, slots=True)
class Example:
    """A picture, where the evidence for the predicted class is, and how sure the model was."""

    image: NDArray[np.uint8]
    """(H, W) grey or (H, W, 3) RGB."""
    heatmap: NDArray[np.float32]
    """(S, S) from 0 to 1, stretched over the picture; zero throughout where nothing speaks for the class."""
    predicted: str
    probability: float
    """of the predicted class."""


@dataclass(frozen=True, slots=True)
class Row:
    """The examples of one true class."""

    name: str
    right: Sequence[Example]
    wrong: Sequence[Example]


def gradcam_figure(rows: Sequence[Row], title: str = "", subtitle: str = "") -> Figure:
    """Draw a row a class: its pictures that were recognised on the left, those that were not on the right.

    Args:
        rows: one a true class.
        title: one line.
        subtitle: one line under it, such as the model, the data set and the split.

    Raises:
        ValueError: no row.
    """
    if not rows:
        raise ValueError("no class to draw")
    right, wrong = (max(1, *(len(getattr(row, side)) for row in rows)) for side in ("right", "wrong"))
    middle = _LEFT + right * _CELL[0] + _GAP
    top = 276 if title else 70
    width, height = max(middle + wrong * _CELL[0] + 20, 1520), top + len(rows) * _CELL[1] + 120
    with styled():
        figure, page = new_page(width, height, title, subtitle)
        for x, words in ((_LEFT, "right"), (middle, "wrong")):
            write(page, x, top - 22, words, 9.5, va="bottom", fontweight="bold")
        for k, row in enumerate(rows):
            y = top + k * _CELL[1]
            name = fitted(row.name, _LEFT - MARGIN - 16, 10, "bold")
            write(page, MARGIN, y + _SIDE / 2, name, 10, va="center", fontweight="bold")
            for start, examples in ((_LEFT, row.right), (middle, row.wrong)):
                if not examples:
                    write(page, start, y + _SIDE / 2, "none", 9.5, va="center", color=MUTED)
                for number, example in enumerate(examples):
                    _draw(page, example, start + number * _CELL[0], y)
        _key(page, height - 72)
    return figure


def _draw(page: Axes, example: Example, x: float, y: float) -> None:
    """Draw a picture with its heatmap and, below it, what was predicted and how surely."""
    image = overlaid(example.image, example.heatmap, _PIXELS)
    w, h = (_SIDE * side / max(image.shape[:2]) for side in (image.shape[1], image.shape[0]))
    draw_image(page, image, (x, y, w, h))
    percent = f"  {whole_percent(example.probability)}"
    write(page, x, y + _SIDE + 10, fitted(example.predicted, _SIDE - 60, _SMALL) + percent, _SMALL)
    if not example.heatmap.any():
        write(page, x, y + _SIDE + 40, "no evidence", _SMALL, color=MUTED)


def _key(page: Axes, y: float) -> None:
    """Draw the colours over a middle grey, as they lie over a picture, and say what they mean."""
    wide, high = 250, 30
    ramp = np.tile(np.linspace(0, 1, wide, dtype=np.float32), (high, 1))
    write(page, _LEFT + 62, y, "less", 8, va="center", ha="right")
    draw_image(page, overlaid(np.full((high, wide), 128, np.uint8), ramp, wide), (_LEFT + 74, y - 15, wide, high))
    write(page, _LEFT + 86 + wide, y, "more", 8, va="center")
    words = "evidence for the predicted class, relative to the image's maximum;\ninside the line: half of it or more"
    write(page, _LEFT + 180 + wide, y, words, 8, va="center", color=MUTED)
