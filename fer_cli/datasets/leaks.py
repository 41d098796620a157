"""What is in more than one split: equal images, subjects, sequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fer_cli.artifacts.summaries import DuplicateCounts

Rows = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Leaks:
    """Counts of what a split or folds part, and of equal images; ``warnings`` say them in words."""

    extra_copies: int
    duplicates_across: int
    conflicting: int
    subjects_across: int
    sequences_across: int
    warnings: tuple[str, ...]

    def duplicates(self) -> DuplicateCounts:
        """Return what a summary holds of equal images."""
        return DuplicateCounts(
            extra_copies=self.extra_copies,
            groups_across_splits=self.duplicates_across,
            groups_with_conflicting_labels=self.conflicting,
        )


def find_leaks(
    sides: Sequence[str],
    *,
    labels: Sequence[str],
    pixels: Sequence[str],
    subjects: Sequence[str | None],
    sequences: Sequence[str | None],
    thing: str = "split",
) -> Leaks:
    """Count images whose pixels are equal, a leak where they stand on two sides, a doubt where their labels differ.

    Args:
        sides: (N,) the split or fold of each image.
        labels: (N,) class names.
        pixels: (N,) hashes of the images.
        subjects: (N,) who is pictured, None where that is unknown; empty where it never is.
        sequences: (N,) the film that a frame is of, None where that is unknown; empty where it never is.
        thing: what a side is called.
    """
    images = rows_by_name(pixels)
    across, conflicting = len(apart(images, sides)), len(apart(images, labels))
    subjects_across, sequences_across = (len(apart(rows_by_name(names), sides)) for names in (subjects, sequences))
    warnings = [
        f"{number} {noun} are in more than one {thing}: scores are optimistic"
        for number, noun in ((subjects_across, "subjects"), (sequences_across, "sequences"))
        if number
    ]
    if across:
        warnings.append(f"{across} duplicate groups span {thing}s: scores on them are optimistic")
    if conflicting:
        warnings.append(f"{conflicting} duplicate groups have conflicting labels")
    return Leaks(len(pixels) - len(images), across, conflicting, subjects_across, sequences_across, tuple(warnings))


def rows_by_name(names: Iterable[str | None]) -> list[Rows]:
    """Return the rows that share a name, for each name in the order in which they come; None is no name."""
    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name is not None:
            found.setdefault(name, []).append(row)
    return [tuple(rows) for rows in found.values()]


def apart(groups: Iterable[Rows], sides: Sequence[str]) -> list[Rows]:
    """Return the groups of rows that stand on more than one side."""
    return [rows for rows in groups if len({sides[row] for row in rows}) > 1]
