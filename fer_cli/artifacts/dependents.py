"""What was made from an artifact, and work that was stopped: what removing something would spoil."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fer_cli.artifacts.catalogue import LINEAGE, literally
from fer_cli.artifacts.manifest import KINDS, Input, OldSchemaError, read_manifest
from fer_cli.artifacts.store import IMPORT, LOCKS, NEEDED, PARTIAL, Store
from fer_cli.core.errors import FerError

UNFINISHED: Final = re.compile(r"\.(new-[0-9a-f]{12}-[0-9a-f]{8}|partial-[0-9a-f]{12}|trash-[0-9a-f]{12}-\d+)")
"""What fer calls the folder of an artifact that is not whole."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Work that was stopped, which the same command resumes."""

    path: Path
    kind: str
    name: str
    version: str

    @property
    def reference(self) -> str:
        """What it will be."""
        return f"{self.kind}/{self.name}@{self.version}"

    def is_under_way(self, store: Store) -> bool:
        """Tell whether a process is at it."""
        return in_use(store, self.path)


def unfinished_work(
    store: Store, kinds: Sequence[str] = KINDS, name: str = "*", version: str = "*"
) -> list[Unfinished]:
    """Return the work that was stopped or is under way, in order of name."""
    return [
        Unfinished(path, kind, path.parent.name, path.name.removeprefix(PARTIAL))
        for kind in kinds
        for path in sorted((store.root / kind).glob(f"{literally(name)}/{PARTIAL}{literally(version)}"))
        if UNFINISHED.fullmatch(path.name)
    ]


def dependents(store: Store, versions: Collection[tuple[str, str]]) -> list[Path]:
    """Return all that was made of artifacts, directly or through others, and what is still made of them.

    Args:
        store: where they are.
        versions: their kinds and versions.

    Returns:
        Directories, each before those that it was made from.
    """
    inputs: dict[Path, set[tuple[str, str]]] = {}
    for path in store.directories():
        with suppress(FerError):  # damaged: what it was made from is not known
            inputs[path] = {(source.kind, source.version) for source in inputs_of(path)}
    for work, sources in work_inputs(store):
        inputs[work] = {(source.kind, source.version) for source in sources}
    found: set[Path] = set()
    reached = set(versions)
    while more := {path for path, sources in inputs.items() if path not in found and sources & reached}:
        found |= more
        reached |= {_identity(path) for path in more}
    ordered: list[Path] = []
    while found:
        needed = {source for path in found for source in inputs[path]}
        last = sorted(path for path in found if _identity(path) not in needed)
        assert last, "no artifact is made from itself"
        ordered += last
        found -= set(last)
    return ordered


def _identity(directory: Path) -> tuple[str, str]:
    return directory.parent.parent.name, directory.name


def inputs_of(directory: Path) -> list[Input]:
    """Return what an artifact was made from, one of an older schema too.

    Raises:
        FerError: it is damaged.
    """
    try:
        return list(read_manifest(directory).inputs.values())
    except OldSchemaError as error:
        return [
            Input(kind=part.parts[0], name=part.parts[1], version=part.parts[2], content="0" * 64)
            for part in error.inputs
        ]


def work_inputs(store: Store) -> Iterator[tuple[Path, list[Input]]]:
    """Yield the place of work that is under way, or was stopped and would go on, with what it reads."""
    for path in (store.root / LOCKS).glob(f"*{NEEDED}"):
        lock = path.with_name(path.name.removesuffix(NEEDED))
        kind, _, rest = lock.name.partition(".")
        version = rest.rpartition(".")[2]
        stopped = sorted((store.root / kind).glob(f"*/{PARTIAL}{literally(version)}"))
        if stopped or is_held(lock):
            try:
                sources = [Input(**source) for source in json.loads(path.read_bytes())]
            except (ValueError, TypeError):  # a kill cut it short: the work had not begun
                continue
            yield (stopped[0] if stopped else store.root / kind / "(being made)" / version), sources


def lock_path(store: Store, directory: Path) -> Path:
    """Return the lock under which an artifact, or one that is not whole, is made; of an import that of all imports."""
    if directory.name.startswith(IMPORT) or directory.is_relative_to(store.root / LINEAGE):
        return import_lock(store)
    version = directory.name.split("-")[1] if UNFINISHED.fullmatch(directory.name) else directory.name
    return store.root / LOCKS / f"{directory.parent.parent.name}.{version}"


def import_lock(store: Store) -> Path:
    """Return the lock under which files are imported, one at a time."""
    return store.root / LOCKS / "import"


def is_importing(store: Store) -> bool:
    """Tell whether a process is importing a file."""
    return is_held(import_lock(store))


def in_use(store: Store, directory: Path) -> bool:
    """Tell whether a process is making what is in a directory."""
    return is_held(lock_path(store, directory))


def is_held(path: Path) -> bool:
    """Tell whether a process holds a lock."""
    if not path.exists():
        return False
    from filelock import FileLock, Timeout

    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
