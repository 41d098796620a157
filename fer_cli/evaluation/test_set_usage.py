"""How often a split was scored: a list in the store that only grows, so no clean-up makes a number look fresher."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.manifest import canonical_json, digest
from fer_cli.core.progress import warn

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
    """Return every scoring that a store remembers, and say how many of its lines are damaged: they count as none."""
    entries, damaged = _read(root / LEDGER)
    if damaged:
        lines = "1 line is" if damaged == 1 else f"{damaged} lines are"
        warn(f"{root / LEDGER}: {lines} damaged: how often images were scored may be counted too low")
    return entries


def _read(path: Path) -> tuple[list[Scoring], int]:
    """Return the sound lines, and how many are not: each has a checksum, but for those of earlier versions."""
    entries, damaged = [], 0
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        if not line:
            continue
        try:
            record = json.loads(line)
            checksum = record.pop("crc32", None)
            scoring = Scoring(**record)
        except (ValueError, TypeError, AttributeError, RecursionError):
            damaged += 1
            continue
        if checksum is None or checksum == _checksum(scoring):
            entries.append(scoring)
        else:
            damaged += 1
    return entries, damaged


def _checksum(scoring: Scoring) -> int:
    return zlib.crc32(canonical_json(asdict(scoring)))


def times_scored(root: Path, now: Collection[Scoring]) -> int:
    """Return how many different models and settings were scored on these items, with those of ``now``."""
    items = {scoring.items for scoring in now}
    return len({one for one in scorings(root) if one.items in items} | set(now))


def remember(root: Path, now: Collection[Scoring]) -> None:
    """Append scorings, in one write, so that two processes cannot mix their lines."""
    fresh = set(now) - set(_read(root / LEDGER)[0])
    if not fresh:
        return
    atomic_io.make_directory(root)
    ordered = sorted(fresh, key=lambda one: one.setting)
    lines = "".join(f"{json.dumps({**asdict(one), 'crc32': _checksum(one)})}\n" for one in ordered)
    atomic_io.append(root / LEDGER, f"\n{lines}")  # a line of its own even after one that a kill cut short
