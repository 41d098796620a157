"""AffectNet (Mollahosseini, Hasani and Mahoor 2017): its csv layout, its layout of .npy files, and class folders."""

from __future__ import annotations

import io
import os
import posixpath
import tokenize
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from fer_cli.artifacts.protocol import Leftover
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.citations import Citation
from fer_cli.core.errors import FerError
from fer_cli.core.progress import Advance, track
from fer_cli.core.user_files import open_file
from fer_cli.datasets.access import Access
from fer_cli.datasets.image_dataset import (
    ImageDatasetLoader,
    ParsedSource,
    check_counts,
    check_jobs,
    class_folders,
    first_inside,
    inside,
    needed_folder,
    one_layout,
    refuse_all,
)
from fer_cli.datasets.image_files import SUFFIXES, Box, native, portable, walk
from fer_cli.datasets.image_list import ImageEntry, path_fault
from fer_cli.datasets.leftovers import unread_columns, unread_members
from fer_cli.datasets.registry import AllowIncomplete, DatasetDefinition, Jobs, Labels, Size, Source
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.tables import open_table

ACCESS: Final = Access(
    title="AffectNet",
    home="http://mohammadmahoor.com/pages/databases/affectnet/",
    how="a professor or the head of a laboratory signs the agreement and sends it in; students ask theirs",
    licence="research only, no part may be redistributed",
    marks="training.csv and validation.csv, train_set/ and val_set/, or train/ and val/",
    layouts=(
        "training.csv, validation.csv, Manually_Annotated_Images (as they are unpacked)",
        "train_set/images/0.jpg, train_set/annotations/0_exp.npy, val_set",
        "train/0..7, val/0..7",
    ),
    notes="the manually annotated images with one of eight expressions; None, Uncertain and No-Face are dropped. "
    "With the csv files each face is cut out by its box. The test set was never released: val is the test split, and "
    "validation is held out from train. 287,651 images are packed on the disk, 112 pixels 10.8 GB, 224 pixels 43 GB.",
)
EMOTIONS: Final = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
"""The expressions by the ids of the source."""
DROPPED: Final = {8: "None", 9: "Uncertain", 10: "No-Face"}
"""Id -> what the annotators said of images without one of the expressions."""
_TRAIN: Final = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
OFFICIAL: Final = {
    "train": dict(zip(EMOTIONS, _TRAIN, strict=True)),
    "val": dict.fromkeys(EMOTIONS, 500),
}
"""Part -> expression -> images, as published."""
LATER: Final = OFFICIAL | {"val": OFFICIAL["val"] | {"contempt": 499}}
"""The same of the later release, as .npy files: it lacks one image of contempt."""
PARTS: Final[dict[str, SplitName]] = {"train": "train", "val": "validation"}

_LISTS: Final = "Manually_Annotated_file_lists"
_IMAGES: Final = "Manually_Annotated_Images"
_TABLES: Final = {"train": "training.csv", "val": "validation.csv"}
_EMOTION_IDS: Final = {str(number): name for number, name in enumerate(EMOTIONS)}
_DROPPED_IDS: Final = {str(number): reason for number, reason in DROPPED.items()}
_NEVER_READ: Final = (
    *("Automatically_Annotated", "Automatically_Annotated_Images", "Automatically_[aA]nnotated_file_lists"),
    *("automatically_annotated.csv", "*_set/annotations/*_val.npy", "*_set/annotations/*_aro.npy"),
    "*_set/annotations/*_lnd.npy",
)
_UNREAD_COLUMNS: Final = ("facial_landmarks", "valence", "arousal")
_BOX: Final = ("face_x", "face_y", "face_width", "face_height")
_EXP: Final = "_exp.npy"
_NPY_BYTES: Final = 4096  # an id takes 140
_DIGITS: Final = 4  # of an expression's id, leading zeros too
_NPY_FAULTS: Final = (SystemError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, tokenize.TokenError)
_CLASSES: Final = f"0 to 7, or {', '.join(EMOTIONS)}; other names or numbers: --labels"


