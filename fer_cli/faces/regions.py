"""Parts of a face, the orders in which parsing networks number them, and their grouping into regions.

A *part* is what a parsing network tells apart (Lee et al. 2020, CelebAMask-HQ), here without sides: a left and a right
eye are both ``eye``, so that a mirrored face needs no renaming once its sides are merged. A *region* is what the rest
of the project speaks of (:data:`fer_cli.core.labels.REGIONS`; Lv et al., SLFER).
Numbers of either stay inside this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.errors import UsageError
from fer_cli.core.labels import REGIONS

PARTS: Final = (
    "background",
    "skin",
    "brow",
    "eye",
    "glasses",
    "ear",
    "earring",
    "nose",
    "mouth",
    "lip",
    "neck",
    "necklace",
    "cloth",
    "hair",
    "hat",
)
"""The parts that parsers tell apart. ``mouth`` is the open mouth between the lips."""

DEFAULT_GROUPING: Final[Mapping[str, str]] = {
    "background": "background",
    "skin": "skin",
    "brow": "eye",
    "eye": "eye",
    "glasses": "eye",
    "ear": "ear",
    "earring": "ear",
    "nose": "nose",
    "mouth": "mouth",
    "lip": "mouth",
    "neck": "neck",
    "necklace": "neck",
    "cloth": "background",
    "hair": "hair",
    "hat": "background",
}
"""Part -> region: the reading of SLFER's eight regions that the project takes."""

CELEBAMASK_ORDER: Final = (
    *("background", "skin", "nose", "glasses", "left eye", "right eye", "left brow", "right brow"),
    *("left ear", "right ear", "mouth", "upper lip", "lower lip", "hair", "hat", "earring", "necklace", "neck"),
    "cloth",
)
"""CelebAMask-HQ's own numbers, as its mask files hold them."""

BISENET_ORDER: Final = (
    *("background", "skin", "left brow", "right brow", "left eye", "right eye", "glasses", "left ear", "right ear"),
    *("earring", "nose", "mouth", "upper lip", "lower lip", "neck", "necklace", "cloth", "hair", "hat"),
)
"""The numbers of the widely used BiSeNet checkpoint, which differ from the data set's."""


def part_of(name: str) -> str:
    """Return the part of a class with a side: ``left eye`` -> ``eye``, ``lower lip`` -> ``lip``."""
    return name.rsplit(" ", 1)[-1]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which region each part belongs to. Stored with every set of masks."""

    regions: tuple[str, ...]
    """One name of :data:`fer_cli.core.labels.REGIONS` for each of :data:`PARTS`."""

    def record(self) -> dict[str, str]:
        """Return what artifacts record: part -> region."""
        return dict(zip(PARTS, self.regions, strict=True))

    def table(self, order: Iterable[str] = PARTS) -> NDArray[np.uint8]:
        """Return the index into REGIONS for each class of ``order``: it turns class maps into region maps."""
        mapping = self.record()
        return np.array([REGIONS.index(mapping[part_of(name)]) for name in order], dtype=np.uint8)


def grouping(changes: Iterable[str] = ()) -> Grouping:
    """Return the default grouping with some parts moved.

    Args:
        changes: ``PART=REGION``, for example ``brow=skin``.

    Raises:
        UsageError: a change names no part or no region, or the background is moved; or two name the same part.
    """
    mapping = dict(DEFAULT_GROUPING)
    moved: set[str] = set()
    for change in changes:
        part, equals, region = (text.strip() for text in change.partition("="))
        if not equals or part not in mapping:
            raise UsageError(
                f"--group {change!r} does not name a part of the face", hint=f"PART=REGION, of {', '.join(PARTS)}"
            )
        if region not in REGIONS:
            raise UsageError(f"--group {change!r} does not name a region", hint=f"the regions are {', '.join(REGIONS)}")
        if part == "background" and region != "background":
            raise UsageError(f"--group {change!r} would make the background a region", hint="regroup parts of the face")
        if part in moved:
            raise UsageError(f"--group {change!r} assigns {part} twice", hint="give each part once")
        moved.add(part)
        mapping[part] = region
    return Grouping(tuple(mapping[part] for part in PARTS))
