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

import difflib
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import scipy.special
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS, SYNONYMS, canonical
from fer_cli.core.user_files import open_file
from fer_cli.datasets.tables import MAX_BYTES, MAX_LINE, open_table
from fer_cli.evaluation.predictor import NO_ANSWER
from fer_cli.metrics.values import SUM_TOLERANCE

if TYPE_CHECKING:
    import pyarrow as pa

Form = Literal["labels", "probabilities", "percentages", "logits"]

ID: Final = (
    *("id", "image", "image_id", "image name", "image_name", "filename", "file", "path"),
    *("file_name", "image_path", "img", "img_path", "file_path", "filepath"),
)
_THING: Final = "label|class|category|emotion|expression"
_ANSWER: Final = re.compile(
    rf"(?:y|{_THING})?(?:pred|preds|predicted|prediction|predictions|hat|dominant|argmax|top1|answer|output)"
    rf"(?:(?:{_THING})(?:name)?)?"
)
"""Names of the answer, without what is neither letter nor digit."""
_TRUTH: Final = re.compile(
    rf"(?:y|{_THING})?(?:true|truth|groundtruth|gt|actual|gold|target|expected|annotated|annotation)(?:(?:{_THING})(?:name)?)?"
)
_EITHER: Final = re.compile(rf"(?:{_THING})(?:label|name|s)?")
"""Names that may mean the answer or the truth."""
_OTHERS: Final = re.compile(
    "index|unnamed0|row|rowid|number|nr|split|usage|set|part|fold|(subject|person|sequence|face)(id)?|identity|actor|"
    "video|frame|session|gender|sex|race|ethnicity|age|(n|num)?faces|box|bbox|[xywh]|[xy][12]|left|top|right|bottom|"
    "width|height|(max)?prob|probability|confidence|conf|score|loss|entropy|time|seconds|ms|model|predictor|source|"
    "dataset|notes?|comment|remark|error|status"
)
"""Names of what is neither answer, truth nor score."""
SCORE_WORDS: Final[dict[str, Form | None]] = {
    **dict.fromkeys(("score", "scores", "emotion", "confidence", "percent", "pct"), None),
    **dict.fromkeys(("prob", "probs", "probability", "probabilities", "p", "softmax"), "probabilities"),
    **dict.fromkeys(("logit", "logits"), "logits"),
}
"""Words beside an expression in the name of a column of scores, and the form that they say."""
PREFIXES: Final = ("score_", "prob_", "p_", "logit_")
"""What follows these must be an expression."""
_NO_ANSWER: Final = re.compile(
    "|none|null|nan|na|nil|no(faces?|facedetected|facefound|detection|answer)|notdetected|undetected|facenotfound|"
    "nonface|nf|unknown|missing"
)
"""What stands for an answer where there is none, without what is neither letter nor digit."""
_BATCH: Final = 4096  # rows at a time
MAX_ROWS: Final = 10_000_000
"""Rows of a Parquet file; the largest dataset of faces here has 290,000."""
FEW_VALUES: Final = 16
"""A column of more distinct values is no column of classes."""
_PARQUET: Final = b"PAR1"
_EXPECTED: Final = "give a column 'id', and 'predicted' or a score for each class (score_happy, score_sad ...)"


@dataclass(frozen=True, slots=True)
class ExternalPredictions:
    """Predictions from a file, in the file's order.

    ``predicted`` (n,) are names, empty where ``unanswered`` (n,); ``probabilities`` (n, C) of ``classes``, or None
    where the file has labels alone, are equal where a row has no answer. ``answer`` is the column that the names are
    from; ``by_default``: its name may mean the truth as well, and no other column can be the answer. ``truths`` maps
    columns to their cells (n,), blank ones empty. ``rounded``: scores sum to 1 no more closely than rounding lets them.
    ``ties`` counts the rows of several largest scores among which no answer decides.
    """

    path: Path
    line_word: str  # "line" of a csv, "row" of a Parquet file, both counted from 1
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
    rounded: bool = False
    ties: int = 0


