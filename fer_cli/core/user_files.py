"""Files that users name: opened under a limit, so that none can stop or fill the process that reads it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from fer_cli.core.errors import FerError


def open_file(path: Path) -> BinaryIO:
    """Open a regular file, or what links to one, for reading bytes.

    A named pipe or a device is refused: it could be without an end, or wait for one that never comes.

    Raises:
        FerError: it is a pipe or a device.
        OSError: it cannot be opened, or is a folder.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe's would wait for a writer
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise FerError("is a pipe or a device, not a file", hint="save it as a file first", path=path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_text(path: Path, most: int, *, what: str, hint: str) -> str:
    """Return the text of a small file in UTF-8, with or without its mark.

    Args:
        path: the file.
        most: the bytes that it may have.
        what: what it should be, for the error.
        hint: what to do where it is something else.

    Raises:
        FerError: it cannot be read, is larger, or is not UTF-8; then with the line.
    """
    try:
        with open_file(path) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise FerError(f"cannot be read: {error.strerror or error}", hint=hint, path=path) from None
    if len(data) > most:
        raise FerError(f"is larger than {most:,} bytes: not a {what}", hint=hint, path=path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FerError("is not UTF-8 text", hint="save it as UTF-8", path=path, line=line) from None
