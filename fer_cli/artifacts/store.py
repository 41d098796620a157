"""Making artifacts and changing what is there, so that a reader never meets half of one."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_cli.artifacts import atomic_io, heartbeat
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.catalogue import Catalogue, literally
from fer_cli.artifacts.manifest import KINDS, MANIFEST, in_utf8, read_manifest
from fer_cli.artifacts.naming import is_name
from fer_cli.artifacts.work import Plan, Work
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note, warn

if TYPE_CHECKING:
    from fer_cli.artifacts.sections import Section

LOCKS: Final = ".locks"
NEEDED: Final = ".inputs.json"
"""Beside the lock of work under way: what it reads, so that ``fer gc`` leaves that alone."""
IMPORT: Final = ".import-"
"""Before a random suffix: where an import is laid out before it is moved to its place."""
PARTIAL: Final = ".partial-"
"""Before the version of work that was stopped and can be resumed."""


class Store(Catalogue):
    """A directory of artifacts that can be made and changed. Nothing is created in it before the first is made."""

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
