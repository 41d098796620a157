"""RAF-DB, the basic set (Li, Deng and Du 2017): the official layout, and the common one of numbered class folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from fer_cli.artifacts.protocol import Leftover
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.citations import Citation
from fer_cli.core.errors import FerError
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
from fer_cli.datasets.image_files import walk
from fer_cli.datasets.image_list import ImageEntry
from fer_cli.datasets.leftovers import unread_columns, unread_members
from fer_cli.datasets.registry import AllowIncomplete, DatasetDefinition, Jobs, Labels, Size, Source
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.tables import open_table, text_lines

ACCESS: Final = Access(
    title="RAF-DB",
    home="http://www.whdeng.cn/RAF/model1.html",
    how="a member of a university or institute asks for the password by e-mail, from an address there",
    licence="non-commercial research only, no part may be redistributed",
    marks="EmoLabel/, or train/ and test/, also in basic/ and DATASET/",
    layouts=(
        "EmoLabel/list_patition_label.txt, Image/aligned (also in basic/)",
        "train/1..7, test/1..7, train_labels.csv, test_labels.csv (also in DATASET/)",
    ),
    notes="the 15,339 images of the basic set, aligned, 100x100. Gender, race and age go into the index as flags "
    "where Annotation/manual is unpacked. There is no validation split: one is held out from train.",
)
EMOTIONS: Final = {
    "1": "surprise", "2": "fear", "3": "disgust", "4": "happy", "5": "sad", "6": "anger", "7": "neutral",
}  # fmt: skip
"""The expressions by the ids of the source."""
_COUNTS: Final = {
    "train": (1290, 281, 717, 4772, 1982, 705, 2524),
    "test": (329, 74, 160, 1185, 478, 162, 680),
}
OFFICIAL: Final = {part: dict(zip(EMOTIONS.values(), counts, strict=True)) for part, counts in _COUNTS.items()}
"""Part -> expression -> images, as published."""
PARTS: Final[dict[str, SplitName]] = {"train": "train", "test": "test"}

_NAME: Final = re.compile(r"(train_\d{5}|test_\d{4})\.jpg")
_ALIGNED: Final = re.compile(r"(train_\d{5}|test_\d{4})_aligned\.(?:jpg|png)")
_LABELS: Final = "list_patition_label.txt"  # their spelling
_ATTRIBUTES: Final = (
    ("gender", ("male", "female", "unsure")),
    ("race", ("caucasian", "african-american", "asian")),
    ("age", ("0-3", "4-19", "20-39", "40-69", "70+")),
)
_LANDMARKS: Final = 5  # lines before the attributes
_NEVER_READ: Final = ("Image/original", "Annotation/auto", "Annotation/boundingbox", "compound")
_IDS: Final = "RAF-DB basic has 1 to 7"
_CLASSES: Final = f"1 to 7, or {', '.join(EMOTIONS.values())}; other names or numbers: --labels"


class RafDb(ImageDatasetLoader):
    """RAF-DB basic with its own labels.

    Args:
        source: the folder of either layout, or the one that holds ``basic/`` or ``DATASET/``.
        allow_incomplete: take a source that lacks images or a whole part.
        labels: what the numbers or names of classes mean, where they are not the official ones.
        size: resize every image to a square of this side in pixels; by default their own 100.
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
        meanings = SourceLabels("RAF-DB", EMOTIONS, labels)
        lists = first_inside(source, ("EmoLabel",), ("basic", "EmoLabel"))
        folders = first_inside(source, ("train",), ("test",), ("DATASET", "train"), ("DATASET", "test"))
        layout = one_layout(source, {"EmoLabel/": lists, "train/ and test/": folders}, ACCESS)
        if layout == "EmoLabel/":
            found = read_official((lists or source).parent, meanings)
        else:
            found = read_folders((folders or source).parent, source, meanings)
        found.source, found.never_read = source, _NEVER_READ
        missing = check_counts("RAF-DB", source, found.counts, OFFICIAL, allow=allow_incomplete, labels=meanings)
        super().__init__(
            "rafdb",
            tuple(EMOTIONS.values()),
            found,
            family="rafdb",
            missing=missing,
            size=size,
            jobs=jobs,
            labels=meanings,
        )


