"""Notes, warnings and progress on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Final

from fer_cli.core.errors import one_line
from fer_cli.core.format import clock
from fer_cli.core.progress import LOGGER, Advance, note, shown_by

EVERY: Final = 30.0
"""Most seconds between two plain lines."""
FIRST: Final = 3.0
"""Seconds until the first plain line."""
_SLOW: Final = {"torch": "PyTorch", "timm": "timm", "onnxruntime": "ONNX Runtime", "sklearn": "scikit-learn"}
"""Libraries that take seconds to import, and what they are called."""


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
    loading = _Loading()
    sys.meta_path.insert(0, loading)
    try:
        with shown_by(_display):
            yield
    finally:
        sys.meta_path.remove(loading)
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        LOGGER.propagate = propagate


class _Loading(MetaPathFinder):
    """Says which library is being imported: seconds, and a minute where the machine is busy."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where one of these libraries is, and say so once it is loaded: to look for it is quick."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in _SLOW else None
        if spec is None or (loader := spec.loader) is None:
            return None
        execute = loader.exec_module

        def said(module: ModuleType) -> None:
            what, due, begun = f"loading {_SLOW[fullname]}", _Due(), time.monotonic()
            note(what)
            with _beating(lambda: note(f"{what}: {time.monotonic() - begun:.0f} s") if due() else None):
                execute(module)

        setattr(loader, "exec_module", said)  # noqa: B010 - of this loader alone, which stays of the class that it is of
        return spec


class _Handler(logging.Handler):
    """Prints to whatever stderr is at that time."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "fer: warning: " if record.levelno >= logging.WARNING else ""
        print(one_line(f"{prefix}{record.getMessage()}"), file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def _display(title: str, total: float | None, unit: str | None, done: float) -> Iterator[Advance]:
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar(title, total, unit, done) as advance:
            yield advance
    else:
        lines = _Lines(title, total, unit, done)
        with _beating(lines.beat):
            yield lines


@contextmanager
def _beating(beat: Callable[[], None]) -> Iterator[None]:
    """Call something once a second within this context: work can be long between two reports."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(1.0):
            beat()

    thread = threading.Thread(target=run, name="fer: progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Due:
    """Tells when the next plain line is due: after 3 s, then further and further apart, up to half a minute."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._last < min(EVERY, max(FIRST, self._last - self._start)):
            return False
        self._last = now
        return True


@contextmanager
def _bar(title: str, total: float | None, unit: str | None, done: float) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    pace = _Pace(total, done)

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else f"{unit}", style="dim")

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:
            left = pace.left(task.completed)
            return Text("" if left is None else f"{clock(left)} left", style="cyan")

    of = "/{task.total:,.0f}" if total is not None else ""
    share = [TextColumn("{task.percentage:>3.0f}%")] if total is not None else []
    counts = share if unit is None else [TextColumn("{task.completed:,.0f}" + of), Rate()]
    progress = Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=32 if unit is not None else None),
        *counts,
        Left(),
        console=Console(stderr=True, color_system=None if os.environ.get("NO_COLOR") else "auto"),
        transient=True,
        expand=unit is None,  # the bar has what its words leave
    )
    with progress:
        task = progress.add_task(one_line(title), total=total)
        progress.update(task, completed=done)

        def advance(done: float = 1, status: str | None = None) -> None:
            progress.update(task, advance=done, description=None if status is None else one_line(status))

        yield advance


class _Pace:
    """How long work will take still, by the mean pace so far: what comes rarely, such as a validation, is in it."""

    def __init__(self, total: float | None, done: float) -> None:
        self._total, self._before, self._start = total, done, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since this part of the work began."""
        return time.monotonic() - self._start

    def rate(self, done: float) -> float:
        """Return the items a second since this part of the work began."""
        return (done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def left(self, done: float) -> float | None:
        """Return the seconds that are left; None where that cannot be told yet."""
        rate = self.rate(done)
        return None if self._total is None or rate <= 0 else max(0.0, self._total - done) / rate


class _Lines:
    """Plain progress: nothing for short work, then lines further and further apart, up to half a minute."""

    def __init__(self, title: str, total: float | None, unit: str | None, done: float) -> None:
        self._title, self._total, self._unit, self._done = title, total, unit, done
        self._status = ""
        self._pace, self._due, self._lock = _Pace(total, done), _Due(), threading.Lock()

    def __call__(self, done: float = 1, status: str | None = None) -> None:
        with self._lock:
            self._done += done
            self._status = self._status if status is None else f"{status}, "
        self.beat()

    def beat(self) -> None:
        """Print a line where one is due."""
        with self._lock:
            if not self._due():
                return
            line = f"{self._title}: {self._status}{self._count()}"
        note(line)

    def _count(self) -> str:
        left = self._pace.left(self._done)
        ends = "" if left is None else f", {clock(left)} left"
        if self._unit is None and self._total is None:
            return f"{self._pace.seconds:.0f} s"
        if self._unit is None and self._total:
            return f"{self._done / self._total:.0%}{ends}"
        total = "" if self._total is None else f"/{self._total:,.0f}"
        return f"{self._done:,.0f}{total} {self._unit}, {self._pace.rate(self._done):,.0f}/s{ends}"
