"""Leave out training images that are copies: none is trained on that is scored, and none counts twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.payload import ArrayWriter, read_array
from fer_cli.artifacts.protocol import DuplicatesLeftOut
from fer_cli.artifacts.work import Work
from fer_cli.audit import reach
from fer_cli.audit.near_duplicates import LIKENESS, MOVED_LIKENESS, PROPOSED, NearCopies, groups_of, near_copies
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import IMAGES, MASKS
from fer_cli.datasets.records import Row

REVISION: Final = 3
"""Raised whenever other pictures are left out of the same ones."""
SETTING: Final = {"revision": REVISION, "proposed": PROPOSED, "likeness": LIKENESS, "moved": MOVED_LIKENESS}
"""What decides which pictures go, beside the pictures: part of the artifact's version."""
OF_SCORED: Final = "copies of test or validation images"
OF_TRAINING: Final = "copies of other training images"
CONTRADICTORY: Final = "copies whose labels contradict each other"
RULE: Final = (
    "training images that equal or nearly equal one of test or validation go; of each group of the rest the first "
    "stays that has the label of most, and none where two labels tie"
)

_AT_ONCE: Final = 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows (positions among all that were read) that stay, and how many went for each reason."""

    positions: NDArray[np.int64]
    dropped: dict[str, int]

    def protocol(self) -> DuplicatesLeftOut:
        """Return what every number that comes from these pictures has to say of it."""
        return DuplicatesLeftOut(rule=RULE, likeness=LIKENESS, rows=self.dropped, recall=reach.lowest())


def leave_out_copies(work: Work, rows: Sequence[Row], splits: Sequence[str], hashes: Sequence[str]) -> Kept:
    """Take the copies among training pictures out of the arrays that were written.

    It comes before a split is held out from train: then no picture of a carved split has a copy anywhere.

    Args:
        work: its arrays hold a row for each of ``rows``.
        rows: what was read.
        splits: of each, the source's own.
        hashes: of each one's pixels.
    """
    pixels = np.array(hashes, dtype=np.str_)
    groups = groups_of([row.subject for row in rows], splits)
    near = near_copies(read_array(work.directory / IMAGES), pixels, groups=groups)
    dropped = copies_to_drop(splits, [row.label for row in rows], pixels, near)
    kept = np.array([row for row in range(len(rows)) if row not in dropped], dtype=np.int64)
    for name in (IMAGES, MASKS):
        if dropped and (work.directory / name).exists():
            _compact(work, name, kept)
    counted = dict(Counter(dropped.values()))
    note(f"{len(dropped):,} of {sum(split == 'train' for split in splits):,} training images are copies and left out")
    return Kept(kept, counted)


def copies_to_drop(
    splits: Sequence[str], labels: Sequence[str], pixels: NDArray[np.str_], near: NearCopies
) -> dict[int, str]:
    """Return the training rows to leave out, each with the reason; rows of other splits never go.

    A group is what equal pixels and near copies link, if need be through others, among the training rows that have no
    copy in another split.
    """
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(pixels.tolist()):
        rows_of.setdefault(name, []).append(row)
    linked: dict[str, set[str]] = {name: set() for name, rows in rows_of.items() if len(rows) > 1}
    for first, second in zip(pixels[near.first].tolist(), pixels[near.second].tolist(), strict=True):
        linked.setdefault(first, set()).add(second)
        linked.setdefault(second, set()).add(first)
    scored = {name for name in linked if any(splits[row] != "train" for row in rows_of[name])}
    dropped: dict[int, str] = {}
    pending = set()
    for name, others in linked.items():
        training = [row for row in rows_of[name] if splits[row] == "train"]
        if name in scored or others & scored:
            dropped |= dict.fromkeys(training, OF_SCORED)
        elif training:
            pending.add(name)
    while pending:
        group = _reached(pending.pop(), linked, pending)
        dropped |= _one_stays(sorted(row for name in group for row in rows_of[name]), labels)
    return dict(sorted(dropped.items()))


def _reached(start: str, linked: dict[str, set[str]], within: set[str]) -> set[str]:
    """Return what links reach from ``start``; all of it leaves ``within``."""
    group, pending = {start}, [start]
    while pending:
        fresh = linked[pending.pop()] & within
        within -= fresh
        group |= fresh
        pending += fresh
    return group


def _one_stays(group: list[int], labels: Sequence[str]) -> dict[int, str]:
    ranked = Counter(labels[row] for row in group).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return dict.fromkeys(group, CONTRADICTORY)
    stays = next(row for row in group if labels[row] == ranked[0][0])
    return {row: OF_TRAINING for row in group if row != stays}


def _compact(work: Work, name: str, kept: NDArray[np.int64]) -> None:
    """Move the rows that stay to the front, in place: each goes to where it stands or before."""
    path = work.directory / name
    array = read_array(path)
    with ArrayWriter(path, array.shape[1:], array.dtype, len(array), reserve=False) as writer:
        for start in range(0, len(kept), _AT_ONCE):
            writer.write(start, np.ascontiguousarray(array[kept[start : start + _AT_ONCE]]))
        del array  # the file gets shorter than the map
        writer.finish(len(kept))
