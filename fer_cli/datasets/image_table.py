"""Pictures that a user's table lists: a path and a label, and split, subject, sequence and box where it has them."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fer_cli.artifacts.sections import SplitName
from fer_cli.core.errors import FerError, one_line
from fer_cli.core.labels import EXPRESSIONS, canonical, is_expression
from fer_cli.core.progress import note
from fer_cli.datasets.image_files import Box, native, portable, refuse
from fer_cli.datasets.image_list import WHOLE, ImageEntry, path_fault
from fer_cli.datasets.leftovers import TABLES, find_unread, listed, named_like_splits, unread_members
from fer_cli.datasets.listing import ClassNames, Listing, in_id_order
from fer_cli.datasets.spelling import Spellings
from fer_cli.datasets.split_names import split_of_name
from fer_cli.datasets.table_columns import BOX_FORM, UnreadValues, columns_of, is_known
from fer_cli.datasets.tables import open_table, read_header


def find_list(source: Path) -> Path | None:
    """Return the csv table of a source: itself if it is a file, the only one in a folder without class folders.

    Returns:
        None if the pictures lie in class folders.

    Raises:
        FerError: there is no such source, or a folder with several tables and no class folders.
    """
    try:
        if source.is_file():
            return source
        with os.scandir(source) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise FerError(
            f"cannot be read: {error.strerror}", hint="give a folder of images or a csv table", path=source
        ) from None
    tables = [name for name in names if name.lower().endswith(TABLES)]
    if any(split_of_name(name) or canonical(name) for name in names if (source / name).is_dir()) or not tables:
        return None
    if len(tables) > 1:
        hint = "give one of them, or join them into one with a column split"
        raise FerError(f"holds several tables: {', '.join(tables)}", hint=hint, path=source)
    return source / tables[0]


def read_list(
    table: Path, root: Path | None = None, names: ClassNames | None = None, ignored: Sequence[str] = ()
) -> Listing:
    """Read a csv of pictures: a path and a label, and split, subject, sequence and the face's box where they are known.

    Paths are relative to ``root`` and stay inside it. Where there are boxes a picture may have several rows, a face
    each; its faces are then a sequence, so that splits keep them together.

    Args:
        table: the csv.
        root: where the pictures are; by default the table's folder.
        names: what labels mean; by default expressions in the usual spellings.
        ignored: columns that are passed over.

    Raises:
        FerError: a column or, with its line, the first row at fault, and the number of others like it.
    """
    root, known = root or table.parent, names or ClassNames()
    columns = columns_of(table, read_header(table, is_known), ignored)
    required: dict[str, Sequence[str]] = {name: columns.names[name] for name in ("path", "label")}
    optional: dict[str, Sequence[str]] = {name: columns.names[name] for name in ("split", "subject", "sequence")}
    opened = open_table(table, required, optional)
    codes = {name: (opened.header.index(name), dict[str, tuple[str, int]]()) for name in columns.codes}
    unread_values = UnreadValues({name: opened.header.index(name) for name in columns.unread if name not in ignored})
    subjects, sequences = Spellings("subject"), Spellings("sequence")
    items: list[ImageEntry] = []
    faults: list[FerError] = []
    parts: dict[str, SplitName] = {}
    first_line: dict[tuple[str, Box | None], int] = {}
    for line, cells in opened.rows:
        values = {name: cells[column] for name, column in opened.columns.items()}
        text = _relative(root, values["path"])
        path = native(root, text)
        label = known.meaning(values["label"])
        split = split_of_name(values["split"]) if "split" in values else None
        box = None if columns.box is None else columns.box.box(cells)
        if (fault := path_fault(root, path)) is None:
            if label is None:
                fault = known.fault(values["label"])
            elif "split" in values and split is None:
                fault = f"unknown split {values['split'][:40]!r}", "use train, val or test"
            elif isinstance(box, str):
                fault = box, BOX_FORM
            elif (first := first_line.setdefault((portable(path), box), line)) != line:
                fault = f"{path!r} is already in line {first}", "keep one row per image"
            else:
                fault = _contradiction(codes, cells, label, line)
        if fault is not None or label is None or isinstance(box, str):
            what, hint = fault or ("", "")
            faults.append(FerError(what, hint=hint, path=table, line=line))
            continue
        unread_values.add(cells, label)
        if split is not None:
            parts[split] = split
        subject = subjects.of(values["subject"]) if "subject" in values else None
        sequence = sequences.of(values["sequence"]) if "sequence" in values else None
        items.append(ImageEntry(path, split, label, line, subject, sequence, portable(path), box=box))
    refuse(faults, listed=not known.tentative)
    unread_values.refuse(table)
    note(f"columns of {portable(table.name)}: {columns}")
    if not items:
        raise FerError("the table has a header and no rows", hint="give one row per image", path=table, line=1)
    unread = find_unread(root, [table, *(root / item.path for item in items)])
    unread.tables = sorted({*unread.tables, *_tables_beside(table)})
    packed = unread_members(table, opened.passed)
    leftovers = [
        *listed("columns", [name or "(no name)" for name in columns.unread], matters=False, table=table),
        *unread.leftovers(table=table, tables_matter=set(named_like_splits(unread.tables))),
        *packed.leftovers(tables_matter=set(named_like_splits(packed.tables))),
    ]
    faces = None if columns.box is None else f"cut out by the boxes of {one_line(portable(table.name))}: not aligned"
    remarks = [*subjects.remarks(), *sequences.remarks()]
    return Listing(in_id_order(_single_faces(items)), parts or {WHOLE: "train"}, leftovers, faces, remarks)


def _relative(root: Path, cell: str) -> str:
    """Return a cell's path relative to ``root``, with ``/``; one of Windows, and one that is absolute inside it."""
    if not cell:
        return ""
    if "\\" in cell and not (root / cell).exists():
        cell = cell.replace("\\", "/")
    text = posixpath.normpath(cell)
    above = posixpath.normpath(root.absolute().as_posix())
    return text.removeprefix(f"{above}/")


def _contradiction(
    codes: Mapping[str, tuple[int, dict[str, tuple[str, int]]]], cells: Sequence[str], label: str, line: int
) -> tuple[str, str] | None:
    """Return the fault of a row whose second class is another expression, or meant another label in the rows before."""
    for name, (column, meanings) in codes.items():
        text = cells[column]
        if label in EXPRESSIONS and is_expression(text) and canonical(text) != label:
            hint = f"correct the row, or pass over the column with --ignore-columns {name}"
            return f"{name} {text[:40]!r} is another expression than the label, {label}", hint
        meaning, first = meanings.setdefault(cells[column], (label, line))
        if meaning != label:
            what = f"{name} {cells[column][:40]!r} is {label} here and {meaning} in line {first}"
            return what, f"correct the row, or pass over the column with --ignore-columns {name}"
    return None


def _single_faces(items: Sequence[ImageEntry]) -> list[ImageEntry]:
    """Number the faces of pictures that have several, and keep these together."""
    rows = Counter(item.path for item in items)
    seen: Counter[str] = Counter()
    entries = []
    for item in items:
        seen[item.path] += 1
        several = rows[item.path] > 1
        entries.append(
            replace(item, id=f"{item.id}#{seen[item.path]}", sequence=item.sequence or item.id) if several else item
        )
    return entries


def _tables_beside(table: Path) -> list[str]:
    """Return the tables in the folder of one, which need not be that of its images."""
    return [
        name
        for name in map(portable, os.listdir(table.parent))  # noqa: PTH208
        if name.lower().endswith(TABLES) and name != portable(table.name) and not name.startswith(".")
    ]
