"""How much two sets of region maps have in common: one confusion matrix over all pixels of all images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.labels import REGIONS


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

    @classmethod
    def none(cls) -> Self:
        """Return the scores of no image."""
        return cls(np.zeros((len(REGIONS), len(REGIONS)), np.int64))

    def plus(self, true: NDArray[Any], predicted: NDArray[Any]) -> Self:
        """Return the scores with the pixels of more maps counted: two arrays of one shape, indices into REGIONS."""
        pairs = true.astype(np.int64) * len(REGIONS) + predicted
        counts = np.bincount(pairs.ravel(), minlength=self.confusion.size)
        return type(self)(self.confusion + counts.reshape(self.confusion.shape))
