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

    def __call__(self, done: float = 1, status: str | None = None) -> None:
        """Report that ``done`` more items are finished; ``status`` is what to say of the work from now on."""


Display = Callable[[str, float | None, str | None, float], AbstractContextManager[Advance]]
"""Shows the progress of one piece of work, given its title, total, unit and the items that were done before.

Work whose items are no things to count has no unit: its share is shown.
"""

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
def track(title: str, total: float | None, unit: str | None = "images", done: float = 0) -> Iterator[Advance]:
    """Show the progress of ``total`` items, ``done`` of which were done before."""
    if not speaks() or not _displays:
        yield _silent
        return
    with _displays[-1](title, total, unit, done) as advance:
        yield advance


def _silent(done: float = 1, status: str | None = None) -> None:
    """Report nothing: there is no display, or another process has it."""
