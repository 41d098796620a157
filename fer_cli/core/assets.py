"""Files that come with fer: in the checkout's ``assets`` and ``recipes``, or inside the installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parents[1]


def asset(name: str) -> Path:
    """Return the path of a file that comes with fer; where there is none, the path at which it should be."""
    return _there(name, "assets")


def recipe(name: str) -> Path:
    """Return the path of a recipe that comes with fer, such as ``baseline/laptop.toml``."""
    return _there(name, "recipes")


def _there(name: str, folder: str) -> Path:
    installed = _PACKAGE / f"_{folder}"
    return (installed if installed.is_dir() else _PACKAGE.parent / folder) / name
