"""What a training measured after each epoch: a JSONL file that grows with it and, on request, TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fer_cli.artifacts.atomic_io import write_file
from fer_cli.core.errors import FerError
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


def check_tensorboard(folder: Path) -> None:
    """Refuse to begin what would end at its first line for TensorBoard.

    Raises:
        FerError: it is not installed, or the folder cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise FerError("this is a file", hint="give --tensorboard a folder", path=folder)
    if find_spec("tensorboard") is None:
        raise FerError("TensorBoard is not installed", hint="install fer with its extra: 'fer-cli[tensorboard]'")


@contextmanager
def recorder(file: Path | None, board: Path | None) -> Iterator[Callable[[History], None]]:
    """Yield a callback that records the history so far, of which the last epoch is new.

    Args:
        file: of the lines; None where another process writes.
        board: folder of TensorBoard. What an earlier part of the training wrote there of epochs that come again is
            taken back.
    """
    if board is None:
        yield lambda history: None if file is None else write_history(file, history)
        return
    from torch.utils.tensorboard import SummaryWriter

    writer: SummaryWriter | None = None

    def record(history: History) -> None:
        nonlocal writer
        if file is not None:
            write_history(file, history)
        if writer is None:
            writer = SummaryWriter(str(board), purge_step=len(history))
        line = history[-1]
        for name, value in line.items():
            if name != "epoch":
                writer.add_scalar(_tag(name), value, int(line["epoch"]))
        writer.flush()

    try:
        yield record
    finally:
        if writer is not None:
            writer.close()


def _tag(name: str) -> str:
    """Return TensorBoard's name of a measure: one chart holds what is of one kind."""
    if name == "lr":
        return "learning rate"
    of, _, measure = name.partition("_") if name.startswith(("train_", "validation_")) else ("validation", "", name)
    return f"{measure}/{of}"
