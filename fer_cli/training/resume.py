"""Unfinished trainings: to resume one takes the settings that it began with."""

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
"""What a training that has come to one leaves next to its plan."""
_PLAN: Final = "plan.json"
_FORCED: Final = "forced"


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
    directory = store.root / plan.kind / plan.name / f".partial-{plan.version}"
    return (directory / _FORCED).is_file() and any(directory.glob(CHECKPOINTS))


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
    """Refuse to begin next to an unfinished training of the same name: a changed recipe must not pass for a resume."""
    parent = store.root / plan.kind / plan.name
    if (parent / f".partial-{plan.version}" / _PLAN).is_file() or store.holds(plan, MANIFEST):
        return
    for directory in sorted({checkpoint.parent for checkpoint in parent.glob(f".partial-*/{CHECKPOINTS}")}):
        path = directory / _PLAN
        version = directory.name.removeprefix(".partial-")
        lock = FileLock(store.root / LOCKS / f"{plan.kind}.{plan.name}.{version}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue  # another process is at it: two trainings at once are nobody's mistake
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
            hint="give its settings to resume it, remove it with 'fer gc', or start this one with --force",
            path=path.parent,
        )
