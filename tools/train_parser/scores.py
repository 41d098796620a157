"""Measuring a parser against true masks: one confusion matrix over all pixels of all pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from fer_cli.faces.parsers import NetworkParser
from fer_cli.faces.region_scores import RegionScores
from tools.train_parser.celebamask import Face

SIZES: Final = (512, 224, 112, 64, 48)
"""px: from the data set's own down to FER2013's."""


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
    counted = RegionScores.none()
    for face in faces:
        picture = Image.fromarray(face.image)
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture.convert("L") if grey else picture)
        with torch.inference_mode():
            shares = parser.shares(pixels[None]).mean(0)
            found = functional.interpolate(shares, face.parts.shape, mode="bilinear", align_corners=False).argmax(1)
        counted = counted.plus(table[face.parts], found[0].cpu().numpy())
    return counted
