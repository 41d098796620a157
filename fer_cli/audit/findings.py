"""The findings of an audit: what each check says, in one line and case by case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fer_cli.audit.near_duplicates import NearCopies
from fer_cli.datasets.leaks import apart, rows_by_name

State = Literal["ok", "defect", "leak", "unknown"]
_EVALUATED: Final = ("test", "validation")


@dataclass(frozen=True, slots=True)
class Index:
    """What the checks read of a data set's index; entry i of all is the same picture.

    ``votes`` are the raw counts of people who called it no face, and of all who voted. ``side`` is what ``splits`` are
    called: each image is scored in its fold, but in two of the splits alone.
    """

    splits: Sequence[str]
    labels: Sequence[str]
    pixels: NDArray[np.str_]
    subjects: Sequence[str | None]
    sequences: Sequence[str | None]
    votes: Sequence[tuple[int, int] | None]
    side: Literal["split", "fold"] = "split"


@dataclass(frozen=True, slots=True)
class Case:
    """Pictures, as rows of the index, that are a fault together. ``likeness`` is 1 for equal pixels."""

    rows: tuple[int, ...]
    likeness: float | None = None
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. A ``leak`` makes scores on the test or validation split optimistic."""

    check: str
    state: State
    count: int
    text: str
    cases: tuple[Case, ...] = ()


def findings(index: Index, near: NearCopies) -> list[Finding]:
    """Return what each check of the pictures and their labels says, in a fixed order; the worst cases come first."""
    return [
        *_exact(index),
        *_near(index, near),
        *_both_names(index),
        _non_faces(index, near),
        _balance(index),
    ]


def fold_findings(index: Index, near: NearCopies) -> list[Finding]:
    """Return what the checks of an index whose splits are folds say of what stands in several of them."""
    found = [*_exact(index), *_near(index, near), *_both_names(index)]
    return [one for one in found if one.check.endswith(f"across {index.side}s")]


def _exact(index: Index) -> list[Finding]:
    groups = [rows for rows in rows_by_name(index.pixels.tolist()) if len(rows) > 1]
    across, conflicting = apart(groups, index.splits), apart(groups, index.labels)
    both = set(across) & set(conflicting)
    across.sort(key=lambda rows: rows not in both)
    conflicting.sort(key=lambda rows: rows not in both)
    extra = sum(len(rows) - 1 for rows in groups)
    leaking = {row for rows in across for row in rows}
    told = f"{_number(len(across), 'group')}, {len(both):,} with different labels"
    return [
        Finding(
            "exact copies",
            "defect" if extra else "ok",
            extra,
            f"{_number(extra, 'extra copy', 'extra copies')} of equal pixels in {_number(len(groups), 'group')}"
            if extra
            else "no picture stands twice",
            tuple(Case(rows, 1.0) for rows in groups),
        ),
        Finding(
            f"exact copies across {index.side}s",
            "leak" if across else "ok",
            len(across),
            f"{told}; {_affected(index, leaking)}" if across else "none",
            tuple(Case(rows, 1.0) for rows in across),
        ),
        Finding(
            "labels of exact copies",
            "defect" if conflicting else "ok",
            len(conflicting),
            f"{_number(len(conflicting), 'group')} with different labels" if conflicting else "agree",
            tuple(Case(rows, 1.0) for rows in conflicting),
        ),
    ]


def _near(index: Index, near: NearCopies) -> list[Finding]:
    """Judge near copies by the splits and labels of all pictures that have the pixels of either."""
    several = near.of_several(index.subjects, index.splits)
    same: dict[str, list[int]] = {}
    for row, name in enumerate(index.pixels.tolist()):
        same.setdefault(name, []).append(row)
    everything, across, conflicting = list[Case](), list[Case](), list[Case]()
    leaking: set[int] = set()
    both = 0
    for k in np.argsort(several.likeness, kind="stable"):  # the least alike first: those to doubt
        likeness, mirrored = float(several.likeness[k]), bool(several.mirrored[k])
        sides = tuple(same[index.pixels[rows[k]]] for rows in (several.first, several.second))
        everything.append(Case((sides[0][0], sides[1][0]), likeness, mirrored))
        leak, conflict = _different(index.splits, *sides), _different(index.labels, *sides)
        if leak is not None:
            across.append(Case(leak, likeness, mirrored))
            leaking.update(_foreign(index.splits, *sides))
            both += conflict is not None
        if conflict is not None:
            conflicting.append(Case(conflict, likeness, mirrored))
    mirrored_pairs = int(several.mirrored.sum())
    text = f"{_number(len(several), 'pair')}, {mirrored_pairs:,} of them mirrored" if len(several) else "none"
    if alike := len(near) - len(several):
        text += f"; {_number(alike, 'pair')} of one person in one split not counted"
    told = f"{_number(len(across), 'pair')}, {both:,} with different labels"
    return [
        Finding("near copies", "defect" if len(several) else "ok", len(several), text, tuple(everything)),
        Finding(
            f"near copies across {index.side}s",
            "leak" if across else "ok",
            len(across),
            f"{told}; {_affected(index, leaking)}" if across else "none",
            tuple(across),
        ),
        Finding(
            "labels of near copies",
            "defect" if conflicting else "ok",
            len(conflicting),
            f"{_number(len(conflicting), 'pair')} with different labels" if conflicting else "agree",
            tuple(conflicting),
        ),
    ]


