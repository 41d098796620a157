"""No import climbs and none goes in a circle: the floors of the contributor's guide hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

from tests.docs.markdown import ROOT
from tests.docs.test_contributing import PAGE

MODULES: Final = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.glob("fer_cli/**/*.py"))
}


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Return the modules of fer that imports name."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {full if (full := f"{node.module}.{name.name}") in MODULES else node.module for name in node.names}
        elif isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
    return names & MODULES.keys()


def package(module: str) -> str:
    return module.split(".")[1] if module.count(".") > 1 else ""


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_imports_keep_to_the_floors() -> None:
    rows = re.findall(r"^\| \d \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    floor = {name: level for level, row in enumerate(rows) for name in re.findall(r"`(\w+)`", row)}
    assert set(floor) == {path.parent.name for path in ROOT.glob("fer_cli/*/__init__.py")}
    climbs = {
        f"{path.relative_to(ROOT).as_posix()}: {package(module)} imports {package(other)}"
        for module, path in MODULES.items()
        for other in imported(ast.walk(tree(path)))
        if floor.get(package(other), 0) > floor.get(package(module), len(rows))
    }
    assert not climbs


def test_no_import_goes_in_a_circle() -> None:
    """Of what is imported with a module; functions import what they need when they run."""
    TopologicalSorter({module: imported(iter(tree(path).body)) for module, path in MODULES.items()}).prepare()
