"""Heat laid over a picture: its colours, the same in a figure and in a report, and the report's thumbnails of it."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PNG_URI: Final = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+=*")
HALF: Final = 0.5
"""Of the greatest heat: a line goes round what has that or more, and survives grey printing."""
SIDE: Final = 112
"""Pixels of a thumbnail's longer side."""
_OPACITY: Final = 0.72  # where the heat is greatest; nothing where there is none
_COLOURS: Final = 64  # of a thumbnail: a third of the bytes, and no eye tells
_LINE: Final = 0.8  # opacity of the line


@dataclass(frozen=True, slots=True)
class GradCamTile:
    """A picture with the heat over it, what was said of it, and how sure that was."""

    picture: str  # a data URI, data:image/png;base64,...
    predicted: str
    probability: float  # of the predicted class

    def __post_init__(self) -> None:
        """Refuse a picture from elsewhere."""
        if not PNG_URI.fullmatch(self.picture):
            raise ValueError("the picture is no PNG data URI")


@dataclass(frozen=True, slots=True)
class GradCamRow:
    """The examples of one true class."""

    label: str
    right: tuple[GradCamTile, ...]
    wrong: tuple[GradCamTile, ...]


@dataclass(frozen=True, slots=True)
class GradCamGrid:
    """Where a model looks: examples of each class and how they were picked, or why there can be none."""

    rows: tuple[GradCamRow, ...] = ()
    note: str = ""
    refusal: str = ""


def in_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W) of a grey (H, W) or RGB (H, W, 3) picture, so that every colour over it is heat."""
    return image if image.ndim == 2 else np.round(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def tinted(heat: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (H, W, 4), from 0 to 1: the colours of a heat, the more opaque the greater it is."""
    from matplotlib import colormaps

    colours: NDArray[np.float64] = colormaps["plasma"](0.1 + 0.85 * heat)
    colours[..., 3] = _OPACITY * np.clip(heat, 0, 1)
    return colours


def laid_over(image: NDArray[np.uint8], heat: NDArray[np.float32], side: int = SIDE) -> NDArray[np.uint8]:
    """Return a picture in grey with its heat over it and the line at half of the greatest heat.

    Args:
        image: (H, W) grey or (H, W, 3) RGB.
        heat: (h, w) from 0 to 1, stretched over the picture.
        side: of the longer side of what is returned, in pixels.

    Returns:
        (side * H / max(H, W), side * W / max(H, W), 3), RGB.
    """
    from PIL import Image

    height, width = image.shape[:2]
    size = max(1, round(side * width / max(height, width))), max(1, round(side * height / max(height, width)))
    grey = np.asarray(Image.fromarray(in_grey(image)).resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
    stretched = Image.fromarray(np.asarray(heat, dtype=np.float32)).resize(size, Image.Resampling.BILINEAR)
    warmth = np.clip(np.asarray(stretched, dtype=np.float64), 0, 1)
    colours = tinted(warmth)
    opacity = colours[..., 3:]
    mixed = opacity * 255 * colours[..., :3] + (1 - opacity) * grey[..., None]
    line = _around(warmth >= HALF)
    mixed[line] = _LINE * 255 + (1 - _LINE) * mixed[line]
    return np.round(mixed).astype(np.uint8)


def _around(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the places outside that touch one inside: so a small hot place is not hidden by its own line."""
    padded = np.pad(inside, 1)
    beside: NDArray[np.bool_] = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return beside & ~inside


def png_uri(image: NDArray[np.uint8], *, colours: int | None = None) -> str:
    """Return a picture, (H, W) grey or (H, W, 3) RGB, as a PNG data URI; with fewer colours where a number is given."""
    from PIL import Image

    picture = Image.fromarray(image)
    if colours is not None:
        picture = picture.quantize(colours, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def heat_thumbnail(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> str:
    """Return what :func:`laid_over` gives as a small PNG data URI."""
    return png_uri(laid_over(image, heat), colours=_COLOURS)


def heat_key() -> str:
    """Return the colours of the heat from none to all over a middle grey, as a PNG data URI."""
    wide, high = 140, 12
    ramp = np.tile(np.linspace(0, 1, wide, dtype=np.float32), (high, 1))
    return png_uri(laid_over(np.full((high, wide), 128, np.uint8), ramp, wide))
