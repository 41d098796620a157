"""Signals that stop a job, and how work comes to a point from which it can resume."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from fer_cli.core.errors import InterruptedWorkError, PreemptedError
from fer_cli.core.progress import speaks

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What batch systems send before they end a job, and Ctrl-C."""


class StopRequest:
    """Set by a stop signal: the work should come to a point from which it can go on, and stop there."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.without_force = False
        """The call that resumes has no ``--force``, though this one has."""

    def check(self, saved: str) -> None:
        """Raise when a signal came. Call it where all work so far is on the disk.

        Raises:
            PreemptedError: SIGTERM or SIGUSR1 came.
            InterruptedWorkError: SIGINT came.
        """
        if self.signal is not None:
            stopped = InterruptedWorkError if self.signal == signal.SIGINT else PreemptedError
            raise stopped(f"stopped by {self.signal.name}, {saved}", without_force=self.without_force)


def handled() -> tuple[signal.Signals, ...]:
    """Return the stop signals that this process is to hear: the shell makes background jobs deaf to Ctrl-C."""
    return tuple(number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN)


@contextmanager
def stop_on_signal(point: str) -> Iterator[StopRequest]:
    """Within this context a stop signal sets a flag; elsewhere it ends the command at once.

    A second SIGINT ends the work at once here too. A signal that came too late for a check is sent again when the
    context ends.

    Args:
        point: what is finished before the work stops, such as ``step``; the person who presses Ctrl-C is told.
    """
    request = StopRequest()

    def note(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if request.signal == signal.SIGINT:
                raise KeyboardInterrupt
            if speaks():
                with suppress(OSError):  # not through a stream: the signal may have come in the middle of a print
                    line = f"\nfer: stopping: finishing this {point} and saving it; Ctrl-C again stops at once\n"
                    os.write(2, line.encode())
        request.signal = signal.Signals(number)

    before = {number: signal.signal(number, note) for number in handled()}
    finished = False
    try:
        yield request
        finished = True
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if finished and request.signal is not None:
            signal.raise_signal(request.signal)
