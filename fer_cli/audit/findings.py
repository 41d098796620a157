"""The findings of an audit: what each check says, in one line and case by case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fer_cli.audit.near_duplicates import NearCopies
from fer_cli.core.findings import Case, Check, Finding, Verdict
from fer_cli.datasets.leaks import apart, rows_by_name

_EVALUATED: Final = ("test", "validation")
_ACROSS: Final = {
    "split": {
        "exact": Check.EXACT_COPIES_ACROSS_SPLITS,
        "near": Check.NEAR_COPIES_ACROSS_SPLITS,
        "subjects": Check.SUBJECTS,
        "sequences": Check.SEQUENCES,
    },
    "fold": {
        "exact": Check.EXACT_COPIES_ACROSS_FOLDS,
        "near": Check.NEAR_COPIES_ACROSS_FOLDS,
        "subjects": Check.SUBJECTS_ACROSS_FOLDS,
        "sequences": Check.SEQUENCES_ACROSS_FOLDS,
    },
}
_OF_FOLDS: Final = frozenset(_ACROSS["fold"].values())
_DROP_DUPLICATES: Final = "'fer prepare' with --drop-duplicates leaves training copies out"
_SPLIT_BY_SUBJECT: Final = "'fer split' with --folds keeps subjects and sequences whole"


@dataclass(frozen=True, slots=True)
class Index:
    """What the checks read of a dataset's index; entry i of all is the same image.

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


def findings(index: Index, near: NearCopies) -> list[Finding]:
    """Return what each check of the images and their labels says, in a fixed order; the worst cases come first."""
    return [
        *_exact(index),
        *_near(index, near),
        *_both_names(index),
        _non_faces(index, near),
        _balance(index),
    ]


def fold_findings(index: Index, near: NearCopies) -> list[Finding]:
    """Return what the checks of an index whose splits are folds say of what stands in several of them."""
    every = [*_exact(index), *_near(index, near), *_both_names(index)]
    return [finding for finding in every if finding.check in _OF_FOLDS]


def _exact(index: Index) -> list[Finding]:
    groups = [rows for rows in rows_by_name(index.pixels.tolist()) if len(rows) > 1]
    across, conflicting = apart(groups, index.splits), apart(groups, index.labels)
    both = set(across) & set(conflicting)
    across.sort(key=lambda rows: rows not in both)
    conflicting.sort(key=lambda rows: rows not in both)
    extra = sum(len(rows) - 1 for rows in groups)
    leaking = {row for rows in across for row in rows}
    counted = f"{_number(len(across), 'group')}, {len(both):,} with different labels"
    return [
        Finding(
            Check.EXACT_COPIES,
            "caution" if extra else "pass",
            f"{_number(extra, 'extra copy', 'extra copies')} of equal pixels in {_number(len(groups), 'group')}"
            if extra
            else "no image is duplicated",
            count=extra,
            cases=tuple(Case(rows, 1.0) for rows in groups),
        ),
        Finding(
            _ACROSS[index.side]["exact"],
            "fail" if across else "pass",
            f"{counted}; {_affected(index, leaking)}" if across else "none",
            _DROP_DUPLICATES if across else "",
            count=len(across),
            cases=tuple(Case(rows, 1.0) for rows in across),
        ),
        Finding(
            Check.LABELS_OF_EXACT_COPIES,
            "caution" if conflicting else "pass",
            f"{_number(len(conflicting), 'group')} with different labels" if conflicting else "agree",
            count=len(conflicting),
            cases=tuple(Case(rows, 1.0) for rows in conflicting),
        ),
    ]


