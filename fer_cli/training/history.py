"""What a training measured after each epoch: a JSONL file that grows with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fer_cli.artifacts.atomic_io import write_file
from fer_cli.core.progress import warn

HISTORY: Final = "history.jsonl"

History = Sequence[Mapping[str, float]]


def history_bytes(history: History) -> bytes:
    """Return the lines of a history, one an epoch."""
    return "".join(json.dumps(line) + "\n" for line in history).encode()


def write_history(file: Path, history: History) -> None:
    """Write a history, and say where the lines before its last one were not those that the training wrote.

    The history is that of the checkpoint, which is checked: what was done to the file is undone.
    """
    now = history_bytes(history).splitlines()
    before = file.read_bytes().splitlines() if file.is_file() else []
    if before[: len(now) - 1] != now[: min(len(before), len(now) - 1)] or (len(now) > 1 and not before):
        warn(f"{file}: not what the training wrote; written again from the checkpoint")
    write_file(file, history_bytes(history))