class _Place(NamedTuple):
    """The row of an image; ``without`` one of the expressions."""

    part: str
    line: int
    without: bool


class AffectNet(ImageDatasetLoader):
    """AffectNet's manually annotated images, eight expressions; val is reported on.

    Args:
        source: the folder that holds one of the layouts.
        allow_incomplete: take a source that lacks images or a whole part.
        labels: what the numbers or names of classes mean, where they are not the official ones.
        size: resize every image to a square of this side in pixels; by default their own size if they have one,
            else 112.
        jobs: threads that decode.

    Raises:
        FerError: the source is not there or not complete, or a file, a name or a line in it is at fault.
    """

    def __init__(
        self,
        *,
        source: Source,
        allow_incomplete: AllowIncomplete = False,
        labels: Labels = None,
        size: Size = None,
        jobs: Jobs = None,
    ) -> None:
        check_jobs(jobs)
        meanings = SourceLabels("AffectNet", _EMOTION_IDS, labels)
        names = list(_TABLES.values())
        lists = first_inside(source, *[(name,) for name in names], *[(_LISTS, name) for name in names])
        arrays = first_inside(source, ("train_set",), ("val_set",))
        folders = first_inside(source, ("train",), ("val",))
        layouts = {"csv lists": lists, "train_set/ and val_set/": arrays, "train/ and val/": folders}
        layout = one_layout(source, layouts, ACCESS)
        if layout == "csv lists":
            found = read_lists(source, (lists or source).parent, meanings)
        elif layout == "train_set/ and val_set/":
            found = read_arrays(source, meanings)
        else:
            found = read_folders(source, meanings)
        found.source, found.never_read = source, _NEVER_READ
        later = layout != "csv lists" and found.counts.get("val") == LATER["val"]
        official = LATER if later else OFFICIAL
        missing = check_counts("AffectNet", source, found.counts, official, allow=allow_incomplete, labels=meanings)
        super().__init__(
            "affectnet", EMOTIONS, found, family="affectnet", missing=missing, size=size, jobs=jobs, labels=meanings
        )


def read_lists(source: Path, lists: Path, meanings: SourceLabels) -> ParsedSource:
    """Read ``training.csv`` and ``validation.csv``; each face is cut out of its image by the box in its row.

    Raises:
        FerError: the first row at fault, with the number of the others.
    """
    images = first_inside(source, (_IMAGES,), ("Manually_Annotated", _IMAGES))
    images = images or needed_folder(source, _IMAGES)
    tables = {part: table for part, name in _TABLES.items() if (table := inside(lists, name)) is not None}
    items: list[ImageEntry] = []
    faults: list[FerError] = []
    dropped: Counter[str] = Counter()
    known: list[Path] = []
    leftovers: list[Leftover] = []
    first: dict[str, _Place] = {}
    with track("read affectnet", None, "rows") as advance:
        for part, table in tables.items():
            leftovers += _read_table(part, table, images, meanings, items, dropped, known, first, faults, advance)
    refuse_all(faults)
    return ParsedSource(
        root=images,
        layout="csv lists",
        items=sorted(items, key=lambda item: (item.split or "", item.path)),
        parts=PARTS,
        label_rule="AffectNet manual labels",
        faces="cut out by the boxes of the csv: no alignment",
        labels={f"{part} labels": table for part, table in tables.items()},
        tables=tables,
        leftovers=leftovers,
        dropped={reason: dropped[reason] for reason in DROPPED.values() if dropped[reason]},
        known=known,
    )


