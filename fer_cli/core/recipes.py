"""Recipes: TOML files that say how something is trained. Typed and strict; an error names the key and its line."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.toml_lines import read_toml, syntax_error_line

MAX_BYTES: Final = 1_000_000


class Section(BaseModel):
    """A table of a recipe: nothing is converted, and no unknown key is passed over."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class About(Section):
    """What opens a recipe: where it comes from, how it is run, and what that gave."""

    paper: str
    command: str
    papers_figure: str
    measured: str


R = TypeVar("R", bound=Section)


def load_recipe(path: Path, form: type[R], changes: Sequence[str] = ()) -> R:
    """Read a recipe of the given form.

    Args:
        path: a TOML file.
        form: what it must be.
        changes: ``KEY=VALUE`` that replace what the file says or add to it: ``optim.lr=1e-4``. A value is read as
            TOML, and what is none as text.

    Raises:
        FerError: the file cannot be read, is not TOML, or a key is unknown, missing or has a wrong value.
        UsageError: a change is to blame.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FerError(f"cannot be read: {error.strerror or error}", hint="give a recipe", path=path) from None
    if len(data) > MAX_BYTES:
        raise FerError(f"is larger than {MAX_BYTES:,} bytes: not a recipe", hint="give a recipe", path=path)
    try:
        text = data.decode("utf-8-sig")
        values, lines = read_toml(text)
    except UnicodeDecodeError:
        raise FerError("is not text in UTF-8", hint="give a recipe", path=path) from None
    except tomllib.TOMLDecodeError as error:
        line = syntax_error_line(error, data.decode("utf-8-sig"))
        what = f"is not TOML: {str(error).split(' (at ')[0]}"
        raise FerError(what, hint="correct the line", path=path, line=line) from None
    except (ValueError, RecursionError):
        raise FerError("holds numbers or nesting beyond reading", hint="correct it", path=path) from None
    changed = dict(_change(values, one) for one in changes)
    try:
        return form.model_validate(values)
    except ValidationError as error:
        raise _first(error, form, path, lines, changed) from None


def _change(values: dict[str, Any], change: str) -> tuple[tuple[str, ...], str]:
    """Apply one change to a recipe's values and return its key, split at the points, with the change itself."""
    key, equals, text = (part.strip() for part in change.partition("="))
    parts = tuple(key.split("."))
    if not equals or not all(parts):
        raise UsageError(f"--set {change!r} sets nothing", hint="write KEY=VALUE, such as optim.lr=1e-4")
    try:
        read = tomllib.loads(f"value = {text}")
        value = read["value"] if len(read) == 1 else text
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        value = text
    if isinstance(value, dict):
        raise UsageError(f"--set {change!r}: {key} is a table", hint=f"set its keys one by one: {key}.KEY=VALUE")
    table = values
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {change!r}: {part} is a value, not a table", hint="see --print-config")
    if isinstance(value, str) and isinstance(there := table.get(parts[-1]), dict) and "name" in there:
        table, parts = there, (*parts, "name")  # loss=joint is loss.name=joint: the table's other keys stay
    table[parts[-1]] = value
    return parts, change


def _first(
    error: ValidationError,
    form: type[Section],
    path: Path,
    lines: dict[tuple[str | int, ...], int],
    changed: dict[tuple[str, ...], str],
) -> FerError:
    faults: list[Any] = list(error.errors(include_url=False))
    # A misspelt key is two faults: that it is there tells more than that the right one is missing.
    fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
    place = tuple(fault["loc"])
    key = ".".join(str(part) for part in place)
    if fault["type"] == "extra_forbidden":
        near = _near(key, form)
        what = f"{key} is not a key of this recipe"
        hint = f"did you mean {' or '.join(near)}?" if near else "remove it, or correct its name"
    elif fault["type"] == "value_error":
        # Our own words, `what: hint`; a fault of the whole recipe begins with the key that it is about.
        what, _, hint = f"{key} {fault['ctx']['error']}".strip().partition(": ")
        place = place or tuple(what.partition(" ")[0].split("."))
    elif fault["type"] == "model_type":
        what, hint = f"{key} is a table", f"set its keys one by one: {key}.KEY"
    elif fault["type"] == "missing":
        what, hint = f"{key} is missing", "add it"
    else:
        what, hint = f"{key}: {fault['msg'][:1].lower()}{fault['msg'][1:]}", "correct the value"
    line = next((lines[place[:length]] for length in range(len(place), 0, -1) if place[:length] in lines), None)
    blamed = (
        change for parts, change in changed.items() if place and all(a == b for a, b in zip(place, parts, strict=False))
    )
    if by := next(blamed, None):
        return UsageError(f"--set {by!r}: {what}", hint="; ".join(filter(None, [hint, "see --print-config"])))
    return FerError(what, hint=hint, path=path, line=line)


def _near(key: str, form: type[Section]) -> list[str]:
    """Return the keys that an unknown one may stand for: of the same name in another table, else spelt alike."""
    tables = {name: field.annotation for name, field in form.model_fields.items()}
    keys = list(tables)
    for name, table in tables.items():
        if isinstance(table, type) and issubclass(table, Section):
            keys += [f"{name}.{inner}" for inner in table.model_fields]
    elsewhere = [known for known in keys if known.rpartition(".")[2] == key.rpartition(".")[2]]
    return elsewhere[:2] or difflib.get_close_matches(key.lower(), keys, n=1, cutoff=0.75)
