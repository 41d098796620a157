"""Notes, warnings and progress on stderr: a bar on a terminal, a line every 30 s elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fer_cli.core.errors import one_line
from fer_cli.core.progress import LOGGER, Advance, note, shown_by

EVERY: Final = 30.0
"""Seconds between two plain lines."""


@contextmanager
def on_stderr() -> Iterator[None]:
    """Show on stderr what fer reports within this context, once however deep contexts are nested."""
    if any(isinstance(handler, _Handler) for handler in LOGGER.handlers):
        yield
        return
    handler, level, propagate = _Handler(logging.INFO), LOGGER.level, LOGGER.propagate
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # a library's handler on the root logger would print each line a second time
    try:
        with shown_by(_display):
            yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        LOGGER.propagate = propagate


class _Handler(logging.Handler):
    """Prints to whatever stderr is at that time."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "fer: warning: " if record.levelno >= logging.WARNING else ""
        print(one_line(f"{prefix}{record.getMessage()}"), file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _display(title: str, total: int | None, unit: str, done: int) -> Iterator[Advance]:
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar(title, total, unit, done) as advance:
            yield advance
    else:
        yield _Lines(title, total, unit, done)


@contextmanager
def _bar(title: str, total: int | None, unit: str, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else f"{unit}", style="dim")

    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=32),
        TextColumn("{task.completed:,.0f}" + ("/{task.total:,.0f}" if total is not None else "")),
        Rate(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True, color_system=None if os.environ.get("NO_COLOR") else "auto"),
        transient=True,
    )
    with progress:
        task = progress.add_task(one_line(title), total=total, completed=done)

        def advance(done: int = 1) -> None:
            progress.advance(task, done)

        yield advance


class _Lines:
    """Plain progress: nothing for short work, then a line every half minute."""

    def __init__(self, title: str, total: int | None, unit: str, done: int) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._before = self._done = done
        self._start = self._last_line = time.monotonic()

    def __call__(self, done: int = 1) -> None:
        self._done += done
        now = time.monotonic()
        if now - self._last_line < EVERY:
            return
        self._last_line = now
        rate = (self._done - self._before) / (now - self._start)
        total = "" if self._total is None else f"/{self._total:,}"
        left = "" if self._total is None or rate == 0 else f", {_duration((self._total - self._done) / rate)} left"
        note(f"{self._title}: {self._done:,}{total} {self._unit}, {rate:,.0f}/s{left}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
