"""Predictions in JSON and JSON Lines, as people's tools write them, as records of cells.

Read are a list of objects, one object a line, an object of id -> class or of id -> scores, the same behind one key
(``{"predictions": [...]}``), and columns (pandas' ``to_json``). An object inside a record gives columns of its own,
``emotion.happy``. A list of labels with their scores, as pipelines of transformers give it, is the scores of the
classes. Of an image with a list of faces the only one is taken; an empty list is no answer.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fer_cli.core.errors import FerError
from fer_cli.core.user_files import open_file
from fer_cli.evaluation.prediction_columns import EXPECTED, ID

MAX_JSON_BYTES: Final = 1 << 27
"""Bytes of a file, which is read as a whole: 460 for each image of the largest dataset."""
_LEVELS: Final = 2  # of objects inside a record that become columns
_RANKED: Final = {"label", "score"}
_MARKS: Final = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FORM: Final = "give a list of objects with an id and a prediction, or one such object a line"

Record = dict[str, object]
Records = list[tuple[int, Record]]
"""Each record with its number, counted from 1; in JSON Lines its line."""


class _TwiceError(ValueError):
    """A name comes twice in an object, of which json would keep the last without a word."""


def looks_like_json(head: bytes) -> bool:
    """Tell whether a file is JSON by its first bytes; no csv begins with a bracket or a brace."""
    for mark in _MARKS:
        head = head.removeprefix(mark)
    return head.replace(b"\0", b"").lstrip()[:1] in {b"[", b"{"}


def read_records(path: Path) -> Records:
    """Read a JSON file, or one with an object a line.

    Raises:
        FerError: it is too large, nests too deep, is damaged, or has another form.
    """
    with open_file(path) as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        what = f"has more than {MAX_JSON_BYTES >> 20} MiB of JSON"
        raise FerError(what, hint="write the predictions as csv or Parquet", path=path)
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise FerError(f"is not text ({error.reason})", hint="save it as UTF-8", path=path) from None
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines, start=1) if line.strip()), 1)
    try:
        whole = _parsed(path, text, 1)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" or error.lineno == first:
            raise _damaged(path, error, error.lineno) from None
        return _by_line(path, lines)
    records = _records(path, whole)
    if not records:
        raise FerError("holds no predictions", hint=EXPECTED, path=path)
    return records


def _by_line(path: Path, lines: list[str]) -> Records:
    records: Records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = _parsed(path, line, number)
        except json.JSONDecodeError as error:
            raise _damaged(path, error, number) from None
        if not isinstance(value, dict):
            raise FerError("the line is no object", hint=_FORM, path=path, line=number)
        records.append((number, _flat(path, number, value)))
    return records


def _parsed(path: Path, text: str, line: int) -> object:
    try:
        value: object = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        raise
    except _TwiceError as error:
        raise FerError(f"{error.args[0][:80]!r} comes twice", hint="keep one", path=path, line=line) from None
    except RecursionError:
        raise _too_deep(path) from None
    except ValueError as error:  # a number of thousands of digits
        raise FerError(f"is no JSON ({str(error)[:80]})", hint=_FORM, path=path, line=line) from None
    return value


def _unique(pairs: list[tuple[str, object]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return record


def _records(path: Path, value: object) -> Records:
    """Return the records of a document, whatever holds them."""
    if isinstance(value, list):
        return [(number, _flat(path, number, _only(path, number, item))) for number, item in enumerate(value, start=1)]
    if not isinstance(value, dict):
        raise FerError("holds no predictions", hint=_FORM, path=path)
    lists = [name for name, item in value.items() if isinstance(item, list) and any(map(_has_id, item))]
    plain = all(not isinstance(item, list | dict) for name, item in value.items() if name not in lists)
    if len(lists) == 1 and plain:
        return _records(path, value[lists[0]])
    id_names = [name for name in value if name.strip().lower() in ID]
    if any(isinstance(value[name], list | dict) for name in id_names):
        return _of_columns(path, value)
    if id_names:
        return [(1, _flat(path, 1, value))]
    return [(number, _of_id(path, number, name, item)) for number, (name, item) in enumerate(value.items(), start=1)]


def _has_id(item: object) -> bool:
    return isinstance(item, dict) and any(name.strip().lower() in ID for name in item)


def _of_columns(path: Path, value: Mapping[str, object]) -> Records:
    """Return the rows of an object of column -> cells, which are a list or an object of row -> cell."""
    columns: dict[str, dict[str, object]] = {}
    for name, cells in value.items():
        if not isinstance(cells, list | dict):
            raise FerError(f"{name[:80]!r} is no column, where others are", hint=_FORM, path=path)
        columns[name] = cells if isinstance(cells, dict) else {str(at): cell for at, cell in enumerate(cells)}
    first, *others = columns.items()
    for name, cells in others:
        if cells.keys() != first[1].keys():
            what = f"the columns {first[0][:80]!r} and {name[:80]!r} have not the same rows"
            raise FerError(what, hint="write it again as a list of objects", path=path)
    rows = ({name: cells[row] for name, cells in columns.items()} for row in first[1])
    return [(number, _flat(path, number, row)) for number, row in enumerate(rows, start=1)]


def _of_id(path: Path, number: int, name: str, item: object) -> Record:
    """Return the record of ``id: class``, ``id: {...}`` or ``id: [a face]``."""
    item = _only(path, number, item) if isinstance(item, list) else item
    if not isinstance(item, dict):
        return {"id": name, "predicted": item}
    record = _flat(path, number, item)
    inner = next((title for title in record if title == ID[0]), None)
    if inner is not None and record[inner] != name:
        raise FerError(f"{name[:80]!r} has the id {str(record[inner])[:80]!r}", hint="keep one", path=path, line=number)
    return {**record, ID[0]: name}


def _only(path: Path, number: int, item: object) -> object:
    """Return an item, or the only one of a list of faces; nothing where the list is empty."""
    if not isinstance(item, list):
        return item
    if (ranking := _ranking(path, number, item)) is not None:
        return ranking
    if len(item) > 1:
        what = f"entry {number} has {len(item)} " + ("faces" if isinstance(item[0], dict) else "values without names")
        raise FerError(what, hint="write one object with an id and named values for each image", path=path)
    return item[0] if item else None


def _ranking(path: Path, number: int, items: list[object]) -> Record | None:
    """Return class -> score of a list of ``{"label": class, "score": number}``; None where it is none."""
    named = [
        item for item in items if isinstance(item, dict) and item.keys() == _RANKED and isinstance(item["label"], str)
    ]
    if not named or len(named) < len(items):
        return None
    ranking: Record = {item["label"]: item["score"] for item in named}
    if len(ranking) < len(named):
        raise FerError(f"entry {number} has a class twice", hint="keep one", path=path, line=number)
    return ranking


def _flat(path: Path, number: int, item: object) -> Record:
    """Return a record without objects in it, whose names follow those that they stand under, and without lists."""
    if not isinstance(item, dict):
        raise FerError(f"entry {number} is no object", hint=_FORM, path=path, line=number)
    record: Record = {}
    pending: list[tuple[str, int, Mapping[str, object]]] = [("", 0, item)]
    while pending:
        prefix, level, inside = pending.pop()
        for name, cell in inside.items():
            title = f"{prefix}{name.strip().lower()}"
            ranking = _ranking(path, number, cell) if isinstance(cell, list) else None
            if ranking is not None:
                pending.append((prefix, _LEVELS, ranking))
            elif isinstance(cell, dict):
                if level == _LEVELS:
                    raise _too_deep(path)
                pending.append((f"{title}.", level + 1, cell))
            elif title in record:
                raise FerError(f"{title[:80]!r} comes twice", hint="keep one", path=path, line=number)
            else:
                record[title] = f"[{len(cell)} values]" if isinstance(cell, list) else cell
    return record


def _too_deep(path: Path) -> FerError:
    return FerError("nests too deep for predictions", hint=_FORM, path=path)


def _damaged(path: Path, error: json.JSONDecodeError, line: int) -> FerError:
    what = f"is no JSON: {error.msg} at column {error.colno}"
    return FerError(what, hint="write it again", path=path, line=line)
