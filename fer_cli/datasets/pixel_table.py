"""The csv ``emotion,pixels,Usage`` of FER2013, and of the tables that copy its form: 48x48 grey values as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.protocol import Leftover
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.errors import FerError
from fer_cli.datasets.leftovers import unread_columns, unread_members
from fer_cli.datasets.pixels import parse_images
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.tables import open_table

SIDE: Final = 48
"""Pixels of an image's side."""
PARTS: Final[dict[str, SplitName]] = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
"""What ``Usage`` says -> the split that it is in the official protocol."""

_BLOCK: Final = 1024  # rows that are yielded together


@dataclass(frozen=True, slots=True)
class Form:
    """What a table of this form may hold."""

    title: str
    emotions: tuple[str, ...]  # by the ids of the source
    most: Mapping[str, int]  # part -> rows, where they are known
    members: tuple[str, ...]  # file names in an archive
    never_read: tuple[str, ...] = ()  # patterns of what else belongs to the data set


@dataclass(frozen=True, slots=True)
class TableBlock:
    """Rows of the table, checked and parsed; ``images`` is (n, 48, 48) uint8."""

    first: int  # the number of the first row, counted from 0
    lines: tuple[int, ...]
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    images: NDArray[np.uint8]

    def id(self, index: int) -> str:
        """Return the id of a row: its number in the table, which FER2013 and FER+ share."""
        return f"row-{self.first + index:05d}"


def ids(emotions: Sequence[str]) -> dict[str, str]:
    """Return number -> emotion, as the table has them."""
    return {str(number): name for number, name in enumerate(emotions)}


def table_blocks(path: Path, form: Form, labels: SourceLabels, leftovers: list[Leftover]) -> Iterator[TableBlock]:
    """Read a table in blocks of 1,024 rows.

    Args:
        path: the table.
        form: what it may hold.
        labels: what its numbers mean.
        leftovers: the columns, and the other files of an archive, that are not read are added here.

    Raises:
        FerError: the first fault in the file, with its line.
    """
    names = ("emotion", "pixels", "Usage")
    table = open_table(path, {name: (name.lower(),) for name in names}, members=form.members)
    leftovers += unread_columns(path, table.header, table.columns.values())
    first = 0
    for batch in _batches(_checked(path, form, labels, table.rows, [table.columns[name] for name in names])):
        lines, emotions, parts, texts = zip(*batch, strict=True)
        yield TableBlock(first, lines, emotions, parts, parse_images(path, texts, lines, SIDE))
        first += len(batch)
    leftovers += unread_members(path, table.passed, parts=form.never_read).leftovers()
    if not first:
        raise FerError("the table has a header and no rows", hint="copy or download it again", path=path, line=1)


_Checked = tuple[int, str, str, str]  # line, label, part, pixels as text


def _checked(
    path: Path, form: Form, labels: SourceLabels, rows: Iterator[tuple[int, list[str]]], columns: Sequence[int]
) -> Iterator[_Checked]:
    counts: Counter[str] = Counter()
    for line, cells in rows:
        emotion, pixels, part = (cells[column] for column in columns)
        label = labels.meaning(emotion, names=False)
        if label is None:
            raise FerError(
                f"unknown emotion id {emotion[:40]!r}",
                hint=f"{form.title} has 0 to {len(form.emotions) - 1}: correct the row, or give --labels",
                path=path,
                line=line,
            )
        if part not in PARTS:
            raise FerError(
                f"unknown Usage {part[:40]!r}", hint=f"it is one of {', '.join(PARTS)}", path=path, line=line
            )
        counts[part] += 1
        if counts[part] > form.most.get(part, counts[part]):
            raise FerError(
                f"{part} has more than the {form.most[part]:,} rows of {form.title}",
                hint="use the original table",
                path=path,
                line=line,
            )
        yield line, label, part, pixels


def _batches(rows: Iterator[_Checked]) -> Iterator[list[_Checked]]:
    """Group rows; those before a faulty row come first, so that the first fault in the file is the one reported."""
    batch: list[_Checked] = []
    fault = None
    try:
        for row in rows:
            batch.append(row)
            if len(batch) == _BLOCK:
                yield batch
                batch = []
    except FerError as error:
        fault = error
    if batch:
        yield batch
    if fault is not None:
        raise fault
