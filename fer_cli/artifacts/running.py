"""Work under way in a store, on other machines too, by what each process says of itself."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from fer_cli.artifacts.catalogue import literally
from fer_cli.artifacts.dependents import is_held
from fer_cli.artifacts.heartbeat import ENDING, Running
from fer_cli.artifacts.store import LOCKS, PARTIAL, Store

SILENT_SECONDS: Final = 120.0
"""Without a word for so long, work is said to be silent: it may wait for something, or be stuck."""

State = Literal["running", "silent", "stopped"]


def running_work(store: Store) -> list[tuple[Running, State]]:
    """Return the work of a store that is under way, or was stopped and can go on, in order of name, with how it is.

    ``stopped`` is what no process holds the lock of, where this machine began it or nothing was heard of it for
    :data:`SILENT_SECONDS`: a lock that another machine holds may not be seen here.
    """
    found: list[tuple[Running, State]] = []
    for file in (store.root / LOCKS).glob(f"*{ENDING}"):
        try:
            running = Running.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):  # it ended just now, or is of another version of fer
            continue
        silent = time.time() - running.heard > SILENT_SECONDS
        held = is_held(file.with_name(file.name.removesuffix(ENDING)))
        if held or not (silent or running.host == socket.gethostname()):
            found.append((running, "silent" if silent else "running"))
        elif work_directory(store, running) is not None:
            found.append((running, "stopped"))
    return sorted(found, key=lambda one: one[0].reference)


def work_directory(store: Store, running: Running) -> Path | None:
    """Return where work that can be resumed is; None where there is nothing yet, or it is not resumable."""
    found = sorted((store.root / running.kind).glob(f"*/{PARTIAL}{literally(running.version)}"))
    return found[0] if found else None


def ended_files(store: Store) -> list[Path]:
    """Return the files of work that was killed and that nothing goes on from, and parts of files that a kill left."""
    ended = []
    for file in (store.root / LOCKS).glob(f"*{ENDING}*"):
        lock = file.name.removeprefix(".").partition(ENDING)[0]
        kind, _, version = lock.rpartition(".")
        is_whole = file.name.endswith(ENDING)
        resumable = is_whole and any((store.root / kind).glob(f"*/{PARTIAL}{literally(version)}"))
        if not resumable and not is_held(file.with_name(lock)):
            ended.append(file)
    return sorted(ended)
