"""No import climbs: the floors of the contributor's guide hold."""

from __future__ import annotations

import ast
import re
from typing import Final

from tests.docs.markdown import ROOT
from tests.docs.test_contributing import PAGE


CLIMBS: Final = {
    "fer_cli/evaluation/predictors/ahm.py: evaluation imports stages",
    "fer_cli/training/job.py: training imports systems",
}
"""What still climbs. Nothing may be added here."""


def test_imports_keep_to_the_floors() -> None:
    """The table of CONTRIBUTING is the order; within a floor no two packages import each other."""
    rows = re.findall(r"^\| \d \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    floor = {package: level for level, row in enumerate(rows) for package in re.findall(r"`(\w+)`", row)}
    assert set(floor) == {path.parent.name for path in ROOT.glob("fer_cli/*/__init__.py")}
    edges: dict[tuple[str, str], set[str]] = {}
    for path in sorted(ROOT.glob("fer_cli/*/**/*.py")):
        package = path.relative_to(ROOT / "fer_cli").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [f"{node.module}.{name.name}" for name in node.names]
            elif isinstance(node, ast.Import):
                modules = [name.name for name in node.names]
            for module in modules:
                words = module.split(".")
                if words[0] == "fer_cli" and len(words) > 1 and words[1] in floor and words[1] != package:
                    edges.setdefault((package, words[1]), set()).add(path.relative_to(ROOT).as_posix())
    climbs = {f"{file}: {a} imports {b}" for (a, b), at in edges.items() for file in at if floor[b] > floor[a]}
    circles = [f"{a} and {b}: {at}" for (a, b), at in edges.items() if floor[b] == floor[a] and (b, a) in edges]
    assert climbs <= CLIMBS
    assert circles == []
