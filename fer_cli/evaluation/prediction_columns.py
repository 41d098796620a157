"""Which column of somebody's predictions is what, by its name, and where that does not tell, by its values."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS, SYNONYMS, name_reader
from fer_cli.datasets.table_columns import IMAGE_NAMES, plain
from fer_cli.evaluation.predictor import NO_ANSWER

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
_EITHER: Final = re.compile(rf"(?:{_THING})(?:label|name|s|id|idx|index|code|number|nr)?")
"""Names that may mean the answer or the truth."""
_TRUE: Final = "y"
"""The truth beside an answer, where no column ``x`` makes it a place in the image."""
_OTHERS: Final = re.compile(
    "|index|unnamed0|row|rowid|number|nr|split|usage|set|part|fold|(subject|person|sequence|face)(id)?|identity|actor|"
    "video|frame|session|gender|sex|race|ethnicity|age|(n|num)?faces|box|bbox|[xywh]|[xy][12]|left|top|right|bottom|"
    "width|height|(max)?prob|probability|confidence|conf|score|loss|entropy|time|seconds|ms|model|predictor|source|"
    "dataset|notes?|comment|remark|error|status|valence|arousal|dominance|intensity|yaw|pitch|roll"
)
"""Names of what is neither answer, truth nor score, unless its cells are classes."""
_COUNTS: Final = frozenset({"", "index", "unnamed0", "row", "rowid", "number", "nr", "x", "y"})
"""Those of numbers that may be codes of classes where they repeat; ``x`` and ``y`` where the other is not there."""
_VECTORS: Final = re.compile(
    "(face)?(box(es)?|bbox(es)?|boundingbox|regions?|landmarks?|keypoints?|points?|pose|embeddings?|features?)"
)
"""Names of lists of numbers that are no scores."""
_LIST: Final = re.compile(r"[\[({].*|[^\s,;|]*\d(?:[\s,;|]+[^\s,;|]*\d){2,}%?", re.DOTALL)
"""A cell that holds several values."""
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
FEW_VALUES: Final = 16
"""A column of more distinct values is no column of classes."""
EXPECTED: Final = "give a column 'id', and 'predicted' or a score for each class (score_happy, score_sad ...)"


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column is by its name. ``scores`` maps each class to its column, ``declared`` is their form by name.

    ``aliases`` name the image once more. ``either`` may be the answer or the truth, ``unknown`` may be anything;
    ``others`` are neither by their names.
    """

    header: tuple[str, ...]
    id: int
    answer: int | None
    scores: dict[str, int]
    declared: Form | None
    truths: tuple[int, ...]
    either: tuple[int, ...]
    unknown: tuple[int, ...]
    aliases: tuple[int, ...] = ()
    others: tuple[int, ...] = ()

    @property
    def wanted(self) -> list[int]:
        """The columns to read."""
        answer = () if self.answer is None else (self.answer,)
        named = {self.id, *answer, *self.scores.values(), *self.truths, *self.either, *self.aliases, *self.unknown}
        return sorted(named if answer or self.scores else {*named, *self.others})


