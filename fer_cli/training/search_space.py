"""Which settings a search looks at: what each key may be, and the settings that are drawn from it.

A value is a function of the search's seed, the number of the draw and the key alone: more trials go on with the same
sequence, and another key or another order of the keys changes no other value.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.recipes import Section, read_values, tables
from fer_cli.core.toml_text import toml_value
from fer_cli.core.user_files import read_text

TABLE: Final = "search"
"""The table of a TOML file that holds a space."""
MAX_SETTINGS: Final = 10_000
MAX_POINTS: Final = 1000
_MAX_BYTES: Final = 1_000_000
_NUMBER: Final = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE: Final = re.compile(rf"(log:)?\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*(?:/\s*(\d+))?")
_HOW: Final = "write KEY=A,B,C, KEY=LOW..HIGH or KEY=log:LOW..HIGH, a range with /POINTS for a grid, or a TOML file"
_ALIKE: Final = 1000
"""Draws in a row that bring nothing new, after which a space counts as exhausted."""

Settings = dict[str, Any]
"""Key of the recipe -> value."""


@dataclass(frozen=True, slots=True)
class Choices:
    """One of some values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ", ".join(toml_value(value) for value in self.values)

    def at(self, share: float) -> Any:  # noqa: ANN401 - of the key's type
        """Return the value at a share, in [0, 1), of the way through them."""
        return self.values[int(share * len(self.values))]

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The values that must be right for all to be."""
        return self.values


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``, both included, drawn with three digits that count.

    ``log``: each factor is as likely as another. ``whole``: integers.
    """

    low: float
    high: float
    log: bool
    whole: bool

    def __str__(self) -> str:
        return f"{'log:' if self.log else ''}{_written(self.low)}..{_written(self.high)}"

    def at(self, share: float) -> float:
        """Return the number at a share, in [0, 1], of the way from low to high."""
        if self.whole and not self.log:
            return min(int(self.high), int(self.low + share * (self.high - self.low + 1)))
        return self._rounded(self._between(share))

    def points(self, number: int) -> tuple[float, ...]:
        """Return so many numbers, evenly apart, that begin and end with the range."""
        every = (self._rounded(self._between(at / (number - 1))) for at in range(number))
        return tuple(dict.fromkeys(every))

    @property
    def extremes(self) -> tuple[float, float]:
        """The numbers that must be right for all to be."""
        return self.low, self.high

    def _between(self, share: float) -> float:
        if self.log:
            return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        return self.low + share * (self.high - self.low)

    def _rounded(self, value: float) -> float:
        if self.whole:
            return int(min(self.high, max(self.low, round(value))))
        if self.log and self.high >= 2 * self.low:
            rounded = float(f"{value:.3g}")
        else:
            rounded = round(value, 2 - math.floor(math.log10(self.high - self.low)))
        return min(self.high, max(self.low, rounded))


