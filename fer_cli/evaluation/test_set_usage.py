"""How often a split was scored: a list in the store that only grows, so no clean-up makes a number look fresher."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.manifest import digest

LEDGER: Final = "scorings.jsonl"


@dataclass(frozen=True, slots=True)
class Scoring:
    """One model, in one setting, scored on one set of items.

    ``items`` is a hash of their ids and labels: another split of the rest of the dataset does not make them fresh.
    ``model`` is the hash of its payload; ``setting`` names predictor and test-time augmentation.
    """

    items: str
    model: str
    setting: str


def items_hash(ids: Iterable[str], labels: Iterable[str]) -> str:
    """Return the hash of a set of items with their labels, independent of their order."""
    return digest(sorted(zip(ids, labels, strict=True)))


def scorings(root: Path) -> list[Scoring]:
    """Return every scoring that a store remembers; a line that a kill cut short counts as none."""
    path = root / LEDGER
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entries.append(Scoring(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return entries


def times_scored(root: Path, now: Collection[Scoring]) -> int:
    """Return how many different models and settings were scored on these items, with those of ``now``."""
    items = {scoring.items for scoring in now}
    return len({one for one in scorings(root) if one.items in items} | set(now))


def remember(root: Path, now: Collection[Scoring]) -> None:
    """Append scorings, in one write, so that two processes cannot mix their lines."""
    fresh = set(now) - set(scorings(root))
    if not fresh:
        return
    atomic_io.make_directory(root)
    lines = "".join(f"{json.dumps(asdict(one))}\n" for one in sorted(fresh, key=lambda one: one.setting))
    atomic_io.append(root / LEDGER, f"\n{lines}")  # a line of its own even after one that a kill cut short
