"""Recipes as TOML text: the small part of TOML that they need, and what two recipes differ in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from fer_cli.core.errors import one_line

LEFT_OUT: Final = "left out"
"""What is shown of a key that a recipe does not have."""

Recipe = BaseModel | Mapping[str, Any]
"""A recipe, or its values as JSON has them."""


@dataclass(frozen=True, slots=True)
class KeyDifference:
    """A key in which two recipes differ, and its value in each as TOML; None where it has none."""

    key: str
    first: str | None
    second: str | None


def toml_value(value: object) -> str:
    """Return a value as TOML writes it: text, a number, a truth value, an array or an inline table of those."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        written = json.dumps(value, ensure_ascii=False)
        return "".join(char if char.isprintable() else rf"\U{ord(char):08x}" for char in written)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    assert isinstance(value, dict), f"TOML has no {type(value).__name__}"
    items = ", ".join(f"{_toml_key(name)} = {toml_value(item)}" for name, item in value.items())
    return f"{{ {items} }}" if items else "{}"


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def toml_text(recipe: Recipe, *, heading: Sequence[str] = (), defaults: Recipe | None = None) -> str:
    """Return a recipe as a TOML file that :func:`fer_cli.core.recipes.load_recipe` reads as the same recipe.

    Args:
        recipe: the recipe.
        heading: lines of comment to begin with.
        defaults: a recipe whose value is noted behind each key in which this one differs.
    """
    changed = {} if defaults is None else {one.key: one.second for one in differences(recipe, defaults)}
    loose: list[str] = []
    parts: list[str] = []
    for name, value in _values(recipe).items():
        if isinstance(value, dict):
            lines = [
                f"{_toml_key(key)} = {toml_value(item)}"
                + (f"  # default: {changed[f'{name}.{key}'] or LEFT_OUT}" if f"{name}.{key}" in changed else "")
                for key, item in value.items()
                if item is not None
            ]
            parts.append("\n".join([f"[{_toml_key(name)}]", *lines]))
        elif value is not None:
            loose.append(f"{_toml_key(name)} = {toml_value(value)}")
    opening = "\n".join(f"# {one_line(line)}" for line in heading)
    return "\n\n".join(filter(None, [opening, "\n".join(loose), *parts])) + "\n"


def settings(recipe: Recipe) -> dict[str, str]:
    """Return every setting of a recipe, ``optim.lr`` and its like, as TOML; what it says of itself is none."""
    return {
        f"{table}.{key}": toml_value(value)
        for table, keys in _values(recipe).items()
        if table != "about" and isinstance(keys, dict)
        for key, value in keys.items()
        if value is not None
    }


def differences(first: Recipe, second: Recipe) -> list[KeyDifference]:
    """Return the settings in which two recipes differ, in the order of their tables."""
    ours, theirs = settings(first), settings(second)
    tables = list(dict.fromkeys(key.partition(".")[0] for key in (*ours, *theirs)))
    keys = sorted(dict.fromkeys((*ours, *theirs)), key=lambda key: tables.index(key.partition(".")[0]))
    return [KeyDifference(key, ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)]


def _values(recipe: Recipe) -> Mapping[str, Any]:
    return recipe.model_dump(mode="json", exclude_none=True) if isinstance(recipe, BaseModel) else recipe