@dataclass(frozen=True, slots=True)
class Space:
    """What each key of a recipe may be.

    Attributes:
        form: of the recipe.
        base: key -> value of ``name`` in each table that has several forms, where the recipe is not changed.
        values: key -> what it may be, in the order of the keys' names.
        sources: key -> where it was given, for errors.
    """

    form: type[Section]
    base: Mapping[str, str]
    values: Mapping[str, Choices | Range]
    sources: Mapping[str, Callable[[str, str], FerError]]

    def knows(self, key: str) -> bool:
        """Tell whether a key is one of the recipe's."""
        table, _, leaf = key.partition(".")
        return any(leaf in section.model_fields for section in dict(tables(self.form)).get(table, {}).values())

    def records(self) -> dict[str, str]:
        """Return the space as text."""
        return {key: str(values) for key, values in self.values.items()}

    def random(self, number: int, seed: int) -> list[Settings]:
        """Return the first settings of the sequence of a seed, all different: fewer where there are no more."""
        found: dict[str, Settings] = {}
        alike = 0
        for draw in itertools.count():
            if len(found) == number or alike == _ALIKE:
                return list(found.values())
            settings = {key: values.at(_share(seed, draw, key)) for key, values in self.values.items()}
            before = len(found)
            self._add(found, settings)
            alike = alike + 1 if len(found) == before else 0
        raise AssertionError("the count has no end")

    def grid(self) -> list[Settings]:
        """Return all combinations, the last key the fastest.

        Raises:
            FerError: a range has no number of points, or there are too many.
        """
        every = []
        for key, values in self.values.items():
            if isinstance(values, Range):
                raise self.sources[key](f"is a range, of which a grid takes points: {key}", f"write {values}/4")
            every.append(values.values)
        if (size := math.prod(map(len, every))) > MAX_SETTINGS:
            raise UsageError(
                f"the grid has {size:,} settings", hint=f"take {MAX_SETTINGS:,} at most, or draw at random"
            )
        found: dict[str, Settings] = {}
        for combination in itertools.product(*every):
            self._add(found, dict(zip(self.values, combination, strict=True)))
        return list(found.values())

    def probes(self, first: Settings) -> Iterator[tuple[str, Settings]]:
        """Yield settings in which a key has each value that must be right: if all are a recipe, the space is sound."""
        for key, values in self.values.items():
            table = key.partition(".")[0]
            for value in values.extremes:
                settings = {**first, key: value}
                owners = self._owners(key)
                if owners and self._form_of(table, settings) not in owners:
                    settings[f"{table}.name"] = owners[0]
                yield key, self.applicable(settings)

    def applicable(self, settings: Settings) -> Settings:
        """Return settings without the keys that the forms of their tables do not have: ``loss.gamma`` without focal."""
        return {
            key: value
            for key, value in settings.items()
            if not (owners := self._owners(key)) or self._form_of(key.partition(".")[0], settings) in owners
        }

    def _add(self, found: dict[str, Settings], settings: Settings) -> None:
        kept = self.applicable(settings)
        found.setdefault(repr(sorted(kept.items())), kept)

    def _owners(self, key: str) -> list[str]:
        """Return the forms of a key's table that have it; none where all do."""
        table, _, leaf = key.partition(".")
        variants = dict(tables(self.form)).get(table, {})
        owners = [name for name, section in variants.items() if leaf in section.model_fields]
        return owners if len(owners) < len(variants) else []

    def _form_of(self, table: str, settings: Settings) -> str:
        return str(settings.get(f"{table}.name", self.base.get(table, "")))


def read_space(texts: Sequence[str], form: type[Section], base: Section) -> Space:
    """Read a space.

    Args:
        texts: each ``KEY=VALUES``, or the path of a TOML file with a table ``[search]``.
        form: of the recipe.
        base: the recipe that trials begin from.

    Raises:
        FerError: a file cannot be read, or a line of it is at fault.
        UsageError: one that was given is at fault, or none was.
    """
    if not texts:
        raise UsageError("there is no --space: nothing to search", hint=_HOW)
    values: dict[str, Choices | Range] = {}
    sources: dict[str, Callable[[str, str], FerError]] = {}
    for key, given, fault in (entry for text in texts for entry in _entries(text)):
        key = _whole_key(key, form)  # noqa: PLW2901 - loss stands for loss.name
        if key.partition(".")[0] == "about":
            raise fault(f"{key} decides no result", "take a setting")
        if key in values:
            raise fault(f"{key} is given twice", "give all its values once")
        values[key] = _values(given, fault, whole=_is_whole(key, form))
        sources[key] = fault
    names = {table: str(getattr(base, table).name) for table, forms in tables(form) if "" not in forms}
    return Space(form, names, {key: values[key] for key in sorted(values)}, sources)


def change(key: str, value: Any) -> str:  # noqa: ANN401 - of the key's type
    """Return a setting as ``KEY=VALUE``."""
    return f"{key}={toml_value(value)}"


