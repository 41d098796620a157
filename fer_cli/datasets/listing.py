"""The pictures of a user's source, whatever says what they show: folders, file names or a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_cli.artifacts.protocol import Leftover
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.errors import FerError
from fer_cli.core.labels import canonical, code_of
from fer_cli.datasets.image_list import ImageEntry


@dataclass(frozen=True, slots=True)
class Listing:
    """The pictures of a source in the order of their ids, and what should be told about it."""

    items: list[ImageEntry]
    parts: dict[str, SplitName]  # the source's name of a split -> split
    leftovers: list[Leftover]
    faces: str | None = None


def label_of(text: str, labels: Mapping[str, str]) -> str | None:
    """Return the expression that a folder, a cell or a part of a name means, or None; ``labels`` come first."""
    return labels.get(code_of(text)) or canonical(text)


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
