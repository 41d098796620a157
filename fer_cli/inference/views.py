"""Test-time augmentation: the views of an image whose probabilities are averaged."""

from __future__ import annotations

from typing import Final

import torch
from torch.nn import functional

from fer_cli.artifacts.protocol import Tta

CROP: Final = 0.9
"""Side of a crop of ``ten-crop``, as a share of the input's."""
COUNT: Final[dict[Tta, int]] = {"none": 1, "flip": 2, "ten-crop": 10}
"""Views of an image."""


def views(x: torch.Tensor, tta: Tta) -> list[torch.Tensor]:
    """Return the views of preprocessed images (n, c, S, S), each of the same shape; features are kept of the first.

    ``flip``: the images and their mirror images. ``ten-crop``: the middle and the four corners of :data:`CROP` of the
    side, enlarged to the whole, and the mirror images of these (Krizhevsky, Sutskever & Hinton 2012, section 4.1).
    """
    match tta:
        case "none":
            return [x]
        case "flip":
            return [x, x.flip(-1)]
        case "ten-crop":
            crops = _crops(x)
            return [*crops, *(crop.flip(-1) for crop in crops)]


def _crops(x: torch.Tensor) -> list[torch.Tensor]:
    size = x.shape[-1]
    side = round(size * CROP)
    most = size - side
    corners = [(most // 2, most // 2), (0, 0), (0, most), (most, 0), (most, most)]
    return [
        functional.interpolate(
            x[..., top : top + side, left : left + side], (size, size), mode="bilinear", align_corners=False
        )
        for top, left in corners
    ]