class ColumnValues:
    """What the values of a column are, as far as it matters to what the column may be.

    Args:
        title: its name, in lower case.
        classes: of the data set.
        other: by its name it is neither answer, truth nor score.
        count: by its name it counts something.
    """

    def __init__(self, title: str, classes: Sequence[str] = (), *, other: bool = False, count: bool = False) -> None:
        self.title, self.other, self.count = title, other, count
        self._read = name_reader(classes)
        self.distinct: set[str] = set()
        self.cells = 0
        self.numbers = True
        self.whole = True
        self.names = False
        self.every_name = True
        self.lists = False

    def add(self, cell: object) -> None:
        """Take one cell into account."""
        text = text_of(cell)
        if is_no_answer(text):
            return
        self.cells += 1
        if text in self.distinct:
            return
        if len(self.distinct) <= FEW_VALUES:
            self.distinct.add(text)
        is_name = self._read(text) is not None
        self.names |= is_name
        self.every_name &= is_name
        self.lists |= _LIST.fullmatch(text) is not None
        try:
            self.whole &= float(text).is_integer()
        except ValueError:
            self.numbers = False

    @property
    def may_be_answer(self) -> bool:
        """Whether the column may hold classes: by an expression in its name or its cells, or by few distinct values.

        Or the scores of all of them, as a list in each cell.
        """
        if self.lists and not _VECTORS.fullmatch(plain(self.title)):
            return True
        few = 1 < len(self.distinct) <= FEW_VALUES and (self.whole or not self.numbers)
        if self.other:
            repeats = self.count and self.numbers and few and len(self.distinct) < self.cells
            return (self.names and self.every_name) or repeats
        return self.names or few or any(self._read(word) for word in _words(self.title))

    @property
    def may_be_score(self) -> bool:
        """Whether the column may hold a score: numbers that are not all whole."""
        return self.numbers and not self.whole and not self.other


def columns_of(path: Path, header: Sequence[str], answer: str | None, classes: Sequence[str] = ()) -> Columns:
    """Find the columns by their names in the header, in lower case."""

    def fault(what: str, hint: str) -> FerError:
        return FerError(what, hint=hint, path=path, line=1)

    read = name_reader(classes)
    usual = [index for index, name in enumerate(header) if name in ID]
    named = [index for index, name in enumerate(header) if name in ID or plain(name) in IMAGE_NAMES]
    id_columns = [index for index in usual if header[index] == ID[0]] or usual or named
    if len(id_columns) != 1:
        titles = ", ".join(header[index] for index in id_columns)
        what = f"more than one column of ids: {titles}" if id_columns else "no column 'id'"
        raise fault(f"the table has {what}", EXPECTED)
    chosen: int | None = None
    if answer is not None:
        matches = [index for index, name in enumerate(header) if name == answer.strip().lower()]
        if len(matches) != 1 or matches == id_columns:
            problem = "is more than once" if len(matches) > 1 else "is the id" if matches else "is not"
            raise fault(f"column {answer[:40]!r} {problem} in the table", f"its columns are {listed_names(header)}")
        chosen = matches[0]
    scores: dict[str, int] = {}
    declared: set[Form | None] = set()
    rest: list[int] = []
    for index, title in enumerate(header):
        if index in named or index == chosen or title == f"score_{NO_ANSWER}":
            continue
        name, form = _score_title(title, read)
        if name is None:
            prefix = next((prefix for prefix in PREFIXES if title.startswith(prefix)), "")
            if prefix and chosen is None:
                raise fault(f"column {title[:40]!r} names no expression", _classes_hint(classes))
            rest.append(index)
        elif chosen is None:
            if name in scores:
                raise fault(f"columns {header[scores[name]]!r} and {title!r} both mean {name}", "keep one")
            scores[name] = index
            declared.add(form)
    compact = {index: plain(header[index]) for index in rest}
    answers = [index for index, name in compact.items() if _ANSWER.fullmatch(name)]
    has_y = bool(chosen is not None or answers) and "x" not in map(plain, header)
    truths = tuple(index for index, name in compact.items() if _TRUTH.fullmatch(name) or (has_y and name == _TRUE))
    either = tuple(index for index, name in compact.items() if _EITHER.fullmatch(name))
    unknown = tuple(
        index
        for index, name in compact.items()
        if index not in {*answers, *truths, *either} and not _OTHERS.fullmatch(name)
    )
    others = tuple(index for index in compact if index not in {*answers, *truths, *either, *unknown})
    if chosen is None and len(answers) > 1:
        titles = ", ".join(header[index] for index in answers)
        raise fault(f"more than one column of predictions: {titles}", "give --answer COLUMN, or keep one")
    if chosen is None and answers:
        chosen = answers[0]
    if len(scores) == 1:
        raise fault(f"scores of {next(iter(scores))} alone", EXPECTED)
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
    aliases = tuple(index for index in named if index not in {*id_columns, chosen})
    return Columns(tuple(header), id_columns[0], chosen, scores, form, truths, either, unknown, aliases, others)


