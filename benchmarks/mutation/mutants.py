"""Mutants of a module's source, by the operators of cosmic-ray: one per place, chosen by a seed."""

from __future__ import annotations

import ast
import difflib
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names

Place = tuple[int, int]
"""Line from 1 and column from 0."""

_WITH_ARGUMENTS: Final = {"core/VariableReplacer", "core/VariableInserter"}


class ReplaceWord(Operator):
    """Replaces a string of one word, such as a class name or a key: cosmic-ray itself changes no strings."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Place, Place]]:  # noqa: ANN401 - of parso
        """Yield where a string can be replaced."""
        if node.type == "string" and re.fullmatch(r"([\"'])[\w-]+\1", node.value):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:  # noqa: ANN401, ARG002 - of parso
        """Return the node with another word."""
        node.value = f"{node.value[:-1]}x{node.value[-1]}"
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """Return no examples: they are for cosmic-ray's own documentation."""
        return ()


OPERATORS: Final[dict[str, type[Operator]]] = {
    **{name.removeprefix("core/"): get_operator(name) for name in operator_names() if name not in _WITH_ARGUMENTS},
    "ReplaceWord": ReplaceWord,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed source. ``operator`` is cosmic-ray's name of the change; ``change`` the lines that differ."""

    line: int
    operator: str
    source: str
    change: str


def mutants(source: str, most: int, seed: int) -> tuple[list[Mutant], int]:
    """Return up to ``most`` mutants of a source in the order of their lines, and the number of places.

    Every place that an operator of cosmic-ray applies to gets one mutant: the operator is drawn by the seed. Where
    there are more places than ``most``, so are the places. Annotations, ``if TYPE_CHECKING``, what an error
    says, the decorators of classes and ``strict=`` are left out: they decide no number.
    """
    skipped = _no_numbers(source)
    tree = get_ast(source)
    choices: defaultdict[tuple[Place, Place], list[tuple[str, int]]] = defaultdict(list)
    for name, kind in OPERATORS.items():
        operator, occurrence = kind(), 0
        for node in ast_nodes(tree):
            for start, end in operator.mutation_positions(node):
                if not _is_marker(node) and not any(low <= start < high for low, high in skipped):
                    choices[start, end].append((name, occurrence))
                occurrence += 1
    order = sorted(choices, key=lambda place: _drawn(seed, place))[:most]
    made = []
    for place in sorted(order):
        for name, occurrence in sorted(choices[place], key=lambda choice: _drawn(seed, place, choice)):
            changed = mutate_code(source, OPERATORS[name](), occurrence)
            if changed is not None and _differs(source, changed):
                made.append(Mutant(place[0][0], name, changed, _change(source, changed)))
                break
    return made, len(choices)


def _is_marker(node: Any) -> bool:  # noqa: ANN401 - of parso
    """Return whether a node is the ``*`` or ``/`` of a signature, which cosmic-ray takes for an operator."""
    return node.type == "operator" and node.parent.type in {"parameters", "param"}


def _drawn(*parts: object) -> bytes:
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()


def _differs(source: str, changed: str) -> bool:
    """Return whether the changed source is Python and another program."""
    try:
        return ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


def _change(source: str, changed: str) -> str:
    lines = difflib.unified_diff(source.splitlines(), changed.splitlines(), n=0, lineterm="")
    return "\n".join(line for line in lines if line[:2] not in {"--", "++", "@@"})


def _no_numbers(source: str) -> list[tuple[Place, Place]]:
    """Return the spans of annotations, ``if TYPE_CHECKING``, what is raised, ``@dataclass(...)`` and ``strict=``."""
    spans = []
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        spans += [_span(part, lines) for part in _parts_without_numbers(node)]
    return spans


def _parts_without_numbers(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
        yield node.annotation
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
        yield node.returns
    elif isinstance(node, ast.ClassDef):
        yield from node.decorator_list
    elif isinstance(node, ast.keyword) and node.arg == "strict":
        yield node.value
    elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        yield node
    elif isinstance(node, ast.Raise) and node.exc is not None:
        yield node.exc


def _span(node: ast.expr | ast.stmt, lines: list[str]) -> tuple[Place, Place]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    start = len(lines[node.lineno - 1].encode()[: node.col_offset].decode())
    end = len(lines[node.end_lineno - 1].encode()[: node.end_col_offset].decode())
    return (node.lineno, start), (node.end_lineno, end)
