"""The systems that ``fer train`` knows: those of this package, and those of others by the entry points of ``GROUP``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fer_cli.core.errors import FerError
from fer_cli.core.registry import Registry

if TYPE_CHECKING:
    from fer_cli.artifacts.summaries import ModelConfig
    from fer_cli.core.recipe_reference import KeyReference
    from fer_cli.systems.base import System

GROUP: Final = "fer_cli.systems"
"""A package adds a system by an entry point ``NAME = "module:Class"`` of this group, a class of ``base.System``."""

SYSTEMS: Final[Registry[System[Any]]] = Registry(
    "system",
    GROUP,
    "fer_cli.systems.base:System",
    {
        "baseline": "fer_cli.systems.baseline.system:Baseline",
        "conv-cut": "fer_cli.systems.conv_cut.system:ConvCutSystem",
        "psa-resnet": "fer_cli.systems.psa_resnet.system:PSAResNet",
        "slfer": "fer_cli.systems.slfer.system:SLFERSystem",
    },
)
"""All systems. ``ahm`` is fitted and not trained: ``fer fit-ahm``."""

names: Final = SYSTEMS.names
load: Final = SYSTEMS.load


def help_line(name: str) -> str:
    """Return a system's line in a list; of another package's, what its package is, without importing it."""
    return SYSTEMS.package(name) or load(name).help


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
    from fer_cli.core.recipes import recipe_file

    path = path or load(name).default_recipe
    return parse_recipe(name, recipe_file(path), path, changes)


def parse_recipe(name: str, text: str, path: Path, changes: Sequence[str] = (), *, option: str = "--set") -> Any:  # noqa: ANN401 - its own type
    """Read a recipe of a system from its text.

    Args:
        name: of the system.
        text: the recipe's.
        path: what errors name.
        changes: ``KEY=VALUE``.
        option: what they were given by, for errors.

    Raises:
        FerError: it is not a recipe, or says that it is of another system.
        UsageError: there is no such system, or a change is to blame.
    """
    from fer_cli.core import recipes

    system = load(name)
    said, line = recipes.named_system(text)
    if said not in {None, name}:
        hint = f"take 'fer train {said}', or correct about.system"
        raise FerError(f"is a recipe of {said}, not of {name}", hint=hint, path=path, line=line)
    recipe = recipes.parse_recipe(text, path, system.recipe_type, changes, option=option)
    return recipe.model_copy(update={"about": recipe.about.model_copy(update={"system": name})})


def recipe_reference(name: str) -> list[KeyReference]:
    """Return every key of a system's recipe."""
    from fer_cli.core.recipe_reference import key_reference

    return key_reference(load(name).recipe_type)
