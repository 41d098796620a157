"""Trainings that began and did not end: going on wants the settings that they began with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from fer_cli.artifacts.atomic_io import write_file
from fer_cli.artifacts.manifest import MANIFEST
from fer_cli.artifacts.payload import json_bytes
from fer_cli.artifacts.store import LOCKS, Plan, Store
from fer_cli.core.errors import FerError

CHECKPOINTS: Final = "checkpoint-*.safetensors"
"""What a training that has come to one leaves beside its plan."""
_PLAN: Final = "plan.json"
_FORCED: Final = "forced"
SCRATCH: Final = (CHECKPOINTS, _PLAN, _FORCED)
"""What a training that has ended needs no more."""


def begin(place: Path, plan: Plan, *, forced: bool) -> None:
    """Write down what a training in ``place`` is of, and whether it is made though a sound model may be there."""
    write_file(place / _PLAN, json_bytes(_decides(plan)))
    if forced:
        write_file(place / _FORCED, b"")


def forget(place: Path) -> None:
    """Remove what :func:`begin` wrote: the training did not come to a first checkpoint."""
    (place / _PLAN).unlink(missing_ok=True)
    (place / _FORCED).unlink(missing_ok=True)


def is_forced(store: Store, plan: Plan) -> bool:
    """Tell whether there is a training to go on with that was begun with ``--force``."""
    place = store.root / plan.kind / plan.name / f".partial-{plan.version}"
    return (place / _FORCED).is_file() and any(place.glob(CHECKPOINTS))


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


def refuse_changed(store: Store, plan: Plan) -> None:
    """Refuse to begin beside an unfinished training of the same name: a change must not pass for going on."""
    parent = store.root / plan.kind / plan.name
    if (parent / f".partial-{plan.version}" / _PLAN).is_file() or store.holds(plan, MANIFEST):
        return
    for place in sorted({checkpoint.parent for checkpoint in parent.glob(f".partial-*/{CHECKPOINTS}")}):
        path = place / _PLAN
        version = place.name.removeprefix(".partial-")
        lock = FileLock(store.root / LOCKS / f"{plan.kind}.{plan.name}.{version}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue  # another process is at it: two trainings side by side are nobody's mistake
        lock.release()
        try:
            before = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # killed while it began, or ended
        now = json.loads(json_bytes(_decides(plan)))
        differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        key = differ[0] if differ else "fer's own revision"
        what = f"the {key}" if key in plan.inputs else f"{key} = {before.get(key)!r}, now {now.get(key)!r}"
        raise FerError(
            f"an unfinished training of {plan.name} differs in {what}",
            hint="give its settings to go on, or remove it ('fer gc'), or begin this one with --force",
            path=path.parent,
        )