@dataclass(frozen=True, slots=True)
class _Columns:
    """What each column is by its name. ``scores`` maps each class to its column, ``declared`` is their form by name.

    ``either`` may be the answer or the truth, ``unknown`` may be anything.
    """

    header: tuple[str, ...]
    id: int
    answer: int | None
    scores: dict[str, int]
    declared: Form | None
    truths: tuple[int, ...]
    either: tuple[int, ...]
    unknown: tuple[int, ...]

    @property
    def wanted(self) -> list[int]:
        """The columns to read."""
        answer = () if self.answer is None else (self.answer,)
        return sorted({self.id, *answer, *self.scores.values(), *self.truths, *self.either, *self.unknown})


class _Values:
    """What the values of a column are, as far as it matters to what the column may be."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.distinct: set[str] = set()
        self.numbers = True
        self.whole = True
        self.names = False

    def add(self, cell: object) -> None:
        """Take one cell into account."""
        text = _text(cell)
        if not text or text in self.distinct:
            return
        if len(self.distinct) <= FEW_VALUES:
            self.distinct.add(text)
        self.names |= canonical(text) is not None
        try:
            self.whole &= float(text).is_integer()
        except ValueError:
            self.numbers = False

    @property
    def may_be_answer(self) -> bool:
        """Whether the column may hold classes: by an expression in its name or its cells, or by few distinct values."""
        if self.names or any(canonical(word) for word in _words(self.title)):
            return True
        return 1 < len(self.distinct) <= FEW_VALUES and (self.whole or not self.numbers)

    @property
    def may_be_score(self) -> bool:
        """Whether the column may hold a score: numbers that are not all whole."""
        return self.numbers and not self.whole


def read_predictions(path: Path, answer: str | None = None) -> ExternalPredictions:
    """Read a csv (plain, compressed or in an archive) or a Parquet file of predictions.

    Args:
        path: the file.
        answer: the column of the answers, which are then all that is scored; found by its name where it is None.

    Raises:
        FerError: it cannot be read, lacks a column, which column is the answer cannot be told, or a row holds an
            unknown name, no number, or scores that are neither probabilities nor logits; the first is named with its
            line, and how many there are.
    """
    if not path.is_file():
        raise FerError(
            "is a folder" if path.is_dir() else "there is no such file",
            hint="give a csv or Parquet file of predictions",
            path=path,
        )
    with open_file(path) as file:
        is_parquet = file.read(len(_PARQUET)) == _PARQUET
    columns, rows = _parquet(path, answer) if is_parquet else _csv(path, answer)
    ids: list[str] = []
    lines: list[int] = []
    texts: dict[int, list[str]] = {index: [] for index in {*columns.truths, *columns.either}}
    if columns.answer is not None:
        texts[columns.answer] = []
    numbers: list[list[float]] = []
    unknown = {index: _Values(columns.header[index]) for index in columns.unknown}
    wanted = list(columns.scores.items())
    for line, cells in rows:
        ids.append(str(cells[columns.id]))
        lines.append(line)
        for index, of in texts.items():
            of.append(_text(cells[index]))
        for index, values in unknown.items():
            values.add(cells[index])
        if wanted:
            numbers.append(_numbers(path, line, wanted, cells))
    if not ids:
        raise FerError("the table has no rows", hint=_EXPECTED, path=path)
    chosen = columns.answer
    by_default = chosen is None and not wanted
    if by_default:
        chosen = _answer_by_default(path, columns, texts, list(unknown.values()))
    names = [] if chosen is None else [_name(path, line, text) for line, text in zip(lines, texts[chosen], strict=True)]
    title = None if chosen is None else columns.header[chosen]
    truths = {
        columns.header[index]: tuple(texts[index]) for index in (*columns.truths, *columns.either) if index != chosen
    }
    word = "row" if is_parquet else "line"
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
            _known(names),
            tuple(names),
            None,
            unanswered,
            answer=title,
            by_default=by_default,
            truths=truths,
        )
    classes = _known(columns.scores)
    order = [list(columns.scores).index(name) for name in classes]
    scores = _Scores(path, lines, table[:, order], columns.declared, list(unknown.values()))
    predicted, ties = scores.decided(classes, names)
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
    return np.array([place[name] for name in ids], dtype=np.int64)


def _at(predictions: ExternalPredictions, rows: Sequence[int], what: str, hint: str) -> FerError:
    more = f" (and {len(rows) - 1:,} more such rows)" if len(rows) > 1 else ""
    return FerError(f"{what}{more}", hint=hint, path=predictions.path, line=predictions.lines[rows[0]])


def _columns(path: Path, header: Sequence[str], answer: str | None) -> _Columns:
    """Find the columns by their names in the header, in lower case."""

    def fault(what: str, hint: str) -> FerError:
        return FerError(what, hint=hint, path=path, line=1)

    named = [index for index, name in enumerate(header) if name in ID]
    id_columns = [index for index in named if header[index] == ID[0]] or named
    if len(id_columns) != 1:
        titles = ", ".join(header[index] for index in id_columns)
        what = f"more than one column of ids: {titles}" if id_columns else "no column 'id'"
        raise fault(f"the table has {what}", _EXPECTED)
    chosen: int | None = None
    if answer is not None:
        matches = [index for index, name in enumerate(header) if name == answer.strip().lower()]
        if len(matches) != 1 or matches == id_columns:
            problem = "is more than once" if len(matches) > 1 else "is the id" if matches else "is not"
            raise fault(f"column {answer[:40]!r} {problem} in the table", f"its columns are {_listed(header)}")
        chosen = matches[0]
    scores: dict[str, int] = {}
    declared: set[Form | None] = set()
    rest: list[int] = []
    for index, title in enumerate(header):
        if index in named or index == chosen or title == f"score_{NO_ANSWER}":
            continue
        name, form = _score_title(title)
        if name is None:
            prefix = next((prefix for prefix in PREFIXES if title.startswith(prefix)), "")
            if prefix and chosen is None:
                raise fault(f"column {title[:40]!r} names no expression", f"they are {', '.join(EXPRESSIONS)}")
            rest.append(index)
        elif chosen is None:
            if name in scores:
                raise fault(f"columns {header[scores[name]]!r} and {title!r} both mean {name}", "keep one")
            scores[name] = index
            declared.add(form)
    compact = {index: re.sub(r"[\W_]+", "", header[index]) for index in rest}
    answers = [index for index, name in compact.items() if _ANSWER.fullmatch(name)]
    truths = tuple(index for index, name in compact.items() if _TRUTH.fullmatch(name))
    either = tuple(index for index, name in compact.items() if _EITHER.fullmatch(name))
    unknown = tuple(
        index
        for index, name in compact.items()
        if index not in {*answers, *truths, *either} and name and not _OTHERS.fullmatch(name)
    )
    if chosen is None and len(answers) > 1:
        titles = ", ".join(header[index] for index in answers)
        raise fault(f"more than one column of predictions: {titles}", "give --answer COLUMN, or keep one")
    if chosen is None and answers:
        chosen = answers[0]
    if len(scores) == 1:
        raise fault(f"scores of {next(iter(scores))} alone", _EXPECTED)
    if len(declared) > 1:
        raise fault("columns of scores are named in more than one way", "name them all score_, prob_ or logit_")
    if scores:
        for index in unknown:
            if near := _near(header[index]):
                raise fault(
                    f"column {header[index][:40]!r} names no expression, the other scores do",
                    f"did you mean {near}? Correct its name",
                )
    if not scores and chosen is not None:
        unknown = ()
    form = next(iter(declared), None)
    return _Columns(tuple(header), id_columns[0], chosen, scores, form, truths, either, unknown)


def _score_title(title: str) -> tuple[str | None, Form | None]:
    """Return the expression that the name of a column of scores holds, and the form that it says."""
    if (name := canonical(title)) is not None:
        return name, None
    words = _words(title)
    names = [word for word in words if canonical(word) is not None]
    rest = [word for word in words if canonical(word) is None]
    if len(names) != 1 or not all(word in SCORE_WORDS for word in rest):
        return None, None
    return canonical(names[0]), next((SCORE_WORDS[word] for word in rest if SCORE_WORDS[word] is not None), None)


def _near(title: str) -> str | None:
    """Return the expression that a misspelt name of a column of scores may mean."""
    name = "".join(word for word in _words(title) if word not in SCORE_WORDS)
    near = difflib.get_close_matches(name, [word for word in SYNONYMS if len(word) > 3], n=1, cutoff=0.8)
    return SYNONYMS[near[0]] if near else None


def _words(title: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", title) if word]


def _listed(header: Sequence[str]) -> str:
    return ", ".join(name or "(no name)" for name in header)[:200]


def _answer_by_default(path: Path, columns: _Columns, texts: dict[int, list[str]], unknown: Sequence[_Values]) -> int:
    """Return the column that is the answer where no name says so: one that may be, if it is the only one.

    Raises:
        FerError: there is none, or more than one may be.
    """
    candidates = []
    for index in columns.either:
        values = _Values(columns.header[index])
        for text in texts[index]:
            values.add(text)
        if values.may_be_answer or len(columns.either) == 1:
            candidates.append(index)
    others = [values.title for values in unknown if values.may_be_answer]
    if len(candidates) == 1 and not others:
        return candidates[0]
    titles = [columns.header[index] for index in candidates] + others
    if not titles:
        what, hint = f"the table has no predictions: its columns are {_listed(columns.header)}", _EXPECTED
    elif candidates:
        what = f"which column is the answer cannot be told: {', '.join(titles)} may be"
        hint = f"give --answer COLUMN; the columns are {_listed(columns.header)}"
    else:
        what = f"no column is known as the answer: the columns are {_listed(columns.header)}"
        hint = f"give --answer {titles[0] if len(titles) == 1 else 'COLUMN'}, or name it 'predicted'"
    raise FerError(what, hint=hint, path=path, line=1)


Rows = Iterator[tuple[int, Sequence[object]]]


def _csv(path: Path, answer: str | None) -> tuple[_Columns, Rows]:
    table = open_table(path, {})
    return _columns(path, table.header, answer), iter(table.rows)


def _parquet(path: Path, answer: str | None) -> tuple[_Columns, Rows]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        texts = [of.name for of in schema if pa.types.is_string(of.type) or pa.types.is_binary(of.type)]
        file = pq.ParquetFile(path, read_dictionary=texts)  # a text that comes often is kept once
        names, count = list(file.schema_arrow.names), int(file.metadata.num_rows)
        nested = {index for index, of in enumerate(file.schema_arrow.types) if pa.types.is_nested(of)}
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _unreadable(path, error) from error
    if count > MAX_ROWS:
        raise FerError(
            f"{count:,} rows", hint=f"no dataset has more than {MAX_ROWS:,} images: check the file", path=path
        )
    columns = _columns(path, [name.strip().lower() for name in names], answer)
    wanted = [index for index in columns.wanted if index not in nested or index not in columns.unknown]
    places = {place: index for index, place in enumerate(wanted)}
    narrow = _Columns(
        tuple(columns.header[place] for place in wanted),
        places[columns.id],
        None if columns.answer is None else places[columns.answer],
        {name: places[place] for name, place in columns.scores.items()},
        columns.declared,
        *(
            tuple(places[place] for place in of if place in places)
            for of in (columns.truths, columns.either, columns.unknown)
        ),
    )
    chosen = {names[place] for place in wanted}
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    try:
        said = sum(one.total_uncompressed_size for one in chunks if one.path_in_schema.partition(".")[0] in chosen)
    except ValueError as error:  # a name that is not UTF-8
        raise _unreadable(path, error) from error
    if said > MAX_BYTES:
        raise _too_much(path)
    return narrow, _parquet_rows(path, file, [names[place] for place in wanted])


def _parquet_rows(path: Path, file: pa.parquet.ParquetFile, names: list[str]) -> Rows:
    import pyarrow as pa

    line = total = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH, columns=names):
            columns = [_decoded(path, batch[name]) for name in names]
            total += sum(column.nbytes for column in columns)
            if total > MAX_BYTES:
                raise _too_much(path)
            for cells in zip(*(column.to_pylist() for column in columns), strict=True):
                line += 1
                yield line, cells
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _unreadable(path, error) from error


def _decoded(path: Path, column: pa.Array) -> pa.Array:
    """Return a column with its texts in place of their numbers, once it is known that none of them is too long."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return column
    texts = column.dictionary
    is_text = pa.types.is_string(texts.type) or pa.types.is_binary(texts.type)
    if is_text and (pc.max(pc.binary_length(texts)).as_py() or 0) > MAX_LINE:
        raise FerError(f"a cell is longer than {MAX_LINE:,} bytes", hint="leave that column out", path=path)
    return column.dictionary_decode()


