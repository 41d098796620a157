"""Joining FER+ votes to the images of FER2013, and whether they belong together: how they agree with its own labels.

Votes and images have no name in common, only their order. Where they belong together, 68% of the images with a majority
have the emotion that FER2013 says; votes of other images agree on 18%. Each row adds the logarithm of how much likelier
FER2013's label is under its own votes than under those of any other image. Along the rows this sum climbs; where it
falls by :data:`FALL` below its highest point, the rows since then have the votes of other images. On the real rows it
falls by 7.5 at most. Of stretches of 30 misplaced rows most are found and of 50 all; a few rows exchanged among
themselves cannot be told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fer_cli.artifacts.protocol import VotesAgreement
from fer_cli.core.errors import FerError
from fer_cli.datasets.votes import COLUMNS, Votes, judge

RIGHT: Final = 0.68
"""Share of images with a majority whose FER2013 label is that of the majority: 0.679 of 32,298 rows."""
CHANCE: Final = 0.18
"""The same share where the votes are those of other images."""
LEAST: Final = 0.665
"""Below this share the whole is refused; of fewer rows, which vary more, below :func:`least_share`."""
FALL: Final = 12.0
"""How far the evidence may fall, in nats: that chance lets it fall so far on the rows of FER2013 is 1 in 500."""

_TRUSTED: Final = 0.7  # share of FER2013's labels that follow the votes, of the model that rows are judged by
_ENOUGH: Final = 1000  # rows whose share is judged
_HINT: Final = "give the table and the votes complete, both in the official order of rows"


def least_share(rows: int) -> float:
    """Return the share of agreeing majorities below which ``rows`` of them are refused.

    It is further below :data:`RIGHT` than any rows in a row of the real data: of 1,000 at least 63% agree (60% are
    taken), of 5,000 66% (64%), of 20,000 67.5% (66%).
    """
    return min(LEAST, RIGHT - 2.5 / math.sqrt(rows))


@dataclass(slots=True)
class VoteAgreement:
    """Holds votes against labels, row by row.

    Args:
        table: the table of images, named where they do not belong together.
        shares: FER2013's emotions -> how common each is.
    """

    table: Path
    shares: Mapping[str, float]
    _rows: int = 0
    _agree: int = 0
    _sum: float = 0.0
    _highest: float = 0.0
    _start: int | None = None  # the line after the highest point
    _since: list[bool] = field(default_factory=list)  # of the rows since then with a majority

    def add(self, votes: tuple[int, ...], label: str, line: int) -> None:
        """Take the next row: its votes, and FER2013's label of the image that they are joined to.

        Raises:
            FerError: the rows of late have votes of other images.
        """
        if self._start is None:
            self._start = line
        winner = judge("majority", votes).label
        if winner in self.shares:
            self._rows += 1
            self._agree += winner == label
            self._since.append(winner == label)
        self._sum += self._evidence(votes, label)
        if self._sum >= self._highest:
            self._highest, self._start = self._sum, None
            self._since.clear()
        elif self._highest - self._sum > FALL:
            raise FerError(
                f"the FER+ votes from this row on are those of other images: {sum(self._since):,} of the next "
                f"{len(self._since):,} majorities agree with FER2013's own labels, where {RIGHT:.0%} do that belong "
                f"together and {CHANCE:.0%} by chance",
                hint=f"a row was moved, added or lost within a few rows of this one: {_HINT}",
                path=self.table,
                line=self._start,
            )

    def finish(self) -> VotesAgreement:
        """Return what was found.

        Raises:
            FerError: too few of all rows agree.
        """
        least = least_share(max(self._rows, 1))
        if self._rows >= _ENOUGH and self._agree < least * self._rows:
            raise FerError(
                f"{self._agree / self._rows:.1%} of {self._rows:,} FER+ majorities agree with FER2013's own labels, "
                f"where {RIGHT:.0%} do that belong together, {CHANCE:.0%} by chance, and {least:.1%} are the least "
                "that is taken",
                hint=_HINT,
                path=self.table,
            )
        return VotesAgreement(rows=self._rows, agree=self._agree, enough=self._sum > FALL)

    def _evidence(self, votes: tuple[int, ...], label: str) -> float:
        """Return log P(label | votes) / P(label): labels follow the votes' shares, or else how common they are."""
        emotions = [count for name, count in zip(COLUMNS, votes, strict=True) if name in self.shares]
        if not any(emotions):
            return 0.0
        share = votes[COLUMNS.index(label)] / sum(emotions)
        return math.log(_TRUSTED * share / self.shares[label] + 1 - _TRUSTED)


@dataclass(slots=True)
class Join:
    """Walks through the votes beside the rows of FER2013: they belong together by row order, and by nothing else.

    That the order is the same, ``agreement`` shows row by row. ``allow_incomplete`` lets the images lack a whole part
    (PrivateTest) that the votes have.
    """

    votes: Votes
    table: Path
    allow_incomplete: bool
    agreement: VoteAgreement
    index: int = 0
    seen: set[str] = field(default_factory=set)
    skipped: Counter[str] = field(default_factory=Counter)

    def take(self, part: str, line: int, label: str) -> tuple[int, ...]:
        """Return the votes of the next image.

        Args:
            part: the image's Usage.
            line: its line in the table of images.
            label: what FER2013 says of it.

        Raises:
            FerError: the votes are at an end, or are those of another part or of other images.
        """
        parts = self.votes.parts
        if self.allow_incomplete:
            while self.index < len(parts) and parts[self.index] != part and parts[self.index] not in self.seen:
                self.skipped[parts[self.index]] += 1
                self.index += 1
        if self.index == len(parts):
            raise FerError(
                f"the image has no votes: {self.votes.path.name} ends after {len(parts):,} rows",
                hint="give the votes and the images of the same rows in the same order",
                path=self.table,
                line=line,
            )
        if parts[self.index] != part or part in self.skipped:
            raise FerError(
                f"Usage is {parts[self.index]} where {self.table.name}:{line} has {part}",
                hint="votes and images join by row order: give both complete and in the official order",
                path=self.votes.path,
                line=self.votes.lines[self.index],
            )
        self.seen.add(part)
        self.index += 1
        counts = self.votes.counts[self.index - 1]
        self.agreement.add(counts, label, line)
        return counts

    def finish(self) -> list[str]:
        """Check that no votes are left over, and return in words what was left out.

        Raises:
            FerError: votes are left over, other than those of parts that the images lack as a whole.
        """
        left = Counter(self.votes.parts[self.index :])
        if left and (not self.allow_incomplete or left.keys() & self.seen):
            raise FerError(
                f"there are {len(self.votes.parts):,} rows of votes for {self.index:,} images",
                hint="give the votes and the images of the same rows in the same order",
                path=self.votes.path,
                line=self.votes.lines[self.index],
            )
        return [f"{rows:,} rows of votes ({part}) have no image" for part, rows in (self.skipped + left).items()]
