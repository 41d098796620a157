"""The hierarchy image -> expression -> part of the face -> action unit, and the semantic vectors it gives.

Source: Zhang & Dong, section 3.1, Eq. 1-5. ``hierarchy.toml`` next to this module is the one we ship; its comments say
what the paper prints and what is ours.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.core.labels import class_name, in_order
from fer_cli.core.toml_lines import Path as TomlPath
from fer_cli.core.toml_lines import TomlDepthError, read_toml, syntax_error_line
from fer_cli.core.user_files import read_text
from fer_cli.systems.ahm.ahp import JudgementError, consistency_ratio, judgement_matrix, priority_weights

SCHEMA: Final = 1
PACKAGED: Final = "hierarchy.toml"
PATHS: Final = ("shared", "full")

_MOST_BYTES = 1_000_000
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")  # a key of TOML that needs no quotes
_AU = re.compile(r"AU\d{1,3}")


@dataclass(frozen=True, slots=True)
class Judgement:
    """A checked judgement matrix over n items, its weights (n, summing to 1) and its consistency ratio."""

    matrix: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    consistency_ratio: float


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the face: its name, the paper's code, and its action units as pairs of code and words."""

    name: str
    code: str
    action_units: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """What one expression uses of one part: its action units and how they were judged."""

    part: str
    weight: float  # of the part within the expression, U(2)
    action_units: tuple[str, ...]
    judgement: Judgement  # its weights are U(3)


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression: its parts, in the order of their judgement matrix."""

    name: str
    judgement: Judgement
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A whole hierarchy. ``text`` is the TOML it was read from, so that an artifact can keep it.

    ``expressions`` are in canonical order, ``parts`` in the file's.
    """

    name: str
    parts: tuple[Part, ...]
    expressions: tuple[Expression, ...]
    text: str
    source: str

    def path_weights(self, expression: Expression) -> dict[tuple[str, str], float]:
        """Return the weight of each (part, AU) path of an expression: U(1) * U(2) * U(3), U(1) = 1 (Eq. 5)."""
        return {
            (branch.part, unit): branch.weight * weight
            for branch in expression.branches
            for unit, weight in zip(branch.action_units, branch.judgement.weights, strict=True)
        }


def default_hierarchy() -> Hierarchy:
    """Return the hierarchy that comes with the package."""
    text = resources.files("fer_cli.systems.ahm").joinpath(PACKAGED).read_text(encoding="utf-8")
    return parse_hierarchy(text, PACKAGED)


def load_hierarchy(path: Path) -> Hierarchy:
    """Read and check a hierarchy.

    Args:
        path: a TOML file in the form of the packaged ``hierarchy.toml``.

    Raises:
        FerError: the file cannot be read, or holds anything but a sound hierarchy; with path and line.
    """
    hint = "`fer fit-ahm --print-hierarchy > mine.toml` writes one to edit"
    text = read_text(path, _MOST_BYTES, what="hierarchy", hint=hint)
    return parse_hierarchy(text, str(path))


def parse_hierarchy(text: str, source: str) -> Hierarchy:
    """Check a hierarchy's TOML text. ``source`` names it in errors.

    Raises:
        FerError: with ``source`` and the line: what is wrong and what to do.
    """
    text = text.replace("\r\n", "\n")
    try:
        data, lines = read_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise FerError(
            f"is not TOML: {str(error).split(' (at ')[0]}",
            hint="correct the line; strings need quotes, fractions too",
            path=source,
            line=syntax_error_line(error, text),
        ) from None
    except TomlDepthError as error:
        raise FerError(str(error), hint="correct it", path=source, line=error.line) from None
    except ValueError:
        raise FerError("holds a number beyond reading", hint="correct it", path=source) from None
    return _Checker(source, lines).hierarchy(data, text)


