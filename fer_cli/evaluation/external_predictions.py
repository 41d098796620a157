"""Anybody's predictions: a table of ids with a label or with scores, read, checked, and put in a dataset's order.

A column of scores is named by an expression, alone or after ``score_``, ``prob_``, ``p_`` or ``logit_``; the last three
say what the numbers are. Otherwise the numbers decide, for the whole file:

- probabilities, where at least half of the rows are non-negative and sum to 1 within ``SUM_TOLERANCE``: then all rows
  must;
- else logits, where all numbers are finite and at least one is negative: they go through the softmax;
- else neither (percentages, votes, distances), and refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import scipy.special
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS, canonical
from fer_cli.datasets.tables import open_table
from fer_cli.metrics.values import SUM_TOLERANCE

if TYPE_CHECKING:
    import pyarrow as pa

Form = Literal["labels", "probabilities", "logits"]

ID: Final = ("id", "image", "image_id", "image name", "image_name", "filename", "file", "path")
PREDICTED: Final = ("predicted", "prediction", "pred", "predicted_label", "pred_label")
LABEL: Final = "label"
"""Taken as the answer where there is neither a column of :data:`PREDICTED` nor one of scores; else it is the truth."""
PREFIXES: Final[dict[str, Form | None]] = {
    "score_": None,
    "prob_": "probabilities",
    "p_": "probabilities",
    "logit_": "logits",
}
MAX_ROWS: Final = 10_000_000
"""Rows of a Parquet file; the largest dataset of faces here has 290,000."""
_PARQUET: Final = b"PAR1"
_EXPECTED: Final = "give a column 'id', and 'predicted' or a score for each class (score_happy, score_sad ...)"


@dataclass(frozen=True, slots=True)
class ExternalPredictions:
    """Predictions from a file, in the file's order.

    ``predicted`` (n,) are names; ``probabilities`` (n, C) of ``classes``, or None where the file has labels alone.
    """

    path: Path
    line_word: str  # "line" of a csv, "row" of a Parquet file, both counted from 1
    ids: tuple[str, ...]
    lines: tuple[int, ...]
    form: Form
    classes: tuple[str, ...]
    predicted: tuple[str, ...]
    probabilities: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns to read. ``scores`` maps each class to its column, ``declared`` is the form that their names say."""

    id: int
    predicted: int | None
    scores: dict[str, int]
    declared: Form | None


def read_predictions(path: Path) -> ExternalPredictions:
    """Read a csv (plain, compressed or in an archive) or a Parquet file of predictions.

    Raises:
        FerError: it cannot be read, lacks a column, or a row holds an unknown name, no number, or scores that are
            neither probabilities nor logits; the first is named with its line, and how many there are.
    """
    if not path.is_file():
        raise FerError(
            "is a folder" if path.is_dir() else "there is no such file",
            hint="give a csv or Parquet file of predictions",
            path=path,
        )
    with path.open("rb") as file:
        is_parquet = file.read(len(_PARQUET)) == _PARQUET
    columns, rows = _parquet(path) if is_parquet else _csv(path)
    ids, lines, names, numbers = [], [], [], []
    wanted = list(columns.scores.items())
    for line, cells in rows:
        ids.append(str(cells[columns.id]))
        lines.append(line)
        if columns.predicted is not None:
            names.append(_name(path, line, cells[columns.predicted]))
        if wanted:
            numbers.append([_number(path, line, name, cells[place]) for name, place in wanted])
    if not ids:
        raise FerError("the table has no rows", hint=_EXPECTED, path=path)
    word = "row" if is_parquet else "line"
    if not wanted:
        return ExternalPredictions(path, word, tuple(ids), tuple(lines), "labels", _known(names), tuple(names), None)
    classes = _known(columns.scores)
    order = [list(columns.scores).index(name) for name in classes]
    form, probabilities = _probabilities(path, lines, np.array(numbers)[:, order], columns.declared)
    best = probabilities.argmax(axis=1)
    for line, name, index in zip(lines, names, best, strict=False):
        if name != classes[index]:
            raise FerError(
                f"predicted is {name}, but the largest score is that of {classes[index]}",
                hint="leave out the column or the scores: which of them is meant, fer cannot know",
                path=path,
                line=line,
            )
    predicted = tuple(classes[index] for index in best)
    return ExternalPredictions(path, word, tuple(ids), tuple(lines), form, classes, predicted, probabilities)


