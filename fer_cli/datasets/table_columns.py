"""What the columns of a user's table mean, by their names: read, refused, or passed over and listed."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from fer_cli.core.errors import FerError
from fer_cli.core.labels import SYNONYMS, canonical, is_expression
from fer_cli.datasets.image_files import SUFFIXES, Box
from fer_cli.datasets.split_names import names_split, split_of_name

Meaning = Literal["path", "label", "split", "subject", "sequence"]

NAMES: Final[dict[Meaning, tuple[str, ...]]] = {
    "path": ("path", "image", "file", "filename"),
    "label": ("label", "emotion", "expression", "class"),
    "split": ("split", "usage", "set"),
    "subject": ("subject",),
    "sequence": ("sequence",),
}
"""The names of columns that are always read; two of one meaning are refused."""
_OTHER_NAMES: Final[dict[Meaning, frozenset[str]]] = {
    "path": frozenset(
        {
            *("imagepath", "filepath", "imagefile", "imagename", "img", "imgpath", "imgname", "picture", "photo"),
            *("imagefilename", "relativepath", "relpath", "paths", "images", "files", "filenames", "pic", "imgs"),
        }
    ),
    "label": frozenset(
        {
            *("labels", "emotions", "expressions", "classes", "emotionlabel", "expressionlabel", "classlabel"),
            *("labelname", "emotionname", "expressionname", "classname", "target", "facialexpression", "category"),
        }
    ),
    "split": frozenset({"subset", "partition", "phase", "datasplit", "datasetsplit", "splits", "splitname"}),
    "subject": frozenset(
        {
            *("subjectid", "subjectname", "subj", "subjid", "subjects", "person", "personid", "personname"),
            *("identity", "identityid", "participant", "participantid", "actor", "actorid", "individual"),
            *("individualid", "speaker", "speakerid", "sitter", "idperson", "idsubject"),
        }
    ),
    "sequence": frozenset({"sequenceid", "seq", "seqid", "video", "videoid", "videoname", "clip", "clipid", "film"}),
}
"""Names without blanks, dots, hyphens and underscores that are read where no column has one of ``NAMES``."""
IMAGE_NAMES: Final = frozenset({*NAMES["path"], *_OTHER_NAMES["path"], "name"}) - {"paths", "images", "files", "imgs"}
"""Names, without the same, of a column that names one image."""
A_CLASS: Final = "a class"
_LOOKS_LIKE: Final[dict[str, frozenset[str]]] = {
    "a person": frozenset(
        {
            *("subject", "subjects", "subj", "person", "identity", "participant", "actor", "individual"),
            *("speaker", "sitter", "subjectid", "personid", "patient"),
        }
    ),
    "a film": frozenset({"sequence", "seq", "video", "clip", "film", "movie"}),
    "a split": frozenset({"split", "splits", "subset", "partition", "usage", "fold", "folds", "phase", "set"}),
    "a box": frozenset({"box", "bbox", "bboxes", "boxes", "rect", "roi", "xmin", "ymin", "xmax", "ymax", "cx", "cy"}),
    "a score": frozenset(
        {
            *("score", "scores", "confidence", "conf", "prob", "probs", "probability", "probabilities", "logit"),
            *("logits", "vote", "votes"),
        }
    ),
    A_CLASS: frozenset({"label", "labels", "emotion", "emotions", "expression", "class", "classes", "target"}),
}
"""What a column that is not read must not be -> the words of its name that say so."""
_WHOLE_NAMES: Final[dict[str, frozenset[str]]] = {
    "a person": frozenset(
        {
            *("user", "users", "userid", "username", "owner", "pid", "people", "celebrity", "volunteer", "proband"),
            *("persona", "sujet", "client", "donor", "group", "groups", "groupid"),
        }
    ),
    "a film": frozenset({"session", "sessions", "sessionid"}),
    "a box": frozenset({"xcenter", "ycenter", "xcentre", "ycentre", "centerx", "centery", "centrex", "centrey"}),
    "a split": frozenset({"cv", "kfold", "cvfold", "holdout", "testset", "trainset", "istrain", "istest", "isval"}),
}
"""The same for whole names of columns, without what is neither letter nor digit."""
_IDS: Final = frozenset({"id", "name"})
"""Names of columns that mean a row, or where their values repeat, a person."""
_FOUR: Final = re.compile(r"[\[(]?\s*[-+]?\d+(?:\.\d+)?(?:[\s,;]+[-+]?\d+(?:\.\d+)?){3}\s*[\])]?")
_NEAR: Final = 0.85  # of difflib's ratio: that of hapiness and happiness; danger and anger have more, and are another
_SIDES: Final = {
    "left": ("left", "x", "x1", "x0", "xmin", "minx"),
    "top": ("top", "y", "y1", "y0", "ymin", "miny"),
    "right": ("right", "x2", "xmax", "maxx"),
    "bottom": ("bottom", "y2", "ymax", "maxy"),
    "width": ("width", "w"),
    "height": ("height", "h"),
}
_PREFIX: Final = re.compile(r"^(?:face|bbox|boundingbox|box|rect|roi|bb)?(.*?)(?:face|bbox|box)?$")
BOX_FORM: Final = "give left, top and right, bottom, or x, y and width, height, in pixels"


@dataclass(frozen=True, slots=True)
class BoxColumns:
    """Where a face's box stands in a row; ``extent``: the last two are its width and height."""

    columns: tuple[int, int, int, int]
    extent: bool

    def box(self, cells: Sequence[str]) -> Box | str:
        """Return the box of a row to the nearest pixel, or what is wrong with it."""
        texts = [cells[column] for column in self.columns]
        try:
            numbers = [float(text) for text in texts]
        except ValueError:
            numbers = [math.nan]
        if not all(math.isfinite(number) and abs(number) < 1e6 for number in numbers):
            return f"{', '.join(texts)[:60]!r} is not a box"
        if max(numbers) <= 1 and min(numbers) >= 0:
            return f"the box {', '.join(texts)[:60]!r} is in shares of the image"
        left, top, right, bottom = numbers
        if self.extent:
            right, bottom = left + right, top + bottom
        box = round(left), round(top), round(right), round(bottom)
        return box if box[2] > box[0] and box[3] > box[1] else f"the box {', '.join(texts)[:60]!r} is empty"


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns of each meaning, the box, more columns of classes, and what is not read.

    ``read``: what is read -> the column's name.
    ``codes`` say the label once more, as another name or a number: each of their values must stand for one label.
    """

    names: Mapping[Meaning, tuple[str, ...]]
    read: Mapping[str, str]
    box: BoxColumns | None
    codes: tuple[str, ...]
    unread: tuple[str, ...]

    def __str__(self) -> str:
        read = [name if name == meaning else f"{name} ({meaning})" for meaning, name in self.read.items()]
        return f"{', '.join(read)}; not read: {', '.join(self.unread) or 'none'}"


def plain(name: str) -> str:
    """Return a column's name as letters and digits alone."""
    return re.sub(r"[\W_]+", "", name.lower())


