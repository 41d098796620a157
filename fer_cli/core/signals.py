"""Signals by which batch systems stop a job, and how work comes to a point from which it can resume."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from fer_cli.core.errors import PreemptedError

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1)
"""What batch systems send before they end a job."""


class StopRequest:
    """Set by SIGTERM or SIGUSR1: the work should come to a point from which it can go on, and stop there."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.again = "run the same command again to resume"

    def check(self, saved: str) -> None:
        """Raise PreemptedError when a signal came. Call it where all work so far is on the disk."""
        if self.signal is not None:
            raise PreemptedError(f"stopped by {self.signal.name}, {saved}", hint=self.again)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Within this context SIGTERM and SIGUSR1 set a flag; elsewhere they end the command at once, with 75 too."""
    request = StopRequest()

    def note(number: int, _frame: FrameType | None) -> None:
        request.signal = signal.Signals(number)

    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
