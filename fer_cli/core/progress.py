"""What a person reads while a command works, all of it on stderr: a bar on a terminal, a line every 30 s elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from fer_cli.core.errors import one_line

EVERY: Final = 30.0
"""Seconds between two plain lines."""


class Advance(Protocol):
    """A callback of :func:`track`."""

    def __call__(self, done: int = 1) -> None:
        """Tell that ``done`` more items are finished."""


def speaks() -> bool:
    """Tell whether this process is the one that speaks: the first of those of ``torchrun``, or the only one."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def note(text: str) -> None:
    """Print one line for the person who waits."""
    if speaks():
        print(one_line(text), file=sys.stderr, flush=True)  # noqa: T201


def warn(text: str) -> None:
    """Print one line that the person should not miss."""
    note(f"fer: warning: {text}")


@contextmanager
def track(what: str, total: int | None, unit: str = "images", done: int = 0) -> Iterator[Advance]:
    """Show the progress of ``total`` items, ``done`` of which were there before."""
    if not speaks():
        yield _silent
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar(what, total, unit, done) as advance:
            yield advance
    else:
        yield _Lines(what, total, unit, done)


@contextmanager
def _bar(what: str, total: int | None, unit: str, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else f"{unit}", style="dim")

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        TextColumn("{task.completed:,.0f}" + ("/{task.total:,.0f}" if total is not None else "")),
        Rate(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True, color_system=None if os.environ.get("NO_COLOR") else "auto"),
        transient=True,
    )
    with progress:
        task = progress.add_task(what, total=total, completed=done)

        def advance(done: int = 1) -> None:
            progress.advance(task, done)

        yield advance


def _silent(done: int = 1) -> None:
    """Other ranks than the first work without a word."""


class _Lines:
    """Plain progress: nothing for short work, then a line every half minute."""

    def __init__(self, what: str, total: int | None, unit: str, done: int) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._before = self._done = done
        self._begun = self._said = time.monotonic()

    def __call__(self, done: int = 1) -> None:
        self._done += done
        now = time.monotonic()
        if now - self._said < EVERY:
            return
        self._said = now
        rate = (self._done - self._before) / (now - self._begun)
        of = "" if self._total is None else f"/{self._total:,}"
        left = "" if self._total is None or rate == 0 else f", {_duration((self._total - self._done) / rate)} left"
        note(f"{self._what}: {self._done:,}{of} {self._unit}, {rate:,.0f}/s{left}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
