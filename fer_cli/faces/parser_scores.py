"""Measuring a parser against true masks: one confusion matrix over all pixels of all pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from fer_cli.faces.celebamask import Face
from fer_cli.faces.parsers import NetworkParser
from fer_cli.labels import REGIONS

SIZES: Final = (512, 224, 112, 64, 48)
"""px: from the data set's own down to FER2013's."""


@dataclass(frozen=True, slots=True)
class RegionScores:
    """``confusion`` int64 (regions, regions): true region by found region, in pixels of the true masks."""

    confusion: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each region, NaN for one that neither truth nor parser has."""
        both = np.diag(self.confusion)
        either = self.confusion.sum(0) + self.confusion.sum(1) - both
        return np.where(either > 0, both / np.maximum(either, 1), np.nan)

    @property
    def miou(self) -> float:
        """The mean over the regions."""
        return float(np.nanmean(self.iou))


def score_parser(parser: NetworkParser, faces: Iterable[Face], *, size: int, grey: bool) -> RegionScores:
    """Count the pixels of each true region that a parser finds to be each region, in pictures made small first.

    Pictures are reduced bilinearly with antialiasing; the shares of the regions are enlarged to the true mask's size.

    Args:
        parser: its grouping tells which regions the true parts are.
        faces: pictures with the true part of each pixel.
        size: side of the picture that the parser is given.
        grey: whether its colours are taken away.
    """
    table = parser.grouping.table()
    confusion = np.zeros((len(REGIONS), len(REGIONS)), np.int64)
    for face in faces:
        picture = Image.fromarray(face.image)
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture.convert("L") if grey else picture)
        with torch.inference_mode():
            shares = parser.shares(pixels[None]).mean(0)
            found = functional.interpolate(shares, face.parts.shape, mode="bilinear", align_corners=False).argmax(1)
        pairs = table[face.parts].astype(np.int64) * len(REGIONS) + found[0].cpu().numpy()
        confusion += np.bincount(pairs.ravel(), minlength=confusion.size).reshape(confusion.shape)
    return RegionScores(confusion)