def _entries(text: str) -> Iterator[tuple[str, object, Callable[[str, str], FerError]]]:
    """Yield key, values, and what makes an error that names where they were given."""
    key, equals, given = (part.strip() for part in text.partition("="))
    if equals:
        if not key or not given:
            raise UsageError(f"--space {text!r} is no space", hint=_HOW)
        yield key, given, lambda what, hint: UsageError(f"--space {text!r}: {what}", hint=hint)
        return
    path = Path(text)
    if path.suffix != ".toml" and not path.exists():
        raise UsageError(f"--space {text!r} is neither KEY=VALUES nor a file", hint=_HOW)
    document, lines = read_values(read_text(path, _MAX_BYTES, what="space", hint=f"give a file with [{TABLE}]"), path)
    if other := next((name for name in document if name != TABLE), None):
        what = f"{other} does not belong in a space"
        raise FerError(what, hint=f"put keys and values below [{TABLE}]", path=path, line=lines.get((other,)))
    table = document.get(TABLE)
    if not isinstance(table, dict) or not table:
        raise FerError(f"has no keys below [{TABLE}]", hint='write optim.lr = "log:1e-4..3e-3" there', path=path)
    for parts, value in _leaves((), table):
        line = lines.get((TABLE, *parts))

        def fault(what: str, hint: str, line: int | None = line) -> FerError:
            return FerError(what, hint=hint, path=path, line=line)

        yield ".".join(parts), value, fault


def _leaves(parts: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves((*parts, name), value)
        else:
            yield (*parts, name), value


def _values(given: object, fault: Callable[[str, str], FerError], *, whole: bool) -> Choices | Range:
    if isinstance(given, str):
        if match := _RANGE.fullmatch(given.strip()):
            return _range(match, fault, whole=whole)
        if given.startswith("log:") or re.match(r"[-+.\d][^,]*\.\.", given):
            raise fault(f"{given!r} is no range", "write LOW..HIGH or log:LOW..HIGH, with /POINTS for a grid")
        values = _listed(given)
    else:
        values = tuple(given) if isinstance(given, list) else (given,)
    if any(isinstance(value, str) and not value for value in values):
        raise fault("a value is empty", "write A,B,C")
    if any(values.count(value) > 1 for value in values):
        raise fault("a value is there twice", "give each once")
    if len(values) < 2:
        raise fault("has a single value: nothing to search", "give several, or set it with --set")
    return Choices(values)


def _listed(text: str) -> tuple[Any, ...]:
    """Return the items of A,B,C, each as TOML where it is that, else as text."""
    try:
        return tuple(tomllib.loads(f"values = [{text}]")["values"])
    except (ValueError, KeyError):
        return tuple(_value(item.strip()) for item in text.split(","))


def _value(text: str) -> Any:  # noqa: ANN401 - any TOML value
    try:
        read = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return read["value"] if len(read) == 1 else text


def _range(match: re.Match[str], fault: Callable[[str, str], FerError], *, whole: bool) -> Choices | Range:
    log, points = match[1] is not None, match[4]
    low, high = float(match[2]), float(match[3])
    if not (math.isfinite(low) and math.isfinite(high)) or not low < high:
        raise fault(f"{match[2]}..{match[3]} holds nothing", "write the lower number first")
    if log and low <= 0:
        raise fault(f"log:{match[2]}..{match[3]} begins at {low:g}", "begin above 0, or leave log: out")
    if whole:
        if not (low.is_integer() and high.is_integer()):
            raise fault(f"{match[2]}..{match[3]} is for an integer", "write whole numbers")
        low, high = int(low), int(high)
    values = Range(low, high, log, whole)
    if points is None:
        return values
    if len(points) > 4 or not 2 <= int(points) <= MAX_POINTS:
        raise fault(f"/{points} is no number of points", f"take 2 to {MAX_POINTS}")
    return Choices(values.points(int(points)))


def _whole_key(key: str, form: type[Section]) -> str:
    """Return a key in full: a table that has several forms stands for its ``name``."""
    forms = dict(tables(form)).get(key, {"": form})
    return key if "" in forms else f"{key}.name"


def _is_whole(key: str, form: type[Section]) -> bool:
    """Tell whether a key is an integer's."""
    table, _, leaf = key.partition(".")
    for section in dict(tables(form)).get(table, {}).values():
        if leaf in section.model_fields:
            kind = section.model_fields[leaf].annotation
            return kind is int or (int in get_args(kind) and float not in get_args(kind))
    return False


def _share(seed: int, draw: int, key: str) -> float:
    """Return a number in [0, 1) that depends on these alone, the same with every version of every library."""
    drawn = hashlib.sha256(f"{seed}/{draw}/{key}".encode()).digest()
    return (int.from_bytes(drawn[:8], "big") >> 11) / 2**53


def _written(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else repr(value)
