"""The FER+ votes (Barsoum et al. 2016): reading them, and the rules that make labels of them.

Ten people voted on every image of FER2013 for one of eight expressions, "unknown" or "NF" (not a face).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, get_args

from fer_cli.artifacts.protocol import Leftover
from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS, SYNONYMS
from fer_cli.datasets.leftovers import unread_columns, unread_members
from fer_cli.datasets.tables import open_table

Rule = Literal["majority", "plurality", "votes"]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)

COLUMNS: Final = (
    *("neutral", "happy", "surprise", "sad", "anger", "disgust", "fear", "contempt"),
    *("unknown", "nf"),
)
"""The ten columns in the order of the official file, which decides ties."""
VOTERS: Final = 10

_EMOTIONS: Final = 8  # the columns before "unknown"
_NAME_TITLES: Final = ("image name", "image_name", "image")
_NAME: Final = re.compile(r"fer\d{7}\.png")
_FILE_NAMES: Final = tuple(f"fer2013new.csv{suffix}" for suffix in ("", ".gz", ".xz", ".zip"))


@dataclass(frozen=True, slots=True)
class Votes:
    """The votes file: for each row its part of FER2013, its ten counts in the order of ``COLUMNS``, and its line.

    ``leftovers``: the columns, and the other files of an archive, that are not read.
    """

    path: Path
    parts: list[str]
    counts: list[tuple[int, ...]]
    lines: list[int]
    warnings: list[str]
    leftovers: list[Leftover]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says of one row: a label, with a soft label where the rule gives one, or the reason to drop it."""

    label: str | None
    target: tuple[float, ...] | None = None  # in the order of ``labels.EXPRESSIONS``, sums to 1
    reason: str = ""


def find_votes(votes: Path | None, source: Path) -> Path:
    """Return the votes file: ``votes``, or ``fer2013new.csv`` in that folder or, without one, beside the images.

    Raises:
        FerError: there is none.
    """
    if votes is not None and not votes.is_dir():
        if not votes.exists():
            raise FerError("no such file", hint="give the FER+ votes, fer2013new.csv", path=votes)
        return votes
    folder = votes or (source if source.is_dir() else source.parent)
    for name in _FILE_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise FerError(
        "there are no FER+ votes (fer2013new.csv) in this folder",
        hint="give them with --votes; they are at github.com/microsoft/FERPlus",
        path=folder,
    )


def read_votes(path: Path, parts: tuple[str, ...]) -> Votes:
    """Read the votes; of image names only the order is looked at.

    They are missing in 173 rows, and four occur twice, where images are equal.

    Args:
        path: ``fer2013new.csv``, plain or compressed.
        parts: what ``Usage`` may be.

    Raises:
        FerError: a vote is not a whole number from 0 to 10, a row holds no vote or more than ten, or the image names
            do not ascend.
    """
    aliases = {name: tuple(sorted(alias for alias, to in SYNONYMS.items() if to == name)) for name in EXPRESSIONS}
    titles = {name: (_title(name), *aliases.get(name, ())) for name in COLUMNS}
    table = open_table(path, {"Usage": ("usage",), **titles}, {"name": _NAME_TITLES}, members=_FILE_NAMES[:1])
    part_at, vote_at = table.columns["Usage"], [table.columns[name] for name in COLUMNS]
    votes = Votes(path, [], [], [], [], unread_columns(path, table.header, table.columns.values()))
    few: list[int] = []
    names: list[tuple[int, str]] = []
    for line, cells in table.rows:
        if "name" in table.columns and _NAME.fullmatch(name := cells[table.columns["name"]]):
            names.append((line, name))
        part = cells[part_at]
        if part not in parts:
            raise FerError(
                f"unknown Usage {part[:40]!r}", hint=f"it is one of {', '.join(parts)}", path=path, line=line
            )
        counts = tuple(_vote(path, line, name, cells[at]) for name, at in zip(COLUMNS, vote_at, strict=True))
        total = sum(counts)
        if not 0 < total <= VOTERS:
            raise FerError(
                f"the row holds {total} votes, not {VOTERS}",
                hint="use the official fer2013new.csv",
                path=path,
                line=line,
            )
        if total < VOTERS:
            few.append(line)
        votes.parts.append(part)
        votes.counts.append(counts)
        votes.lines.append(line)
    votes.leftovers.extend(unread_members(path, table.passed).leftovers())
    if not votes.counts:
        raise FerError("the table has a header and no rows", hint="copy it again", path=path, line=1)
    _check_names(path, names)
    if few:
        rows = "1 row holds" if len(few) == 1 else f"{len(few):,} rows hold"
        votes.warnings.append(f"{path.name}: {rows} fewer than {VOTERS} votes (first: line {few[0]})")
    return votes


