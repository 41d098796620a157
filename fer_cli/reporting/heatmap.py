"""A Grad-CAM heatmap overlaid on its picture."""

from __future__ import annotations

import base64
import io
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

PNG_URI: Final = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+=*")
HALF: Final = 0.5
"""Of the greatest evidence: a line goes round what has that or more, and survives grey printing."""
_OPACITY: Final = 0.7  # where the evidence is greatest; it falls with the square of the evidence
_COLOURS: Final = 200  # of a picture in a page: a third of the bytes
_LINE: Final = 0.8  # opacity of the line
THUMBNAIL: Final = 72
"""px of the longer side of a small picture in a page."""


def tinted(heatmap: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (H, W, 4), from 0 to 1: the colours of a heatmap, the more opaque the more evidence.

    Opacity is the square of the evidence, so that a coarse map, which is nowhere near zero, does not cover the face.
    """
    from matplotlib import colormaps

    colours: NDArray[np.float64] = colormaps["plasma"](0.1 + 0.85 * heatmap)
    colours[..., 3] = _OPACITY * np.clip(heatmap, 0, 1) ** 2
    return colours


def overlaid(image: NDArray[np.uint8], heatmap: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """Return a picture in grey, so that every colour is evidence, with the heatmap and the line at half of its maximum.

    Args:
        image: (H, W) grey or (H, W, 3) RGB.
        heatmap: (h, w) from 0 to 1, stretched over the picture.
        side: of the longer side of what is returned, in pixels.

    Returns:
        (side * H / max(H, W), side * W / max(H, W), 3), RGB.
    """
    from PIL import Image

    height, width = image.shape[:2]
    size = max(1, round(side * width / max(height, width))), max(1, round(side * height / max(height, width)))
    if image.ndim == 3:
        image = np.round(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    grey = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
    stretched = Image.fromarray(np.asarray(heatmap, dtype=np.float32)).resize(size, Image.Resampling.BILINEAR)
    evidence = np.clip(np.asarray(stretched, dtype=np.float64), 0, 1)
    colours = tinted(evidence)
    opacity = colours[..., 3:]
    mixed = opacity * 255 * colours[..., :3] + (1 - opacity) * grey[..., None]
    line = _around(evidence >= HALF)
    mixed[line] = _LINE * 255 + (1 - _LINE) * mixed[line]
    return np.round(mixed).astype(np.uint8)


def _around(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the places outside that touch one inside: so a small place is not hidden by its own line."""
    padded = np.pad(inside, 1)
    near: NDArray[np.bool_] = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return near & ~inside


def png_uri(image: NDArray[np.uint8]) -> str:
    """Return a picture, (H, W) grey or (H, W, 3) RGB, as a PNG data URI."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def thumbnail(image: NDArray[np.uint8]) -> str:
    """Return a picture, (H, W) grey or (H, W, 3) RGB, as a data URI of a small one of the same shape."""
    from PIL import Image

    height, width = image.shape[:2]
    size = max(1, round(THUMBNAIL * width / max(height, width))), max(1, round(THUMBNAIL * height / max(height, width)))
    return png_uri(np.asarray(Image.fromarray(np.asarray(image)).resize(size, Image.Resampling.BICUBIC)))


def shrunk(encoded: str) -> str:
    """Return an opaque PNG, in base64, as a data URI of a PNG of few colours."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    stream = io.BytesIO()
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