def _too_much(path: Path) -> FerError:
    what = f"the columns to read hold more than {MAX_BYTES >> 20:,} MiB"
    return FerError(what, hint="no table of predictions does: check the file", path=path)


def _unreadable(path: Path, error: Exception) -> FerError:
    reason = str(error).partition("\n")[0][:120]
    return FerError(f"not a readable Parquet table ({reason})", hint="write it again, or give a csv", path=path)


def _text(cell: object) -> str:
    """Return a cell as text, empty where nothing stands in it."""
    return "" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else str(cell).strip()


def _is_no_answer(text: str) -> bool:
    return _NO_ANSWER.fullmatch(re.sub(r"[\W_]+", "", text.lower())) is not None


def _name(path: Path, line: int, text: str) -> str:
    """Return the expression that an answer names, empty where it is that there is none."""
    name = canonical(text)
    if name is None and not _is_no_answer(text):
        raise FerError(
            f"unknown expression {text[:40]!r}",
            hint=f"write names, not numbers: {', '.join(EXPRESSIONS)}",
            path=path,
            line=line,
        )
    return name or ""


def _numbers(path: Path, line: int, wanted: Sequence[tuple[str, int]], cells: Sequence[object]) -> list[float]:
    """Return the scores of a row, all NaN where it has none of them."""
    if all(_is_no_answer(_text(cells[place])) for _, place in wanted):
        return [np.nan] * len(wanted)
    return [_number(path, line, name, cells[place]) for name, place in wanted]


