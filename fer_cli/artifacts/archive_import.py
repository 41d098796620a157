"""Taking artifacts of another machine into a store, from a zip of :mod:`fer_cli.artifacts.archive` that may be hostile.

Order is what keeps a file from doing harm: names, kinds and declared sizes of all members, then manifests, then what
these say against what is there, then bytes under the declared sizes into a folder of their own, hashed again from the
disk. Only what has passed all of it is moved into place, each artifact by one rename.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import secrets
import shlex
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from filelock import FileLock, Timeout
from pydantic import ValidationError

from fer_cli.artifacts import atomic_io, protocol, summaries
from fer_cli.artifacts.archive import ARTIFACTS, CONSISTS_OF, FORMAT, HEAD, LINEAGE, Head, member
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.catalogue import LINEAGE as STORE_LINEAGE
from fer_cli.artifacts.dependents import import_lock
from fer_cli.artifacts.manifest import (
    KINDS,
    MANIFEST,
    VERSION_LENGTH,
    FileEntry,
    Input,
    Manifest,
    content_digest,
    parse_manifest,
    read_manifest,
)
from fer_cli.artifacts.naming import is_name
from fer_cli.artifacts.sections import Section
from fer_cli.artifacts.store import IMPORT, Store
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note, track, warn
from fer_cli.core.user_files import open_file

_MOST_MEMBERS: Final = 20_000
_MOST_MANIFESTS: Final = 2_000
_MOST_AT_ONCE: Final = 8 << 20  # bytes that are read in one piece: the table of contents is
_LARGEST_HEAD: Final = 1 << 20
_LARGEST_MANIFEST: Final = 16 << 20
_LARGEST_MANIFESTS: Final = 64 << 20  # bytes of all together
_MOST_TIMES: Final = 20  # what is unpacked is at most so many times as large as the file ...
_MORE: Final = 16 << 20  # ... and so many bytes
_DEEPEST: Final = 30  # artifacts from one to the first that it was made from
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}")
_VERSION: Final = re.compile(rf"[0-9a-f]{{{VERSION_LENGTH}}}")
_AGAIN: Final = "get the file again from where it was exported"
_SECTIONS: Final = tuple(
    section
    for module in (protocol, summaries)
    for section in vars(module).values()
    if isinstance(section, type) and issubclass(section, Section) and section is not Section
)
_BROKEN: Final = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError),
    *(NotImplementedError, RuntimeError, OverflowError, UnicodeError, ValueError),
)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: the artifacts that the file was exported for, those that are new here, and lineage alone."""

    artifacts: tuple[Artifact, ...]
    added: tuple[str, ...]
    lineage: int


@dataclass(frozen=True, slots=True)
class _Contents:
    """What an archive says that it holds: checked, but for the bytes of payloads."""

    head: Head
    artifacts: tuple[Manifest, ...]  # each after those that it was made from
    lineage: tuple[Manifest, ...]


def import_archive(store: Store, path: Path) -> Imported:
    """Take the artifacts of a file into a store; those that are there already stay as they are.

    Raises:
        FerError: it is no file of ``fer export --to zip``, is damaged, or holds an artifact that is here with other
            content. Nothing is changed then.
    """
    with _opened(path) as archive:
        with _broken_named(path):
            contents = _contents(archive, path, store)
        new = [one for one in contents.artifacts if not _is_here(store, one)]
        with _importing(store) as staging:
            with _broken_named(path), track("import", len(new), "artifacts") as advance:
                for manifest in new:
                    _unpack(archive, manifest, _place(staging, manifest), path)
                    advance()
            known = [one for one in contents.lineage if _add_lineage(store, one, staging)]
            added = [one for one in new if _move(store, one, _place(staging, one))]
    named = [_found(store, one) for one in contents.artifacts if _reference(one) in contents.head.references]
    return Imported(tuple(named), tuple(_reference(one) for one in added), len(known))


class _Bounded(io.BufferedReader):
    """A file of which no more is read at once than a table of contents of fer's has: zipfile itself has no limit."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next ``size`` bytes, or all that are left.

        Raises:
            BadZipFile: these are too many.
        """
        wanted = os.fstat(self.fileno()).st_size - self.tell() if size is None or size < 0 else size
        if wanted > _MOST_AT_ONCE:
            raise zipfile.BadZipFile(f"its table of contents has {wanted:,} bytes")
        return super().read(wanted)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    with open_file(path) as plain, _Bounded(io.FileIO(os.dup(plain.fileno()))) as file:
        with _broken_named(path):
            archive = zipfile.ZipFile(file)
        with archive:
            yield archive


@contextmanager
def _broken_named(path: Path) -> Iterator[None]:
    """Make one line of all that zipfile and the decompressors raise of a damaged file."""
    try:
        yield
    except FerError:
        raise
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is a place before the file's beginning
            raise
        raise FerError(f"cannot be read as a zip ({error})", hint=_AGAIN, path=path) from error


def _contents(archive: zipfile.ZipFile, path: Path, store: Store) -> _Contents:
    """Check all that can be told without unpacking a payload."""
    members = _members(archive, path)
    if HEAD not in members:
        raise FerError(
            f"is no export of fer: it holds no {HEAD}", hint="give a file of 'fer export --to zip'", path=path
        )
    head = _head(_read(archive, members[HEAD], _LARGEST_HEAD, path), path)
    names = [name for name in members if name.endswith(f"/{MANIFEST}")]
    if len(names) > _MOST_MANIFESTS or sum(members[name].file_size for name in names) > _LARGEST_MANIFESTS:
        raise FerError(f"its {len(names):,} manifests are too many", hint=_AGAIN, path=path)
    manifests: dict[str, dict[tuple[str, str], Manifest]] = {ARTIFACTS: {}, LINEAGE: {}}
    for name in names:
        folder, manifest = _manifest(name, _read(archive, members[name], _LARGEST_MANIFEST, path), path)
        manifests[folder][manifest.kind, manifest.version] = manifest
    inside = manifests[ARTIFACTS]
    for reference in head.references:
        if reference not in map(_reference, inside.values()):
            raise FerError(f"does not hold {reference}, which it names", hint=_AGAIN, path=path)
    named = {HEAD, *names, *(member(ARTIFACTS, one, entry.path) for one in inside.values() for entry in one.files)}
    if more := sorted(set(members) - named):
        raise FerError(f"holds {more[0]!r}, which no manifest in it names", hint=_AGAIN, path=path)
    for manifest in inside.values():
        _check_payload(manifest, members, path)
        for source in manifest.inputs.values():
            if source.kind in CONSISTS_OF[manifest.kind] and (source.kind, source.version) not in inside:
                what = (
                    f"{_reference(manifest)} without {source.kind}/{source.name}@{source.version}, of which it consists"
                )
                raise FerError(f"holds {what}", hint=_AGAIN, path=path)
    ordered = _in_order({**manifests[LINEAGE], **inside}, store, path)
    lineage = [one for key, one in manifests[LINEAGE].items() if key not in inside]
    return _Contents(head, tuple(one for one in ordered if (one.kind, one.version) in inside), tuple(lineage))


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by name: plain ones, at places where an export has some, of honest sizes."""
    if len(archive.infolist()) > _MOST_MEMBERS:
        raise FerError(f"holds {len(archive.infolist()):,} files, more than {_MOST_MEMBERS:,}", hint=_AGAIN, path=path)
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        # As it stands in the file: zipfile ends a name at its first NUL.
        name, mode = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
        if name.endswith("/") and info.file_size == 0 and mode in {0, stat.S_IFDIR}:
            continue  # zip programs write folders: nothing is made of them
        if mode not in {0, stat.S_IFREG}:
            raise FerError(f"{name!r} in it is a link or a device, not a file", hint=_AGAIN, path=path)
        if info.filename != name or not _is_place(name):
            raise FerError(f"{name!r} is no name of a file of an export", hint=_AGAIN, path=path)
        if name in found:
            raise FerError(f"holds {name!r} twice", hint=_AGAIN, path=path)
        if info.flag_bits & 1:
            raise FerError(f"{name!r} in it is encrypted", hint=_AGAIN, path=path)
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise FerError(f"{name!r} in it is neither stored nor deflated", hint="pack it again as usual", path=path)
        found[name] = info
    whole, size = sum(info.file_size for info in found.values()), path.stat().st_size
    if whole > _MOST_TIMES * size + _MORE:
        what = f"would unpack to {whole:,} bytes, more than {_MOST_TIMES} times its own {size:,}"
        raise FerError(what, hint="it is no honest export: do not use it", path=path)
    return found


def _is_place(name: str) -> bool:
    """Tell whether an export can have a file of this name: ``fer.json``, or one of an artifact."""
    if name == HEAD:
        return True
    parts = name.split("/")
    if len(parts) != 5:
        return False
    folder, kind, artifact, version, file = parts
    kinds = {ARTIFACTS: CONSISTS_OF, LINEAGE: KINDS}.get(folder, ())
    if kind not in KINDS or kind not in kinds or not is_name(artifact) or not _VERSION.fullmatch(version):
        return False
    return _FILE.fullmatch(file) is not None if folder == ARTIFACTS else file == MANIFEST


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int, path: Path) -> bytes:
    """Return the bytes of a small member."""
    if info.file_size > most:
        raise FerError(f"{info.filename!r} has {info.file_size:,} bytes, more than {most:,}", hint=_AGAIN, path=path)
    with archive.open(info) as stream:
        return stream.read(most)


def _head(data: bytes, path: Path) -> Head:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FerError(f"its {HEAD} is not valid JSON ({error})", hint=_AGAIN, path=path) from error
    found = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(found, int) and found > FORMAT:
        what = f"is of format {found}, this fer reads format {FORMAT}"
        raise FerError(what, hint="use the version of fer that wrote it, or a newer one", path=path)
    try:
        return Head.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise FerError(f"its {HEAD}: key {key!r}: {first['msg']}", hint=_AGAIN, path=path) from error


def _manifest(name: str, data: bytes, path: Path) -> tuple[str, Manifest]:
    """Return the folder of a manifest in the archive, and the manifest, which is of its place."""
    inside = Path(f"{path}:{name}")
    try:
        manifest = parse_manifest(data, inside)
    except FerError as error:
        raise FerError(error.what, hint="export it again with the version of fer that is here", path=inside) from error
    folder = name.partition("/")[0]
    if name != member(folder, manifest, MANIFEST):
        raise FerError(f"is the manifest of {_reference(manifest)}", hint=_AGAIN, path=inside)
    for source in manifest.inputs.values():
        if source.kind in KINDS and not (is_name(source.name) and _VERSION.fullmatch(source.version)):
            raise FerError(f"was made from {_reference(source)}, which is no reference", hint=_AGAIN, path=inside)
    for entry in manifest.files:
        if not _FILE.fullmatch(entry.path) or entry.path == MANIFEST:
            raise FerError(f"names a file {entry.path!r}, which is no name of one", hint=_AGAIN, path=inside)
    if content_digest(manifest.files) != manifest.content:
        raise FerError("has another hash of its files than it says", hint=_AGAIN, path=inside)
    for section in _SECTIONS:
        if manifest.kind in section.kinds:
            section.of(Artifact(inside, manifest))
    command = manifest.measured.get("command")
    if command is not None and not _is_command(command):
        raise FerError("was made by a command that is not fer's", hint="do not use the file", path=inside)
    return folder, manifest


def _is_command(text: object) -> bool:
    """Tell whether a text, which messages advise to run, is a command of fer, or several one after another."""
    if not isinstance(text, str):
        return False
    try:
        words = [shlex.split(part) for part in text.split(" && ")]
    except ValueError:
        return False
    return all(part[:1] == ["fer"] for part in words) and text == " && ".join(map(shlex.join, words))


def _check_payload(manifest: Manifest, members: Mapping[str, zipfile.ZipInfo], path: Path) -> None:
    if len({entry.path.lower() for entry in manifest.files}) != len(manifest.files):
        raise FerError(f"{_reference(manifest)} names a file twice", hint=_AGAIN, path=path)
    for entry in manifest.files:
        info = members.get(name := member(ARTIFACTS, manifest, entry.path))
        if info is None:
            raise FerError(f"holds no {name!r}", hint=_AGAIN, path=path)
        if info.file_size != entry.size:
            what = f"{name!r} has {info.file_size:,} bytes, its manifest says {entry.size:,}"
            raise FerError(what, hint=_AGAIN, path=path)


def _in_order(manifests: Mapping[tuple[str, str], Manifest], store: Store, path: Path) -> list[Manifest]:
    """Return manifests of an archive, each after those that it was made from.

    Raises:
        FerError: one was made from itself, by way of what is here already too.
    """
    done: dict[tuple[str, str], Manifest | None] = {}

    def visit(key: tuple[str, str], above: tuple[tuple[str, str], ...]) -> None:
        if key in above or len(above) > _DEEPEST:
            what = "made from itself" if key in above else f"made in more than {_DEEPEST} steps"
            raise FerError(f"says that {'@'.join(key)} was {what}", hint=_AGAIN, path=path)
        if key in done:
            return
        manifest = manifests.get(key) or _manifest_here(store, *key)
        for source in () if manifest is None else manifest.inputs.values():
            if source.kind in KINDS:
                visit((source.kind, source.version), (*above, key))
        done[key] = manifest

    for key in manifests:
        visit(key, ())
    return [manifest for key, manifest in done.items() if manifest is not None and key in manifests]


def _manifest_here(store: Store, kind: str, version: str) -> Manifest | None:
    found = store.directories((kind,), version=version)
    with suppress(FerError):  # damaged, or of an older schema
        if found:
            return read_manifest(found[0])
        known = store.lineage_of(kind, version)
        return None if known is None else known.manifest
    return None


def _is_here(store: Store, manifest: Manifest) -> bool:
    """Tell whether an artifact is in a store already, under whatever name; a damaged one counts as not there.

    Raises:
        FerError: it is there with other content.
    """
    directory = store.place(manifest.kind, manifest.name, manifest.version)
    if not (directory / MANIFEST).is_file():
        return False
    try:
        here = store.open(directory)
    except FerError as error:
        warn(f"{error.path}: {error.what}: the file's takes its place")
        return False
    if here.manifest.content != manifest.content:
        raise FerError(
            f"{here.reference} is here already, with other content than the file's",
            hint="import into another --store, or remove the one here with 'fer rm'",
            path=directory,
        )
    return True


def _found(store: Store, manifest: Manifest) -> Artifact:
    return store.open(store.place(manifest.kind, manifest.name, manifest.version))


def _place(root: Path, manifest: Manifest) -> Path:
    return root / manifest.kind / manifest.name / manifest.version


def _reference(one: Manifest | Input) -> str:
    return f"{one.kind}/{one.name}@{one.version}"


@contextmanager
def _importing(store: Store) -> Iterator[Path]:
    """Yield a folder to unpack into, which no reader looks into; one process at a time imports into a store."""
    path = import_lock(store)
    atomic_io.make_directory(path.parent)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        note("waiting: another process is importing a file")
        lock.acquire()
    staging = store.root / f"{IMPORT}{secrets.token_hex(4)}"
    try:
        for left in store.root.glob(f"{IMPORT}*"):  # by a kill
            atomic_io.remove_tree(left)
        atomic_io.make_directory(staging)
        yield staging
    finally:
        try:
            if staging.is_dir():
                atomic_io.remove_tree(staging)
        finally:
            lock.release()


def _unpack(archive: zipfile.ZipFile, manifest: Manifest, directory: Path, path: Path) -> None:
    """Write the payload of an artifact, and check what is on the disk then."""
    atomic_io.make_directory(directory)
    size, free = sum(entry.size for entry in manifest.files), shutil.disk_usage(directory).free
    if size > free:
        what = f"{_reference(manifest)} has {size:,} bytes, and {free:,} are free"
        raise FerError(what, hint="free some space or use another --store", path=directory.parents[3])
    for entry in manifest.files:
        target = directory / entry.path
        with archive.open(member(ARTIFACTS, manifest, entry.path)) as stream:
            atomic_io.write_stream(target, iter(partial(stream.read, atomic_io.BLOCK_BYTES), b""))
        _check_bytes(entry, target, f"{path}:{member(ARTIFACTS, manifest, entry.path)}")


def _check_bytes(entry: FileEntry, target: Path, name: str) -> None:
    sha256, blocks = atomic_io.hash_blocks(target)
    if sha256 != entry.sha256:
        raise FerError(f"sha256 {sha256[:16]}, expected {entry.sha256[:16]}", hint=_AGAIN, path=name)
    if entry.blocks != (blocks if PurePosixPath(entry.path).suffix == ".npy" else ""):
        raise FerError("its blocks have other checksums than its manifest says", hint=_AGAIN, path=name)


def _add_lineage(store: Store, manifest: Manifest, staging: Path) -> bool:
    """Put a manifest where lineage is looked up, unless what it is of is here, or known already."""
    if _manifest_here(store, manifest.kind, manifest.version) is not None:
        return False
    directory, target = _place(staging / STORE_LINEAGE, manifest), _place(store.root / STORE_LINEAGE, manifest)
    atomic_io.make_directory(directory)
    atomic_io.write_file(directory / MANIFEST, manifest.to_bytes())
    atomic_io.make_directory(target.parent)
    if not atomic_io.publish(directory, target):  # a damaged one is there
        atomic_io.exchange(directory, target)
    return True


def _move(store: Store, manifest: Manifest, directory: Path) -> bool:
    """Seal an unpacked artifact as the newest and rename it into place; tell whether it was not there."""
    with store.exclusive(manifest.kind, manifest.version) as free:
        if not free:
            what = f"{_reference(manifest)} is being made by another process"
            raise FerError(what, hint="import it when that is done", path=store.root)
        if _is_here(store, manifest):
            return False
        sealed = manifest.model_copy(update={"order": store.next_order()}).sealed()
        atomic_io.write_file(directory / MANIFEST, sealed.to_bytes())
        atomic_io.sync(directory)
        target = store.place(manifest.kind, manifest.name, manifest.version)
        if target.parent.name != manifest.name:  # damaged, under another name: that stays
            target = _place(store.root, manifest)
        atomic_io.make_directory(target.parent)
        if not atomic_io.publish(directory, target):  # what is there is damaged
            atomic_io.exchange(directory, target)
    return True
