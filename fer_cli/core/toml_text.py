"""Recipes as TOML text: the small part of TOML that they need."""

from __future__ import annotations

import json
import re

from pydantic import BaseModel


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


def toml_text(recipe: BaseModel) -> str:
    """Return a recipe as a TOML file that :func:`fer_cli.core.recipes.load_recipe` reads as the same recipe."""
    loose: list[str] = []
    parts: list[str] = []
    for name, value in recipe.model_dump(mode="json", exclude_none=True).items():
        if isinstance(value, dict):
            lines = [f"{_toml_key(key)} = {toml_value(item)}" for key, item in value.items()]
            parts.append("\n".join([f"[{_toml_key(name)}]", *lines]))
        else:
            loose.append(f"{_toml_key(name)} = {toml_value(value)}")
    return "\n\n".join(filter(None, ["\n".join(loose), *parts])) + "\n"
