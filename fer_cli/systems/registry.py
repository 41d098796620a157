"""The systems that ``fer train`` knows: those of this package, and those of others by the entry points of ``GROUP``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_cli.core.errors import FerError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from fer_cli.artifacts.summaries import ModelConfig
    from fer_cli.core.recipe_reference import KeyReference
    from fer_cli.systems.base import System

GROUP: Final = "fer_cli.systems"
"""A package adds a system by an entry point ``NAME = "module:Class"`` of this group, a class of ``base.System``."""

SYSTEMS: Final = {
    "baseline": "fer_cli.systems.baseline.system:Baseline",
    "conv-cut": "fer_cli.systems.conv_cut.system:ConvCutSystem",
    "psa-resnet": "fer_cli.systems.psa_resnet.system:PSAResNet",
    "slfer": "fer_cli.systems.slfer.system:SLFERSystem",
}
"""The systems of this package. ``ahm`` is fitted and not trained: ``fer fit-ahm``."""


@cache
def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP) if point.name not in SYSTEMS}


def names() -> list[str]:
    """Return the names of all systems; nothing of theirs is imported."""
    return [*SYSTEMS, *sorted(_installed())]


def help_line(name: str) -> str:
    """Return a system's line in a list; of another package's, what its package is, without importing it."""
    if name in SYSTEMS:
        return load(name).help
    package = _installed()[name].dist
    return "" if package is None else f"{package.metadata['Summary'] or ''} [{package.name}]".strip()


@cache
def load(name: str) -> System[Any]:
    """Return a system.

    Raises:
        UsageError: there is no such system.
        FerError: the package that it comes from does not work.
    """
    if name in SYSTEMS:
        module, _, attribute = SYSTEMS[name].partition(":")
        builtin: System[Any] = getattr(import_module(module), attribute)()
        return builtin
    from fer_cli.systems.base import System

    point = _installed().get(name)
    if point is None:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"take {', '.join(names())}"
        raise UsageError(
            f"no system {name!r}", hint=f"{hint} Others come with packages of their own".replace("?.", "?")
        )
    where = f"system {name!r} of the package {point.dist.name if point.dist is not None else point.value}"
    try:
        system = point.load()()
    except Exception as error:
        raise FerError(f"{where} cannot be imported: {error}", hint="update or remove that package") from error
    if not isinstance(system, System) or system.name != name:
        raise FerError(f"{where} is not a System of this name", hint="update or remove that package")
    return system


def describe(config: ModelConfig) -> str:
    """Return the system of a model's configuration and the backbone that it stands on, if any."""
    backbone = config.recipe["model"].get("backbone")
    return ", ".join([config.system, *([] if backbone is None else [backbone])])


def read_recipe(name: str, path: Path | None = None, changes: Sequence[str] = ()) -> Any:  # noqa: ANN401 - its own type
    """Read a recipe of a system, the default one where none is given, with changes ``KEY=VALUE``.

    Raises:
        FerError: it is not a recipe of this system.
        UsageError: there is no such system, or a change is to blame.
    """
    from fer_cli.core.recipes import load_recipe

    system = load(name)
    return load_recipe(path or system.default_recipe, system.recipe_type, changes)


def recipe_reference(name: str) -> list[KeyReference]:
    """Return every key of a system's recipe."""
    from fer_cli.core.recipe_reference import key_reference

    return key_reference(load(name).recipe_type)