def read_official(root: Path, meanings: SourceLabels) -> ParsedSource:
    """Read ``EmoLabel/list_patition_label.txt`` and, where they are, the attributes; find every image.

    Raises:
        FerError: the first fault in the order of files and lines, with the number of the others.
    """
    table = first_inside(root, ("EmoLabel", _LABELS), ("EmoLabel", "list_partition_label.txt"))
    if table is None:
        raise FerError("the list of labels is missing", hint="unpack EmoLabel again", path=root / "EmoLabel" / _LABELS)
    folder = needed_folder(root, "Image", "aligned")
    there = set(walk(folder))
    folded = {name.casefold(): name for name in there}
    attributes = inside(root, "Annotation", "manual")
    items: list[ImageEntry] = []
    faults: list[FerError] = []
    first_line: dict[str, int] = {}
    labels = {"labels": table}
    without = 0
    for line, text in text_lines(table):
        words = text.split()
        name = _NAME.fullmatch(words[0]) if words else None
        if fault := _line_fault(words, first_line, line, meanings):
            faults.append(FerError(fault[0], hint=fault[1], path=table, line=line))
        if name is None:
            continue
        stem = name[1]
        picture = next((f"{stem}_aligned{end}" for end in (".jpg", ".png") if f"{stem}_aligned{end}" in there), None)
        if picture is None:
            other = folded.get(f"{stem}_aligned.jpg")
            what = f"names {stem}, which is called {other!r} in Image/aligned"
            hint = "restore its name"
            if other is None:
                what = f"names {stem}.jpg, but {stem}_aligned.jpg is not in Image/aligned"
                hint = "unpack the images again"
            faults.append(FerError(what, hint=hint, path=table, line=line))
            continue
        there.discard(picture)
        flags: tuple[str, ...] = ()
        if attributes is not None:
            annotated = attributes / f"{stem}_manu_attri.txt"
            if annotated.is_file():
                labels[f"attributes {annotated.name}"] = annotated
                flags = read_attributes(annotated, faults)
            else:
                without += 1
        label = meanings.meaning(words[1], names=False) if not fault else None
        if label is not None:
            items.append(
                ImageEntry(
                    f"Image/aligned/{picture}",
                    stem.partition("_")[0],
                    label,
                    line,
                    id=stem,
                    flags=flags,
                )
            )
    hint = "use the complete list of labels, or move the image out of the source"
    faults += [FerError("is not in the list of labels", hint=hint, path=folder / path) for path in there]
    refuse_all(faults)
    found = ParsedSource(
        root=root,
        layout="official",
        items=sorted(items, key=lambda item: item.path),
        parts=PARTS,
        label_rule="RAF-DB basic labels",
        faces="aligned by the authors",
        labels=labels,
    )
    if attributes is None:
        found.warnings.append("no gender, race and age: Annotation/manual is not there")
    elif without:
        what = "1 image has" if without == 1 else f"{without:,} images have"
        found.warnings.append(f"{what} no gender, race and age in Annotation/manual")
    return found


def _line_fault(
    words: Sequence[str], first_line: dict[str, int], line: int, meanings: SourceLabels
) -> tuple[str, str] | None:
    """Return what is wrong with a line of the list and what to do about it, or None."""
    if len(words) != 2:
        return f"the line has {len(words)} fields, not an image and an id", "correct it or take the original list"
    if not _NAME.fullmatch(words[0]):
        return f"{words[0][:40]!r} is not a file name of RAF-DB", "names are train_00001.jpg and test_0001.jpg"
    if meanings.meaning(words[1], names=False) is None:
        return f"unknown label id {words[1][:40]!r}", f"{_IDS}: use the original list, or give --labels"
    if first_line.setdefault(words[0], line) != line:
        return f"{words[0]} is already in line {first_line[words[0]]}", "keep one line per image"
    return None


def read_attributes(path: Path, faults: list[FerError]) -> tuple[str, ...]:
    """Return gender, race and age as flags such as ``gender=female``; what is wrong is added to ``faults``.

    The file holds five lines of landmarks, then one id a line.
    """
    try:
        lines = [(number, text.strip()) for number, text in text_lines(path)]
    except FerError as error:
        faults.append(error)
        return ()
    lines = [row for row in lines if row[1]]
    if len(lines) != _LANDMARKS + len(_ATTRIBUTES):
        what = f"has {len(lines)} lines, not five landmarks, gender, race and age"
        faults.append(FerError(what, hint="unpack Annotation/manual again", path=path))
        return ()
    flags = []
    for (name, values), (number, text) in zip(_ATTRIBUTES, lines[_LANDMARKS:], strict=True):
        if text not in {str(index) for index in range(len(values))}:
            hint = f"it is 0 to {len(values) - 1}: unpack Annotation/manual again"
            faults.append(FerError(f"unknown {name} id {text[:40]!r}", hint=hint, path=path, line=number))
        else:
            flags.append(f"{name}={values[int(text)]}")
    return tuple(flags)


