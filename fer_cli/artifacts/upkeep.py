"""Looking after a store: verifying every byte, finding what nobody needs, walking the lineage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from fer_cli.artifacts import durable
from fer_cli.artifacts.manifest import KINDS, MANIFEST, Input, content_digest, read_manifest
from fer_cli.artifacts.store import LOCKS, Artifact, Store
from fer_cli.errors import FerError

_UNFINISHED: Final = (".new-", ".partial-", ".trash-")


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as the manifest says."""

    path: Path
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


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


def verify_directory(directory: Path) -> list[Damage]:
    """Hash every file of an artifact again and return what differs, in order of path."""
    try:
        manifest = read_manifest(directory)
    except FerError as error:
        return [Damage(directory / MANIFEST, "a sound manifest", error.what)]
    damage = []
    if (directory / MANIFEST).read_bytes() != manifest.to_bytes():
        damage.append(Damage(directory / MANIFEST, "the bytes that fer writes", "other bytes of the same meaning"))
    if (directory.parent.parent.name, directory.parent.name, directory.name) != (
        manifest.kind,
        manifest.name,
        manifest.version,
    ):
        damage.append(Damage(directory, f"{manifest.kind}/{manifest.name}/{manifest.version}", "another place"))
    for entry in manifest.files:
        path = directory / entry.path
        if not path.is_file():
            damage.append(Damage(path, f"{entry.size:,} bytes", "no file"))
        elif (size := path.stat().st_size) != entry.size:
            damage.append(Damage(path, f"{entry.size:,} bytes", f"{size:,} bytes"))
        elif (found := durable.sha256_file(path)) != entry.sha256:
            damage.append(Damage(path, f"sha256 {entry.sha256}", f"sha256 {found}"))
    known = {entry.path for entry in manifest.files} | {MANIFEST}
    damage += [
        Damage(path, "no such file", "a file that the manifest does not name")
        for path in sorted(directory.iterdir())
        if path.name not in known
    ]
    if manifest.content != content_digest(manifest.files):
        damage.append(Damage(directory / MANIFEST, "the hash of its files", manifest.content))
    return damage


def leftovers(store: Store, *, superseded: bool) -> list[Leftover]:
    """Return what ``gc`` may remove, the largest first.

    That is whatever killed commands left, and with ``superseded`` every version of which a newer one of the same name
    exists and from which nothing that stays was made. Work whose lock is held is left alone.
    """
    found = []
    for kind in KINDS:
        for name in sorted(path for path in (store.root / kind).glob("*") if path.is_dir()):
            for path in sorted(name.iterdir()):
                if not path.is_dir():
                    continue
                unfinished = path.name.startswith(_UNFINISHED)
                if (unfinished or not (path / MANIFEST).exists()) and not _in_use(store, path):
                    resumable = path.name.startswith(".partial-")
                    reason = (
                        "stopped work: the same command would go on from it"
                        if resumable
                        else "left by a killed command"
                    )
                    found.append(Leftover(path, durable.tree_size(path), reason))
    if superseded:
        found += _superseded(store)
    return sorted(found, key=lambda leftover: -leftover.size)


def remove(store: Store, found: Sequence[Leftover]) -> int:
    """Remove leftovers, except those that a process has taken up meanwhile; return the bytes that it freed."""
    freed = 0
    for leftover in found:
        try:
            with FileLock(_lock_path(store, leftover.path)).acquire(timeout=0):
                durable.remove_tree(leftover.path)
        except Timeout:
            continue
        freed += leftover.size
    return freed


def lineage(store: Store, artifact: Artifact, role: str = "") -> Lineage:
    """Return the tree of what an artifact was made from."""
    parents = []
    for input_role, source in artifact.manifest.inputs.items():
        parent = _open_input(store, source)
        if parent is None:
            parents.append(Lineage(input_role, source, None, (), changed=False))
        else:
            node = lineage(store, parent, input_role)
            changed = parent.manifest.content != source.content
            parents.append(Lineage(input_role, source, parent, node.parents, changed))
    return Lineage(role, artifact.as_input(), artifact, tuple(parents), changed=False)


def open_parent(store: Store, artifact: Artifact, role: str) -> Artifact:
    """Return the artifact that another one was made from, refusing one whose content has changed since.

    Raises:
        FerError: it is gone, damaged, or not what it was.
    """
    source = artifact.manifest.inputs[role]
    parent = _open_input(store, source)
    reference = f"{source.kind}/{source.name}@{source.version}"
    if parent is None:
        raise FerError(
            f"{artifact.reference} was made from {reference}, which is not in this store",
            hint=f"make that again, or make the {artifact.kind} from what is there",
            path=store.root,
        )
    if parent.manifest.content != source.content:
        raise FerError(
            f"{reference} has changed since {artifact.reference} was made from it",
            hint=f"make the {artifact.kind} again",
            path=parent.path,
        )
    return parent


def _open_input(store: Store, source: Input) -> Artifact | None:
    directory = store.root / source.kind / source.name / source.version
    if source.kind not in KINDS or not (directory / MANIFEST).is_file():
        return None
    return store.open(directory)


def _lock_path(store: Store, directory: Path) -> Path:
    version = directory.name.split("-")[1] if directory.name.startswith(_UNFINISHED) else directory.name
    return store.root / LOCKS / f"{directory.parent.parent.name}.{directory.parent.name}.{version}"


def _in_use(store: Store, directory: Path) -> bool:
    path = _lock_path(store, directory)
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True


def _superseded(store: Store) -> list[Leftover]:
    directories = store.directories()
    newest: set[tuple[str, str]] = set()
    kept: list[Path] = []
    older: list[Path] = []
    for path in directories:  # the newest first
        key = (path.parent.parent.name, path.parent.name)
        (older if key in newest else kept).append(path)
        newest.add(key)
    needed: set[Path] = set()
    queue = list(kept)
    while queue:
        path = queue.pop()
        if path in needed:
            continue
        needed.add(path)
        for source in read_manifest(path).inputs.values():
            parent = store.root / source.kind / source.name / source.version
            if source.kind in KINDS and (parent / MANIFEST).is_file():
                queue.append(parent)
    return [
        Leftover(path, durable.tree_size(path), "superseded by a newer version") for path in older if path not in needed
    ]
