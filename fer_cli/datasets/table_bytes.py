"""The bytes of a table: of a plain file, a compressed one, or the one table in an archive.

What a file is, its first bytes tell, not its name. Archives are streamed and never extracted, so the names of their
members are only compared, never used as paths. Decompression runs ahead in a thread (it releases the GIL).
"""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
import queue
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, Final

from fer_cli.core.errors import FerError
from fer_cli.core.user_files import open_file

MAX_EXPANSION: Final = 200
"""How many times larger than its file a table may become, beyond its first 64 MiB; lists of images are 10 times."""
MAX_XZ_MEMORY: Final = 1 << 28
"""Bytes that an .xz file may ask for as its dictionary; ``xz -9`` needs 65 MB to unpack."""

_CHUNK: Final = 1 << 20
_FREE_BYTES: Final = 1 << 26
_TAR_MAGIC: Final = slice(257, 262)
DAMAGE: Final = (
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, struct.error),
    *(OSError, ValueError, RuntimeError, OverflowError, IndexError),
)
"""What the decompressors of the standard library raise on damaged input."""


def unpacked(path: Path, members: Sequence[str], passed: list[str]) -> Generator[bytes]:
    """Return the bytes of a table in chunks, which are read and unpacked ahead.

    Args:
        path: a file, plain or .gz, .xz, .bz2, or a .zip, .tar, .tar.gz, .tar.xz that holds one table.
        members: file names to look for in an archive, in lower case; else its only ``.csv`` is taken.
        passed: the names of an archive's other files are added here; all are there when the bytes have ended.

    Raises:
        FerError: an archive holds no table or several, or a file unpacks to far more than it holds. Damage raises one
            of :data:`DAMAGE` or ``EOFError``.
    """
    return _ahead(_chunks(path, members, passed))


def _ahead(chunks: Generator[bytes]) -> Generator[bytes]:
    """Run ``chunks`` in a thread, a few chunks ahead of the reader, and pass on what it raises."""
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=4)
    closed = threading.Event()

    def put(item: bytes | BaseException | None) -> bool:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            with closing(chunks):
                if all(put(chunk) for chunk in chunks):
                    put(None)
        except BaseException as error:  # raised again in the reader's thread
            put(error)

    thread = threading.Thread(target=work, name="decompress", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()


def _chunks(path: Path, members: Sequence[str], passed: list[str]) -> Generator[bytes]:
    with open_file(path) as file:
        head = file.read(512)
        file.seek(0)
        if head.startswith(b"PK"):
            yield from _bounded(path, file, _zip_member(path, file, members, passed))
            return
        stream = _bounded(path, file, _decompressed(file, head))
        first = b""
        while len(first) < 512 and (chunk := next(stream, b"")):
            first += chunk
        whole = itertools.chain((first,), stream)
        if first[_TAR_MAGIC] == b"ustar":
            yield from _tar_member(path, whole, members, passed)
        else:
            yield from whole


def _bounded(path: Path, file: IO[bytes], chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass on what a file unpacks to, as long as that is in some relation to its size."""
    most = max(_FREE_BYTES, MAX_EXPANSION * os.fstat(file.fileno()).st_size)
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > most:
            what = f"unpacks to more than {most >> 20:,} MiB, over {MAX_EXPANSION} times its size"
            raise FerError(what, hint="no table of faces does: check the file", path=path)
        yield chunk


def _decompressed(file: IO[bytes], head: bytes) -> Iterator[bytes]:
    if head.startswith(b"\x1f\x8b"):
        return _pieces(gzip.GzipFile(fileobj=file))
    if head.startswith(b"\xfd7zXZ\0"):
        return _expanded(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY))
    if head.startswith(b"BZh"):
        return _expanded(file, bz2.BZ2Decompressor)
    return _pieces(file)


def _pieces(stream: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    while piece := stream.read(_CHUNK):
        yield piece


def _expanded(file: IO[bytes], new: Callable[[], lzma.LZMADecompressor | bz2.BZ2Decompressor]) -> Iterator[bytes]:
    """Unpack a file of one or more streams in bounded steps; unlike ``lzma.open`` with a limit on the dictionary."""
    decoder = new()
    while True:
        data = b""
        if decoder.eof:
            data = decoder.unused_data.lstrip(b"\0")  # xz may pad with zeros between and after streams
            while not data:
                raw = file.read(_CHUNK)
                if not raw:
                    return
                data = raw.lstrip(b"\0")
            decoder = new()
        elif decoder.needs_input:
            data = file.read(_CHUNK)
            if not data:
                raise EOFError
        if piece := decoder.decompress(data, _CHUNK):
            yield piece


def _wanted(name: str, members: Sequence[str]) -> bool:
    path = PurePosixPath(name.replace("\\", "/").lower())
    if "__macosx" in path.parts or path.name.startswith("."):
        return False
    return path.name in members if members else path.suffix == ".csv"


def _zip_member(path: Path, file: IO[bytes], members: Sequence[str], passed: list[str]) -> Iterator[bytes]:
    with zipfile.ZipFile(file) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        candidates = [info for info in files if _wanted(info.filename, members)]
        if not candidates:
            candidates = [info for info in files if _wanted(info.filename, ())]
        if len(candidates) != 1:
            raise _not_one(path, [info.filename for info in candidates], members)
        if candidates[0].flag_bits & 1:
            raise FerError(f"{candidates[0].filename!r} in the archive is encrypted", hint="unpack it first", path=path)
        passed += [info.filename for info in files if info is not candidates[0]]
        with archive.open(candidates[0]) as stream:
            yield from _pieces(stream)


def _tar_member(path: Path, chunks: Iterator[bytes], members: Sequence[str], passed: list[str]) -> Iterator[bytes]:
    # A tar has no table of contents: a second candidate shows itself only after the first has been read.
    candidates: list[str] = []
    with tarfile.open(fileobj=_Joined(chunks), mode="r|", bufsize=_CHUNK) as archive:
        for member in archive:
            if member.isdir():
                continue
            if not _wanted(member.name, members):
                passed.append(member.name)
                continue
            candidates.append(member.name)
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None:
                raise FerError(f"{member.name!r} in the archive is not a regular file", hint="unpack it", path=path)
            if len(candidates) > 1:
                raise _not_one(path, candidates, members)
            yield from _pieces(stream)
    if not candidates:
        raise _not_one(path, candidates, members)


def _not_one(path: Path, candidates: Sequence[str], members: Sequence[str]) -> FerError:
    if not candidates:
        return FerError(
            f"the archive holds no {' or '.join(members) or '.csv file'}", hint="give the csv file itself", path=path
        )
    names = " and ".join(repr(name) for name in candidates[:2])
    more = f" and {len(candidates) - 2} more" if len(candidates) > 2 else ""
    return FerError(f"the archive holds {names}{more}", hint="unpack it and give the right one", path=path)


class _Joined(io.RawIOBase):
    """Chunks of bytes as one file that can only be read forward."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end, and all that is left when ``size`` is negative."""
        parts = [self._rest]
        length = len(self._rest)
        while size < 0 or length < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            length += len(chunk)
        joined = b"".join(parts)
        cut = length if size < 0 else size
        self._rest = joined[cut:]
        return joined[:cut]