def values_of(columns: Columns, classes: Sequence[str]) -> dict[int, ColumnValues]:
    """Return what is to be known of the values of each column that no name tells."""
    plains = [plain(name) for name in columns.header]
    counts = _COUNTS - ({"x", "y"} if {"x", "y"} <= set(plains) else set())
    values = {index: ColumnValues(columns.header[index], classes) for index in columns.unknown}
    for index in set(columns.others) & set(columns.wanted):
        values[index] = ColumnValues(columns.header[index], classes, other=True, count=plains[index] in counts)
    return values


def answer_by_default(
    path: Path,
    columns: Columns,
    texts: dict[int, list[str]],
    unknown: Sequence[ColumnValues],
    classes: Sequence[str] = (),
) -> int:
    """Return the column that is the answer where no name says so: one that may be, if it is the only one.

    Raises:
        FerError: there is none, or more than one may be.
    """
    candidates = []
    for index in columns.either:
        values = ColumnValues(columns.header[index], classes)
        for text in texts[index]:
            values.add(text)
        if values.may_be_answer or len(columns.either) == 1:
            candidates.append(index)
    others = [values.title for values in unknown if values.may_be_answer]
    scores = [values.title for values in unknown if values.may_be_score]
    if not others and len(scores) >= max(2, (len(classes) + 1) // 2):
        others = scores
    if len(candidates) == 1 and not others:
        return candidates[0]
    titles = [columns.header[index] for index in candidates] + [title or "(no name)" for title in others]
    if not titles:
        what, hint = f"the table has no predictions: its columns are {listed_names(columns.header)}", EXPECTED
    elif candidates:
        what = f"which column is the answer cannot be told: {', '.join(titles)} may be"
        hint = f"give --answer COLUMN; the columns are {listed_names(columns.header)}"
    else:
        what = f"no column is known as the answer: the columns are {listed_names(columns.header)}"
        hint = f"give --answer {titles[0] if len(titles) == 1 else 'COLUMN'}, or name it 'predicted'"
    raise FerError(what, hint=hint, path=path, line=1)


def _score_title(title: str, read: Callable[[str], str | None]) -> tuple[str | None, Form | None]:
    """Return the expression that the name of a column of scores holds, and the form that it says."""
    if (name := read(title)) is not None:
        return name, None
    for prefix in PREFIXES:
        if title.startswith(prefix) and (name := read(title.removeprefix(prefix))) is not None:
            return name, SCORE_WORDS[prefix.rstrip("_")]
    words = _words(title)
    names = [word for word in words if read(word) is not None]
    rest = [word for word in words if read(word) is None]
    if len(names) != 1 or not all(word in SCORE_WORDS for word in rest):
        return None, None
    return read(names[0]), next((SCORE_WORDS[word] for word in rest if SCORE_WORDS[word] is not None), None)


def _classes_hint(classes: Sequence[str]) -> str:
    names = classes or EXPRESSIONS
    return f"they are {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}"


def _near(title: str) -> str | None:
    """Return the expression that a misspelt name of a column of scores may mean."""
    name = "".join(word for word in _words(title) if word not in SCORE_WORDS)
    near = difflib.get_close_matches(name, [word for word in SYNONYMS if len(word) > 3], n=1, cutoff=0.8)
    return SYNONYMS[near[0]] if near else None


def _words(title: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", title) if word]


def listed_names(header: Sequence[str]) -> str:
    """Return the names of columns for a message."""
    return ", ".join(name or "(no name)" for name in header)[:200]


def text_of(cell: object) -> str:
    """Return a cell as text, empty where nothing stands in it."""
    return "" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else str(cell).strip()


def is_no_answer(text: str) -> bool:
    """Return whether a cell says that there is no answer."""
    return _NO_ANSWER.fullmatch(re.sub(r"[\W_]+", "", text.lower())) is not None