def _read_table(
    part: str,
    table: Path,
    images: Path,
    meanings: SourceLabels,
    items: list[ImageEntry],
    dropped: Counter[str],
    known: list[Path],
    first: dict[str, _Place],
    faults: list[FerError],
    advance: Advance,
) -> list[Leftover]:
    """Add the rows of one csv to ``items``, ``faults``, or ``dropped`` and ``known``; ``first`` is path -> its row.

    Returns:
        The columns, and the other files of an archive, that are not read.
    """
    columns = {"path": ("subdirectory_filepath",), "label": ("expression",), **{name: (name,) for name in _BOX}}
    opened = open_table(table, columns)
    wanted = [opened.columns[name] for name in ("path", "label", *_BOX)]
    leftovers = unread_columns(table, opened.header, wanted, _UNREAD_COLUMNS)
    for line, cells in opened.rows:
        advance()
        text, label, *numbers = (cells[column] for column in wanted)
        path = native(images, posixpath.normpath(text)) if text else ""
        without = label in _DROPPED_IDS and not meanings.gives(label)
        other = first.setdefault(path, _Place(part, line, without)) if path else None
        if without and (other is None or other.without):
            dropped[_DROPPED_IDS[label]] += 1
            known.append(images / path)
            continue
        expression = meanings.meaning(label, names=False)
        if expression is None and not without:
            what = f"unknown expression id {label[:40]!r}"
            fault = what, "AffectNet has 0 to 10: use the original list, or give --labels"
        elif other is not None and (other.part, other.line) != (part, line):
            where = f"line {other.line} of {_TABLES[other.part]}"
            fault = f"{path!r} is already in {where}", "keep one row per image"
        elif (box := _box(numbers)) is None:
            what = f"{','.join(numbers)[:40]!r} is not a box"
            fault = what, "face_x, face_y, face_width and face_height are whole numbers of pixels"
        elif bad := path_fault(images, path):
            fault = bad
        else:
            assert expression is not None
            name = portable(path).rpartition(".")[0]
            items.append(ImageEntry(path, part, expression, line, id=name, box=box))
            continue
        faults.append(FerError(fault[0], hint=fault[1], path=table, line=line))
    return leftovers + unread_members(table, opened.passed).leftovers()


def _box(cells: Iterable[str]) -> Box | None:
    try:
        left, top, width, height = (int(cell) for cell in cells)
    except ValueError:
        return None
    return None if width < 1 or height < 1 else (left, top, left + width, top + height)


def read_arrays(source: Path, meanings: SourceLabels) -> ParsedSource:
    """List ``train_set/images/0.jpg`` with the id in ``train_set/annotations/0_exp.npy``, and the same in ``val_set``.

    Raises:
        FerError: the first file at fault, with the number of the others.
    """
    items: list[ImageEntry] = []
    faults: list[FerError] = []
    labels: dict[str, Path] = {}
    dropped: Counter[str] = Counter()
    known: list[Path] = []
    with track("read affectnet", None, "annotations") as advance:
        for part in PARTS:
            folder = inside(source, f"{part}_set")
            if folder is None:
                continue
            pictures = needed_folder(folder, "images")
            annotations = needed_folder(folder, "annotations")
            with os.scandir(annotations) as entries:  # four files an image: no list of all is kept
                named = {entry.name.removesuffix(_EXP) for entry in entries if entry.name.endswith(_EXP)}
            for name in walk(pictures):
                advance()
                stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix.lower()
                annotation = annotations / f"{stem}{_EXP}"
                if suffix not in SUFFIXES or "/" in name:
                    faults.append(FerError("is not an image of AffectNet", hint="move it out", path=pictures / name))
                elif stem not in named:
                    what = f"has no {part}_set/annotations/{stem}{_EXP}"
                    faults.append(FerError(what, hint="unpack the annotations again", path=pictures / name))
                elif (number := read_id(annotation, faults)) is not None:
                    labels[f"{part} {annotation.name}"] = annotation
                    path = f"{part}_set/images/{name}"
                    if number in DROPPED and not meanings.gives(str(number)):
                        dropped[DROPPED[number]] += 1
                        known.append(pictures / name)
                    elif (expression := meanings.meaning(str(number))) is not None:
                        items.append(ImageEntry(path, part, expression, id=f"{part}/{stem}"))
                    else:
                        what = f"unknown expression id {number}"
                        faults.append(FerError(what, hint="give its meaning with --labels", path=annotation))
                named.discard(stem)
            for stem in named:
                what, place = f"labels {part}_set/images/{stem}.jpg, which does not exist", annotations
                faults.append(FerError(what, hint="unpack the images again", path=place / f"{stem}{_EXP}"))
    refuse_all(faults)
    return ParsedSource(
        root=source,
        layout="npy",
        items=sorted(items, key=lambda item: item.path),
        parts=PARTS,
        label_rule="AffectNet manual labels",
        faces="cropped by the authors",
        labels=labels,
        dropped={reason: dropped[reason] for reason in DROPPED.values() if dropped[reason]},
        known=known,
    )


