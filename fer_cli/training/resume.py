"""Unfinished trainings: to resume one takes the settings that it began with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fer_cli.artifacts.atomic_io import write_file
from fer_cli.artifacts.dependents import unfinished_work
from fer_cli.artifacts.manifest import MANIFEST, read_manifest
from fer_cli.artifacts.payload import json_bytes
from fer_cli.artifacts.protocol import Numerics
from fer_cli.artifacts.store import PARTIAL, Store
from fer_cli.artifacts.work import Plan
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note

CHECKPOINTS: Final = "checkpoint-*.safetensors"
"""What a training that has come to one leaves next to its plan."""
_PLAN: Final = "plan.json"
_FORCED: Final = "forced"
_NUMERICS: Final = "numerics."
"""Before the keys of what a training is computed with, in its settings."""


def begin(directory: Path, plan: Plan, *, forced: bool) -> None:
    """Record the settings of the training in ``directory``, and whether it replaces a model that is there."""
    write_file(directory / _PLAN, json_bytes(_decides(plan)))
    if forced:
        write_file(directory / _FORCED, b"")


def forget(directory: Path) -> None:
    """Remove what :func:`begin` wrote: the training did not come to a first checkpoint."""
    (directory / _PLAN).unlink(missing_ok=True)
    (directory / _FORCED).unlink(missing_ok=True)


def is_forced(store: Store, plan: Plan) -> bool:
    """Tell whether there is an unfinished training that was begun with ``--force``."""
    directory = store.target(plan).parent / f"{PARTIAL}{plan.version}"
    return (directory / _FORCED).is_file() and any(directory.glob(CHECKPOINTS))


def with_numerics(plan: Plan, numerics: Mapping[str, Any]) -> Plan:
    """Return a plan with what it is computed with as a part of it; empty where that was not recorded."""
    return replace(plan, config={**plan.config, **({"numerics": dict(numerics)} if numerics else {})})


def finished(store: Store, plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the numerics of each equal training that is there, the newest of the plan's own name first.

    Args:
        store: where trainings are.
        plan: without numerics. Those of a training that did not record them are empty.
    """
    own = store.directories([plan.kind], plan.name)
    # Under another name only where there is none of its own: each manifest that is read takes time.
    for directories in (own, (path for path in store.directories([plan.kind]) if path.parent.name != plan.name)):
        for directory in directories:
            with suppress(FerError):  # damaged, or of an older schema
                numerics = read_manifest(directory).config.get("numerics", {})
                if with_numerics(plan, numerics).version == directory.name:
                    yield numerics


def note_other_version(plan: Plan, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Say that an equal training is there that was computed otherwise, and that this one will be another version."""
    before = f"computed with {Numerics.model_validate(there)}" if there else "of numerics that are not recorded"
    reference = f"{plan.kind}/{plan.name}@{with_numerics(plan, there).version}"
    note(f"{reference} is {before}; with {Numerics.model_validate(here)} this is another version")


def begun(store: Store, plan: Plan, *, forced: bool) -> Iterator[dict[str, Any]]:
    """Yield the numerics of each equal training that is unfinished, and was, or was not, begun with ``--force``."""
    for work in unfinished_work(store, [plan.kind]):
        if (work.path / _FORCED).is_file() != forced:
            continue
        with suppress(OSError, ValueError):  # killed while it began
            settings = json.loads((work.path / _PLAN).read_bytes())
            numerics = {
                key.removeprefix(_NUMERICS): value for key, value in settings.items() if key.startswith(_NUMERICS)
            }
            if with_numerics(plan, numerics).version == work.version:
                yield numerics


def _decides(plan: Plan) -> dict[str, Any]:
    """Return, flat and by name, all that decides a training: what a changed one differs in can then be named."""
    flat: dict[str, Any] = {role: source.content for role, source in plan.inputs.items()}

    def walk(prefix: str, table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            if isinstance(value, Mapping):
                walk(f"{prefix}{key}.", value)
            else:
                flat[f"{prefix}{key}"] = value

    config = dict(plan.config)
    recipe = config.pop("recipe", {})
    walk("", {**config, **recipe})
    return flat


def note_unfinished(store: Store, plan: Plan) -> None:
    """Say where unfinished trainings have the name of one that begins, and in what they differ: each is kept."""
    if (store.target(plan).parent / f"{PARTIAL}{plan.version}" / _PLAN).is_file() or store.holds(plan, MANIFEST):
        return
    now = json.loads(json_bytes(_decides(plan)))
    for work in unfinished_work(store, [plan.kind], plan.name):
        if work.is_under_way(store) or not any(work.path.glob(CHECKPOINTS)):
            continue
        try:
            before = json.loads((work.path / _PLAN).read_bytes())
        except (OSError, ValueError):
            continue  # killed while it began, or ended
        differ = [
            f"the {key}" if key in plan.inputs else f"{key} = {before.get(key)!r}, now {now.get(key)!r}"
            for key in {**before, **now}
            if before.get(key) != now.get(key)
        ]
        what = ", ".join(differ[:3]) or "fer's own revision"
        elsewhere = any(
            key.startswith(_NUMERICS) and key != f"{_NUMERICS}threads" and before.get(key) != now.get(key)
            for key in {**before, **now}
        )
        how = "it resumes where it was begun" if elsewhere else "its own settings resume it"
        note(f"unfinished and kept: {work.reference}, which differs in {what}; {how}")