def _different(values: Sequence[str], ours: Sequence[int], theirs: Sequence[int]) -> tuple[int, int] | None:
    """Return a row of each side whose values differ, if there are such."""
    first: dict[str, int] = {}
    for row in theirs:
        first.setdefault(values[row], row)
    for row in ours:
        for value, other in first.items():
            if value != values[row]:
                return row, other
    return None


def _foreign(values: Sequence[str], ours: Sequence[int], theirs: Sequence[int]) -> set[int]:
    """Return the rows of both sides that have one of another value on the other side."""
    there, here = {values[row] for row in theirs}, {values[row] for row in ours}
    return {row for row in ours if there - {values[row]}} | {row for row in theirs if here - {values[row]}}


def _both_names(index: Index) -> list[Finding]:
    where = "" if index.side == "split" else f" across {index.side}s"
    return [
        _names(f"subjects{where}", "persons", index.subjects, index),
        _names(f"sequences{where}", "sequences", index.sequences, index),
    ]


def _names(check: str, things: str, names: Sequence[str | None], index: Index) -> Finding:
    members = rows_by_name(names)
    if not members:
        return Finding(check, "unknown", 0, f"the source names no {things}")
    across = apart(members, index.splits)
    unnamed = sum(name is None for name in names)
    more = f"; of {_number(unnamed, 'picture')} nothing is known" if unnamed else ""
    if not across:
        return Finding(check, "ok", 0, f"each of {len(members):,} {things} is in one {index.side}{more}")
    leaking = {row for rows in across for row in rows}
    text = (
        f"{len(across):,} of {len(members):,} {things} are in several {index.side}s; {_affected(index, leaking)}{more}"
    )
    return Finding(check, "leak", len(across), text, tuple(Case(rows) for rows in across))


def _non_faces(index: Index, near: NearCopies) -> Finding:
    blank = set(near.blank.tolist())
    names = {index.pixels[row] for row in blank}
    voted = [row for row, votes in enumerate(index.votes) if votes is not None and 2 * votes[0] > votes[1]]
    showing = [row for row, name in enumerate(index.pixels) if name in names] if names else []
    rows = sorted({*voted, *showing})
    parts = [f"{_number(len(showing), 'picture')} of one grey"] if showing else []
    if any(votes is not None for votes in index.votes):
        parts.append(f"{_number(len(voted), 'picture')} that most voters call no face")
    else:
        parts.append("no votes that would tell" if not showing else "no votes that would tell of others")
    state: State = "defect" if rows else "unknown" if all(votes is None for votes in index.votes) else "ok"
    return Finding("non-faces", state, len(rows), ", ".join(parts), tuple(Case((row,)) for row in rows))


def _balance(index: Index) -> Finding:
    counts = Counter(index.labels)
    there = Counter(zip(index.splits, index.labels, strict=True))
    splits = list(dict.fromkeys(index.splits))
    absent = [f"{split} has no {name}" for split in splits for name in counts if not there[split, name]]
    (largest, most), (smallest, fewest) = counts.most_common()[0], counts.most_common()[-1]
    told = f"{largest} {most:,} to {smallest} {fewest:,}, {most / fewest:.1f} to 1"
    return Finding("class balance", "defect" if absent else "ok", len(absent), "; ".join([*absent, told]))


def _affected(index: Index, leaking: set[int]) -> str:
    """Say which part of each evaluated split, or of all folds, has a counterpart in another."""
    if index.side == "fold":
        return f"{len(leaking):,} pictures ({len(leaking) / len(index.splits):.1%})"
    sizes, hit = Counter(index.splits), Counter(index.splits[row] for row in leaking)
    parts = [f"{hit[name]:,} {name} pictures ({hit[name] / sizes[name]:.1%})" for name in _EVALUATED if hit[name]]
    return ", ".join(parts)


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
