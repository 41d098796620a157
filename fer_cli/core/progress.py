"""What is told of work under way: notes and warnings go to a logger, progress to a display. Neither prints by itself.

The command line shows both on stderr (:mod:`fer_cli.cli.terminal`). Used as a library fer is silent: configure the
logger ``fer_cli`` for notes and warnings, and pass a display to :func:`shown_by` for progress.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from fer_cli.core.errors import one_line

LOGGER: Final = logging.getLogger("fer_cli")
LOGGER.addHandler(logging.NullHandler())


class Advance(Protocol):
    """A callback of :func:`track`."""

    def __call__(self, done: float = 1, status: str | None = None) -> None:
        """Report that ``done`` more items are finished; ``status`` is what to say of the work from now on."""


Display = Callable[[str, float | None, str | None, float], AbstractContextManager[Advance]]
"""Shows the progress of one piece of work, given its title, total, unit and the items that were done before.

Work whose items are no things to count has no unit: its share is shown, without a total how long it takes.
"""

_displays: list[Display] = []

RECORD_SECONDS: Final = 5.0
"""Least time between two records of one piece of work."""


@dataclass(slots=True)
class Piece:
    """One piece of work, and how far it is; ``before`` was done when this process began with it, seconds since 1970."""

    title: str
    total: float | None
    unit: str | None
    before: float
    done: float
    status: str = ""
    begun: float = field(default_factory=time.time)


Recorder = Callable[[Piece], None]
"""Keeps how far a piece of work is, for other processes to read."""

_recorders: list[Recorder] = []


def speaks() -> bool:
    """Tell whether this process reports: the first of those of ``torchrun``, or the only one."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def note(text: str) -> None:
    """Log one line for the person who waits."""
    if speaks():
        LOGGER.info("%s", one_line(text))


def warn(text: str) -> None:
    """Log one line that the person should not miss."""
    if speaks():
        LOGGER.warning("%s", one_line(text))


@contextmanager
def shown_by(display: Display) -> Iterator[None]:
    """Show progress by a display of your own within this context."""
    _displays.append(display)
    try:
        yield
    finally:
        _displays.remove(display)


@contextmanager
def recorded_by(recorder: Recorder) -> Iterator[None]:
    """Have a recorder keep the progress of what is done within this context; the innermost one alone keeps it."""
    _recorders.append(recorder)
    try:
        yield
    finally:
        _recorders.remove(recorder)


@contextmanager
def track(title: str, total: float | None, unit: str | None = "images", done: float = 0) -> Iterator[Advance]:
    """Show and record the progress of ``total`` items, ``done`` of which were done before."""
    if not speaks():
        yield _silent
        return
    record = _recording(Piece(title, total, unit, done, done)) if _recorders else _silent
    if not _displays:
        yield record
        return
    with _displays[-1](title, total, unit, done) as show:

        def advance(done: float = 1, status: str | None = None) -> None:
            show(done, status)
            record(done, status)

        yield advance


def _recording(piece: Piece) -> Advance:
    recorder, last = _recorders[-1], -float("inf")

    def advance(done: float = 1, status: str | None = None) -> None:
        nonlocal last
        piece.done += done
        piece.status = piece.status if status is None else status
        now = time.monotonic()
        if now - last >= RECORD_SECONDS:
            last = now
            recorder(piece)

    advance(0)
    return advance


def _silent(done: float = 1, status: str | None = None) -> None:
    """Report nothing: another process does."""
