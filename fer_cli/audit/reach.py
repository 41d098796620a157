"""How far the search for near copies reaches: the share it finds of copies that were changed, by the change.

The figures are measured, not claimed: ``python -m benchmarks.near_copies --source fer2013.csv --write`` makes them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

FILE: Final = Path(__file__).with_name("reach.json")
SEEN: Final = 0.95
"""Share of copies found, on every kind of picture measured, from which a change counts as within reach."""
_Z: Final = 1.959964


@dataclass(frozen=True, slots=True)
class Reach:
    """Of ``copies`` changed pictures, ``found`` were paired with their picture, and ``wrong`` pairs were named too.

    ``steps`` is 2 where two changes were made, one after the other.
    """

    pictures: str
    change: str
    steps: int
    found: int
    copies: int
    wrong: int

    @property
    def recall(self) -> float:
        """The share of the copies that was found."""
        return self.found / self.copies

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the recall (Wilson 1927)."""
        count, share = self.copies, self.recall
        middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
        half = _Z / (1 + _Z**2 / count) * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
        return max(0.0, middle - half), min(1.0, middle + half)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as they stand in the file."""
        return asdict(self)


@cache
def measured() -> tuple[Reach, ...]:
    """Return all that was measured."""
    return tuple(TypeAdapter(list[Reach]).validate_json(FILE.read_bytes()))


def lowest() -> dict[str, float]:
    """Return the recall of each change on the kind of pictures on which it is lowest."""
    shares: dict[str, float] = {}
    for row in measured():
        shares[row.change] = min(shares.get(row.change, 1.0), row.recall)
    return shares


def within() -> str:
    """Say which changed copies the search finds, each with its recall, and how many pairs of changes."""
    shares, pairs = lowest(), {row.change for row in measured() if row.steps > 1}
    seen = {change: share for change, share in shares.items() if share >= SEEN}
    single = _listed({change: share for change, share in seen.items() if change not in pairs})
    twice = [share for change, share in seen.items() if change in pairs]
    if not twice:
        return single
    return f"{single}; {len(twice)} of {len(pairs)} pairs of such changes {min(twice):.0%} to {max(twice):.0%}"


def beyond() -> str:
    """Say which changed copies the search misses too many of, each with its recall."""
    return _listed({change: share for change, share in lowest().items() if share < SEEN})


def _listed(shares: dict[str, float]) -> str:
    return "; ".join(f"{change} {share:.0%}" for change, share in shares.items())