def semantic_prototypes(
    hierarchy: Hierarchy, classes: Sequence[str], paths: Literal["shared", "full"] = "shared"
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the semantic vector of each class as a column of P (k, C) float64, and the k paths' names (Eq. 4-5).

    An entry is the product of the three layers' weights, zero where a class does not use the path; every column sums
    to 1. Only paths that one of ``classes`` uses are kept, ordered by part and then AU as in the hierarchy.

    Args:
        hierarchy: checked.
        classes: C distinct canonical names, the columns' order.
        paths: ``"shared"``: one entry per (part, AU), ``"brows/AU1"``, which is what classes share. ``"full"``: one
            per (expression, part, AU), ``"fear/brows/AU1"``: an ablation, whose prototypes are orthogonal, so that
            classes share nothing.

    Raises:
        FerError: the hierarchy does not describe one of the classes.
    """
    described = {expression.name: expression for expression in hierarchy.expressions}
    for name in classes:
        if name not in described:
            key = name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
            raise FerError(
                f"the hierarchy does not describe the class {name!r}",
                hint=f"add [expressions.{key}] with its parts and judgement matrices to a file that begins as "
                "--print-hierarchy shows, and give it with --hierarchy",
                path=hierarchy.source,
            )
    weights = {name: hierarchy.path_weights(described[name]) for name in classes}
    order = [(part.name, unit) for part in hierarchy.parts for unit, _ in part.action_units]
    if paths == "full":
        names = [f"{name}/{part}/{unit}" for name in classes for part, unit in order if (part, unit) in weights[name]]
    else:
        names = [f"{part}/{unit}" for part, unit in order if any((part, unit) in weights[name] for name in classes)]
    prototypes = np.zeros((len(names), len(classes)))
    row = {name: index for index, name in enumerate(names)}
    for column, name in enumerate(classes):
        for (part, unit), weight in weights[name].items():
            key = f"{name}/{part}/{unit}" if paths == "full" else f"{part}/{unit}"
            prototypes[row[key], column] = weight
    return prototypes, tuple(names)


class _Checker:
    """Walks the values of a TOML document; whatever is wrong becomes a FerError with the line it stands on."""

    def __init__(self, source: str, lines: dict[TomlPath, int]) -> None:
        self.source = source
        self.lines = lines

    def fail(self, at: TomlPath, what: str, hint: str) -> NoReturn:
        while at and at not in self.lines:
            at = at[:-1]
        raise FerError(what, hint=hint, path=self.source, line=self.lines.get(at, 1))

    def table(self, value: object, at: TomlPath, keys: Sequence[str] = ()) -> dict[str, Any]:
        """Return a table; where ``keys`` are given, it must have exactly these."""
        shown = f"[{'.'.join(map(str, at))}]" if at else "the file"
        if not isinstance(value, dict):
            self.fail(at, f"{shown} is not a table", "write it as a table in square brackets")
        if not keys:
            if not value:
                self.fail(at, f"{shown} is empty", "fill it in or remove it")
            return value
        for key in value:
            if key not in keys:
                self.fail((*at, key), f"unknown key {key!r} in {shown}", f"the keys are {', '.join(keys)}")
        for key in keys:
            if key not in value:
                self.fail(at, f"{shown} lacks {key!r}", f"its keys are {', '.join(keys)}")
        return value

    def words(self, value: object, at: TomlPath) -> str:
        if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 80:
            self.fail(at, f"{at[-1]!r} is not a line of text", "write 1 to 80 characters in quotes")
        return value

    def names(self, value: object, at: TomlPath) -> tuple[str, ...]:
        """Return a list of distinct names, at least one."""
        if not isinstance(value, list) or not value:
            self.fail(at, f"{at[-1]!r} is not a list of names", 'write it like ["AU1", "AU2"]')
        for index, name in enumerate(value):
            if not isinstance(name, str):
                self.fail((*at, index), f"{name!r} is not a name", "write names in quotes")
            if name in value[:index]:
                self.fail((*at, index), f"{name!r} is listed twice", "list each name once")
        return tuple(value)

    def judgement(self, value: object, at: TomlPath, items: tuple[str, ...]) -> Judgement:
        if isinstance(value, list) and value and len(value) != len(items):
            self.fail(
                at,
                f"the judgement matrix has {len(value)} rows for {len(items)} items ({', '.join(items)})",
                "give one row and one column per item, in the list's order",
            )
        try:
            matrix = judgement_matrix(value)
        except JudgementError as error:
            self.fail(at if error.row is None else (*at, error.row), error.what, error.hint)
        return Judgement(
            tuple(tuple(row) for row in matrix.tolist()),
            tuple(priority_weights(matrix).tolist()),
            consistency_ratio(matrix),
        )

    def hierarchy(self, data: dict[str, Any], text: str) -> Hierarchy:
        data = self.table(data, (), ("schema", "name", "parts", "expressions"))
        if data["schema"] != SCHEMA or not isinstance(data["schema"], int) or isinstance(data["schema"], bool):
            self.fail(("schema",), f"schema {data['schema']!r} is not known", f"this version reads schema {SCHEMA}")
        parts = self.parts(data["parts"])
        home = {unit: part.name for part in parts for unit, _ in part.action_units}
        expressions: dict[str, Expression] = {}
        for name, value in self.table(data["expressions"], ("expressions",)).items():
            at: TomlPath = ("expressions", name)
            try:
                kept = class_name(name, "expressions")
            except FerError as error:
                self.fail(at, error.what, error.hint)
            if kept != name:
                self.fail(at, f"the class {name!r} is written {kept!r}", f"write {kept!r}")
            expressions[name] = self.expression(name, value, at, parts, home)
        hierarchy = Hierarchy(
            name=self.words(data["name"], ("name",)),
            parts=parts,
            expressions=tuple(expressions[name] for name in in_order(expressions)),
            text=text,
            source=self.source,
        )
        self.distinct(hierarchy)
        return hierarchy

    def parts(self, value: object) -> tuple[Part, ...]:
        parts: list[Part] = []
        home: dict[str, str] = {}
        for name, content in self.table(value, ("parts",)).items():
            at: TomlPath = ("parts", name)
            if not re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", name):
                self.fail(at, f"{name!r} cannot name a part", "use a lower-case word")
            table = self.table(content, at, ("code", "action_units"))
            units = self.table(table["action_units"], (*at, "action_units"))
            for unit, words in units.items():
                here = (*at, "action_units", unit)
                if not _AU.fullmatch(unit):
                    self.fail(here, f"{unit!r} is not an action unit", "write AU and its number, such as AU12")
                if unit in home:
                    self.fail(here, f"{unit} lies in two parts, {home[unit]} and {name}", "keep it in one of them")
                home[unit] = name
                self.words(words, here)
            parts.append(Part(name, self.words(table["code"], (*at, "code")), tuple(units.items())))
        return tuple(parts)

    def expression(
        self, name: str, value: object, at: TomlPath, parts: tuple[Part, ...], home: dict[str, str]
    ) -> Expression:
        table = self.table(value, at, ("parts", "judgement", "within"))
        known = [part.name for part in parts]
        used = self.names(table["parts"], (*at, "parts"))
        for index, part in enumerate(used):
            if part not in known:
                self.fail((*at, "parts", index), f"unknown part {part!r}", f"the parts are {', '.join(known)}")
        judged = self.judgement(table["judgement"], (*at, "judgement"), used)
        within = self.table(table["within"], (*at, "within"), used)
        branches: list[Branch] = []
        for part, weight in zip(used, judged.weights, strict=True):
            here = (*at, "within", part)
            inner = self.table(within[part], here, ("action_units", "judgement"))
            units = self.names(inner["action_units"], (*here, "action_units"))
            for index, unit in enumerate(units):
                if unit not in home:
                    self.fail(
                        (*here, "action_units", index),
                        f"{unit!r} belongs to no part",
                        f"add it to [parts.{part}.action_units], with its name in words",
                    )
                if home[unit] != part:
                    self.fail(
                        (*here, "action_units", index),
                        f"{unit} belongs to {home[unit]}, not to {part}",
                        f"move it to [{'.'.join(map(str, at))}.within.{home[unit]}]",
                    )
            branches.append(
                Branch(part, weight, units, self.judgement(inner["judgement"], (*here, "judgement"), units))
            )
        return Expression(name, judged, tuple(branches))

    def distinct(self, hierarchy: Hierarchy) -> None:
        """Refuse two expressions with the same vector: no projection separates them."""
        for index, later in enumerate(hierarchy.expressions):
            vector = hierarchy.path_weights(later)
            for earlier in hierarchy.expressions[:index]:
                other = hierarchy.path_weights(earlier)
                if vector.keys() == other.keys() and all(abs(vector[path] - other[path]) < 1e-6 for path in vector):
                    self.fail(
                        ("expressions", later.name),
                        f"{later.name} and {earlier.name} have the same action units with the same weights",
                        "change the action units or the judgements of one of them",
                    )
