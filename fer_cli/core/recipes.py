"""Recipes: TOML files that say how something is trained. Typed and strict; an error names the key and its line."""

from __future__ import annotations

import copy
import difflib
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticUndefined

from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.toml_lines import MAX_DEPTH, TomlDepthError, check_depth, read_toml, syntax_error_line
from fer_cli.core.user_files import read_text

MAX_BYTES: Final = 1_000_000


class Section(BaseModel):
    """A table of a recipe: nothing is converted, and no unknown key is passed over."""

    model_config = ConfigDict(defer_build=True, strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

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
    """What opens a recipe: where it comes from, how it is run, and what that gave; it decides no result.

    ``system`` is what it is a recipe of, where that is said. Once a setting is another ``measured`` goes, and
    ``command`` names the changes. ``trials``: it is the best of as many settings that ``fer search`` compared on
    validation.
    """

    system: str | None = None
    paper: str
    command: str
    papers_figure: str
    measured: str | None = None
    trials: int | None = Field(default=None, ge=1)


R = TypeVar("R", bound=Section)


def load_recipe(path: Path, form: type[R], changes: Sequence[str] = (), *, option: str = "--set") -> R:
    """Read a recipe of the given form.

    Args:
        path: a TOML file.
        form: what it must be.
        changes: ``KEY=VALUE`` that replace what the file says or add to it: ``optim.lr=1e-4``. A value is read as
            TOML, and what is none as text.
        option: what changes were given by, for errors.

    Raises:
        FerError: the file cannot be read, is not TOML, or a key is unknown, missing or has a wrong value.
        UsageError: a change is to blame.
    """
    return parse_recipe(recipe_file(path), path, form, changes, option=option)


def recipe_file(path: Path) -> str:
    """Return the text of a file that should be a recipe.

    Raises:
        FerError: it cannot be read, is too large, or is not UTF-8.
    """
    return read_text(path, MAX_BYTES, what="recipe", hint="give a recipe")


def parse_recipe(text: str, path: Path, form: type[R], changes: Sequence[str] = (), *, option: str = "--set") -> R:
    """Read a recipe as :func:`load_recipe` does, from its text; ``path`` is what errors name."""
    values, lines = read_values(text, path)
    written = copy.deepcopy(values)
    changed = dict(_change(values, change, option) for change in changes)
    _drop_keys_of_other_variants(values, form, changed)
    try:
        recipe = form.model_validate(values)
    except ValidationError as error:
        raise _first(error, form, path, lines, changed, option) from None
    about = getattr(recipe, "about", None)
    if not isinstance(about, About) or not changes or _is_same(recipe, written, form):
        return recipe
    varied = [word for parts, change in changed.items() if parts[0] != "about" for word in ("--set", change)]
    said = {"measured": None, "command": f"{about.command} {shlex.join(varied)}" if about.command else ""}
    kept = {name: value for name, value in said.items() if ("about", name) not in changed}
    return recipe.model_copy(update={"about": about.model_copy(update=kept)})


def named_system(text: str) -> tuple[str | None, int | None]:
    """Return the system that a recipe says it is of, and the line; None where it says none or is not TOML.

    Lines that are not TOML are passed over as in :func:`recipe_faults`.
    """
    _, readable = _syntax_faults(text, Path())
    if readable is None:
        return None, None
    values, lines = read_toml(readable)
    about = values.get("about")
    system = about.get("system") if isinstance(about, dict) else None
    return (system, lines.get(("about", "system"))) if isinstance(system, str) else (None, None)


def read_values(text: str, path: Path) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    """Return the values of a recipe's text, or of another file's like it, and their lines.

    Raises:
        FerError: it is not TOML, or nests too deep.
    """
    try:
        return read_toml(text)
    except tomllib.TOMLDecodeError as error:
        line = syntax_error_line(error, text)
        what = f"is not TOML: {str(error).split(' (at ')[0]}"
        raise FerError(what, hint="correct the line", path=path, line=line) from None
    except TomlDepthError as error:
        raise FerError(str(error), hint="correct it", path=path, line=error.line) from None
    except ValueError:
        raise FerError("holds a number beyond reading", hint="correct it", path=path) from None


def _is_same(recipe: Section, written: Mapping[str, Any], form: type[Section]) -> bool:
    """Tell whether a recipe's settings are those that its file has: what is said of itself does not count."""
    try:
        before = form.model_validate(written)
    except ValidationError:
        return False
    return recipe.model_dump(exclude={"about"}) == before.model_dump(exclude={"about"})


def recipe_faults(text: str, path: Path, form: type[Section], model: Mapping[str, Any]) -> list[FerError]:
    """Return every fault of a recipe's text, in the order of its lines.

    A fault can hide others: rules between keys are looked at once each key is right by itself. So what is at fault is
    mended by a recipe that is sound, and the rest looked at again. Where a line is not TOML it is passed over; where
    the fault is not of that line alone, an array without an end for one, what follows it is not looked at.

    Args:
        text: the recipe's.
        path: what the faults name.
        form: what it must be.
        model: the values of a sound recipe of this form.
    """
    faults, readable = _syntax_faults(text, path)
    if readable is None:
        return faults
    values, lines = read_toml(readable)
    seen: set[tuple[tuple[str | int, ...], str]] = set()
    while fresh := [fault for fault in _faults(values, form) if fault.key not in seen]:
        seen |= {fault.key for fault in fresh}
        meant = {near for fault in fresh if fault.type == "extra_forbidden" for near in _near(fault.name, form)}
        for fault in fresh:
            if fault.type != "missing" or fault.name not in meant:  # else the misspelt key that is there says it
                faults.append(FerError(fault.what, hint=fault.hint, path=path, line=_line(fault.place, lines)))
            _mend(values, fault, form, model)
    return sorted(faults, key=lambda fault: fault.line or 0)


def _syntax_faults(text: str, path: Path) -> tuple[list[FerError], str | None]:
    """Return what is not TOML, and the text without it; None where the rest cannot be told from it."""
    rows = text.split("\n")
    faults: list[FerError] = []
    while True:
        try:
            read_values("\n".join(rows), path)
        except FerError as error:
            line = error.line
            if line is None or rows[line - 1].lstrip()[:1] in {"", "["} or not _is_toml(rows[: line - 1]):
                hint = f"{error.hint}; what follows was not looked at"
                return [*faults, FerError(error.what, hint=hint, path=path, line=line)], None
            faults.append(error)
            rows[line - 1] = ""
        else:
            return faults, "\n".join(rows)


def _is_toml(rows: list[str]) -> bool:
    try:
        read_values("\n".join(rows), Path())
    except FerError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Fault:
    """What pydantic found, in a reader's words: where it is, what is wrong, what to do."""

    type: str
    place: tuple[str | int, ...]
    what: str
    hint: str

    @property
    def key(self) -> tuple[tuple[str | int, ...], str]:
        """What tells it from others."""
        return self.place, self.what

    @property
    def name(self) -> str:
        """The key that is at fault, with its table."""
        return ".".join(map(str, self.place))


def _faults(values: Mapping[str, Any], form: type[Section]) -> list[_Fault]:
    try:
        form.model_validate(values)
    except ValidationError as error:
        return [_Fault(fault["type"], *_explained(dict(fault), form)) for fault in error.errors(include_url=False)]
    return []


def _mend(values: dict[str, Any], fault: _Fault, form: type[Section], model: Mapping[str, Any]) -> None:
    """Put what a sound recipe has in the place of what is at fault; a key that it lacks goes."""
    name = str(fault.place[0])
    table, sound = values.get(name), copy.deepcopy(model.get(name))
    variants = dict(tables(form)).get(name, {})
    if sound is None:
        values.pop(name, None)
    elif len(fault.place) == 1 or not isinstance(table, dict) or fault.type == "value_error":
        values[name] = sound
    elif fault.place[1] == "name" and "" not in variants:  # another variant's own keys are not at fault for that
        own = variants[sound["name"]].model_fields
        others = {key for section in variants.values() for key in section.model_fields} - own.keys()
        values[name] = {**sound, **{key: value for key, value in table.items() if key not in {"name", *others}}}
    elif fault.place[1] in sound:
        table[fault.place[1]] = sound[fault.place[1]]
    else:
        table.pop(fault.place[1], None)


def _line(place: tuple[str | int, ...], lines: Mapping[tuple[str | int, ...], int]) -> int | None:
    """Return the line of a key, else of the table that it should stand in."""
    return next((lines[place[:length]] for length in range(len(place), 0, -1) if place[:length] in lines), None)


def _change(values: dict[str, Any], change: str, option: str) -> tuple[tuple[str, ...], str]:
    """Apply one change to a recipe's values and return its key, split at the points, with the change itself."""
    key, equals, text = (part.strip() for part in change.partition("="))
    parts = tuple(key.split("."))
    if not equals or not all(parts) or len(parts) > MAX_DEPTH:
        raise UsageError(f"{option} {change!r} sets nothing", hint="write KEY=VALUE, such as optim.lr=1e-4")
    try:
        check_depth(text)
        read = tomllib.loads(f"value = {text}")
        value = read["value"] if len(read) == 1 else text
    except ValueError:
        value = text
    if isinstance(value, dict):
        raise UsageError(f"{option} {change!r}: {key} is a table", hint=f"set its keys one by one: {key}.KEY=VALUE")
    table = values
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(f"{option} {change!r}: {part} is a value, not a table", hint="see --print-config")
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
    option: str,
) -> FerError:
    """Return the error of the first fault, at its line, or of the change that is to blame."""
    faults: list[Any] = list(error.errors(include_url=False))
    # A misspelt key is two faults: that it is there tells more than that the right one is missing.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place, what, hint = _explained(fault, form)
    # The nearest to the fault: a change of the key itself or of a table round it before those of keys below it.
    related = [parts for parts in changed if place and all(a == b for a, b in zip(place, parts, strict=False))]
    above = [parts for parts in related if len(parts) <= len(place)]
    blamed = max(above, key=len) if above else next(iter(related), None)
    if blamed is not None:
        change = changed[blamed]
        return UsageError(f"{option} {change!r}: {what}", hint="; ".join(filter(None, [hint, "see --print-config"])))
    return FerError(what, hint=hint, path=path, line=_line(place, lines))


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
