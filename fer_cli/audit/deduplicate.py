"""Part of stage ``prepare``: training pictures that are copies are left out of what was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.payload import ArrayWriter, read_array
from fer_cli.artifacts.store import Work
from fer_cli.audit.deduplication import RULE, copies_to_drop
from fer_cli.audit.near_duplicates import LIKENESS, PROPOSED, near_copies
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import IMAGES, MASKS
from fer_cli.datasets.records import Row

REVISION: Final = 1
"""Raised whenever other pictures are left out of the same ones."""
SETTING: Final = {"revision": REVISION, "proposed": PROPOSED, "likeness": LIKENESS}
"""What decides which pictures go, beside the pictures: part of the artifact's version."""
_AT_ONCE: Final = 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows (positions among all that were read) that stay, and how many went for each reason."""

    positions: NDArray[np.int64]
    dropped: dict[str, int]

    def protocol(self) -> dict[str, Any]:
        """Return what every number that comes from these pictures has to say of it."""
        return {"rule": RULE, "likeness": LIKENESS, "rows": self.dropped}


def leave_out_copies(work: Work, rows: Sequence[Row], splits: Sequence[str], hashes: Sequence[str]) -> Kept:
    """Take the copies among training pictures out of the arrays that were written.

    It comes before a split is carved from train: then no picture of a carved split has a copy anywhere.

    Args:
        work: its arrays hold a row for each of ``rows``.
        rows: what was read.
        splits: of each, the source's own.
        hashes: of each one's pixels.
    """
    pixels = np.array(hashes, dtype=np.str_)
    near = near_copies(read_array(work.directory / IMAGES), pixels).of_several([row.subject for row in rows], splits)
    dropped = copies_to_drop(splits, [row.label for row in rows], pixels, near)
    kept = np.array([row for row in range(len(rows)) if row not in dropped], dtype=np.int64)
    for name in (IMAGES, MASKS):
        if dropped and (work.directory / name).exists():
            _compact(work, name, kept)
    counted = dict(Counter(dropped.values()))
    note(f"{len(dropped):,} of {sum(split == 'train' for split in splits):,} training pictures are copies and left out")
    return Kept(kept, counted)


def _compact(work: Work, name: str, kept: NDArray[np.int64]) -> None:
    """Move the rows that stay to the front, in place: each goes to where it stands or before."""
    path = work.directory / name
    array = read_array(path)
    with ArrayWriter(path, array.shape[1:], array.dtype, len(array), reserve=False) as writer:
        for start in range(0, len(kept), _AT_ONCE):
            writer.write(start, np.ascontiguousarray(array[kept[start : start + _AT_ONCE]]))
        del array  # the file gets shorter than the map
        writer.finish(len(kept))