def _near(index: Index, near: NearCopies) -> list[Finding]:
    """Judge near copies by the splits and labels of all images that have the pixels of either."""
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
    if any(subject is not None for subject in index.subjects):
        text += "; none is looked for within one subject and split"
    counted = f"{_number(len(across), 'pair')}, {both:,} with different labels"
    return [
        Finding(
            Check.NEAR_COPIES,
            "caution" if len(several) else "pass",
            text,
            count=len(several),
            cases=tuple(everything),
        ),
        Finding(
            _ACROSS[index.side]["near"],
            "fail" if across else "pass",
            f"{counted}; {_affected(index, leaking)}" if across else "none",
            _DROP_DUPLICATES if across else "",
            count=len(across),
            cases=tuple(across),
        ),
        Finding(
            Check.LABELS_OF_NEAR_COPIES,
            "caution" if conflicting else "pass",
            f"{_number(len(conflicting), 'pair')} with different labels" if conflicting else "agree",
            count=len(conflicting),
            cases=tuple(conflicting),
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
    return [
        _names(_ACROSS[index.side]["subjects"], "subjects", index.subjects, index),
        _names(_ACROSS[index.side]["sequences"], "sequences", index.sequences, index),
    ]


def _names(check: Check, things: str, names: Sequence[str | None], index: Index) -> Finding:
    members = rows_by_name(names)
    if not members:
        return Finding(check, "not measured", f"the source names no {things}", count=0)
    across = apart(members, index.splits)
    unnamed = sum(name is None for name in names)
    more = f"; {_number(unnamed, 'image')} unnamed" if unnamed else ""
    if not across:
        return Finding(check, "pass", f"each of {len(members):,} {things} is in one {index.side}{more}", count=0)
    leaking = {row for rows in across for row in rows}
    text = (
        f"{len(across):,} of {len(members):,} {things} are in several {index.side}s; {_affected(index, leaking)}{more}"
    )
    return Finding(
        check, "fail", text, _SPLIT_BY_SUBJECT, count=len(across), cases=tuple(Case(rows) for rows in across)
    )


def _non_faces(index: Index, near: NearCopies) -> Finding:
    blank = set(near.blank.tolist())
    names = {index.pixels[row] for row in blank}
    voted = [row for row, votes in enumerate(index.votes) if votes is not None and 2 * votes[0] > votes[1]]
    showing = [row for row, name in enumerate(index.pixels) if name in names] if names else []
    rows = sorted({*voted, *showing})
    parts = [f"{_number(len(showing), 'image')} of one grey"] if showing else []
    if any(votes is not None for votes in index.votes):
        parts.append(f"{_number(len(voted), 'image')} that most voters call no face")
    else:
        parts.append("no votes that would tell" if not showing else "no votes that would tell of others")
    verdict: Verdict = "caution" if rows else "not measured" if all(votes is None for votes in index.votes) else "pass"
    return Finding(
        Check.NON_FACES, verdict, ", ".join(parts), count=len(rows), cases=tuple(Case((row,)) for row in rows)
    )


def _balance(index: Index) -> Finding:
    counts = Counter(index.labels)
    there = Counter(zip(index.splits, index.labels, strict=True))
    splits = list(dict.fromkeys(index.splits))
    absent = [f"{split} has no {name}" for split in splits for name in counts if not there[split, name]]
    (largest, most), (smallest, fewest) = counts.most_common()[0], counts.most_common()[-1]
    ratio = f"{largest} {most:,} to {smallest} {fewest:,}, {most / fewest:.1f} to 1"
    measured = "; ".join([*absent, ratio])
    return Finding(Check.CLASS_BALANCE, "caution" if absent else "pass", measured, count=len(absent))


def _affected(index: Index, leaking: set[int]) -> str:
    """Say which part of each evaluated split, or of all folds, has a counterpart in another."""
    if index.side == "fold":
        return f"{len(leaking):,} images ({len(leaking) / len(index.splits):.1%})"
    sizes, hit = Counter(index.splits), Counter(index.splits[row] for row in leaking)
    parts = [f"{hit[name]:,} {name} images ({hit[name] / sizes[name]:.1%})" for name in _EVALUATED if hit[name]]
    return ", ".join(parts)


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