def is_known(name: str) -> bool:
    """Tell whether a column of this name, in lower case, is one that is read."""
    return any(name in names for names in NAMES.values()) or any(plain(name) in of for of in _OTHER_NAMES.values())


def columns_of(table: Path, header: Sequence[str], ignored: Sequence[str]) -> Columns:
    """Tell what the columns of a header mean.

    Args:
        table: the file, for messages.
        header: its names, in lower case.
        ignored: names of columns that are passed over on purpose.

    Raises:
        FerError: a column that is to be ignored is not there, a box lacks a side, or a column looks like a person, a
            film, a split, a box, a score or a class, and is none that is read.
    """
    if absent := [name for name in ignored if name not in header]:
        what = f"--ignore-columns: the header has no column {absent[0]!r}"
        raise FerError(what, hint=f"it has {', '.join(header)[:200]}", path=table, line=1)
    there = [name for name in header if name not in ignored]
    names: dict[Meaning, tuple[str, ...]] = {}
    for meaning, usual in NAMES.items():
        others = tuple(name for name in dict.fromkeys(there) if plain(name) in _OTHER_NAMES[meaning])
        names[meaning] = tuple(name for name in usual if name in there) or others or usual
    read = {name for several in names.values() for name in several}
    box, sides = box_columns(table, header, set(ignored) | read)
    codes: list[str] = []
    unread: list[str] = []
    for name in header:
        if name in read or name in sides:
            continue
        looks = None if name in ignored else column_like(name)
        if looks == A_CLASS:
            codes.append(name)
        elif looks is None:
            unread.append(name)
        else:
            raise _unread(table, name, looks)
    columns: dict[str, str] = {meaning: name for meaning, several in names.items() for name in several if name in there}
    if box is not None:
        columns["box"] = ", ".join(header[index] for index in box.columns)
    if codes:
        columns["held against the label"] = ", ".join(codes)
    return Columns(names, columns, box, tuple(codes), tuple(unread))


def looks_like(name: str) -> str | None:
    """Return what the name of a column or a folder, in lower case, says that it is, as far as that must not be lost."""
    if name in SYNONYMS and len(name) > 2:
        return "the score of a class"
    words = {*re.split(r"[\W_]+|(?<=\D)(?=\d)|(?<=\d)(?=\D)", name), plain(name)}
    return next((what for what, marks in _LOOKS_LIKE.items() if words & marks), None)


def column_like(name: str) -> str | None:
    """Return what the name of a column, in lower case, says that it is: :func:`looks_like`, and what tables have."""
    if looks := looks_like(name):
        return looks
    words = [word for word in re.split(r"[\W_\d]+", name) if len(word) > 2]
    if any(is_expression(word) for word in words) or _is_misspelt(plain(name)):
        return "the score of a class"
    if names_split(name):
        return "a split"
    return next((what for what, names in _WHOLE_NAMES.items() if plain(name) in names), None)