def read_folders(root: Path, source: Path, meanings: SourceLabels) -> ParsedSource:
    """Read ``train/1..7`` and ``test/1..7``, and check them against ``train_labels.csv`` and ``test_labels.csv``.

    Args:
        root: the folder that holds ``train`` and ``test``.
        source: where the tables may lie too.
        meanings: what the folders' names mean.

    Raises:
        FerError: the first fault in the order of files and lines, with the number of the others.
    """
    items: list[ImageEntry] = []
    faults: list[FerError] = []
    labels: dict[str, Path] = {}
    leftovers: list[Leftover] = []
    for part in PARTS:
        folder = inside(root, part)
        listed = [] if folder is None else class_folders(folder, f"{part}/", meanings.meaning, faults, _CLASSES)
        for path, label in listed:
            name = _ALIGNED.fullmatch(PurePosixPath(path).name)
            if name is None or not name[1].startswith(part):
                what = (
                    "is not a file name of RAF-DB"
                    if name is None
                    else f"belongs to {name[1].partition('_')[0]}, not {part}"
                )
                hint = "the names are train_00001_aligned.jpg and test_0001_aligned.jpg; others: fer prepare folder"
                faults.append(FerError(what, hint=hint, path=root / path))
            else:
                items.append(ImageEntry(path, part, label, id=name[1]))
        if table := inside(root, f"{part}_labels.csv") or inside(source, f"{part}_labels.csv"):
            labels[f"{part} labels"] = table
            leftovers += _check_table(table, root, listed, meanings, faults)
    seen: dict[str | None, ImageEntry] = {}
    for item in items:
        if (first := seen.setdefault(item.id, item)) is not item:
            what = f"is also in {first.path.rpartition('/')[0]}/"
            faults.append(FerError(what, hint="keep the right one", path=root / item.path))
    refuse_all(faults)
    return ParsedSource(
        root=root,
        layout="class folders",
        items=sorted(items, key=lambda item: item.path),
        parts=PARTS,
        label_rule="RAF-DB basic labels",
        faces="aligned by the authors",
        labels=labels,
        leftovers=leftovers,
        warnings=["no gender, race and age: this layout has none"],
    )


def _check_table(
    table: Path, root: Path, listed: Sequence[tuple[str, str]], meanings: SourceLabels, faults: list[FerError]
) -> list[Leftover]:
    """Hold a table ``image,label`` against the class folders; add what is wrong to ``faults``.

    Returns:
        The columns, and the other files of an archive, that were not read.
    """
    label_of = {PurePosixPath(path).name: label for path, label in listed}
    opened = open_table(table, {"image": ("image", "path", "filename"), "label": ("label", "emotion")})
    first_line: dict[str, int] = {}
    for line, cells in opened.rows:
        image, label = cells[opened.columns["image"]], cells[opened.columns["label"]]
        first = first_line.setdefault(image, line)
        expression = meanings.meaning(label, names=False)
        if expression is None:
            what, hint = f"unknown label id {label[:40]!r}", f"{_IDS}: correct it, or give --labels"
        elif first != line:
            what, hint = f"{image[:80]!r} is already in line {first}", "keep one row per image"
        elif image not in label_of:
            what, hint = f"names {image[:80]!r}, which is not in a class folder", "add the image"
        elif label_of[image] != expression:
            what = f"{image[:80]!r} is {expression} here and {label_of[image]} by its folder"
            hint = "get the data set again: one of them was modified"
        else:
            continue
        faults.append(FerError(what, hint=hint, path=table, line=line))
    for path, _ in listed:
        if PurePosixPath(path).name not in first_line:
            hint = f"add its row, or move it out of {root.name}"
            faults.append(FerError(f"is not in {table.name}", hint=hint, path=root / path))
    columns = unread_columns(table, opened.header, opened.columns.values())
    return columns + unread_members(table, opened.passed).leftovers()


LI_2019: Final = Citation(
    "li-2019-rafdb",
    "article",
    "Reliable Crowdsourcing and Deep Locality-Preserving Learning for Unconstrained Facial Expression Recognition",
    ("Li, S.", "Deng, W."),
    2019,
    {
        "journal": "IEEE Transactions on Image Processing",
        "volume": "28",
        "number": "1",
        "pages": "356–370",
        "doi": "10.1109/TIP.2018.2868382",
    },
)

DATASET: Final = DatasetDefinition(
    summary="RAF-DB basic: official layout, or folders of ids.",
    help=ACCESS.help(),
    open=RafDb,
    citations=(LI_2019,),
)
