"""Images that one system has right and another wrong: all of them as rows, and some of them as pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.core.progress import warn
from fer_cli.datasets.dataset import open_dataset
from fer_cli.evaluation.comparison_inputs import ComparisonInput
from fer_cli.reporting.comparison import System
from fer_cli.reporting.comparison_page import ChangeStrip, ShownImage
from fer_cli.reporting.heatmap import thumbnail

STRIP: Final = 16
"""Pictures of a strip at most; with many systems fewer, so that a page holds :data:`PAGE` of them."""
PAGE: Final = 80
LEAST: Final = 4


@dataclass(frozen=True, slots=True)
class Change:
    """An image that a system has right by another share of its runs than the first system."""

    system: System
    id: str
    label: str
    ahead: float  # share of runs that are right, less that of the first system
    predicted: tuple[str, ...]  # one a run
    by_first: tuple[str, ...]

    @property
    def won(self) -> bool:
        """Whether the system is ahead of the first on it."""
        return self.ahead > 0

    def row(self) -> tuple[str, ...]:
        """Return the row of a table with :data:`COLUMNS`."""
        return (
            self.system.name,
            self.id,
            self.label,
            "won" if self.won else "lost",
            "|".join(self.predicted),
            "|".join(self.by_first),
            str(self.predicted.count(self.label)),
            str(self.by_first.count(self.label)),
            f"{len(self.predicted)}|{len(self.by_first)}",
        )


COLUMNS: Final = (
    *("system", "id", "label", "change", "predicted", "predicted_by_first"),
    *("right", "right_by_first", "trainings"),
)


def changes_of(
    inputs: Sequence[ComparisonInput], systems: Sequence[System], right: Sequence[NDArray[np.bool_]]
) -> Iterator[Change]:
    """Yield the images that a system has right more often than the first, or less often.

    Args:
        inputs: the systems' predictions, on the same items in the same order.
        systems: the same systems as they are shown.
        right: of each (S, N): which items each run has right.
    """
    first = inputs[0]
    for index in range(1, len(inputs)):
        shares = right[index].mean(axis=0) - right[0].mean(axis=0)
        for item in np.flatnonzero(np.abs(shares) > 1e-9):
            yield Change(
                system=systems[index],
                id=str(first.ids[item]),
                label=str(first.label[item]),
                ahead=float(shares[item]),
                predicted=tuple(inputs[index].predicted[:, item].tolist()),
                by_first=tuple(first.predicted[:, item].tolist()),
            )


def change_strips(store: Store, evaluation: Artifact, changes: Sequence[Change]) -> tuple[ChangeStrip, ...]:
    """Return the images that changed as strips of pictures, two a system: those it has right, those the first has.

    Those with the largest difference come first, the classes in turn, so that a common one does not fill the strip.

    Args:
        store: holds the dataset; where it does not any more, images are ids without pictures.
        evaluation: of the first system.
        changes: all of them.
    """
    groups: dict[tuple[str, bool], list[Change]] = {}
    for change in sorted(changes, key=lambda one: (one.system.label, not one.won)):
        groups.setdefault((change.system.label, change.won), []).append(change)
    most = max(LEAST, min(STRIP, PAGE // max(1, len(groups))))
    picked = {key: _in_turn(group)[:most] for key, group in groups.items()}
    thumbnails = _thumbnails(store, evaluation, {one.id for group in picked.values() for one in group})
    return tuple(
        ChangeStrip(
            system=group[0].system,
            won=group[0].won,
            total=len(group),
            images=tuple(
                ShownImage(
                    id=one.id,
                    label=one.label,
                    answer=_wrong(one),
                    runs=(_runs(one.predicted, one.label), _runs(one.by_first, one.label)),
                    thumbnail=thumbnails.get(one.id, ""),
                )
                for one in picked[key]
            ),
        )
        for key, group in groups.items()
    )


def _in_turn(changes: Sequence[Change]) -> list[Change]:
    """Sort by the size of the difference, then the n-th image of each class before the next of any."""
    nth: Counter[str] = Counter()
    ranked = []
    for change in sorted(changes, key=lambda one: -abs(one.ahead)):
        ranked.append((nth[change.label], change))
        nth[change.label] += 1
    return [change for _, change in sorted(ranked, key=lambda one: one[0])]


def _wrong(change: Change) -> str:
    """Return what the runs of the system that is behind answer most, of their wrong answers."""
    behind = change.by_first if change.won else change.predicted
    return Counter(answer for answer in behind if answer != change.label).most_common(1)[0][0]


def _runs(answers: Sequence[str], label: str) -> tuple[int, int]:
    return answers.count(label), len(answers)


def _thumbnails(store: Store, evaluation: Artifact, ids: set[str]) -> dict[str, str]:
    try:
        dataset = open_dataset(open_parent(store, evaluation, "dataset"))
    except FerError as error:
        warn(f"{error.what}: images that changed are shown by their ids alone")
        return {}
    rows = np.flatnonzero(np.isin(dataset.ids, sorted(ids)))
    return {str(dataset.ids[row]): thumbnail(dataset.images[row]) for row in rows}
