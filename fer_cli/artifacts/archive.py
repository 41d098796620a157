"""Artifacts as one zip for another machine: payloads, and the manifests of what they were made from.

::

    fer.json                                        Head
    artifacts/KIND/NAME/VERSION/manifest.json, ...  each artifact as in a store
    lineage/KIND/NAME/VERSION/manifest.json         what these were made from, without payload

Images of data sets are in none. Hashes tell that a file is whole, not who made it.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from fer_cli import __version__
from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import Lineage, lineage
from fer_cli.artifacts.manifest import MANIFEST, Manifest
from fer_cli.artifacts.payload import json_bytes
from fer_cli.artifacts.sections import Record
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError

FORMAT: Final = 1
"""Of the archive: raised when its form changes."""
HEAD: Final = "fer.json"
ARTIFACTS: Final = "artifacts"
LINEAGE: Final = "lineage"
CONSISTS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "model": (),
    "study": ("model",),
    "ensemble": ("model", "study"),
    "ahm": (),
    "evaluation": (),
}
"""The kinds that are exported, and of each the kinds of inputs without whose payload it cannot be used."""
NOT_EXPORTED: Final[Mapping[str, str]] = {
    "dataset": "the terms of a data set's images are not fer's: prepare it on the other machine",
    "masks": "they are of a data set's images: make them on the other machine",
    "features": "they are of a data set's images: extract them on the other machine",
    "soft-targets": "they are of a data set's images, and a training makes them anew",
    "search": "export the model that it chose",
}


class Head(Record):
    """The whole of ``fer.json``: the references that were exported, and by which fer."""

    format_version: Literal[1] = Field(default=1, alias="format")
    fer: str
    references: tuple[str, ...] = Field(min_length=1)


def member(folder: str, manifest: Manifest, name: str) -> str:
    """Return the name in the archive of a file of an artifact."""
    return f"{folder}/{manifest.kind}/{manifest.name}/{manifest.version}/{name}"


def exported(manifest: Manifest) -> Manifest:
    """Return a manifest as it goes out: without its place in the order of a store.

    Of an evaluation also without its report, which shows images of the data set.
    """
    files = [entry for entry in manifest.files if not (entry.view and manifest.kind == "evaluation")]
    return manifest.model_copy(update={"order": 0, "files": files}).sealed()


def write_archive(store: Store, artifact: Artifact, path: Path) -> tuple[list[Artifact], list[Artifact]]:
    """Write an artifact, and those that it consists of, with the manifests of all that they were made from.

    Returns:
        The artifacts that are in it, the named one last, and those of the lineage.

    Raises:
        FerError: it is of a kind that is not exported, or a file of it is damaged; nothing is written then.
    """
    if artifact.kind not in CONSISTS_OF:
        why = NOT_EXPORTED[artifact.kind]
        raise FerError(f"{artifact.reference} is of kind {artifact.kind}, which is not exported", hint=why)
    payloads, others = _parts(store, artifact)
    head = Head(fer=__version__, references=(artifact.reference,))
    with atomic_io.replacing(path) as part, zipfile.ZipFile(part, "x") as archive:
        _add(archive, HEAD, json_bytes(head.record()))
        for one in payloads:
            manifest = exported(one.manifest)
            _add(archive, member(ARTIFACTS, manifest, MANIFEST), manifest.to_bytes())
            for entry in manifest.files:
                _add(archive, member(ARTIFACTS, manifest, entry.path), one.file(entry.path))
        for one in others:
            _add(archive, member(LINEAGE, one.manifest, MANIFEST), exported(one.manifest).to_bytes())
    return payloads, others


def _parts(store: Store, artifact: Artifact) -> tuple[list[Artifact], list[Artifact]]:
    """Return what an artifact consists of, itself last, and what all of these were made from.

    Raises:
        FerError: a part of it is not here.
    """
    payloads: dict[tuple[str, str], Artifact] = {}
    others: dict[tuple[str, str], Artifact] = {}

    def visit(node: Lineage, parents_needed: Sequence[str]) -> None:
        for parent in node.parents:
            source, needed = parent.source, parent.source.kind in parents_needed
            found = parent.artifact
            if needed and (found is None or found.lineage_only or parent.changed):
                raise FerError(
                    f"{artifact.reference} consists of {source.kind}/{source.name}@{source.version}, which "
                    f"{'has changed since' if parent.changed else 'is not here'}",
                    hint=f"make the {artifact.kind} again, or import the {source.kind}",
                    path=store.root,
                )
            visit(parent, CONSISTS_OF[source.kind] if needed else ())
            if found is not None:
                (payloads if needed else others)[found.kind, found.version] = found

    visit(lineage(store, artifact), CONSISTS_OF[artifact.kind])
    inside = {*payloads, (artifact.kind, artifact.version)}
    return [*payloads.values(), artifact], [one for key, one in others.items() if key not in inside]


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    """Add a file: with the same time and mode always, so that equal artifacts are equal archives."""
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED if name.endswith((".json", ".toml")) else zipfile.ZIP_STORED
    if isinstance(content, bytes):
        archive.writestr(info, content)
        return
    info.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(info, "w") as target:
        shutil.copyfileobj(source, target, atomic_io.BLOCK_BYTES)
