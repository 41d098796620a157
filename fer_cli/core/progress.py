"""What is told of work under way: notes and warnings go to a logger, progress to a display. Neither prints by itself.

The command line shows both on stderr (:mod:`fer_cli.cli.terminal`). Used as a library fer is silent: configure the
logger ``fer_cli`` for notes and warnings, and pass a display to :func:`shown_by` for progress.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from fer_cli.core.errors import one_line

LOGGER: Final = logging.getLogger("fer_cli")
LOGGER.addHandler(logging.NullHandler())


class Advance(Protocol):
    """A callback of :func:`track`."""

    def __call__(self, done: int = 1) -> None:
        """Report that ``done`` more items are finished."""


Display = Callable[[str, int | None, str, int], AbstractContextManager[Advance]]
"""Shows the progress of one piece of work, given its title, total, unit and the items that were done before."""

_displays: list[Display] = []


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
def track(title: str, total: int | None, unit: str = "images", done: int = 0) -> Iterator[Advance]:
    """Show the progress of ``total`` items, ``done`` of which were done before."""
    if not speaks() or not _displays:
        yield _silent
        return
    with _displays[-1](title, total, unit, done) as advance:
        yield advance


def _silent(done: int = 1) -> None:
    """Report nothing: there is no display, or another process has it."""
