"""A page of pictures and captions: axes that count dots, and texts that fit their place whatever they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.reporting.lettering import DOTS
from fer_cli.reporting.style import INK, heading, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]  # left, top, width, height

# Lengths are in dots. Where the pixels of a picture can be seen, each takes a whole number of them, so that none is
# wider than the next.
MARGIN: Final = 56


def new_page(width: int, height: int, title: str, subtitle: str) -> tuple[Figure, Axes]:
    """Return a figure with its heading, and axes over all of it that count dots from the upper left."""
    figure = new_figure(width / DOTS, height / DOTS)
    page = figure.add_axes((0, 0, 1, 1))
    page.set_xlim(0, width)
    page.set_ylim(height, 0)
    page.set_axis_off()
    page.autoscale(False)
    heading(figure, title, subtitle, left=MARGIN / DOTS, top=0.25)
    return figure, page


def draw_image(
    page: Axes, image: NDArray[Any], box: Box, *, shades: str | Colormap = "gray", full: float = 255
) -> None:
    """Draw a picture, grey ones in ``shades`` from 0 to ``full``."""
    x, y, w, h = box
    # "none" leaves the pixels as they are, in SVG and PDF too; where they are too small to be seen, they are averaged.
    interpolation = "none" if w >= 3 * image.shape[1] else "antialiased"
    page.imshow(
        image, cmap=shades, vmin=0, vmax=full, extent=(x, x + w, y + h, y), aspect="auto", interpolation=interpolation
    )


def drawn_size(image: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Return the width and height at which a picture is drawn: at most about ``side`` squared in area."""
    assert image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3), "(H, W) grey or (H, W, 3) RGB"
    height, width = image.shape[:2]
    scale = side / (height * width) ** 0.5
    scale = int(scale) if scale >= 3 else scale
    return max(round(width * scale), 1), max(round(height * scale), 1)


def largest_size(images: Sequence[NDArray[np.uint8]], side: int) -> tuple[int, int]:
    """Return the largest width and height at which any of the pictures is drawn."""
    sizes = [drawn_size(image, side) for image in images] or [(side, side)]
    return max(w for w, _ in sizes), max(h for _, h in sizes)


def write(page: Axes, x: float, y: float, text: str, size: float, **look: str) -> None:
    """Write a text, ``size`` in points; its upper left stands at (x, y) unless ``look`` says otherwise."""
    page.text(x, y, text, {"fontsize": size, "color": INK, "va": "top"} | look)