def _is_misspelt(name: str) -> bool:
    near = difflib.get_close_matches(name, [word for word in SYNONYMS if len(word) > 4], n=1, cutoff=_NEAR)
    return bool(near) and name[:1] == near[0][:1]


def _unread(table: Path, name: str, looks: str) -> FerError:
    return FerError(
        f"column {name!r} looks like {looks} and is not read",
        hint=f"rename it to what it is (see the guide), or pass over it with --ignore-columns {name}",
        path=table,
        line=1,
    )


class UnreadValues:
    """What the cells of columns that are not read say that they are, whatever their names.

    Args:
        columns: the name of each and its place in a row; columns that are passed over on purpose are none of them.
    """

    def __init__(self, columns: Mapping[str, int]) -> None:
        self._columns = dict(columns)
        self._rows = Counter[str]()
        self._marks = {name: Counter[str]() for name in columns}
        self._distinct = {name: set[str]() for name in columns}

    def add(self, cells: Sequence[str], label: str) -> None:
        """Take a row into account, of which the class is known."""
        for name, place in self._columns.items():
            text = cells[place]
            if not text:
                continue
            self._rows[name] += 1
            self._distinct[name].add(text)
            marks = self._marks[name]
            if is_expression(text) and len(text) > 2:
                marks[A_CLASS] += 1
                marks["label"] += canonical(text) == label
            elif split_of_name(text) is not None:
                marks["a split"] += 1
            elif _FOUR.fullmatch(text):
                marks["a box"] += 1
            elif PurePosixPath(text).suffix.lower() in SUFFIXES:
                marks[_PICTURE] += 1

    def refuse(self, table: Path) -> None:
        """Refuse a column all of whose cells are splits, boxes, other classes than the label, or images that repeat.

        Raises:
            FerError: there is one.
        """
        for name, rows in self._rows.items():
            marks, repeats = self._marks[name], len(self._distinct[name]) < rows
            looks = next((what for what, count in marks.items() if what != "label" and count == rows), None)
            if looks == A_CLASS and marks["label"] == rows:
                continue  # the label once more
            if looks == _PICTURE and not repeats:
                continue
            if looks is None and plain(name) in _IDS and repeats:
                looks = "a person"
            if looks is not None:
                raise _unread(table, name, looks)


_PICTURE: Final = "the image that several rows come from"


def box_columns(table: Path, header: Sequence[str], taken: set[str]) -> tuple[BoxColumns | None, set[str]]:
    """Return the columns of a box, if there is one, and their names; ``taken`` are columns that are none of it.

    Raises:
        FerError: a side of it is lacking or there twice, or there seem to be several.
    """
    sides: dict[str, list[int]] = {}
    plains = [plain(name) for name in header]
    several = {"x3", "y3"} & set(plains)  # x0, x1, ... are landmarks
    corners = [name for name in header if plain(name) == "x4" and name not in taken]
    if corners and not {"x0", "x5"} & set(plains):
        what = f"columns to {corners[0]!r} look like four corners of a face, or two boxes, and are not read"
        raise FerError(what, hint=f"{BOX_FORM}, or use --ignore-columns", path=table, line=1)
    for index, name in enumerate(header):
        match = _PREFIX.match(plains[index])
        short = match[1] if match else ""
        if name in taken or several:
            continue
        if short in {"x1", "y1"} and f"{short[0]}0" in {_short(other) for other in plains}:
            sides.setdefault("right" if short == "x1" else "bottom", []).append(index)
        elif side := next((side for side, shorts in _SIDES.items() if short in shorts), None):
            sides.setdefault(side, []).append(index)
    if "left" not in sides and "top" not in sides and not {"right", "bottom"} & sides.keys():
        return None, set()  # width and height alone are the picture's
    ends = ("right", "bottom") if "right" in sides and "bottom" in sides else ("width", "height")
    wanted = ("left", "top", *ends)
    if double := next((side for side in wanted if len(sides.get(side, [])) > 1), None):
        both = " and ".join(repr(header[index]) for index in sides[double])
        raise FerError(f"two columns are the {double} of a box: {both}", hint="keep one", path=table, line=1)
    if lacks := [side for side in wanted if side not in sides]:
        has = ", ".join(repr(header[indices[0]]) for indices in sides.values())
        what = f"the box of a face lacks its {' and '.join(lacks)}: there are {has}"
        raise FerError(what, hint=f"{BOX_FORM}, or use --ignore-columns", path=table, line=1)
    left, top, right, bottom = (sides[side][0] for side in wanted)
    columns = (left, top, right, bottom)
    return BoxColumns(columns, ends[0] == "width"), {header[index] for index in columns}


def _short(name: str) -> str:
    match = _PREFIX.match(name)
    return match[1] if match else name
