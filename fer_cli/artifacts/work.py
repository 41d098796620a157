"""An artifact in the making: the plan that decides its version, and the directory that is renamed into place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.artifact import Artifact, again
from fer_cli.artifacts.catalogue import Catalogue
from fer_cli.artifacts.manifest import (
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
    read_manifest,
)
from fer_cli.core import provenance
from fer_cli.core.errors import FerError

if TYPE_CHECKING:
    from fer_cli.artifacts.sections import Section
    from fer_cli.artifacts.summaries import Measured


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
                    hint=again(owner.manifest),
                    path=owner.path / path.name,
                )
        sources = {**self.plan.inputs, **{role: artifact.as_input() for role, artifact in (made or {}).items()}}
        manifest = Manifest(
            kind=self.plan.kind,
            name=self.plan.name,
            version=self.plan.version,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            order=Catalogue(self.target.parents[2]).next_order(),
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
