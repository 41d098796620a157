"""Pictures with what was seen in them: a box a face, its expression and how probable that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fer_cli.core.errors import one_line
from fer_cli.prediction.rows import PredictionRow

_SURE: Final = (18, 128, 92)
_DOUBTFUL: Final = (196, 98, 0)
_INK: Final = (255, 255, 255)


def drawn(pixels: NDArray[np.uint8], rows: Sequence[PredictionRow]) -> NDArray[np.uint8]:
    """Return an RGB image (H, W, 3) with the faces of its rows marked; those with a flag in another colour."""
    image = Image.fromarray(pixels).convert("RGB")
    height, width = pixels.shape[:2]
    draw = ImageDraw.Draw(image)
    for row in rows:
        if row.expression is None:
            continue
        left, top, right, bottom = row.box or (0.0, 0.0, float(width), float(height))
        side = max(right - left, bottom - top)
        line = max(1, round(side / 60))
        colour = _DOUBTFUL if row.flags else _SURE
        draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=line)
        text = f"{one_line(row.expression)} {row.probabilities[row.expression]:.0%}"
        font = ImageFont.load_default(_size(text, side, width, height))
        x0, y0, x1, y1 = draw.textbbox((0, 0), text, font=font)
        pad = max(2, (y1 - y0) // 4)
        label_width, label_height = x1 - x0 + 2 * pad, y1 - y0 + 2 * pad
        x = min(max(0.0, left), max(0.0, width - label_width))
        y = top - label_height if top >= label_height else min(bottom, height - label_height)
        draw.rectangle((x, y, x + label_width - 1, y + label_height - 1), fill=colour)
        draw.text((x + pad - x0, y + pad - y0), text, font=font, fill=_INK)
    return np.asarray(image)


def _size(text: str, side: float, width: int, height: int) -> float:
    """Return a size of letters that goes with a face, can be read, and fits into the image."""
    wanted = min(max(11.0, side / 8), height / 8, 48.0)
    return max(6.0, min(wanted, width / (0.62 * len(text))))