def read_id(path: Path, faults: list[FerError]) -> int | None:
    """Return the id in an ``.npy`` file of one number, or of one number as text, as the authors wrote them.

    The header is looked at first: nothing is unpickled, and no file asks for more memory than it has bytes. What is
    wrong is added to ``faults``, and None returned.
    """
    try:
        value = _one_value(path)
    except FerError as error:
        faults.append(error)
        return None
    text = str(value)
    digits = text.removesuffix(".0")
    number = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS else -1
    if not 0 <= number <= max(DROPPED):
        what = f"unknown expression id {text[:40]!r}"
        faults.append(FerError(what, hint="AffectNet has 0 to 10: unpack the annotations again", path=path))
        return None
    return number


def _one_value(path: Path) -> object:
    hint = "unpack the annotations again"
    try:
        with open_file(path) as file:
            data = io.BytesIO(file.read(_NPY_BYTES + 1))
    except OSError as error:
        raise FerError(f"cannot be read: {error.strerror}", hint="check the file", path=path) from None
    if data.getbuffer().nbytes > _NPY_BYTES:
        raise FerError("is too large for one number", hint=hint, path=path)
    try:
        read = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
        header = read.get(npy_format.read_magic(data))
        if header is None:
            raise ValueError("unknown version of the format")
        shape, _, dtype = header(data)
        if dtype.kind not in "iufUS":
            kind = "an object" if dtype.hasobject else f"{dtype}"
            raise FerError(f"holds {kind}, not a number", hint=hint, path=path)
        if shape not in {(), (1,)}:
            raise FerError(f"holds values of shape {shape}, not one number", hint=hint, path=path)
        value = np.frombuffer(data.read(), dtype=dtype, count=1)[0]
        return value.decode() if isinstance(value, bytes) else value
    except _NPY_FAULTS as error:
        raise FerError(f"not a readable .npy file ({error})", hint=hint, path=path) from None


def read_folders(source: Path, meanings: SourceLabels) -> ParsedSource:
    """List ``train/0/image`` or ``train/neutral/image``, and the same in ``val``.

    Raises:
        FerError: the first file at fault, with the number of the others.
    """
    items: list[ImageEntry] = []
    faults: list[FerError] = []
    for part in PARTS:
        if folder := inside(source, part):
            listed = class_folders(folder, f"{part}/", meanings.meaning, faults, _CLASSES)
            items += [ImageEntry(path, part, label) for path, label in listed]
    refuse_all(faults)
    return ParsedSource(
        root=source,
        layout="class folders",
        items=sorted(items, key=lambda item: item.path),
        parts=PARTS,
        label_rule="AffectNet manual labels",
        faces="cropped by those who made this layout",
    )


MOLLAHOSSEINI_2017: Final = Citation(
    "mollahosseini-2017-affectnet", "misc", "AffectNet", ("Mollahosseini", "Hasani", "Mahoor"), 2017
)
DATASET: Final = DatasetDefinition(
    summary="AffectNet: csv lists, .npy files, or folders of ids.",
    help=ACCESS.help(),
    open=AffectNet,
    citations=(MOLLAHOSSEINI_2017,),
)