def _check_names(path: Path, names: Sequence[tuple[int, str]]) -> None:
    """Refuse image names that do not ascend, less those that occur twice: the second of two equal images keeps it."""
    times = Counter(name for _, name in names)
    last = ""
    for line, name in names:
        if times[name] > 1:
            continue
        if name < last:
            raise FerError(
                f"the image {name} stands behind {last}: the rows are not in the official order",
                hint="FER+ votes and images join by row order: use the official fer2013new.csv",
                path=path,
                line=line,
            )
        last = name


def _title(name: str) -> str:
    """Return the official header of a column, in lower case."""
    return {"happy": "happiness", "sad": "sadness"}.get(name, name)


def _vote(path: Path, line: int, name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 3 and (vote := int(text)) <= VOTERS:
        return vote
    raise FerError(
        f"the vote for {_title(name)} is {text[:20]!r}, not a whole number from 0 to {VOTERS}",
        hint="use the official fer2013new.csv",
        path=path,
        line=line,
    )


def is_nonface(votes: tuple[int, ...]) -> bool:
    """Tell whether NF holds more than half of a row's votes."""
    return 2 * votes[COLUMNS.index("nf")] > sum(votes)


@cache
def judge(rule: Rule, votes: tuple[int, ...]) -> Verdict:
    """Apply a rule to one row of votes.

    *majority* (the official one): single votes count for nothing, and the winner must hold more than half of the rest.
    *plurality*: the most votes win, the first column wins a tie. *votes* (the official probability mode): single votes
    count for nothing; the strongest emotions are taken, ties together, until they hold three quarters of the rest or
    are three, or until unknown or NF is met; they must hold more than half and be at most three. Their shares are the
    soft label, the strongest (the first of a tie) is the label.

    Args:
        rule: one of ``RULES``.
        votes: ten counts in the order of ``COLUMNS``.
    """
    if rule == "plurality":
        return _winner(votes.index(max(votes)))
    counts = [vote if vote > 1 else 0 for vote in votes]
    total = sum(counts)
    if rule == "majority":
        return _winner(counts.index(max(counts))) if 2 * max(counts) > total else Verdict(None, reason="no agreement")
    taken: dict[int, int] = {}
    for level in sorted(set(counts) - {0}, reverse=True):
        if 4 * sum(taken.values()) >= 3 * total:  # three emotions of ten votes always get there, or tie with a fourth
            break
        tied = [column for column, count in enumerate(counts) if count == level]
        taken.update((column, level) for column in tied if column < _EMOTIONS)
        if tied[-1] >= _EMOTIONS:
            if not taken:
                return _winner(tied[0])
            break
    held = sum(taken.values())
    if 2 * held <= total or len(taken) > 3:
        return Verdict(None, reason="no agreement")
    share = {COLUMNS[column]: count / held for column, count in taken.items()}
    return Verdict(COLUMNS[min(taken, key=lambda column: (-taken[column], column))], _in_order(share))


def _winner(column: int) -> Verdict:
    if column < _EMOTIONS:
        return Verdict(COLUMNS[column])
    return Verdict(None, reason="voted unknown" if COLUMNS[column] == "unknown" else "voted not a face")


def _in_order(share: dict[str, float]) -> tuple[float, ...]:
    return tuple(share.get(name, 0.0) for name in EXPRESSIONS)
