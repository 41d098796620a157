"""Finding artifacts and making new ones, so that a reader never meets half of one."""

from __future__ import annotations

import difflib
import glob
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_cli.artifacts import atomic_io, heartbeat
from fer_cli.artifacts.manifest import (
    KINDS,
    MANIFEST,
    PAYLOAD_FORMATS,
    VERSION_LENGTH,
    Code,
    FileEntry,
    Input,
    Manifest,
    content_digest,
    digest,
    in_utf8,
    order_of,
    read_manifest,
)
from fer_cli.artifacts.naming import is_name
from fer_cli.core import provenance
from fer_cli.core.assets import asset
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note, track, warn

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from fer_cli.artifacts.checksums import StoredArray
    from fer_cli.artifacts.sections import Section
    from fer_cli.artifacts.summaries import Measured

_MAIN_TABLES: Final = ("index.parquet", "predictions.parquet", "scores.parquet", "path.parquet")
LOCKS: Final = ".locks"
NEEDED: Final = ".inputs.json"
"""Beside the lock of work under way: what it reads, so that ``fer gc`` leaves that alone."""
IMPORT: Final = ".import-"
"""Before a random suffix: where an import is laid out before it is moved to its place."""
LINEAGE: Final = ".lineage"
"""Laid out like a store: manifests, without payloads, of what imported artifacts were made from."""
PARTIAL: Final = ".partial-"
"""Before the version of work that was stopped and can be resumed."""
SHIPPED: Final = asset("models")
"""The store of the models that come with fer. Nothing is made or changed in it."""
_MAKERS: Final = {
    "dataset": "fer prepare",
    "masks": "fer parse-masks",
    "features": "fer extract",
    "ahm": "fer fit-ahm",
    "model": "fer train",
    "study": "fer train --seeds 0,1,2",
    "search": "fer search",
    "ensemble": "fer ensemble",
    "soft-targets": "fer train",
    "evaluation": "fer eval",
}


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact on disk whose manifest is sound and whose files have the sizes that it names.

    Of one that is ``lineage_only`` the manifest alone is here: what was imported was made from it elsewhere.
    """

    path: Path
    manifest: Manifest
    lineage_only: bool = False

    @property
    def kind(self) -> str:
        """The artifact's kind, one of :data:`KINDS`."""
        return self.manifest.kind

    @property
    def name(self) -> str:
        """The name that it has in the store."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The hash of all that it was made from."""
        return self.manifest.version

    @property
    def reference(self) -> str:
        """The reference that finds exactly this artifact."""
        return f"{self.kind}/{self.name}@{self.version}"

    def file(self, name: str) -> Path:
        """Return the path of one of the payload's files, its hash checked; arrays are read with :meth:`array`.

        Raises:
            FerError: the artifact has no such file, or its bytes are not those that were written.
        """
        entry, path = self._entry(name), self.path / name
        if (found := atomic_io.sha256_file(path)) != entry.sha256:
            raise FerError(f"sha256 {found[:16]}, expected {entry.sha256[:16]}", hint=_again(self.manifest), path=path)
        return path

    def array(self, name: str) -> StoredArray:
        """Return an ``.npy`` file of the payload as a memory map, of which each block is checked when first read.

        Raises:
            FerError: the artifact has no such file, or what is read of it is not what was written.
        """
        from fer_cli.artifacts.checksums import StoredArray

        entry, path = self._entry(name), self.path / name

        def damaged(block: int, found: str) -> FerError:
            start, expected = block * atomic_io.BLOCK_BYTES, entry.blocks[8 * block : 8 * block + 8]
            return FerError(
                f"block {block} (from byte {start:,}) of {self.reference} has checksum {found}, expected {expected}",
                hint=_again(self.manifest),
                path=path,
            )

        return StoredArray(path, entry.blocks, damaged)

    def _entry(self, name: str) -> FileEntry:
        if self.lineage_only:
            raise self.not_here()
        entry = next((entry for entry in self.manifest.files if entry.path == name), None)
        if entry is None:
            raise FerError(f"{self.reference} has no {name}", hint="it was built without this file; see 'fer show'")
        return entry

    def not_here(self) -> FerError:
        """Return the error of using the payload of what is lineage only."""
        again = self.manifest.command_again()
        return FerError(f"{self.reference} is lineage only, no payload here", hint=f"make it here: {again}")

    def has(self, name: str) -> bool:
        """Tell whether the payload has a file of this name."""
        return any(entry.path == name for entry in self.manifest.files)

    def to_arrow(self, name: str | None = None) -> pa.Table:
        """Return a table of the payload: the named one, else the artifact's main one (of a dataset its index).

        Raises:
            FerError: it has no such table.
        """
        from fer_cli.artifacts.payload import read_table

        tables = [entry.path for entry in self.manifest.files if entry.path.endswith(".parquet")]
        name = name or next((main for main in _MAIN_TABLES if main in tables), None)
        if name is None or name not in tables:
            what = f"no table {name!r}" if name else "no table"
            raise FerError(f"{self.reference} has {what}", hint=f"it has {', '.join(tables) or 'none'}")
        return read_table(self.file(name))

    def to_pandas(self, name: str | None = None) -> pd.DataFrame:
        """Return a table of the payload as :meth:`to_arrow` does, for pandas.

        Raises:
            FerError: it has no such table, or pandas is not installed.
        """
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise FerError("pandas is not installed", hint="install pandas, or take to_arrow()") from error
        return self.to_arrow(name).to_pandas()

    def as_input(self) -> Input:
        """Return the lineage entry for whatever is made from this artifact."""
        return Input(kind=self.kind, name=self.name, version=self.version, content=self.manifest.content)

    def to_json(self) -> dict[str, str]:
        """Return what ``--json`` prints of an artifact."""
        return {"kind": self.kind, "name": self.name, "version": self.version, "path": str(self.path)}


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides an artifact's content, known before the work begins: equal plans have an equal version.

    ``revision`` is the stage's own: it is raised whenever the stage's results change.
    """

    kind: str
    name: str
    stage: str
    revision: int
    config: Mapping[str, Any]
    inputs: Mapping[str, Input]
    seeds: Sequence[int] = ()

    @property
    def payload_format(self) -> int:
        """Return what the files of the payload mean."""
        return PAYLOAD_FORMATS[self.kind]

    @property
    def version(self) -> str:
        """Return the version that this plan leads to."""
        inputs = {role: source.content for role, source in self.inputs.items()}
        parts = [self.kind, self.stage, self.revision, self.payload_format, dict(self.config), inputs]
        return digest(parts)[:VERSION_LENGTH]


@dataclass(slots=True)
class Work:
    """An artifact in the making: a directory that no reader takes for an artifact until ``commit``."""

    plan: Plan
    directory: Path
    target: Path
    views: set[str] = field(default_factory=set)
    shared: dict[str, tuple[Artifact, str]] = field(default_factory=dict)
    committed: Artifact | None = None

    @property
    def is_sealed(self) -> bool:
        """Whether the payload is whole: the next call puts it in place."""
        return (self.directory / MANIFEST).is_file()

    def write(self, name: str, data: bytes, *, view: bool = False) -> Path:
        """Write one file of the payload. A ``view`` is shown to people and no part of the result."""
        path = self.directory / name
        atomic_io.write_file(path, data)
        if view:
            self.views.add(name)
        return path

    def share(self, artifact: Artifact, name: str) -> None:
        """Take over a file of another artifact, without a copy where the file system can: files are never changed."""
        entry = next(entry for entry in artifact.manifest.files if entry.path == name)
        atomic_io.link(artifact.path / name, self.directory / name)
        self.shared[name] = (artifact, entry.sha256)

    def commit(
        self,
        *,
        summary: Section,
        protocol: Section,
        measured: Measured | None = None,
        warnings: Sequence[str] = (),
        files: Sequence[str] | None = None,
        made: Mapping[str, Artifact] | None = None,
    ) -> Artifact:
        """Seal the directory and rename it into place.

        ``made`` are artifacts that the work made on its way and rests on: inputs that follow from the plan, and so
        decide no version.

        ``files`` are the names of the payload's files, or all that are there where it is None. The others, which
        stopped work goes on from or which somebody put there, go when the payload is sealed, so that at no moment
        there is neither.

        Raises:
            FerError: a file that is shared with another artifact is damaged.
        """
        entries = []
        for path in sorted(self.directory.iterdir()):
            if path.match(atomic_io.PARTS) or (files is not None and path.name not in files):
                continue
            atomic_io.sync(path)
            sha256, blocks = atomic_io.hash_blocks(path)
            entries.append(
                FileEntry(
                    path=path.name,
                    size=path.stat().st_size,
                    sha256=sha256,
                    view=path.name in self.views,
                    blocks=blocks if path.suffix == ".npy" else "",
                )
            )
            if path.name in self.shared and self.shared[path.name][1] != entries[-1].sha256:
                owner, expected = self.shared[path.name]
                raise FerError(
                    f"sha256 {entries[-1].sha256[:16]}, expected {expected[:16]}",
                    hint=_again(owner.manifest),
                    path=owner.path / path.name,
                )
        sources = {**self.plan.inputs, **{role: artifact.as_input() for role, artifact in (made or {}).items()}}
        manifest = Manifest(
            kind=self.plan.kind,
            name=self.plan.name,
            version=self.plan.version,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            order=Store(self.target.parents[2]).next_order(),
            stage=self.plan.stage,
            revision=self.plan.revision,
            payload_format=self.plan.payload_format,
            inputs={role: source.in_utf8() for role, source in sources.items()},
            config=in_utf8(dict(self.plan.config)),
            protocol=in_utf8(protocol.record()),
            seeds=list(self.plan.seeds),
            summary=in_utf8(summary.record()),
            measured={} if measured is None else in_utf8(measured.record()),
            warnings=in_utf8(list(warnings)),
            code=Code(**provenance.code_version()),
            environment=provenance.environment(),
            files=entries,
            content=content_digest(entries),
        ).sealed()
        atomic_io.write_atomic(self.directory / MANIFEST, manifest.to_bytes())
        return self.put_in_place()

    def put_in_place(self) -> Artifact:
        """Rename the sealed directory to where readers find it, without what is no part of the payload."""
        named = {MANIFEST, *(entry.path for entry in read_manifest(self.directory).files)}
        for path in self.directory.iterdir():
            if path.name not in named:
                path.unlink()
        atomic_io.sync(self.directory)
        if not atomic_io.publish(self.directory, self.target):
            # What is there is forced out, damaged, or half removed: under the lock a sound one was ruled out.
            atomic_io.exchange(self.directory, self.target)
            atomic_io.remove_tree(self.directory)
        self.committed = Artifact(self.target, read_manifest(self.target))
        return self.committed


def literally(name: str) -> str:
    """Return a pattern of a name or version that a user or a manifest gave; a star at its end stands for any rest."""
    return f"{glob.escape(name[:-1])}*" if name.endswith("*") else glob.escape(name)


class Store:
    """A directory of artifacts. Nothing is created in it before the first artifact is made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._orders: dict[Path, tuple[tuple[int, ...], int | None]] = {}

    def open(self, directory: Path) -> Artifact:
        """Open the artifact in a directory and check its place and the sizes of its files.

        Raises:
            FerError: there is none, it is damaged, or it is not where its manifest says.
        """
        manifest = read_manifest(directory)
        said = Path(manifest.kind, manifest.name, manifest.version)
        in_store = directory.parent.parent.parent == self.root
        if in_store and not directory.name.startswith(".") and self.root / said != directory:
            hint = "move it back, or remove it and make again what belongs here"
            raise FerError(f"this is the artifact {said}: it was renamed or exchanged", hint=hint, path=directory)
        for entry in manifest.files:
            path = directory / entry.path
            try:
                size = path.stat().st_size
            except FileNotFoundError as error:
                raise FerError("a file of the artifact is missing", hint=_again(manifest), path=path) from error
            if size != entry.size:
                raise FerError(f"{size:,} bytes, expected {entry.size:,}", hint=_again(manifest), path=path)
        return Artifact(directory, manifest)

    def artifacts(self, kind: str | None = None) -> list[Artifact]:
        """Return the artifacts, all or of one kind, the newest first.

        Raises:
            FerError: one is damaged.
        """
        return [self.open(directory) for directory in self.directories(KINDS if kind is None else (kind,))]

    def datasets(self) -> list[Artifact]:
        """Return the datasets, the newest first."""
        return self.artifacts("dataset")

    def models(self) -> list[Artifact]:
        """Return the trained models, the newest first."""
        return self.artifacts("model")

    def evaluations(self) -> list[Artifact]:
        """Return the evaluations, the newest first."""
        return self.artifacts("evaluation")

    def directories(self, kinds: Sequence[str] = KINDS, name: str = "*", version: str = "*") -> list[Path]:
        """Return the directories that hold a manifest, the newest (last written or confirmed) first.

        What is damaged and cannot tell its place comes first: it may be the newest, and to open it says what it is.
        """
        found = []
        for kind in kinds:
            for path in self.root.glob(f"{kind}/{literally(name)}/{literally(version)}/{MANIFEST}"):
                if not path.parent.name.startswith("."):
                    with suppress(FileNotFoundError):  # another process removed it just now
                        order = self._order(path)
                        found.append((math.inf if order is None else order, path.parent))
        return [directory for _, directory in sorted(found, reverse=True)]

    def _order(self, manifest: Path) -> int | None:
        status = manifest.stat()
        identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._orders.get(manifest, (None,))[0] != identity:
            self._orders[manifest] = (identity, order_of(manifest.parent))
        return self._orders[manifest][1]

    def next_order(self) -> int:
        """Return a number above the order of all artifacts: the time in ns, or one more where a clock was ahead."""
        orders = [self._order(directory / MANIFEST) for directory in self.directories()]
        return max(time.time_ns(), 1 + max((order for order in orders if order is not None), default=0))

    def mark_newest(self, artifact: Artifact) -> Artifact:
        """Record that an artifact was confirmed as up to date: it is the newest from now on.

        Raises:
            OSError: the store cannot be written to; its order stays as it is.
        """
        directories = self.directories()
        if directories and directories[0] == artifact.path:
            return artifact
        manifest = artifact.manifest.model_copy(update={"order": self.next_order()}).sealed()
        atomic_io.write_atomic(artifact.path / MANIFEST, manifest.to_bytes())
        return replace(artifact, manifest=manifest)

    def with_protocol(self, artifact: Artifact, protocol: Section) -> Artifact:
        """Write another protocol of an artifact: what became known of it later. Its version and content stay.

        Raises:
            FerError: it is being rebuilt.
        """
        with self.exclusive(artifact.kind, artifact.version) as lock:
            if not lock:
                raise FerError(f"{artifact.reference} is being rebuilt", hint="try again when that is done")
            manifest = read_manifest(artifact.path).model_copy(update={"protocol": in_utf8(protocol.record())}).sealed()
            atomic_io.write_atomic(artifact.path / MANIFEST, manifest.to_bytes())
        return replace(artifact, manifest=manifest)

    def find(self, reference: str | None, kinds: Sequence[str], *, lineage_too: bool = False) -> Artifact:
        """Return the artifact that a reference names, or the newest of these kinds, and say which it took.

        A reference is ``name``, ``name@version-prefix``, ``kind/name``, ``kind/name@version-prefix`` or a path. A name
        without the seed, or without the settings, of a training stands for the only one that there is, and a whole
        version with its kind is found under whatever name it has now. What is not here may be a model that comes with
        fer. What is lineage only is found where ``lineage_too``.

        Raises:
            FerError: there is none, it is lineage only, or the version's prefix fits several.
        """
        if reference is not None and reference in kinds and not self.directories(kinds, reference):
            kinds, reference = (reference,), None  # a kind alone is the newest of that kind
        if reference is None:
            found = self.directories(kinds)
            if not found:
                raise FerError(f"no {_thing(kinds)} yet", hint=_how(kinds), path=self.root)
            artifact = self.open(found[0])
            note(f"using {artifact.reference} (the newest)")
            return artifact
        if (Path(reference) / MANIFEST).is_file():
            artifact = self.open(Path(reference))
            if artifact.kind not in kinds:
                raise FerError(f"{reference} is of kind {artifact.kind}", hint=f"expected: {_either(kinds)}")
            return artifact
        name, _, version = reference.partition("@")
        kind, slash, rest = name.partition("/")
        if slash and kind in KINDS and "/" not in rest:
            if kind not in kinds:
                raise FerError(f"{reference} is of kind {kind}", hint=f"expected: {_either(kinds)}")
            kinds, name = (kind,), rest
        if not is_name(name) or not re.fullmatch(r"[0-9a-f]*", version):
            raise FerError(f"{reference!r} is not a reference", hint="write NAME, NAME@VERSION, KIND/NAME or a path")
        found = self.directories(kinds, name, f"{version}*")
        if not found and len(kinds) == 1 and len(version) == VERSION_LENGTH:
            found = self.directories(kinds, version=version)
        if not found and "model" in kinds:
            found = self._only_seed(name, version) or self._only_settings(name, version)
        if not found and self.root != SHIPPED:
            found = Store(SHIPPED).directories(kinds, name, f"{version}*")
        if not found:
            for directory in Store(self.root / LINEAGE).directories(kinds, name, f"{version}*"):
                known = Artifact(directory, read_manifest(directory), lineage_only=True)
                if lineage_too:
                    return known
                raise known.not_here()
            raise FerError(f"no {_thing(kinds)} {reference!r}", hint=self._similar(name, kinds))
        if version and len({path.name for path in found}) > 1:
            raise FerError(
                f"{reference!r} fits {len(found)} versions", hint=f"add more digits: {found[0].name}, {found[1].name}"
            )
        return self.open(found[0])

    def find_own(self, reference: str, kinds: Sequence[str]) -> Artifact:
        """Return the artifact of this store that a reference names: one that may be changed or removed.

        Raises:
            FerError: there is none, or it is in another place: it comes with fer, or a path led to it.
        """
        artifact = self.find(reference, kinds)
        if artifact.path.absolute().parents[2] != self.root.absolute():
            comes = artifact.path.parents[2] == SHIPPED
            what = "comes with fer" if comes else f"is in another store, {artifact.path.parents[2]}"
            raise FerError(
                f"{artifact.reference} {what}",
                hint="it cannot be changed or removed" if comes else "give that store with --store",
            )
        return artifact

    def _only_seed(self, name: str, version: str) -> list[Path]:
        """Return the model of the only seed that was trained under a name."""
        found = self.directories(("model",), f"{name}-seed*", f"{version}*")
        seeds = {path.parent.name for path in found if path.parent.name.removeprefix(f"{name}-seed").isdecimal()}
        return [path for path in found if path.parent.name in seeds] if len(seeds) == 1 else []

    def _only_settings(self, name: str, version: str) -> list[Path]:
        """Return the model of the only settings under which a system was trained with a seed, and say which it is."""
        stem, dash, seed = name.rpartition("-seed")
        if not dash or not seed.isdecimal():
            return []
        others = self.directories(("model",), f"{stem}-*", f"{version}*")
        found = [path for path in others if path.parent.name.endswith(f"-seed{seed}")]
        if len({path.parent.name for path in found}) != 1:
            return []
        note(f"using {found[0].parent.name}, the only settings of {stem} that were trained with seed {seed}")
        return found

    def holds(self, plan: Plan, name: str) -> bool:
        """Tell whether the artifact that a plan leads to is there and has a file of this name."""
        return (self.target(plan) / name).is_file()

    def target(self, plan: Plan) -> Path:
        """Return the directory of the artifact that a plan leads to.

        Equal plans lead to one artifact: where it is there, or unfinished, under another name, that is the place.
        """
        own = self.place(plan.kind, plan.name, plan.version)
        if own.parent.name != plan.name and not self._is_of(own, plan):
            return self.root / plan.kind / plan.name / plan.version
        if own.parent.name != plan.name or own.exists() or self._partial(own).exists():
            return own
        elsewhere = sorted((self.root / plan.kind).glob(f"*/{PARTIAL}{literally(plan.version)}"))
        return elsewhere[0].parent / plan.version if elsewhere else own

    def place(self, kind: str, name: str, version: str) -> Path:
        """Return where an artifact is, under whatever name it has now; its own place where it is nowhere."""
        own = self.root / kind / name / version
        if not (own / MANIFEST).is_file():
            for manifest in sorted((self.root / kind).glob(f"*/{literally(version)}/{MANIFEST}")):
                return manifest.parent
        return own

    def lineage_of(self, kind: str, version: str) -> Artifact | None:
        """Return what is known here of an artifact whose payload is elsewhere.

        Raises:
            FerError: its manifest is damaged.
        """
        found = Store(self.root / LINEAGE).directories((kind,), version=version)
        return Artifact(found[0], read_manifest(found[0]), lineage_only=True) if found else None

    @staticmethod
    def _is_of(directory: Path, plan: Plan) -> bool:
        """Tell whether an artifact was made from the very inputs of a plan: others' protocol may differ."""
        try:
            inputs = read_manifest(directory).inputs
        except FerError:
            return False
        return all(role in inputs and inputs[role].version == one.version for role, one in plan.inputs.items())

    @staticmethod
    def _partial(target: Path) -> Path:
        return target.parent / f"{PARTIAL}{target.name}"

    @contextmanager
    def make(
        self, plan: Plan, *, force: bool = False, resumable: bool = False, restart: bool = False
    ) -> Iterator[Work]:
        """Yield the place to make an artifact in, or, as ``committed``, the one that is there already.

        One process at a time makes an artifact; a second one waits and then finds it done. What is there under another
        name stays under that one. When the block ends without ``commit`` the directory is removed, unless the work is
        ``resumable`` and has begun: then the next call finds it as it was left, or empty where it is to ``restart``.
        """
        assert plan.kind in KINDS
        if not is_name(plan.name):
            raise FerError(f"{plan.name!r} is not a valid artifact name", hint="use a-z, 0-9, '.', '_' and '-'")
        plan, target = self._placed(plan)
        beat = self.root / LOCKS / f"{plan.kind}.{plan.version}{heartbeat.ENDING}"
        if not force and (existing := self._existing(target)) is not None:
            with suppress(OSError):
                beat.unlink(missing_ok=True)  # of one that was killed when all was done
            yield Work(plan, target, target, committed=existing)
            return
        with self._lock(plan):
            plan, target = self._placed(plan)
            parent = target.parent
            if not force and (existing := self._existing(target)) is not None:
                yield Work(plan, target, target, committed=existing)
                return
            atomic_io.make_directory(parent)
            for stale in parent.glob(f".*-{plan.version}*"):
                if restart or not resumable or stale.name != f"{PARTIAL}{plan.version}":
                    atomic_io.remove_tree(stale)
            name = f"{PARTIAL}{plan.version}" if resumable else f".new-{plan.version}-{secrets.token_hex(4)}"
            work = Work(plan, parent / name, target)
            needed = self.root / LOCKS / f"{plan.kind}.{plan.version}{NEEDED}"
            if self._take_up_sealed(work):
                needed.unlink(missing_ok=True)
                yield work
                return
            atomic_io.make_directory(work.directory)
            atomic_io.write_file(needed, json.dumps([source.model_dump() for source in plan.inputs.values()]).encode())
            try:
                with heartbeat.recorded(beat, plan):
                    yield work
            finally:
                begun = resumable and work.directory.exists() and any(work.directory.iterdir())
                if work.committed is None and not begun and work.directory.exists():
                    atomic_io.remove_tree(work.directory)
                    with suppress(OSError):  # other versions are there
                        parent.rmdir()
                if work.committed is not None or not begun:
                    needed.unlink(missing_ok=True)

    def _placed(self, plan: Plan) -> tuple[Plan, Path]:
        """Return a plan under the name that its artifact has already, and the artifact's place."""
        target = self.target(plan)
        if (name := target.parent.name) != plan.name:
            there = f"{plan.kind}/{name}@{plan.version}"
            note(f"{plan.name} is the same as {there}, which keeps its name; 'fer rename' gives it another")
            plan = replace(plan, name=name)
        return plan, target

    def rename(self, artifact: Artifact, name: str) -> Artifact:
        """Give an artifact another name. Its version, and all that is made from it, stay what they are.

        Raises:
            FerError: it is being rebuilt, or something damaged is where it would go.
        """
        assert is_name(name)
        assert name != artifact.name
        target = self.root / artifact.kind / name / artifact.version
        with self.exclusive(artifact.kind, artifact.version) as lock:
            if not lock:
                raise FerError(f"{artifact.reference} is being rebuilt", hint="try again when that is done")
            manifest = artifact.manifest.model_copy(update={"name": name}).sealed()
            directory = target.parent / f".new-{artifact.version}-{secrets.token_hex(4)}"
            atomic_io.make_directory(directory)
            try:
                for entry in artifact.manifest.files:
                    atomic_io.link(artifact.path / entry.path, directory / entry.path)
                atomic_io.write_atomic(directory / MANIFEST, manifest.to_bytes())
                if not atomic_io.publish(directory, target):
                    self.open(target)  # a kill left it under both names: then it is sound
            finally:
                if directory.exists():
                    atomic_io.remove_tree(directory)
            # A kill before this leaves the artifact under both names, each of them whole.
            atomic_io.remove_tree(artifact.path)
            with suppress(OSError):  # other versions are there
                artifact.path.parent.rmdir()
        return Artifact(target, manifest)

    @contextmanager
    def exclusive(self, kind: str, version: str) -> Iterator[bool]:
        """Yield whether nobody is making this artifact, and keep others from it meanwhile."""
        from filelock import FileLock, Timeout

        atomic_io.make_directory(self.root / LOCKS)
        lock = FileLock(self.root / LOCKS / f"{kind}.{version}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _take_up_sealed(self, work: Work) -> bool:
        """Put in place what a kill stopped after it was sealed; what is damaged counts as not sealed."""
        if not work.is_sealed:
            return False
        try:
            sealed, plan = self.open(work.directory), work.plan
            if (sealed.kind, sealed.name, sealed.version) != (plan.kind, plan.name, plan.version):
                raise FerError(f"it is {sealed.reference}", path=work.directory)
            for entry in sealed.manifest.files:
                sealed.file(entry.path)
            atomic_io.write_atomic(
                work.directory / MANIFEST,
                sealed.manifest.model_copy(update={"order": self.next_order()}).sealed().to_bytes(),
            )
        except FerError as error:
            warn(f"what was made before is not used: {error.what}")
            for path in work.directory.iterdir():
                path.unlink()
            return False
        work.put_in_place()
        return True

    def _existing(self, target: Path) -> Artifact | None:
        """Return the artifact at ``target`` and confirm it as up to date; a damaged one counts as none."""
        if not (target / MANIFEST).is_file():
            return None
        try:
            artifact = self.open(target)
        except FerError as error:
            warn(f"{error}; rebuilding it")
            return None
        try:
            return self.mark_newest(artifact)
        except OSError as error:  # a read-only store: its order of newest stays as it is
            warn(f"{target}: cannot be marked as the newest ({error.strerror})")
        return artifact

    @contextmanager
    def _lock(self, plan: Plan) -> Iterator[None]:
        from filelock import FileLock, Timeout

        atomic_io.make_directory(self.root / LOCKS)
        lock = FileLock(self.root / LOCKS / f"{plan.kind}.{plan.version}")
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            begun = time.monotonic()
            note(f"waiting: another process is building {plan.kind}/{plan.name}@{plan.version}")
            lock.acquire()
            note(f"waited {time.monotonic() - begun:.0f} s")
        try:
            yield
        finally:
            lock.release()

    def _similar(self, name: str, kinds: Sequence[str]) -> str:
        shipped = Store(SHIPPED).directories(kinds)
        names = sorted({path.parent.name for path in (*self.directories(kinds), *shipped)})
        longer = [known for known in names if known.startswith(name)][:3]
        if close := difflib.get_close_matches(name, names, n=3, cutoff=0.5) or longer:
            return f"there is {', '.join(close)}; see 'fer ls'"
        return _how(kinds)


def open_store(path: Path | str | None = None) -> Store:
    """Return an artifact store: at ``path``, else ``$FER_STORE``, else ``./artifacts``. Nothing is created yet.

    Raises:
        FerError: a file is in its place.
    """
    root = Path(path or os.environ.get("FER_STORE") or "artifacts")
    nearest = next(folder for folder in (root, *root.parents, Path()) if folder.exists())
    if not nearest.is_dir():
        raise FerError("is not a folder: no store can be there", hint="give another --store", path=nearest)
    return Store(root)


def files_input(name: str, files: Mapping[str, Path]) -> Input:
    """Return the lineage entry for files of the user's: a hash over what each is called and its bytes."""
    return hashes_input(name, file_hashes(name, files))


def file_hashes(name: str, files: Mapping[str, Path]) -> dict[str, str]:
    """Return the sha256 of the bytes of each file, under what it is called."""
    hashes = {}
    with track(f"hash {name}", len(files), "files") as advance:
        for shown, path in files.items():
            hashes[shown] = atomic_io.sha256_file(path)
            advance()
    return hashes


def hashes_input(name: str, hashes: Mapping[str, str]) -> Input:
    """Return the lineage entry for files of the user's, of which :func:`file_hashes` are known."""
    return Input(kind="files", name=name, content=digest(sorted([shown, value] for shown, value in hashes.items())))


def _again(manifest: Manifest) -> str:
    return f"the {manifest.kind} artifact is damaged: make it again: {manifest.command_again()}"


def _either(names: Sequence[str]) -> str:
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _thing(kinds: Sequence[str]) -> str:
    return "artifact" if len(kinds) == len(KINDS) else f"{_either(kinds)} artifact"


def _how(kinds: Sequence[str]) -> str:
    if len(kinds) == len(KINDS):
        return "'fer ls' shows what there is"
    return f"make one with {_either([repr(_MAKERS[kind]) for kind in kinds])}"
