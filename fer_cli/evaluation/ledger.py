"""How often a split was scored: a list in the store that only grows, so no clean-up makes a number look fresher."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from fer_cli.artifacts import durable

LEDGER: Final = "scorings.jsonl"


@dataclass(frozen=True, slots=True)
class Scoring:
    """One model, in one setting, scored on one split of one data set. Contents are hashes of payloads."""

    dataset: str
    split: str
    model: str
    setting: str


def scorings(root: Path) -> list[Scoring]:
    """Return every scoring that a store remembers; a line that a kill cut short counts as none."""
    path = root / LEDGER
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(Scoring(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def models_scored(root: Path, scoring: Scoring) -> int:
    """Return how many different models and settings were scored on this split, with ``scoring`` as the last."""
    same = {one for one in scorings(root) if (one.dataset, one.split) == (scoring.dataset, scoring.split)}
    return len(same | {scoring})


def remember(root: Path, scoring: Scoring) -> None:
    """Append a scoring, in one write, so that two processes cannot mix their lines."""
    if scoring in scorings(root):
        return
    durable.make_directory(root)
    descriptor = os.open(root / LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        # A line of its own even after one that a kill cut short.
        os.write(descriptor, f"\n{json.dumps(asdict(scoring))}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
