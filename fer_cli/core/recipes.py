"""Recipes: TOML files that say how something is trained. Typed and strict; an error names the key and its line."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeVar, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.toml_lines import read_toml, syntax_error_line

MAX_BYTES: Final = 1_000_000


class Section(BaseModel):
    """A table of a recipe: nothing is converted, and no unknown key is passed over."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    renamed: ClassVar[dict[str, str]] = {}
    """Keys that had another name before: an old one is refused with its new name."""
    renamed_values: ClassVar[dict[str, dict[str, str]]] = {}
    """The same of a key's values."""


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
    changed = dict(_change(values, change) for change in changes)
    _drop_keys_of_other_variants(values, form, changed)
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
        table, parts = there, (*parts, "name")  # loss=focal is loss.name=focal
    table[parts[-1]] = value
    return parts, change


def _drop_keys_of_other_variants(
    values: dict[str, Any], form: type[Section], changed: dict[tuple[str, ...], str]
) -> None:
    """Where a change takes another variant of a table, drop what the file says that only the other variants have."""
    for name, variants in tables(form):
        table = values.get(name)
        if not isinstance(table, dict) or (name, "name") not in changed:
            continue
        chosen = variants.get(str(table.get("name")))
        if chosen is not None:
            others = {key for variant in variants.values() for key in variant.model_fields}
            for key in others - chosen.model_fields.keys():
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


@dataclass(frozen=True, slots=True)
class KeyReference:
    """A key of a recipe as a reader wants to know it."""

    key: str  # such as ``optim.lr``
    variant: str | None  # the value of ``TABLE.name`` that it belongs to, where not all have it
    default: str | None  # as TOML; None: it must be given
    values: str  # its range or choices
    unit: str | None
    title: str


def key_reference(form: type[Section]) -> list[KeyReference]:
    """Return every key of a recipe but those of ``about``, in the order of its tables."""
    keys: list[KeyReference] = []
    for table, variants in tables(form):
        if table == "about":
            continue
        names: dict[str, list[str]] = {}
        for variant, section in variants.items():
            for name in section.model_fields:
                names.setdefault(name, []).append(variant)
        for name, having in names.items():
            if name == "name" and len(variants) > 1:
                choices = ", ".join(toml_value(variant) for variant in variants)
                keys.append(KeyReference(f"{table}.name", None, None, choices, None, f"which {table}"))
                continue
            field = variants[having[0]].model_fields[name]
            default = field.get_default(call_default_factory=True)
            extra = field.json_schema_extra
            keys.append(
                KeyReference(
                    key=f"{table}.{name}",
                    variant=None if len(having) == len(variants) else ", ".join(having),
                    default=None if field.is_required() else "left out" if default is None else toml_value(default),
                    values=_values(field),
                    unit=str(extra["unit"]) if isinstance(extra, dict) and extra.get("unit") else None,
                    title=field.title or "",
                )
            )
    return keys


def _values(field: FieldInfo) -> str:
    """Return the choices or the range of a key, in words."""
    kind = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(toml_value(choice) for choice in get_args(kind))
    words = {bool: "true, false", int: "integer", float: "number", str: "text"}
    plain = next((words[one] for one in (kind, *get_args(kind)) if one in words), "")
    if get_origin(kind) is dict:
        plain = "table of integers"
    elif get_origin(kind) is tuple:
        plain = "array of integers"
    signs = {annotated_types.Ge: ">=", annotated_types.Gt: ">", annotated_types.Le: "<=", annotated_types.Lt: "<"}
    limits = [
        f"{sign} {getattr(limit, kind.__name__.lower()):g}"
        for limit in field.metadata
        for kind, sign in signs.items()
        if isinstance(limit, kind)
    ]
    return ", ".join([plain, *limits])


