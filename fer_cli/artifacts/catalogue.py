"""The artifacts of a directory: which there are, the order that they came in, and what a reference names."""

from __future__ import annotations

import difflib
import glob
import math
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from fer_cli.artifacts.artifact import Artifact, again
from fer_cli.artifacts.manifest import KINDS, MANIFEST, VERSION_LENGTH, order_of, read_manifest
from fer_cli.artifacts.naming import is_name
from fer_cli.core.assets import asset
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note

LINEAGE: Final = ".lineage"
"""Laid out like a store: manifests, without payloads, of what imported artifacts were made from."""
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


def literally(name: str) -> str:
    """Return a pattern of a name or version that a user or a manifest gave; a star at its end stands for any rest."""
    return f"{glob.escape(name[:-1])}*" if name.endswith("*") else glob.escape(name)


class Catalogue:
    """What a directory of artifacts holds. Nothing is changed in it: that is for a store."""

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
                raise FerError("a file of the artifact is missing", hint=again(manifest), path=path) from error
            if size != entry.size:
                raise FerError(f"{size:,} bytes, expected {entry.size:,}", hint=again(manifest), path=path)
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
            found = Catalogue(SHIPPED).directories(kinds, name, f"{version}*")
        if not found:
            for directory in Catalogue(self.root / LINEAGE).directories(kinds, name, f"{version}*"):
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

    def lineage_of(self, kind: str, version: str) -> Artifact | None:
        """Return what is known here of an artifact whose payload is elsewhere.

        Raises:
            FerError: its manifest is damaged.
        """
        found = Catalogue(self.root / LINEAGE).directories((kind,), version=version)
        return Artifact(found[0], read_manifest(found[0]), lineage_only=True) if found else None

    def _similar(self, name: str, kinds: Sequence[str]) -> str:
        shipped = Catalogue(SHIPPED).directories(kinds)
        names = sorted({path.parent.name for path in (*self.directories(kinds), *shipped)})
        longer = [known for known in names if known.startswith(name)][:3]
        if close := difflib.get_close_matches(name, names, n=3, cutoff=0.5) or longer:
            return f"there is {', '.join(close)}; see 'fer ls'"
        return _how(kinds)


def _either(names: Sequence[str]) -> str:
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _thing(kinds: Sequence[str]) -> str:
    return "artifact" if len(kinds) == len(KINDS) else f"{_either(kinds)} artifact"


def _how(kinds: Sequence[str]) -> str:
    if len(kinds) == len(KINDS):
        return "'fer ls' shows what there is"
    return f"make one with {_either([repr(_MAKERS[kind]) for kind in kinds])}"
