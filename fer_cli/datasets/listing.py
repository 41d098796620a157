"""The pictures of a user's source, whatever says what they show: folders, file names or a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fer_cli.artifacts.protocol import Leftover
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.errors import FerError, one_line
from fer_cli.core.labels import (
    EXPRESSIONS,
    canonical,
    check_classes,
    class_mapping,
    class_name,
    code_of,
    folded,
    in_order,
    is_expression,
    is_likely_name,
    is_misspelling,
)
from fer_cli.datasets.image_list import ImageEntry
from fer_cli.datasets.split_names import names_split

_SHOWN: Final = 12  # names in a line


@dataclass(frozen=True, slots=True)
class Listing:
    """The pictures of a source in the order of their ids, and what should be told about it."""

    items: list[ImageEntry]
    parts: dict[str, SplitName]  # the source's name of a split -> split
    leftovers: list[Leftover]
    faces: str | None = None
    remarks: list[str] = field(default_factory=list)


OWN: Final = "own"
"""What ``--classes`` is where the source's names are the classes."""


@dataclass(slots=True)
class ClassNames:
    """What the labels of a user's source mean.

    Args:
        given: code -> class, of ``--labels``.
        classes: those of ``--classes`` in their order, or None.
        own: names are taken as they stand; else all are expressions in the usual spellings.
        synonyms: read the usual spellings of expressions among own names too.
        asked: the user asked for own names: no name is taken for a mistake.
        tentative: where the names are none of these, others are tried: faults are not listed yet.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    own: bool = False
    synonyms: bool = False
    asked: bool = False
    tentative: bool = False
    met: dict[str, str] = field(default_factory=dict)  # text -> class

    @classmethod
    def of(cls, labels: str | None, classes: str | None, *, synonyms: bool) -> ClassNames:
        """Return what the options say.

        Raises:
            FerError: one of them is malformed.
        """
        given = {} if labels is None else class_mapping(labels)
        listed = None
        if classes is not None and folded(classes) != OWN:
            listed = tuple(class_name(name, "--classes") for name in classes.split(","))
            check_classes(listed)
            if strange := [name for name in given.values() if folded(name) not in map(folded, listed)]:
                raise FerError(f"--labels: {strange[0]!r} is none of --classes", hint="add it there, or correct it")
        return cls(given, listed, own=classes is not None, synonyms=synonyms, asked=classes is not None)

    @property
    def config(self) -> dict[str, object]:
        """What changes the result, as plain JSON values."""
        classes: object = list(self.classes) if self.classes is not None else OWN if self.own else None
        asked = {"labels": dict(self.given) or None, "classes": classes, "synonyms": self.synonyms or None}
        return {name: value for name, value in asked.items() if value is not None}

    def with_own(self) -> ClassNames:
        """Return the same for own names."""
        return replace(self, own=True, met={})

    @property
    def may_be_own(self) -> bool:
        """Whether the names that were met are classes of the user's own, though nobody said so.

        Where none is an expression, all are, unless they are numbered (``s01``, ``subject2``). Among expressions two
        others are wanted, none of them like a misspelling and no two names of one expression: what is more likely a
        mistake is refused.
        """
        strange = [text for text in self.met if canonical(text) is None]
        stems = {"".join(char for char in folded(text) if char.isalpha()) for text in strange}
        if len(stems) < min(len(strange), 2):
            return False
        if not any(map(is_expression, self.met)):
            return bool(strange)
        known = [name for text in self.met if (name := canonical(text)) is not None]
        return len(strange) > 1 and not any(map(is_misspelling, strange)) and len(set(known)) == len(known)

    def meaning(self, text: str) -> str | None:
        """Return the class that a folder, a cell or a part of a name means, or None; ``--labels`` comes first."""
        if text in self.met:
            return self.met[text]
        name = self.given.get(code_of(text), text)
        if not self.own:
            label = canonical(name)
        elif self.classes is not None:
            of = {folded(one): one for one in self.classes}
            label = of.get(folded(name)) or (of.get(canonical(name) or "") if self.synonyms else None)
        elif not name.strip():
            label = None
        else:
            known = canonical(name) if self.synonyms else None
            taken = self.asked or code_of(text) in self.given or (is_likely_name(name) and not names_split(name))
            label = known or (class_name(name, "labels") if taken else None)
        if label is not None:
            self.met[text] = label
        return label

    def fault(self, text: str) -> tuple[str, str]:
        """Return what is wrong with a label that means nothing, and what to do."""
        if self.classes is not None:
            return f"{text[:40]!r} is none of --classes", "add it there, or say what it means with --labels"
        hint = (
            f"use one of {', '.join(EXPRESSIONS)}, say what it means with --labels {text[:40]}=..., or take the "
            "names as they are with --classes own"
        )
        return f"unknown expression {text[:40]!r}", hint

    def order(self, labels: Iterable[str]) -> tuple[str, ...]:
        """Return the classes of a source in their order.

        Raises:
            FerError: they cannot be a set of classes, or a class that was asked for has no image.
        """
        found = in_order(labels)
        if self.classes is not None:
            if absent := [name for name in self.classes if name not in found]:
                raise FerError(f"--classes: no image is of {absent[0]!r}", hint="leave it out, or add its images")
            return self.classes
        if self.own:
            check_classes(found)
        return found

    def remarks(self) -> list[str]:
        """Return a line on own names, on unused ``--labels``, and on synonyms that were read, where there are any."""
        lines = []
        if self.own:
            names = self.order(self.met.values())
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            strange = [] if self.asked else [name for name in names if not is_expression(name)]
            mixed = f"; no expressions: {', '.join(strange[:_SHOWN])}" if 0 < len(strange) < len(names) else ""
            lines.append(f"classes: {', '.join(names[:_SHOWN])}{more} (own names{mixed})")
        if unused := self._unused():
            lines.append(f"--labels: no image is labelled {', '.join(map(one_line, unused[:_SHOWN]))}")
        plain = {text: label for text, label in sorted(self.met.items()) if folded(text) != folded(label)}
        read = [f"{one_line(text)}={label}" for text, label in plain.items() if code_of(text) not in self.given]
        if read:
            more = f" and {len(read) - _SHOWN} more" if len(read) > _SHOWN else ""
            lines.append(f"synonyms read: {', '.join(read[:_SHOWN])}{more}")
        return lines

    def check_used(self) -> None:
        """Refuse ``--labels`` that name nothing in the source: any of them among own names, else all of them."""
        if (unused := self._unused()) and (self.own or len(unused) == len(self.given)):
            raise FerError(f"--labels: no image is labelled {unused[0]!r}", hint="correct it, or leave it out")

    def _unused(self) -> list[str]:
        met = {code_of(text) for text in self.met}
        return [code for code in self.given if code not in met]


def in_id_order(items: list[ImageEntry]) -> list[ImageEntry]:
    """Return the pictures in the order of their ids."""
    return sorted(items, key=lambda item: item.id or item.path)


def refuse_equal_ids(root: Path, items: Sequence[ImageEntry]) -> None:
    """Refuse two files whose names differ in the form of their accents alone."""
    first: dict[str, ImageEntry] = {}
    for item in items:
        if (other := first.setdefault(item.id or item.path, item)) is not item:
            what = f"its name and that of {other.path!r} differ in the form of accents alone"
            raise FerError(what, hint="rename one of them", path=root / item.path)