def _number(path: Path, line: int, name: str, cell: object) -> float:
    if isinstance(cell, str):
        cell = cell.removesuffix("%")
        if "," in cell and "." not in cell:  # 0,25, as spreadsheets write it in many countries
            cell = cell.replace(",", ".")
    try:
        number = float(cell) if isinstance(cell, str | float | int) and not isinstance(cell, bool) else float("nan")
    except (ValueError, OverflowError):
        number = float("nan")
    if not np.isfinite(number):
        raise FerError(
            f"the score of {name} is {str(cell)[:40]!r}, no finite number",
            hint="correct the row, or leave all its scores empty where there is no answer",
            path=path,
            line=line,
        )
    return number


def _known(names: Sequence[str] | dict[str, int]) -> tuple[str, ...]:
    return tuple(name for name in EXPRESSIONS if name in set(names))


class _Scores:
    """Scores (n, C), all NaN in rows without an answer, as probabilities by the rule in this module's docstring.

    ``form`` is what they were; ``rounded``: they sum to 1 no more closely than their rounding lets them.

    Raises:
        FerError: they are neither probabilities nor logits.
    """

    def __init__(
        self,
        path: Path,
        lines: Sequence[int],
        table: NDArray[np.float64],
        declared: Form | None,
        unknown: Sequence[_Values],
    ) -> None:
        self.path, self.lines = path, lines
        self.rounded = False
        empty = np.isnan(table).all(axis=1)
        # Of scores that are not logits, a row of zeros says that there is none.
        zero = ~empty & (table == 0).all(axis=1) & (declared != "logits") & (not (table < 0).any())
        self.unanswered: NDArray[np.bool_] = empty | zero
        answered = table[~self.unanswered]
        if not len(answered):
            raise FerError("no row has scores", hint="check the columns", path=path)
        self.form, scale = self._form(answered, declared, unknown)
        self.probabilities = np.full(table.shape, 1 / table.shape[1])
        if self.form == "logits":
            self.probabilities[~self.unanswered] = scipy.special.softmax(answered, axis=1)
        elif not self.rounded:
            self.probabilities[~self.unanswered] = answered / scale
        else:
            self.probabilities[~self.unanswered] = answered / answered.sum(axis=1, keepdims=True)

    def _form(
        self, answered: NDArray[np.float64], declared: Form | None, unknown: Sequence[_Values]
    ) -> tuple[Form, float]:
        """Return what the scores of the answered rows are, and what each row of them sums to."""
        rows = np.flatnonzero(~self.unanswered)
        sums, positive = answered.sum(axis=1), (answered >= 0).all(axis=1)
        forms: list[tuple[Form, float]] = [("probabilities", 1.0), ("percentages", 100.0)]
        rounding = _rounding(answered)
        for form, scale in forms:
            near = positive & (np.abs(sums / scale - 1) <= np.maximum(SUM_TOLERANCE, np.minimum(rounding / scale, 0.5)))
            if declared != "logits" and near.mean() >= 0.5:
                if not near.all():
                    raise self._no_probabilities(answered, rows, near, scale, unknown)
                self.rounded = bool((np.abs(sums / scale - 1) > SUM_TOLERANCE).any())
                return form, scale
        sound = positive & (np.abs(sums - 1) <= SUM_TOLERANCE)
        if declared == "probabilities":
            raise self._no_probabilities(answered, rows, sound, 1.0, unknown)
        if declared is None and not (answered < 0).any():
            row = int(np.argmin(sound))
            raise FerError(
                f"scores are neither probabilities (they sum to {sums[row]:.4g}) nor, none being negative, logits",
                hint=_class_left_out(unknown)
                or "give probabilities that sum to 1, or name the columns logit_happy, logit_sad ... if they are so",
                path=self.path,
                line=self.lines[int(rows[row])],
            )
        if declared is None and (hint := _class_left_out(unknown)):
            raise FerError("not every column of scores may be known", hint=hint, path=self.path, line=1)
        return "logits", 1.0

    def _no_probabilities(
        self,
        answered: NDArray[np.float64],
        rows: NDArray[np.intp],
        sound: NDArray[np.bool_],
        scale: float,
        unknown: Sequence[_Values],
    ) -> FerError:
        row, count = int(np.argmin(sound)), int((~sound).sum())
        more = f" (and {count - 1:,} more such rows)" if count > 1 else ""
        return FerError(
            f"scores that sum to {answered[row].sum():.4g}, the smallest {answered[row].min():.4g}, are no "
            f"probabilities{more}",
            hint=_class_left_out(unknown)
            or f"they must be non-negative and sum to {scale:g}; name the columns logit_ if they are logits",
            path=self.path,
            line=self.lines[int(rows[row])],
        )

    def decided(self, classes: tuple[str, ...], names: Sequence[str]) -> tuple[tuple[str, ...], int]:
        """Return each row's class, and how many rows have several largest scores and no name to decide.

        Args:
            classes: C of them.
            names: (n,) the answers of the file; none where it has scores alone.

        Raises:
            FerError: an answer is not that of the largest score.
        """
        table = self.probabilities
        largest = table.max(axis=1)
        several = ((table == largest[:, None]).sum(axis=1) > 1) & ~self.unanswered
        for row, name in enumerate(names):
            index = classes.index(name) if name in classes else None
            if self.unanswered[row]:
                if not name:
                    continue
                other = "there are no scores"
            elif index is not None and table[row, index] == largest[row]:
                # One of several largest: the answer says which of them is meant.
                table[row, index] = np.nextafter(largest[row], np.inf)
                several[row] = False
                continue
            else:
                other = f"the largest score is that of {classes[int(table[row].argmax())]}"
            raise FerError(
                f"predicted is {name or 'none'}, but {other}",
                hint="leave out the column or the scores: which of them is meant, fer cannot know; --answer COLUMN "
                "scores that column alone",
                path=self.path,
                line=self.lines[row],
            )
        best = table.argmax(axis=1)
        predicted = tuple(
            "" if none else classes[index] for none, index in zip(self.unanswered, best.tolist(), strict=True)
        )
        return predicted, int(several.sum())


def _class_left_out(unknown: Sequence[_Values]) -> str:
    """Return what to do about columns that may be scores of a class; empty where there is none."""
    titles = [values.title for values in unknown if values.may_be_score]
    if not titles:
        return ""
    return f"is {', '.join(titles)[:120]} the score of a class? Name it by its expression, else remove the column"


def _rounding(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the sum of each row of scores (n, C) may be off because the scores were rounded.

    They were where all of the file have at most four decimals, or two or three significant digits.
    """
    for digits in range(5):
        if np.allclose(np.round(table, digits), table, rtol=0, atol=1e-9):
            return np.full(len(table), table.shape[1] * 0.5 * 10.0**-digits + 1e-9)
    magnitude = np.floor(np.log10(np.abs(table), out=np.zeros_like(table), where=table != 0))
    for digits in (2, 3):
        unit = 10.0 ** (magnitude - digits + 1)
        if np.allclose(np.round(table / unit) * unit, table, rtol=1e-9, atol=0):
            rounding: NDArray[np.float64] = np.where(table == 0, 0, 0.5 * unit).sum(axis=1) + 1e-9
            return rounding
    return np.zeros(len(table))
