"""What a process that makes an artifact says of itself while it works: a file beside the work's lock.

It is written every few seconds, and goes when the work ends. Where a process was killed it stays, and tells when that
was heard of last.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.sections import Record
from fer_cli.core.progress import Piece, recorded_by, warn

if TYPE_CHECKING:
    from pathlib import Path

    from fer_cli.artifacts.work import Plan

ENDING: Final = ".running.json"


class Running(Record):
    """What a process said last of an artifact that it makes. Times are seconds since 1970, of that process's clock."""

    kind: str
    name: str
    version: str
    host: str
    process: int
    begun: float
    heard: float
    title: str
    unit: str | None = None
    total: float | None = None
    before: float
    done: float
    status: str

    @property
    def reference(self) -> str:
        """What it will be."""
        return f"{self.kind}/{self.name}@{self.version}"

    @property
    def rate(self) -> float | None:
        """Items a second since this piece of the work began; None where that cannot be told yet."""
        seconds = self.heard - self.begun
        return (self.done - self.before) / seconds if seconds > 0 and self.done > self.before else None

    @property
    def left(self) -> float | None:
        """Seconds until this piece of the work is done, by its mean rate; None where that cannot be told."""
        return None if self.rate is None or self.total is None else max(0.0, self.total - self.done) / self.rate


@contextmanager
def recorded(file: Path, plan: Plan) -> Iterator[None]:
    """Say of an artifact that is made within this context how far it is."""
    failed = False

    def record(piece: Piece) -> None:
        nonlocal failed
        running = Running(
            kind=plan.kind,
            name=plan.name,
            version=plan.version,
            host=socket.gethostname(),
            process=os.getpid(),
            begun=piece.begun,
            heard=time.time(),
            title=piece.title,
            unit=piece.unit,
            total=piece.total,
            before=piece.before,
            done=piece.done,
            status=piece.status,
        )
        try:
            atomic_io.write_unsynced(file, running.model_dump_json(exclude_none=True).encode())
        except OSError as error:
            if not failed:
                warn(f"{file}: 'fer watch' cannot follow this work ({error.strerror})")
            failed = True

    with recorded_by(record):
        try:
            yield
        finally:
            with suppress(OSError):
                file.unlink(missing_ok=True)
