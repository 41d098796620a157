"""Packages that add to fer by an entry point, as an installer would leave them, seen by this process for one test."""

from __future__ import annotations

import sys
from copy import copy
from pathlib import Path
from typing import Any

import pytest

from fer_cli.core.registry import Registry


def install(monkeypatch: pytest.MonkeyPatch, site: Path, registry: Registry[Any]) -> None:
    """Put a folder of packages on the path and let a registry look again, until the test ends."""
    monkeypatch.syspath_prepend(site)
    for module in site.glob("*.py"):
        monkeypatch.delitem(sys.modules, module.stem, raising=False)
    again = copy(registry)
    vars(again).pop("_installed", None)
    monkeypatch.setitem(vars(registry), "_installed", again._installed)
    monkeypatch.setattr(registry, "_loaded", {name: registry.load(name) for name in registry.bundled})
