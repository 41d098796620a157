"""Recipes: TOML files that say how something is trained. Typed and strict; an error names the key and its line."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticUndefined

from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.toml_lines import MAX_DEPTH, TomlDepthError, check_depth, read_toml, syntax_error_line
from fer_cli.core.user_files import read_text

MAX_BYTES: Final = 1_000_000
UNMEASURED: Final = "not measured: settings were changed"
"""What a recipe with changes says of its figures."""


class Section(BaseModel):
    """A table of a recipe: nothing is converted, and no unknown key is passed over."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    renamed: ClassVar[dict[str, str]] = {}
    """Keys that had another name before: an old one is refused with its new name."""
    renamed_variants: ClassVar[dict[str, str]] = {}
    """The same of the values of ``name``, where a table has several forms."""


def key(
    title: str,
    *,
    default: Any = PydanticUndefined,  # noqa: ANN401 - of the key's type
    unit: str | None = None,
    strict: bool | None = None,
    **limits: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401 - pydantic's Field has no other type
    """Return the field of a recipe's key.

    Args:
        title: what it is, in one line; shown by ``fer train SYSTEM --help-recipe`` and in the reference.
        default: its value where a recipe leaves it out; it must be given where there is none.
        unit: of its value.
        strict: False converts, as from TOML's arrays to tuples.
        **limits: ``ge``, ``gt``, ``le`` and ``lt``.
    """
    return Field(default, title=title, strict=strict, json_schema_extra={"unit": unit}, **limits)


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
    text = read_text(path, MAX_BYTES, what="recipe", hint="give a recipe")
    try:
        values, lines = read_toml(text)
    except tomllib.TOMLDecodeError as error:
        line = syntax_error_line(error, text)
        what = f"is not TOML: {str(error).split(' (at ')[0]}"
        raise FerError(what, hint="correct the line", path=path, line=line) from None
    except TomlDepthError as error:
        raise FerError(str(error), hint="correct it", path=path, line=error.line) from None
    except ValueError:
        raise FerError("holds a number beyond reading", hint="correct it", path=path) from None
    changed = dict(_change(values, change) for change in changes)
    _drop_keys_of_other_variants(values, form, changed)
    if changes and isinstance(about := values.get("about"), dict) and "measured" in about:
        about["measured"] = UNMEASURED  # what stands there was measured without the changes
    try:
        return form.model_validate(values)
    except ValidationError as error:
        raise _first(error, form, path, lines, changed) from None


def _change(values: dict[str, Any], change: str) -> tuple[tuple[str, ...], str]:
    """Apply one change to a recipe's values and return its key, split at the points, with the change itself."""
    key, equals, text = (part.strip() for part in change.partition("="))
    parts = tuple(key.split("."))
    if not equals or not all(parts) or len(parts) > MAX_DEPTH:
        raise UsageError(f"--set {change!r} sets nothing", hint="write KEY=VALUE, such as optim.lr=1e-4")
    try:
        check_depth(text)
        read = tomllib.loads(f"value = {text}")
        value = read["value"] if len(read) == 1 else text
    except ValueError:
        value = text
    if isinstance(value, dict):
        raise UsageError(f"--set {change!r}: {key} is a table", hint=f"set its keys one by one: {key}.KEY=VALUE")
    table = values
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {change!r}: {part} is a value, not a table", hint="see --print-config")
    if isinstance(value, str) and isinstance(there := table.get(parts[-1]), dict) and "name" in there:
        table, parts = there, (*parts, "name")  # loss=focal is loss.name=focal
    table[parts[-1]] = value
    return parts, change


def _drop_keys_of_other_variants(
    values: dict[str, Any], form: type[Section], changed: dict[tuple[str, ...], str]
) -> None:
    """Where a change takes another variant of a table, drop what the file says that the others alone have."""
    for name, variants in tables(form):
        table = values.get(name)
        if (name, "name") not in changed or not isinstance(table, dict) or table.get("name") not in variants:
            continue
        known = {key for section in variants.values() for key in section.model_fields}
        for key in known - variants[table["name"]].model_fields.keys():
            if (name, key) not in changed:
                table.pop(key, None)


def tables(form: type[Section]) -> Iterator[tuple[str, dict[str, type[Section]]]]:
    """Yield the tables of a recipe, each with its forms: by ``name`` where it has several, else the only one by ''."""
    for name, field in form.model_fields.items():
        forms = [kind for kind in (field.annotation, *get_args(field.annotation)) if _is_section(kind)]
        if field.discriminator is not None:
            yield name, {get_args(kind.model_fields["name"].annotation)[0]: kind for kind in forms}
        elif forms:
            yield name, {"": forms[0]}


def _is_section(kind: Any) -> bool:  # noqa: ANN401 - any annotation
    return isinstance(kind, type) and issubclass(kind, Section)


def _first(
    error: ValidationError,
    form: type[Section],
    path: Path,
    lines: dict[tuple[str | int, ...], int],
    changed: dict[tuple[str, ...], str],
) -> FerError:
    """Return the error of the first fault, at its line, or of the change that is to blame."""
    faults: list[Any] = list(error.errors(include_url=False))
    # A misspelt key is two faults: that it is there tells more than that the right one is missing.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place, what, hint = _explained(fault, form)
    line = next((lines[place[:length]] for length in range(len(place), 0, -1) if place[:length] in lines), None)
    # The nearest to the fault: a change of the key itself or of a table round it before those of keys below it.
    related = [parts for parts in changed if place and all(a == b for a, b in zip(place, parts, strict=False))]
    above = [parts for parts in related if len(parts) <= len(place)]
    blamed = max(above, key=len) if above else next(iter(related), None)
    if blamed is not None:
        change = changed[blamed]
        return UsageError(f"--set {change!r}: {what}", hint="; ".join(filter(None, [hint, "see --print-config"])))
    return FerError(what, hint=hint, path=path, line=line)


def _explained(fault: dict[str, Any], form: type[Section]) -> tuple[tuple[str | int, ...], str, str]:
    """Return the path of the key that is at fault, what is wrong with it, and what to do."""
    place: tuple[str | int, ...] = tuple(fault["loc"])
    variants = dict(tables(form)).get(str(place[0]), {}) if place else {}
    if variants and "" not in variants and len(place) > 1:
        place = (place[0], *place[2:])  # pydantic names the variant too
    key = ".".join(str(part) for part in place)
    match fault["type"]:
        case "extra_forbidden":
            if now := _renamed(place, variants):
                return place, f"{key} is now {now}", "rename it"
            what = f"{key} is not a key of this recipe"
            if owners := [name for name, section in variants.items() if name and place[-1] in section.model_fields]:
                return place, what, f"it belongs to {place[0]}.name = {' or '.join(map(repr, owners))}"
            near = _near(key, form)
            return place, what, f"did you mean {' or '.join(near)}?" if near else "remove it, or correct its name"
        case "value_error":
            # Our own words, `what: hint`; a fault of the whole recipe begins with the key that it is about.
            what, _, hint = f"{key} {fault['ctx']['error']}".strip().partition(": ")
            return place or tuple(what.partition(" ")[0].split(".")), what, hint
        case "model_type":
            return place, f"{key} is a table", f"set its keys one by one: {key}.KEY"
        case "union_tag_not_found":
            return place, f"{key}.name is missing", f"take {' or '.join(map(repr, variants))}"
        case "union_tag_invalid":
            given, choices = str(fault["ctx"]["tag"]), " or ".join(map(repr, variants))
            place, key = (*place, "name"), f"{key}.name"
            now = next(
                (kind.renamed_variants[given] for kind in variants.values() if given in kind.renamed_variants), ""
            )
            if now in variants:
                return place, f"{key} = {given!r} is now {now!r}", "rename it"
            return place, f"{key}: there is no {given!r} here", f"take {choices}"
        case "missing":
            return place, f"{key} is missing", "add it"
        case _:
            return place, f"{key}: {fault['msg'][:1].lower()}{fault['msg'][1:]}", "correct the value"


def _renamed(place: tuple[str | int, ...], variants: dict[str, type[Section]]) -> str | None:
    """Return the name that an old key has now, with its table."""
    table, name = place[0], str(place[-1])
    now = next((section.renamed[name] for section in variants.values() if name in section.renamed), None)
    return None if now is None or len(place) != 2 else f"{table}.{now}"


def _near(key: str, form: type[Section]) -> list[str]:
    """Return the keys that an unknown one may stand for: of the same name in another table, else spelt alike."""
    keys = list(form.model_fields)
    for name, variants in tables(form):
        keys += dict.fromkeys(f"{name}.{inner}" for section in variants.values() for inner in section.model_fields)
    elsewhere = [known for known in keys if known.rpartition(".")[2] == key.rpartition(".")[2]]
    return elsewhere[:2] or difflib.get_close_matches(key.lower(), keys, n=1, cutoff=0.75)
