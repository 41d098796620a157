"""Which artifacts a newer equal run replaced. All others stay: an arm of an experiment is nobody's older version.

Two artifacts are equal runs where kind, name and settings are equal, and so, back to the sources, are those of all that
they were made from; code and data may differ. Of equal runs one is replaced where another was made with no older code,
made later and used later.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_cli.artifacts.annotations import Annotations
from fer_cli.artifacts.dependents import inputs_of, work_inputs
from fer_cli.artifacts.manifest import KINDS, MANIFEST, Input, Manifest, OldSchemaError, digest, read_manifest
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError

_DATA: Final = frozenset({("prepare", "source")})
"""Stage and role of files that are data. Other files (a hierarchy, a list of ids, predictions) are settings."""
_TRAINING: Final = "training"
"""Key of a search's settings that is the revision of the stage that trains: code, which a newer search has newer."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of an artifact when superseded ones are removed, and why."""

    path: Path
    goes: bool
    reason: str

    @property
    def reference(self) -> str:
        """The artifact's reference, whether or not it can be opened."""
        return f"{self.path.parent.parent.name}/{self.path.parent.name}@{self.path.name}"


def fates(store: Store) -> list[Fate]:
    """Return what becomes of each artifact of a store, the newest first."""
    survey = _Survey(store)
    replaced = {path: by for path in survey.manifests if (by := survey.replacement(path)) is not None}
    annotations = Annotations(store)
    kept_by_hand = {path: said for path in survey.manifests if (said := _by_hand(annotations, path))}
    roots = [path for path in survey.directories if path not in replaced or path in kept_by_hand]
    needed = survey.needed(roots)
    versions = Counter(path.parent for path in survey.directories)

    def fate(path: Path) -> Fate:
        if path in survey.faults:
            return Fate(path, goes=False, reason=survey.faults[path])
        if path not in replaced:
            alone = versions[path.parent] == 1
            reason = "the only one of its name" if alone else "no newer run with equal settings"
            return Fate(path, goes=False, reason=reason)
        if path in kept_by_hand:
            return Fate(path, goes=False, reason=kept_by_hand[path])
        if path in needed:
            return Fate(path, goes=False, reason=f"{needed[path]} needs it")
        return Fate(path, goes=True, reason=survey.difference(path, replaced[path]))

    return [fate(path) for path in survey.directories]


def _by_hand(annotations: Annotations, path: Path) -> str:
    """Return what a user said of an artifact, which keeps it."""
    said = annotations.of(path.parent.parent.name, path.name)
    if said.tags:
        return f"tagged {', '.join(said.tags)}"
    return "has a note" if said.note else ""


class _Survey:
    """The manifests of a store, and which of them are of equal runs."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.directories = store.directories()
        self.manifests: dict[Path, Manifest] = {}
        self.faults: dict[Path, str] = {}
        for path in self.directories:
            try:
                self.manifests[path] = read_manifest(path)
            except OldSchemaError:
                self.faults[path] = "of an old schema: its settings cannot be read"
            except FerError:
                self.faults[path] = "damaged: see 'fer verify'"
        self._keys: dict[Path, str] = {}
        self._equal: dict[str, list[Path]] = {}
        for path in self.manifests:
            self._equal.setdefault(self._key(path), []).append(path)

    def _key(self, path: Path) -> str:
        """Return what equal runs share: kind, name, settings, and the same of all that they were made from."""
        if path not in self._keys:
            manifest = self.manifests[path]
            # A data set's settings do not say where it was read from: other folders are other data.
            source = manifest.measured.get("command") if manifest.stage == "prepare" else None
            inputs = {role: self._input(manifest.stage, role, one) for role, one in manifest.inputs.items()}
            parts = [manifest.kind, manifest.name, manifest.stage, _settings(manifest), manifest.seeds, source, inputs]
            self._keys[path] = digest(parts)
        return self._keys[path]

    def _input(self, stage: str, role: str, source: Input) -> list[str]:
        if source.kind not in KINDS:
            return [source.kind, source.name, "" if (stage, role) in _DATA else source.content]
        path = self._place(source)
        return [self._key(path)] if path in self.manifests else [source.kind, source.name, source.content]

    def _place(self, source: Input) -> Path:
        return self.store.place(source.kind, source.name, source.version)

    def replacement(self, path: Path) -> Path | None:
        """Return the newest equal run that replaced one, if any did."""
        old = self.manifests[path]
        for other in self._equal[self._key(path)]:  # the newest first
            new = self.manifests[other]
            newer_code = new.revision >= old.revision and _training(new) >= _training(old)
            if new.order > old.order and newer_code and new.created >= old.created:
                return other
        return None

    def difference(self, path: Path, by: Path) -> str:
        """Return what the run that replaced another one has newer."""
        old, new = self.manifests[path], self.manifests[by]
        newer = []
        if (new.revision, new.payload_format) != (old.revision, old.payload_format):
            newer.append(f"newer code (revision {old.revision}, now {new.revision})")
        if _training(new) != _training(old):
            newer.append(f"newer trainings (revision {_training(old)}, now {_training(new)})")
        roles = [role for role in old.inputs if new.inputs[role].content != old.inputs[role].content]
        newer += [f"newer {role}" for role in roles[:3]]
        newer += [f"and {len(roles) - 3} more"] if len(roles) > 3 else []
        return f"replaced by {by.parent.name}@{by.name}: {', '.join(newer) or 'an equal run'}"

    def needed(self, roots: list[Path]) -> dict[Path, str]:
        """Return all that artifacts, and work that would go on, were made from, each with what was made from it."""
        needed: dict[Path, str] = {}
        queue: list[tuple[Path, str]] = []
        for work, sources in work_inputs(self.store):
            queue += [
                (self._place(source), f"unfinished {work.parent.parent.name}/{work.parent.name}") for source in sources
            ]
        for path in roots:
            queue += self._made_from(path)
        while queue:
            path, reason = queue.pop()
            if path in needed or not (path / MANIFEST).is_file():
                continue
            needed[path] = reason
            queue += self._made_from(path)
        return needed

    def _made_from(self, path: Path) -> list[tuple[Path, str]]:
        try:
            sources = inputs_of(path)
        except FerError:  # damaged: what it was made from is not known, and it is not for gc to say
            return []
        reference = f"{path.parent.parent.name}/{path.parent.name}@{path.name}"
        return [(self._place(source), reference) for source in sources if source.kind in KINDS]


def _settings(manifest: Manifest) -> dict[str, Any]:
    """Return what was chosen. A search is of its trials, which are among its inputs, each an equal run itself."""
    return {key: value for key, value in manifest.config.items() if (manifest.kind, key) != ("search", _TRAINING)}


def _training(manifest: Manifest) -> int:
    """Return the revision of the stage that trained a search's trials; 0 of what is no search."""
    return int(manifest.config[_TRAINING]) if manifest.kind == "search" else 0
