"""Anybody's predictions: a table of ids with an answer or with scores, read, checked, and put in a dataset's order.

Which column is what, its name says: the id, the answer (``predicted``, ``y_pred``, ``dominant_emotion`` ...), the truth
(``y_true``, ``ground_truth`` ...). A name that may mean either (``label``, ``emotion`` ...) is the answer only where no
other column can be one, else the truth; what cannot be told is refused, and ``--answer COLUMN`` tells it.

A column of scores is named by an expression, alone or with ``score``, ``prob``, ``p`` or ``logit`` before or after it;
the last three say what the numbers are. Otherwise the numbers decide, for the whole file:

- probabilities, where at least half of the rows are non-negative and sum to 1 (or to 100: percentages) within
  ``SUM_TOLERANCE``, or within what rounding to the file's decimals explains: then all rows must;
- else logits, where all numbers are finite and at least one is negative: they go through the softmax;
- else neither (votes, distances), and refused.

A row may have no answer, where a face detector found none: an empty cell, ``none``, ``no face`` or NaN for the answer,
or for all scores.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS, in_order, name_reader
from fer_cli.evaluation.prediction_columns import (
    EXPECTED,
    Form,
    answer_by_default,
    is_no_answer,
    text_of,
    values_of,
)
from fer_cli.evaluation.prediction_scores import ScoreCells, Scores
from fer_cli.evaluation.prediction_tables import open_rows


@dataclass(frozen=True, slots=True)
class ExternalPredictions:
    """Predictions from a file, in the file's order.

    ``predicted`` (n,) are names, empty where ``unanswered`` (n,); ``probabilities`` (n, C) of ``classes``, or None
    where the file has labels alone, are equal where a row has no answer. ``answer`` is the column that the names are
    from; ``by_default``: its name may mean the truth as well, and no other column can be the answer. ``truths`` maps
    columns to their cells (n,), blank ones empty; so does ``aliases``, of columns that name the image once more.
    ``either``: those of ``truths`` whose names may mean the answer of the scores as well. ``unread``: columns of
    classes beside scores, of which no name says what they are. ``rounded``: scores
    sum to 1 no more closely than rounding lets them. ``ties`` counts the rows of several largest scores among which no
    answer decides.
    """

    path: Path
    line_word: str  # "line" of a csv, "row" of a Parquet file or of JSON, counted from 1
    ids: tuple[str, ...]
    lines: tuple[int, ...]
    form: Form
    classes: tuple[str, ...]
    predicted: tuple[str, ...]
    probabilities: NDArray[np.float64] | None
    unanswered: NDArray[np.bool_]
    answer: str | None = None
    by_default: bool = False
    truths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    either: frozenset[str] = frozenset()
    unread: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rounded: bool = False
    ties: int = 0


def read_predictions(path: Path, answer: str | None = None, classes: Sequence[str] = ()) -> ExternalPredictions:
    """Read a csv (plain, compressed or in an archive), a Parquet file, or JSON of predictions.

    Args:
        path: the file.
        answer: the column of the answers, which are then all that is scored; found by its name where it is None.
        classes: of the data set; where one is no expression, names are read as :func:`name_reader` tells.

    Raises:
        FerError: it cannot be read, lacks a column, which column is the answer cannot be told, or a row holds an
            unknown name, no number, or scores that are neither probabilities nor logits; the first is named with its
            line, and how many there are.
    """
    if not path.is_file():
        raise FerError(
            "is a folder" if path.is_dir() else "there is no such file",
            hint="give a csv, Parquet or JSON file of predictions",
            path=path,
        )
    columns, rows, word = open_rows(path, answer, classes)
    ids: list[str] = []
    lines: list[int] = []
    texts: dict[int, list[str]] = {index: [] for index in {*columns.truths, *columns.either, *columns.aliases}}
    if columns.answer is not None:
        texts[columns.answer] = []
    numbers: list[list[float]] = []
    unknown = values_of(columns, classes)
    texts |= {index: [] for index in columns.unknown if columns.scores}
    wanted = list(columns.scores.items())
    score_cells = ScoreCells(path, wanted)
    for line, cells in rows:
        if cells[columns.id] is None:
            raise FerError("the row has no id", hint="give each row the id of its image", path=path, line=line)
        ids.append(str(cells[columns.id]))
        lines.append(line)
        for index, of in texts.items():
            of.append(text_of(cells[index]))
        for index, values in unknown.items():
            values.add(cells[index])
        if wanted:
            numbers.append(score_cells.row(line, cells))
    if not ids:
        raise FerError("the table has no rows", hint=EXPECTED, path=path)
    score_cells.check()
    chosen = columns.answer
    by_default = chosen is None and not wanted
    if by_default:
        chosen = answer_by_default(path, columns, texts, list(unknown.values()), classes)
    read = name_reader(classes)
    names = (
        []
        if chosen is None
        else [_name(path, line, text, read, classes) for line, text in zip(lines, texts[chosen], strict=True)]
    )
    title = None if chosen is None else columns.header[chosen]
    truths = {
        columns.header[index]: tuple(texts[index]) for index in (*columns.truths, *columns.either) if index != chosen
    }
    aliases = {columns.header[index]: tuple(texts[index]) for index in columns.aliases}
    table = np.array(numbers, dtype=np.float64).reshape(len(ids), len(wanted))
    if not wanted or (names and np.isnan(table).all()):
        unanswered = np.array([not name for name in names])
        if unanswered.all():
            raise FerError(f"no row has an answer in column {title!r}", hint="check the column", path=path)
        return ExternalPredictions(
            path,
            word,
            tuple(ids),
            tuple(lines),
            "labels",
            in_order(name for name in names if name),
            tuple(names),
            None,
            unanswered,
            answer=title,
            by_default=by_default,
            truths=truths,
            aliases=aliases,
        )
    classes = in_order(columns.scores)
    order = [list(columns.scores).index(name) for name in classes]
    scores = Scores(path, lines, table[:, order], columns.declared, list(unknown.values()))
    predicted, ties = scores.decided(classes, names)
    named = [index for index in columns.unknown if unknown[index].names and unknown[index].every_name]
    return ExternalPredictions(
        path,
        word,
        tuple(ids),
        tuple(lines),
        scores.form,
        classes,
        predicted,
        scores.probabilities,
        scores.unanswered,
        answer=title,
        truths=truths,
        aliases=aliases,
        either=frozenset(columns.header[index] for index in columns.either),
        unread={columns.header[index]: tuple(texts[index]) for index in named},
        rounded=scores.rounded,
        ties=ties,
    )


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
    composed = {unicodedata.normalize("NFC", name): name for name in ids}
    given = [
        name if name in wanted else composed.get(unicodedata.normalize("NFC", name), name) for name in predictions.ids
    ]
    doubled = []
    for index, name in enumerate(given):
        if place.setdefault(name, index) != index:
            doubled.append(index)
    if unknown := [index for index, name in enumerate(given) if name not in wanted]:
        name = given[unknown[0]]
        split = elsewhere.get(name)
        what = f"id {name[:80]!r} is " + (f"of the {split} split, not of {where}" if split else f"not in {where}")
        hint = f"give --split {split}, or remove these rows" if split else f"ids look like {ids[0][:80]!r}"
        raise _at(predictions, unknown, what, hint)
    if doubled:
        first = predictions.lines[place[given[doubled[0]]]]
        name = given[doubled[0]]
        raise _at(
            predictions,
            doubled,
            f"id {name[:80]!r} is already in {predictions.line_word} {first}",
            "keep one row of each image",
        )
    if missing := [name for name in ids if name not in place]:
        raise FerError(
            f"{len(missing):,} of the {len(ids):,} ids of {where} are missing, the first is {missing[0][:80]!r}",
            hint="give one row for every image of the split, with an empty answer where there is none",
            path=predictions.path,
        )
    _check_aliases(predictions, given, (*ids, *elsewhere))
    return np.array([place[name] for name in ids], dtype=np.int64)


def _check_aliases(predictions: ExternalPredictions, given: Sequence[str], ids: Iterable[str]) -> None:
    """Refuse rows whose other columns name another image of the dataset than their id does."""
    known: dict[str, set[str]] = {}
    for name in ids if predictions.aliases else ():
        for text in _names_of(name):
            known.setdefault(text, set()).add(name)
    for title, cells in predictions.aliases.items():
        named = [next((known[text] for text in _names_of(cell) if text in known), None) for cell in cells]
        wrong = [row for row, images in enumerate(named) if images is not None and given[row] not in images]
        if wrong:
            what = f"id {given[wrong[0]][:80]!r} and {title} {cells[wrong[0]][:80]!r} are different images"
            raise _at(predictions, wrong, what, "the rows were joined to the wrong ids: write the file again")


def _names_of(text: str) -> list[str]:
    """Return what may stand for an image of a path: its ends, the longest first, and its name without the suffix."""
    parts = unicodedata.normalize("NFC", text).replace("\\", "/").split("/")
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    return [*ends, PurePosixPath(parts[-1]).stem] if text else []


def _at(predictions: ExternalPredictions, rows: Sequence[int], what: str, hint: str) -> FerError:
    more = f" (and {len(rows) - 1:,} more such rows)" if len(rows) > 1 else ""
    return FerError(f"{what}{more}", hint=hint, path=predictions.path, line=predictions.lines[rows[0]])


def _name(path: Path, line: int, text: str, read: Callable[[str], str | None], classes: Sequence[str]) -> str:
    """Return the class that an answer names, empty where it is that there is none."""
    name = read(text)
    named = ", ".join((classes or EXPRESSIONS)[:12])
    if name is None and not is_no_answer(text):
        raise FerError(
            f"unknown expression {text[:40]!r}",
            hint=f"write names, not numbers: {named}",
            path=path,
            line=line,
        )
    return name or ""
