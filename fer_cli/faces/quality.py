"""How far a region map can be believed, without its truth: what a map of one whole face must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.labels import REGIONS

FACE: Final = ("skin", "eye", "nose", "mouth")
"""The regions that make a face: they cover it in one piece."""
NEEDED: Final = ("eye", "nose", "mouth")
"""What every face shows, from any side."""


@dataclass(frozen=True, slots=True)
class QualityThresholds:
    """What a map must reach; below it there is a reason to doubt it."""

    face: float = 0.10  # of the image's pixels
    part: float = 0.008  # of the face's pixels, for each of NEEDED
    outside: float = 0.10  # of the face's pixels, at most, apart from its largest piece
    cut: float = 0.8  # pixels of a piece of NEEDED on the image's border, at most, by the root of all its pixels
    agreement: float = 0.70
    confidence: float = 0.70

    def record(self) -> dict[str, float]:
        """Return what artifacts record."""
        return {name: getattr(self, name) for name in self.__slots__}


REASONS: Final[Mapping[str, str]] = {
    "no face": "the face covers too little of the image",
    "no eye": "no eyes, or too little of them",
    "no nose": "no nose, or too little of it",
    "no mouth": "no mouth, or too little of it",
    "in pieces": "the face is in several pieces",
    "cut": "eyes, nose or mouth touch the image border",
    "mirror": "the masks of the image and its mirror image are inconsistent",
    "unsure": "low-confidence regions",
}
"""Every reason to doubt a map, and what it means."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One value an image: (n,) arrays, and (n, regions) for the shares.

    ``shares``: each region's part of the image. ``face``: that of the face as a whole. ``outside``: the part of the
    face that lies apart from its largest piece. ``cut``: how much of an eye, the nose or the mouth lies on the
    image's border. ``agreement`` and ``confidence``: see :class:`fer_cli.faces.parsers.Parsed`. ``doubt``: the number
    of reasons, where "no face" counts as all of them, and behind the point how unsure the network is: it sorts maps
    from the best to the most doubtful.
    """

    shares: NDArray[np.float32]
    face: NDArray[np.float32]
    outside: NDArray[np.float32]
    cut: NDArray[np.float32]
    agreement: NDArray[np.float32]
    confidence: NDArray[np.float32]
    missing: list[list[str]]
    reasons: list[list[str]]
    doubt: NDArray[np.float32]

    def columns(self) -> dict[str, Any]:
        """Return the columns of a table of scores; NaN becomes null."""
        import pyarrow as pa

        names = pa.list_(pa.string())
        return {
            "doubt": self.doubt,
            "reasons": pa.array(self.reasons, names),
            "missing": pa.array(self.missing, names),
            "face": self.face,
            "outside": self.outside,
            "cut": self.cut,
            "agreement": pa.array(self.agreement, from_pandas=True),
            "confidence": pa.array(self.confidence, from_pandas=True),
            **{f"share_{name}": self.shares[:, index] for index, name in enumerate(REGIONS)},
        }


def score(
    maps: NDArray[np.uint8],
    agreement: NDArray[np.float32],
    confidence: NDArray[np.float32],
    thresholds: QualityThresholds,
) -> Scores:
    """Score region maps (n, H, W); ``agreement`` and ``confidence`` (n,) may be NaN, then nothing is said of them."""
    n, height, width = maps.shape
    counts = np.stack([(maps == index).sum((1, 2)) for index in range(len(REGIONS))], axis=1)
    face = np.isin(maps, [REGIONS.index(name) for name in FACE])
    covered = face.sum((1, 2))
    outside = np.array([_outside(pixels) for pixels in face], dtype=np.float32).reshape(n)
    least = np.maximum(1.0, thresholds.part * covered)
    cut = np.max([_on_border(maps == REGIONS.index(name), least) for name in NEEDED], axis=0)
    missing = [[name for name in NEEDED if counts[row, REGIONS.index(name)] < least[row]] for row in range(n)]
    share = (covered / (height * width)).astype(np.float32)
    reasons = []
    for row in range(n):
        if share[row] < thresholds.face:
            reasons.append(["no face"])
            continue
        checks = {
            "in pieces": outside[row] > thresholds.outside,
            "cut": cut[row] > thresholds.cut,
            "mirror": agreement[row] < thresholds.agreement,
            "unsure": confidence[row] < thresholds.confidence,
        }
        reasons.append([f"no {name}" for name in missing[row]] + [name for name, failed in checks.items() if failed])
    sure = np.fmin(np.nan_to_num(agreement, nan=1.0), np.nan_to_num(confidence, nan=1.0))
    weight = [len(REASONS) if names == ["no face"] else len(names) for names in reasons]
    return Scores(
        shares=(counts / (height * width)).astype(np.float32),
        face=share,
        outside=outside,
        cut=cut.astype(np.float32),
        agreement=agreement,
        confidence=confidence,
        missing=missing,
        reasons=reasons,
        doubt=(np.array(weight, dtype=np.float32) + np.float32(0.999) * (1 - sure)).astype(np.float32).reshape(n),
    )


def _outside(face: NDArray[np.bool_]) -> float:
    """Return the part of a face (H, W) that lies apart from its largest piece; corners connect."""
    from scipy import ndimage

    labels, count = ndimage.label(face, structure=np.ones((3, 3)))
    if count < 2:
        return 0.0
    sizes = np.bincount(labels.ravel())[1:]
    return float(1 - sizes.max() / sizes.sum())


def _on_border(regions: NDArray[np.bool_], least: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for (n, H, W), the pixels on the image's border by the root of all, of the piece where it is most.

    The root makes it the same at any resolution. Each piece counts by itself, or one eye that is whole would hide that
    the other is half outside; pieces of fewer than ``least`` (n,) pixels are specks and do not count.
    """
    from scipy import ndimage

    worst = np.zeros(len(regions))
    frame = np.ones(regions.shape[1:], dtype=bool)
    frame[1:-1, 1:-1] = False
    for row in np.flatnonzero((regions & frame).any((1, 2))):
        labels, count = ndimage.label(regions[row], structure=np.ones((3, 3)))
        every = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        border = np.bincount(labels[frame], minlength=count + 1)[1:]
        whole = every >= least[row]
        worst[row] = np.max(border[whole] / np.sqrt(every[whole]), initial=0.0)
    return worst
