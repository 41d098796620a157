"""Where a data set's crops show a face: what a face from elsewhere must be brought to before a model sees it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.faces.alignment import TEMPLATE

_FER2013: Final = np.array(
    [[0.329, 0.380], [0.671, 0.380], [0.500, 0.583], [0.357, 0.753], [0.643, 0.753]], dtype=np.float64
)
"""The mean over 792 training images of the points that RetinaFace (mobile0.25) finds in them, made symmetric.

A point's standard deviation is 0.07 to 0.11 of the side: the crops are a face detector's boxes, not aligned.
"""
_FRAMINGS: Final = {"fer2013": _FER2013, "ferplus": _FER2013}


def points_of(family: str) -> NDArray[np.float64]:
    """Return where the five points (5, 2) of a face lie in a data set's images, as shares of the side.

    Args:
        family: of the data set; one that is not known is taken to be aligned to fer's own template.
    """
    return _FRAMINGS.get(family, TEMPLATE)
