"""Every step by which the store changes the disk. Tests put a fault, or a kill, at each of them.

Order is what keeps a killed writer from leaving something that a reader could take for an artifact: payload, fsync,
manifest, fsync, rename into place, fsync of the parent.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PARTS: Final = ".*.part"
"""What a kill in the middle of :func:`replacing` leaves beside the file."""
BLOCK_BYTES: Final = 1 << 20
"""Of what one checksum of a large array covers."""
_NO_LINKS: Final = {errno.EPERM, errno.EACCES, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_blocks(path: Path) -> tuple[str, str]:
    """Return a file's SHA-256 as hex, and the CRC-32 of each of its blocks, eight hex digits each, end to end."""
    whole, blocks = hashlib.sha256(), []
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            whole.update(block)
            blocks.append(f"{zlib.crc32(block):08x}")
    return whole.hexdigest(), "".join(blocks)


def make_directory(path: Path) -> None:
    """Create a directory and its parents; one that exists is left as it is."""
    path.mkdir(parents=True, exist_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in errors of calls that know only a descriptor: a full disk is full somewhere."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` and force it to the disk. The file is only as whole as the directory it is part of."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        with naming(path):
            write_at(descriptor, data, 0)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def part_of(path: Path) -> Path:
    """Return the hidden sibling in which :func:`replacing` collects a file."""
    return path.with_name(f".{path.name}.part")


def write_stream(path: Path, pieces: Iterator[bytes]) -> None:
    """Write pieces of bytes to ``path`` one after another, as :func:`write_file` does."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        with naming(path):
            offset = 0
            for piece in pieces:
                write_at(descriptor, piece, offset)
                offset += len(piece)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden sibling of ``path`` to write to; it takes the place of ``path`` when the block ends without error.

    ``path`` is at every moment the old file or the whole new one, and what the block wrote before an error is removed.
    """
    part = part_of(path)
    part.unlink(missing_ok=True)  # left by a kill
    try:
        yield part
        sync(part)
        os.replace(part, path)  # noqa: PTH105 - the steps of this module go through ``os``, where tests can break them
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole and forced to the disk, or leave what is there as it is.

    Until it is whole the file has no name where the system can do that: a kill leaves nothing beside ``path``.
    """
    descriptor = _open_nameless(path.parent)
    if descriptor is None:
        with replacing(path) as part:
            write_file(part, data)
        return
    try:
        with naming(path):
            write_at(descriptor, data, 0)
            os.fsync(descriptor)
        source, part = f"/proc/self/fd/{descriptor}", part_of(path)
        # Only with a descriptor of a folder does Python follow that link; an absolute path makes no use of it.
        try:
            os.link(source, path, src_dir_fd=descriptor)
        except FileExistsError:
            part.unlink(missing_ok=True)
            try:
                os.link(source, part, src_dir_fd=descriptor)
                os.replace(part, path)  # noqa: PTH105
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with replacing(path) as part:
                write_file(part, data)
    finally:
        os.close(descriptor)
    sync(path.parent)


def write_unsynced(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole for readers, without waiting for the disk: a crash of the machine loses it."""
    part = part_of(path)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            with naming(path):
                write_at(descriptor, data, 0)
        finally:
            os.close(descriptor)
        os.replace(part, path)  # noqa: PTH105 - see above
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _open_nameless(folder: Path) -> int | None:
    """Open a new file without a name in a folder; None where the system has no such thing or the folder is at fault."""
    if not hasattr(os, "O_TMPFILE") or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o644)
    except OSError:
        return None


def append(path: Path, text: str) -> None:
    """Append ``text`` in one write and force it to the disk: lines of several processes do not mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        with naming(path):
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``; the kernel may take a large buffer in several pieces."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view[: 64 * BLOCK_BYTES], offset)
        view = view[written:]
        offset += written


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no such thing or other owners forbid it."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with naming(target):
            shutil.copyfile(source, target)


def reserve(descriptor: int, size: int) -> None:
    """Reserve ``size`` bytes, so that a full disk is an error now and not a crash in the middle of the work."""
    if size == 0:
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
            raise
        os.ftruncate(descriptor, size)
    except AttributeError:  # not on this platform
        os.ftruncate(descriptor, size)


def sync(path: Path) -> None:
    """Force a file's bytes, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(source: Path, target: Path) -> bool:
    """Rename the directory ``source`` to ``target``. Return False when ``target`` is there already."""
    try:
        os.rename(source, target)  # noqa: PTH104 - the steps of this module go through ``os``, where tests can break them
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            return False
        raise
    sync(target.parent)
    return True


def exchange(source: Path, target: Path) -> None:
    """Swap two directories, in one step where the system can: at no moment is there nothing at ``target``."""
    if sys.platform == "linux" and _exchange_in_one_step(source, target):
        sync(target.parent)
        return
    aside = target.parent / f".trash-{target.name}-{os.getpid()}"
    os.rename(target, aside)  # noqa: PTH104
    os.rename(source, target)  # noqa: PTH104
    os.rename(aside, source)  # noqa: PTH104
    sync(target.parent)


def _exchange_in_one_step(source: Path, target: Path) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    done = libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE)
    if done == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:  # this file system cannot
        return False
    raise OSError(code, os.strerror(code), str(target))


def remove_tree(path: Path) -> None:
    """Remove a directory. Its manifest goes first: from then on the artifact does not exist, however far this gets."""
    (path / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=False)


def tree_size(path: Path) -> int:
    """Return the bytes of all files below ``path``; files that vanish meanwhile count as nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(Path(folder) / name).st_size
            except FileNotFoundError:
                continue
    return total
