"""The keys of a recipe as a reader wants to know them: for ``--help-recipe`` and the generated reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from fer_cli.core.recipes import Section, tables
from fer_cli.core.toml_text import toml_value

UNBOUNDED: Final = 1e30
"""A limit from here on is there for arithmetic's sake and not shown."""


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
    words: dict[Any, str] = {bool: "true, false", int: "integer", float: "number", str: "text"}
    words |= {dict: "table of integers", tuple: "array of integers"}
    word = next(words[part] for part in (get_origin(kind), kind, *get_args(kind)) if part in words)
    limits = [
        f"{sign} {limit:g}"
        for metadata in field.metadata
        for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if (limit := getattr(metadata, name, None)) is not None and limit < UNBOUNDED
    ]
    return ", ".join([word, *limits])