def in_order_of(
    predictions: ExternalPredictions, ids: Sequence[str], where: str, elsewhere: dict[str, str]
) -> NDArray[np.int64]:
    """Return for each of a split's ids its place in the file; the two must hold the same ids.

    Args:
        predictions: the predictions.
        ids: (n,) of the split, in order.
        where: what the split is called in errors.
        elsewhere: ids of the dataset's other splits -> their split.

    Raises:
        FerError: an id of the file is not of the split or is there twice, or one of the split is not in the file;
            the first with its line, and how many there are.
    """
    place: dict[str, int] = {}
    wanted = set(ids)
    doubled = []
    for index, name in enumerate(predictions.ids):
        if place.setdefault(name, index) != index:
            doubled.append(index)
    if unknown := [index for index, name in enumerate(predictions.ids) if name not in wanted]:
        name = predictions.ids[unknown[0]]
        split = elsewhere.get(name)
        what = f"id {name[:80]!r} is " + (f"of the {split} split, not of {where}" if split else f"not in {where}")
        hint = f"give --split {split}, or remove these rows" if split else f"ids look like {ids[0][:80]!r}"
        raise _at(predictions, unknown, what, hint)
    if doubled:
        first = predictions.lines[place[predictions.ids[doubled[0]]]]
        name = predictions.ids[doubled[0]]
        raise _at(
            predictions,
            doubled,
            f"id {name[:80]!r} is already in {predictions.line_word} {first}",
            "keep one row of each image",
        )
    if missing := [name for name in ids if name not in place]:
        raise FerError(
            f"{len(missing):,} of the {len(ids):,} ids of {where} are missing, the first is {missing[0][:80]!r}",
            hint="give one row for every image of the split",
            path=predictions.path,
        )
    return np.array([place[name] for name in ids], dtype=np.int64)


def _at(predictions: ExternalPredictions, rows: Sequence[int], what: str, hint: str) -> FerError:
    more = f" (and {len(rows) - 1:,} more such rows)" if len(rows) > 1 else ""
    return FerError(f"{what}{more}", hint=hint, path=predictions.path, line=predictions.lines[rows[0]])


def _columns(path: Path, header: Sequence[str]) -> _Columns:
    """Find the columns by their names in the header, in lower case."""
    named = [index for index, name in enumerate(header) if name in ID]
    id_columns = [index for index in named if header[index] == ID[0]] or named
    if len(id_columns) != 1:
        titles = ", ".join(header[index] for index in id_columns)
        what = f"more than one column of ids: {titles}" if id_columns else "no column 'id'"
        raise FerError(f"the table has {what}", hint=_EXPECTED, path=path, line=1)
    scores: dict[str, int] = {}
    declared: set[Form | None] = set()
    for index, title in enumerate(header):
        prefix = next((prefix for prefix in PREFIXES if title.startswith(prefix)), "")
        name = canonical(title.removeprefix(prefix))
        if name is None or index in id_columns:
            if prefix:
                raise FerError(
                    f"column {title[:40]!r} names no expression",
                    hint=f"they are {', '.join(EXPRESSIONS)}",
                    path=path,
                    line=1,
                )
            continue
        if name in scores:
            raise FerError(
                f"columns {header[scores[name]]!r} and {title!r} both mean {name}", hint="keep one", path=path, line=1
            )
        scores[name] = index
        declared.add(PREFIXES.get(prefix))
    answers = [index for index, name in enumerate(header) if name in PREDICTED]
    if not answers and not scores:
        answers = [index for index, name in enumerate(header) if name == LABEL]
    if len(answers) > 1:
        titles = ", ".join(header[index] for index in answers)
        raise FerError(f"more than one column of predictions: {titles}", hint="keep one", path=path, line=1)
    if not answers and not scores:
        raise FerError(
            f"the table has no predictions: its columns are {', '.join(header)[:120]}",
            hint=_EXPECTED,
            path=path,
            line=1,
        )
    if len(scores) == 1:
        raise FerError(f"scores of {next(iter(scores))} alone", hint=_EXPECTED, path=path, line=1)
    if len(declared) > 1:
        raise FerError(
            "columns of scores are named in more than one way",
            hint="name them all score_, prob_ or logit_",
            path=path,
            line=1,
        )
    return _Columns(id_columns[0], answers[0] if answers else None, scores, next(iter(declared), None))