def toml_value(value: object) -> str:
    """Return a value as TOML writes it: text, a number, a truth value, an array or an inline table of those."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    assert isinstance(value, dict), f"TOML has no {type(value).__name__}"
    items = ", ".join(f"{_toml_key(name)} = {toml_value(item)}" for name, item in value.items())
    return f"{{ {items} }}" if items else "{}"


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def toml_text(recipe: Section) -> str:
    """Return a recipe as a TOML file that :func:`load_recipe` reads as the same recipe."""
    loose: list[str] = []
    parts: list[str] = []
    for name, value in recipe.model_dump(mode="json", exclude_none=True).items():
        if isinstance(value, dict):
            lines = [f"{_toml_key(key)} = {toml_value(item)}" for key, item in value.items()]
            parts.append("\n".join([f"[{_toml_key(name)}]", *lines]))
        else:
            loose.append(f"{_toml_key(name)} = {toml_value(value)}")
    return "\n\n".join(filter(None, ["\n".join(loose), *parts])) + "\n"


def _first(
    error: ValidationError,
    form: type[Section],
    path: Path,
    lines: dict[tuple[str | int, ...], int],
    changed: dict[tuple[str, ...], str],
) -> FerError:
    faults: list[Any] = list(error.errors(include_url=False))
    # A misspelt key is two faults: that it is there tells more than that the right one is missing.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    variants = dict(tables(form)).get(str(fault["loc"][0]), {}) if fault["loc"] else {}
    place = tuple(fault["loc"])
    if "" not in variants and len(place) > 1:
        place = (place[0], *place[2:])  # pydantic names the variant too
    key = ".".join(str(part) for part in place)
    if fault["type"] == "extra_forbidden" and (now := _renamed(place, variants)):
        what, hint = f"{key} is now {now}", "rename it"
    elif fault["type"] == "extra_forbidden":
        near = _near(key, form)
        what = f"{key} is not a key of this recipe"
        hint = f"did you mean {' or '.join(near)}?" if near else "remove it, or correct its name"
        if owners := [name for name, section in variants.items() if name and place[-1] in section.model_fields]:
            hint = f"it belongs to {place[0]}.name = {' or '.join(map(repr, owners))}"
    elif fault["type"] == "value_error":
        # Our own words, `what: hint`; a fault of the whole recipe begins with the key that it is about.
        what, _, hint = f"{key} {fault['ctx']['error']}".strip().partition(": ")
        place = place or tuple(what.partition(" ")[0].split("."))
    elif fault["type"] == "model_type":
        what, hint = f"{key} is a table", f"set its keys one by one: {key}.KEY"
    elif fault["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        place = (*place, "name")
        key, choices = ".".join(map(str, place)), " or ".join(map(repr, variants))
        given = fault["ctx"].get("tag")
        what, hint = f"{key} is missing" if given is None else f"{key}: there is no {given!r} here", f"take {choices}"
        if now := _renamed_value("name", str(given), variants):
            what, hint = f"{key} = {given!r} is now {now!r}", "rename it" if now in variants else f"take {choices}"
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


def _renamed(place: tuple[str | int, ...], variants: dict[str, type[Section]]) -> str | None:
    """Return the name that an old key has now, with its table."""
    table, name = place[0], str(place[-1])
    now = next((section.renamed[name] for section in variants.values() if name in section.renamed), None)
    return None if now is None or len(place) != 2 else f"{table}.{now}"


def _renamed_value(name: str, value: str, variants: dict[str, type[Section]]) -> str | None:
    found = (section.renamed_values.get(name, {}).get(value) for section in variants.values())
    return next(filter(None, found), None)


def _near(key: str, form: type[Section]) -> list[str]:
    """Return the keys that an unknown one may stand for: of the same name in another table, else spelt alike."""
    keys = list(form.model_fields)
    for name, variants in tables(form):
        keys += dict.fromkeys(f"{name}.{inner}" for section in variants.values() for inner in section.model_fields)
    elsewhere = [known for known in keys if known.rpartition(".")[2] == key.rpartition(".")[2]]
    return elsewhere[:2] or difflib.get_close_matches(key.lower(), keys, n=1, cutoff=0.75)
