"""Errors that a user can act on, and the exit codes of the command line.

An error is one line, ``PATH[:LINE]: what is wrong; what to do``. Whatever is not a :class:`FerError` and not the
machine's fault is a bug of ours and ends with exit code 70.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """What the exit status of ``fer`` means to a shell script."""

    DONE = 0
    USER = 1  # the user's data, recipe, weights or machine
    USAGE = 2
    CHECK_FAILED = 3  # audit, verify, a refused compare, eval --strict
    BUG = 70
    PREEMPTED = 75  # saved: run the same command again to resume
    INTERRUPTED = 130  # by Ctrl-C: saved where the stage has a point to resume from


def one_line(text: str) -> str:
    """Return ``text`` with every control character escaped, so that no file name can break a line or the terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text
    )


class FerError(Exception):
    """The user's data, recipe, weights or machine is at fault.

    Args:
        what: what is wrong, in one sentence without a full stop.
        hint: what to do about it.
        path: the file at fault.
        line: the line in that file, counted from 1.
    """

    exit_code = ExitCode.USER

    def __init__(self, what: str, *, hint: str = "", path: Path | str | None = None, line: int | None = None) -> None:
        self.what = what
        self.hint = hint
        self.path = path
        self.line = line
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(one_line(f"{where}{what}; {hint}" if hint else f"{where}{what}"))


class DivergedError(FerError):
    """A training came to a loss, or to values of its network, that are no finite numbers.

    Args:
        what: what is not finite, and where.
        hint: what to do about it.
        directory: of the training, with the last good checkpoint where there is one.
    """

    def __init__(self, what: str, *, hint: str, directory: Path) -> None:
        self.directory = directory
        super().__init__(what, hint=hint)


class UsageError(FerError):
    """Options that contradict each other: found after parsing, so not by the option parser itself."""

    exit_code = ExitCode.USAGE


class CheckFailedError(FerError):
    """A check that the user asked for did not pass."""

    exit_code = ExitCode.CHECK_FAILED


class PreemptedError(FerError):
    """A signal asked for the end; the work so far is saved and the same command goes on from there.

    Args:
        what: which signal, and what is saved.
        without_force: the command that resumes is the same without ``--force``.
    """

    exit_code = ExitCode.PREEMPTED

    def __init__(self, what: str, *, without_force: bool = False) -> None:
        self.without_force = without_force
        again = "the same command without --force resumes it" if without_force else "the same command resumes it"
        super().__init__(what, hint=again)


class InterruptedWorkError(PreemptedError):
    """The same, where a person pressed Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED
