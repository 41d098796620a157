"""Looking after a store: verifying every byte, finding what nobody needs, walking the lineage."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.annotations import Annotations
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.catalogue import LINEAGE, SHIPPED
from fer_cli.artifacts.dependents import UNFINISHED, in_use, inputs_of, is_importing, lock_path
from fer_cli.artifacts.manifest import KINDS, MANIFEST, Input, OldSchemaError, content_digest, read_manifest
from fer_cli.artifacts.running import ended_files
from fer_cli.artifacts.store import IMPORT, LOCKS, NEEDED, PARTIAL, Store
from fer_cli.artifacts.superseded import fates
from fer_cli.core.errors import FerError

REQUESTS: Final = ".requests"
"""Where the command line keeps which request led to which artifacts."""
_VERSION: Final = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as the manifest says."""

    path: Path
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Verified:
    """What is wrong with an artifact.

    ``earlier``: it is of an earlier form, which cannot be read any more. ``lineage_only`` are references of what it was
    made from that is elsewhere: only its manifest is here, and no payload was verified.
    """

    directory: Path
    damage: list[Damage]
    earlier: OldSchemaError | None = None
    lineage_only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Leftover:
    """A directory that ``gc`` would remove, and why."""

    path: Path
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """An artifact, or the files or the vanished artifact that stand in its place, and what it was made from."""

    role: str
    source: Input
    artifact: Artifact | None
    parents: tuple[Lineage, ...]
    changed: bool  # the artifact is there, but its content is not the one that was used


def verify_store(store: Store, directories: Sequence[Path] | None = None) -> Iterator[Verified]:
    """Verify the artifacts of a store, or some of them: their files, and that what they were made from is there.

    A directory at an artifact's place that has a payload and no manifest is damage too.
    """
    whole = directories is None
    for directory in store.directories() if directories is None else directories:
        try:
            manifest = read_manifest(directory)
        except OldSchemaError as error:
            yield Verified(directory, [], error)
            continue
        except FerError:
            yield Verified(directory, verify_directory(directory))
            continue
        missing, elsewhere = [], []
        # What a model that comes with fer was made from is nowhere here, nor with who imports it.
        comes_with_fer = (SHIPPED / manifest.kind / manifest.name / manifest.version).is_dir()
        for role, source in () if comes_with_fer else manifest.inputs.items():
            if source.kind not in KINDS:
                continue
            try:
                parent = find_input(store, source)
            except FerError:
                continue  # damaged, and a fault of its own directory
            if parent is None:
                reference = Path(source.kind, source.name, source.version)
                missing.append(Damage(store.root / reference, f"the {role} of {directory}", "no such artifact"))
            elif parent.lineage_only:
                elsewhere.append(parent.reference)
        yield Verified(directory, [*verify_directory(directory), *missing], lineage_only=tuple(elsewhere))
    for directory in Store(store.root / LINEAGE).directories() if whole else ():
        try:
            read_manifest(directory)
        except FerError as error:
            yield Verified(directory, [Damage(directory / MANIFEST, "a valid manifest", error.what)])
    for directory in _places(store) if whole else ():
        if not (directory / MANIFEST).exists() and not in_use(store, directory):
            yield Verified(directory, [Damage(directory / MANIFEST, "a manifest", "no file")])


def _places(store: Store) -> Iterator[Path]:
    """Yield all directories where an artifact would stand."""
    for kind in KINDS:
        for path in sorted((store.root / kind).glob("*/*")):
            if _VERSION.fullmatch(path.name) and path.is_dir():
                yield path


def verify_directory(directory: Path) -> list[Damage]:
    """Hash every file of an artifact again and return what differs, in order of path."""
    try:
        manifest = read_manifest(directory)
    except FerError as error:
        return [Damage(directory / MANIFEST, "a valid manifest", error.what)]
    damage = []
    if (directory / MANIFEST).read_bytes() != manifest.to_bytes():
        damage.append(Damage(directory / MANIFEST, "the formatting of fer", "the same values in another"))
    if (directory.parent.parent.name, directory.parent.name, directory.name) != (
        manifest.kind,
        manifest.name,
        manifest.version,
    ):
        damage.append(Damage(directory, f"{manifest.kind}/{manifest.name}/{manifest.version}", "another path"))
    for entry in manifest.files:
        path = directory / entry.path
        if not path.is_file():
            damage.append(Damage(path, f"{entry.size:,} bytes", "no file"))
        elif (size := path.stat().st_size) != entry.size:
            damage.append(Damage(path, f"{entry.size:,} bytes", f"{size:,} bytes"))
        elif (found := atomic_io.hash_blocks(path))[0] != entry.sha256:
            damage.append(Damage(path, f"sha256 {entry.sha256}", f"sha256 {found[0]}"))
        elif entry.blocks not in {"", found[1]}:
            damage.append(Damage(path, "the checksums of its blocks", "others"))
    known = {entry.path for entry in manifest.files} | {MANIFEST}
    damage += [
        Damage(path, "no such file", "a file that is not in the manifest")
        for path in sorted(directory.iterdir())
        if path.name not in known and not path.match(atomic_io.PARTS)
    ]
    if manifest.content != content_digest(manifest.files):
        damage.append(Damage(directory / MANIFEST, "the hash of its files", manifest.content))
    return damage


def leftovers(store: Store, *, superseded: bool, unfinished: bool = False) -> list[Leftover]:
    """Return what ``gc`` may remove, the largest first.

    Args:
        store: to look through. Work whose lock is held is left alone.
        superseded: also artifacts that a newer equal run replaced (:mod:`fer_cli.artifacts.superseded`).
        unfinished: also work that the same command would resume.
    """
    found = []
    for kind in KINDS:
        for name in sorted(path for path in (store.root / kind).glob("*") if path.is_dir()):
            for path in sorted(name.iterdir()):
                # Only what fer itself makes: a folder of another name is somebody's own.
                begun = UNFINISHED.fullmatch(path.name)
                broken = _VERSION.fullmatch(path.name) and not (path / MANIFEST).exists()
                if path.is_dir() and (begun or broken) and not in_use(store, path):
                    resumable = path.name.startswith(PARTIAL)
                    reason = "unfinished: the same command would resume it" if resumable else "left by a killed command"
                    if unfinished or not resumable:
                        found.append(Leftover(path, atomic_io.tree_size(path), reason))
                elif _VERSION.fullmatch(path.name) and not in_use(store, path):
                    parts = sorted(path.glob(atomic_io.PARTS))
                    found += [Leftover(part, part.stat().st_size, "left by a killed command") for part in parts]
    found += [Leftover(file, file.stat().st_size, "left by a killed command") for file in ended_files(store)]
    if not is_importing(store):
        found += [
            Leftover(path, atomic_io.tree_size(path), "left by a killed import")
            for path in sorted(store.root.glob(f"{IMPORT}*"))
        ]
        found += [
            Leftover(path, atomic_io.tree_size(path), "lineage of nothing that is here")
            for path in _unused_lineage(store)
        ]
    for request in sorted((store.root / REQUESTS).glob("*")):
        if not _answers(store, request):
            found.append(Leftover(request, request.stat().st_size, "the answer of a request, which is gone"))
    if superseded:
        found += [
            Leftover(fate.path, atomic_io.tree_size(fate.path), fate.reason) for fate in fates(store) if fate.goes
        ]
    return sorted(found, key=lambda leftover: -leftover.size)


def _unused_lineage(store: Store) -> list[Path]:
    """Return what is known by its lineage alone, and nothing here was made from it, directly or through others."""
    known = {(path.parent.parent.name, path.name): path for path in Store(store.root / LINEAGE).directories()}
    ahead = store.directories() if known else []
    while ahead:
        with suppress(FerError):  # damaged: 'fer verify' says so
            for source in inputs_of(ahead.pop()):
                if (path := known.pop((source.kind, source.version), None)) is not None:
                    ahead.append(path)
    return sorted(known.values())


def remove(store: Store, found: Sequence[Leftover]) -> int:
    """Remove leftovers, except those that a process has taken up meanwhile; return the bytes that it freed."""
    from filelock import FileLock, Timeout

    freed = 0
    for leftover in found:
        if leftover.path.is_file():
            leftover.path.unlink(missing_ok=True)
        else:
            try:
                with FileLock(lock_path(store, leftover.path)).acquire(timeout=0):
                    atomic_io.remove_tree(leftover.path)
            except Timeout:
                continue
        freed += leftover.size
    _forget_ended(store)
    _forget_requests(store)
    return freed


def _answers(store: Store, request: Path) -> bool:
    """Tell whether the artifacts that a request led to are there."""
    try:
        asked, answer, *_ = json.loads(request.read_bytes())
        references = [str(reference) for reference, _ in answer]
    except (OSError, ValueError, TypeError):
        return False
    parts = [reference.split("/") for reference in references]
    there = all(len(part) == 3 and (store.place(*part) / MANIFEST).is_file() for part in parts)
    return there and asked == request.stem


def lineage(store: Store, artifact: Artifact, role: str = "") -> Lineage:
    """Return the tree of what an artifact was made from."""
    parents = []
    for input_role, source in artifact.manifest.inputs.items():
        parent = find_input(store, source)
        if parent is None:
            parents.append(Lineage(input_role, source, None, (), changed=False))
        else:
            node = lineage(store, parent, input_role)
            changed = parent.manifest.content != source.content
            parents.append(Lineage(input_role, source, parent, node.parents, changed))
    return Lineage(role, artifact.as_input(), artifact, tuple(parents), changed=False)


def has_parent(store: Store, artifact: Artifact, role: str) -> bool:
    """Tell whether what an artifact was made from is here, with its payload.

    Raises:
        FerError: it is damaged.
    """
    parent = find_input(store, artifact.manifest.inputs[role])
    return parent is not None and not parent.lineage_only


def open_parent(store: Store, artifact: Artifact, role: str) -> Artifact:
    """Return the artifact that another one was made from, refusing one whose content has changed since.

    It may be lineage only: its manifest can be read then, and using its payload is an error.

    Raises:
        FerError: it is gone, damaged, or not what it was.
    """
    source = artifact.manifest.inputs[role]
    parent = find_input(store, source)
    reference = f"{source.kind}/{source.name}@{source.version}"
    if parent is None:
        raise FerError(
            f"{artifact.reference} was made from {reference}, which is not in this store",
            hint=f"rebuild that one, or rebuild the {artifact.kind} from what is in the store",
            path=store.root,
        )
    if parent.manifest.content != source.content:
        raise FerError(
            f"{reference} has changed since {artifact.reference} was made from it",
            hint=f"rebuild the {artifact.kind}",
            path=parent.path,
        )
    return parent


def find_input(store: Store, source: Input) -> Artifact | None:
    """Return an input from the store: the version that was used, else one of the same name with equal content.

    Where neither is here, what is known of it by an import.
    """
    if source.kind not in KINDS:
        return None
    directory = store.place(source.kind, source.name, source.version)
    if (directory / MANIFEST).is_file():
        return store.open(directory)
    for other in store.directories((source.kind,), source.name):
        try:
            if read_manifest(other).content == source.content:
                return store.open(other)
        except OldSchemaError:
            continue
    shipped = SHIPPED / source.kind / source.name / source.version
    if (shipped / MANIFEST).is_file():
        return Store(SHIPPED).open(shipped)
    return store.lineage_of(source.kind, source.version)


def discard(store: Store, directories: Sequence[Path]) -> int:
    """Remove artifacts and stopped work with what is said of them; return the bytes that it freed.

    Raises:
        FerError: a process is making one of them: those before it are removed.
    """
    annotations, freed = Annotations(store), 0
    for path in directories:
        kind = path.parent.parent.name
        version = path.name.removeprefix(PARTIAL)
        size = atomic_io.tree_size(path)
        with store.exclusive(kind, version) as free:
            if not free:
                raise FerError("a process is at it", hint="try again when that is done", path=path)
            atomic_io.remove_tree(path)
            (store.root / LOCKS / f"{kind}.{version}{NEEDED}").unlink(missing_ok=True)
        with suppress(OSError):  # other versions are there
            path.parent.rmdir()
        if path.name == version:
            annotations.forget(kind, version)
        freed += size
    _forget_ended(store)
    _forget_requests(store)
    return freed


def _forget_ended(store: Store) -> None:
    """Remove what stopped work said of itself that went just now."""
    for file in ended_files(store):
        file.unlink(missing_ok=True)


def _forget_requests(store: Store) -> None:
    """Remove the answers of requests whose artifacts went just now."""
    for request in (store.root / REQUESTS).glob("*"):
        if not _answers(store, request):
            request.unlink(missing_ok=True)