def _csv(path: Path) -> tuple[_Columns, Iterator[tuple[int, Sequence[object]]]]:
    table = open_table(path, {})
    return _columns(path, table.header), iter(table.rows)


def _parquet(path: Path) -> tuple[_Columns, Iterator[tuple[int, Sequence[object]]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names, count = list(file.schema_arrow.names), int(file.metadata.num_rows)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _unreadable(path, error) from error
    if count > MAX_ROWS:
        raise FerError(
            f"{count:,} rows", hint=f"no dataset has more than {MAX_ROWS:,} images: check the file", path=path
        )
    columns = _columns(path, [name.strip().lower() for name in names])
    wanted = sorted({columns.id, *columns.scores.values(), *([] if columns.predicted is None else [columns.predicted])})
    places = {place: index for index, place in enumerate(wanted)}
    narrow = _Columns(
        places[columns.id],
        None if columns.predicted is None else places[columns.predicted],
        {name: places[place] for name, place in columns.scores.items()},
        columns.declared,
    )
    return narrow, _parquet_rows(path, file, [names[place] for place in wanted])


def _parquet_rows(path: Path, file: pa.parquet.ParquetFile, names: list[str]) -> Iterator[tuple[int, Sequence[object]]]:
    import pyarrow as pa

    line = 0
    try:
        for batch in file.iter_batches(columns=names):
            for cells in zip(*(batch[name].to_pylist() for name in names), strict=True):
                line += 1
                yield line, cells
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> FerError:
    reason = str(error).partition("\n")[0][:120]
    return FerError(f"not a readable Parquet table ({reason})", hint="write it again, or give a csv", path=path)


def _name(path: Path, line: int, cell: object) -> str:
    name = canonical(str(cell)) if isinstance(cell, str) else None
    if name is None:
        raise FerError(
            f"unknown expression {str(cell)[:40]!r}",
            hint=f"write names, not numbers: {', '.join(EXPRESSIONS)}",
            path=path,
            line=line,
        )
    return name


def _number(path: Path, line: int, name: str, cell: object) -> float:
    try:
        number = float(cell) if isinstance(cell, str | float | int) and not isinstance(cell, bool) else float("nan")
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise FerError(
            f"the score of {name} is {str(cell)[:40]!r}, no finite number", hint="correct the row", path=path, line=line
        )
    return number


def _known(names: Sequence[str] | dict[str, int]) -> tuple[str, ...]:
    return tuple(name for name in EXPRESSIONS if name in set(names))


def _probabilities(
    path: Path, lines: Sequence[int], scores: NDArray[np.float64], declared: Form | None
) -> tuple[Form, NDArray[np.float64]]:
    """Decide what scores (n, C) are, by the rule in this module's docstring, and return them as probabilities."""
    sound = (scores >= 0).all(axis=1) & (np.abs(scores.sum(axis=1) - 1) <= SUM_TOLERANCE)
    if declared == "probabilities" or (declared is None and sound.mean() >= 0.5):
        if not sound.all():
            row, count = int(np.argmin(sound)), int((~sound).sum())
            more = f" (and {count - 1:,} more such rows)" if count > 1 else ""
            raise FerError(
                f"scores that sum to {scores[row].sum():.4g}, the smallest {scores[row].min():.4g}, are no "
                f"probabilities{more}",
                hint="they must be non-negative and sum to 1; name the columns logit_ if they are logits",
                path=path,
                line=lines[row],
            )
        return "probabilities", scores
    if declared is None and not (scores < 0).any():
        row = int(np.argmin(sound))
        raise FerError(
            f"scores are neither probabilities (they sum to {scores[row].sum():.4g}) nor, none being negative, logits",
            hint="give probabilities that sum to 1, or name the columns logit_happy, logit_sad ... if they are logits",
            path=path,
            line=lines[row],
        )
    return "logits", np.asarray(scipy.special.softmax(scores, axis=1), dtype=np.float64)
