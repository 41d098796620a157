"""Which training pictures go so that no picture is trained on that is scored, and none counts twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.audit.near_duplicates import NearCopies

OF_SCORED: Final = "copies of test or validation pictures"
OF_TRAINING: Final = "copies of other training pictures"
CONTRADICTORY: Final = "copies whose labels contradict each other"
RULE: Final = (
    "training pictures that equal or nearly equal one of test or validation go; of each group of the rest the first "
    "stays that has the label of most, and none where two labels tie"
)


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
    for one, other in zip(pixels[near.first].tolist(), pixels[near.second].tolist(), strict=True):
        linked.setdefault(one, set()).add(other)
        linked.setdefault(other, set()).add(one)
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
