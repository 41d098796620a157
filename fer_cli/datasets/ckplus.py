"""CK+ (Lucey et al. 2010): the official layout of sequences, and the common one of 48x48 pictures in class folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Final

from fer_cli.core.errors import FerError
from fer_cli.datasets.access import Access
from fer_cli.datasets.ckextended import CkExtended, find_table
from fer_cli.datasets.image_dataset import (
    ImageDatasetLoader,
    ParsedSource,
    check_counts,
    check_jobs,
    class_folders,
    first_inside,
    needed_folder,
    one_layout,
    refuse_all,
)
from fer_cli.datasets.image_files import SUFFIXES, walk
from fer_cli.datasets.image_list import WHOLE, ImageEntry
from fer_cli.datasets.leftovers import listed
from fer_cli.datasets.records import Block, Loader, Pictured
from fer_cli.datasets.registry import AllowIncomplete, DatasetDefinition, Jobs, Labels, Option, Size, Source
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.tables import text_lines
from fer_cli.faces.aligned import DEFAULT_DETECTION, RULE, FaceDetection

ACCESS: Final = Access(
    title="CK+",
    home="http://www.jeffcohn.net/Resources/",
    how="a member of a university or institute signs the agreement and sends it in",
    licence="non-commercial research only, only the subjects that gave consent may be printed",
    marks="cohn-kanade-images/ with Emotion/, CK+48/ or its class folders, ckextended.csv",
    layouts=(
        "cohn-kanade-images/S005/001, Emotion/S005/001",
        "anger/S010_004_00000017.png ... surprise/ (also in CK+48/)",
        "ckextended.csv",
    ),
    notes="the last three frames of the 327 labelled sequences, seven classes without neutral. Test (20%) and "
    "validation are held out by subject, so nobody is in two splits; ckextended.csv names no subjects: its own split "
    "is kept, with a warning. The official frames are taken whole: faces are not cut out.",
)
EMOTIONS: Final = {
    "1": "anger", "2": "contempt", "3": "disgust", "4": "fear", "5": "happy", "6": "sad", "7": "surprise",
}  # fmt: skip
"""The expressions by the ids of the source; 0 is neutral, which no labelled sequence is."""
SEQUENCES: Final = dict(zip(EMOTIONS.values(), (45, 18, 59, 25, 69, 28, 83), strict=True))
"""Expression -> labelled sequences, as published: 327."""
LAST: Final = 3
"""Frames that are taken from the end of a labelled sequence."""

SEQUENCE_LAYOUT: Final = "sequences"
"""The official layout: raw frames of 640x490 pixels."""

_CLASSES: Final = f"{', '.join(EMOTIONS.values())}; other names or numbers: --labels"
_ID: Final = re.compile(r"([0-7])(?:\.0*)?(?:e[+-]?0+)?", re.IGNORECASE)
_SUBJECT: Final = re.compile(r"S\d{3}")
_SEQUENCE: Final = re.compile(r"\d{3}")
_NEVER_READ: Final = ("FACS", "FACS_labels", "Landmarks")
_EMOTION: Final = re.compile(r"((S\d{3})_(\d{3}))_(\d{8})_emotion\.txt")
_FRAME: Final = re.compile(r"((S\d{3})_(\d{3}))_(\d{8})\.(?:png|jpg|tiff?)", re.IGNORECASE)


def open_ckplus(
    *,
    source: Source,
    neutral: Annotated[bool, Option("Add the first frame of each labelled sequence as neutral.")] = False,
    contempt: Annotated[bool, Option("With or without contempt.", "--contempt/--no-contempt")] = True,
    align: Annotated[
        bool, Option("Align the face in each frame of the official layout.", "--align/--no-align")
    ] = False,
    detection: FaceDetection = DEFAULT_DETECTION,
    allow_incomplete: AllowIncomplete = False,
    labels: Labels = None,
    size: Size = None,
    jobs: Jobs = None,
) -> Loader:
    """Open CK+ in whichever layout it is.

    Args:
        source: the folder that holds a layout, or ``ckextended.csv``.
        neutral: take the first frame of each sequence as neutral.
        contempt: take the sequences of contempt.
        align: align the face in each raw frame.
        detection: how faces are found.
        allow_incomplete: take a source that lacks sequences or frames.
        labels: what the numbers or names of classes mean, where they are not the official ones.
        size: resize every picture to a square of this side in pixels; ``ckextended.csv`` stays as it is.
        jobs: threads that decode.

    Raises:
        FerError: the source is not there or not complete, there are several, or a file or a name is at fault.
    """
    loader = _open(
        source,
        neutral=neutral,
        contempt=contempt,
        allow_incomplete=allow_incomplete,
        labels=labels,
        size=size,
        jobs=jobs,
    )
    if not align:
        detection.refuse_unused()
        return loader
    if isinstance(loader, CkPlus) and loader.raw:
        return detection.align(loader, size=size, jobs=jobs)
    raise FerError("no raw frames are here", hint="give the official layout, or omit --align", path=source)


def _open(
    source: Path,
    *,
    neutral: bool,
    contempt: bool,
    allow_incomplete: bool,
    labels: str | None,
    size: int | None,
    jobs: int | None,
) -> Loader:
    check_jobs(jobs)
    meanings = SourceLabels("CK+", EMOTIONS, labels)
    if source.is_file():
        layout, table, pictures = "ckextended.csv", source, None
    else:
        images = first_inside(source, ("cohn-kanade-images",), ("extended-cohn-kanade-images", "cohn-kanade-images"))
        emotions = first_inside(source, ("Emotion",), ("Emotion_labels", "Emotion"))
        pictures = first_inside(source, ("CK+48",)) or (source if _has_classes(source, meanings) else None)
        found_table = find_table(source)
        layouts = {
            "Emotion/": emotions or images,
            "class folders of 48x48 pictures": pictures,
            "ckextended.csv": found_table,
        }
        layout = one_layout(source, layouts, ACCESS)
        table = found_table or source
    if layout == "ckextended.csv":
        if size is not None:
            raise FerError("ckextended.csv is not resized", hint="omit --size", path=table)
        name = artifact_name(neutral=neutral, contempt=contempt)
        return CkExtended(
            table=table,
            folder=source if source.is_dir() else None,
            name=name,
            neutral=neutral,
            contempt=contempt,
            allow_incomplete=allow_incomplete,
            labels=labels,
        )
    expected = {name: LAST * number for name, number in SEQUENCES.items() if contempt or name != "contempt"}
    if layout == "Emotion/":
        found = read_sequences(source, meanings, neutral=neutral, contempt=contempt)
        if neutral:
            expected["neutral"] = sum(expected.values()) // LAST
    else:
        if neutral:
            raise FerError(
                "this layout has no first frames, so none is neutral",
                hint="omit --neutral, or give the official layout",
                path=source,
            )
        found = read_folders(pictures or source, meanings, contempt=contempt)
    found.source, found.never_read = source, _NEVER_READ
    missing = check_counts("CK+", source, found.counts, {WHOLE: expected}, allow=allow_incomplete, labels=meanings)
    return CkPlus(found, missing=missing, size=size, jobs=jobs, neutral=neutral, contempt=contempt, labels=meanings)


def artifact_name(*, neutral: bool, contempt: bool) -> str:
    """Return ``ckplus``, with what tells other sets of classes apart behind it."""
    return "ckplus" + "-neutral" * neutral + "-no-contempt" * (not contempt)


class CkPlus(ImageDatasetLoader):
    """CK+ as pictures; test and validation are carved by person.

    Args:
        found: the source, read and checked.
        missing: what it lacks, in words, where that was allowed.
        size: resize every picture to a square of this side in pixels.
        jobs: threads that decode.
        neutral: first frames are in it.
        contempt: contempt is in it.
        labels: what the source's labels were taken for.
    """

    def __init__(
        self,
        found: ParsedSource,
        *,
        missing: list[str],
        size: int | None,
        jobs: int | None,
        neutral: bool,
        contempt: bool,
        labels: SourceLabels,
    ) -> None:
        self.raw: Final = found.layout == SEQUENCE_LAYOUT
        classes = [name for name in EMOTIONS.values() if contempt or name != "contempt"]
        name = artifact_name(neutral=neutral, contempt=contempt)
        super().__init__(
            name,
            [*classes, *["neutral"] * neutral],
            found,
            family="ckplus",
            missing=missing,
            size=size,
            jobs=jobs,
            labels=labels,
        )

    def blocks(self) -> Iterator[Block]:
        """Yield the pictures as they are, in the order of their paths, after a look at the headers of all."""
        if self.raw:
            self._found.warnings.append("frames are used whole, as face crops: align them with --align")
        return super().blocks()

    def pictures(self) -> list[Pictured]:
        """Return the frames in the order of their paths, after a look at the headers of all."""
        return self._pictures.pictures()


def read_sequences(source: Path, meanings: SourceLabels, *, neutral: bool, contempt: bool) -> ParsedSource:
    """Read ``Emotion/`` and list the frames of the labelled sequences.

    Raises:
        FerError: the first fault in the order of files, with the number of the others.
    """
    labels = first_inside(source, ("Emotion",), ("Emotion_labels", "Emotion"))
    if labels is None:
        raise FerError("the folder of labels is missing", hint="unpack Emotion_labels.zip", path=source / "Emotion")
    images = first_inside(source, ("extended-cohn-kanade-images", "cohn-kanade-images"))
    images = images or needed_folder(source, "cohn-kanade-images")
    root = images.parent
    faults: list[FerError] = []
    emotions = _read_emotions(labels, meanings, faults)
    frames, unlabelled = _frames(images, emotions.keys(), faults)
    unlabelled |= _empty_folders(labels)
    items: list[ImageEntry] = []
    earlier: list[str] = []
    dropped = 0
    for sequence, (label, path) in sorted(emotions.items()):
        names = frames.get(sequence, [])
        frame = f"{path.name.removesuffix('_emotion.txt')}"
        needed = LAST + neutral
        if frame not in {PurePosixPath(name).stem for name in names}:
            what, hint = f"labels {frame}, which is not in {images.name}", "unpack the images again"
            faults.append(FerError(what, hint=hint, path=path))
        elif len(names) < needed:
            what = f"the sequence has {len(names)} frames, {needed} are needed"
            faults.append(FerError(what, hint="unpack the images again", path=images / names[0].rpartition("/")[0]))
        elif contempt or label != "contempt":
            taken = [(name, label) for name in names[-LAST:]]
            for name, of in [(names[0], "neutral"), *taken] if neutral else taken:
                items.append(_item(f"{images.name}/{name}", of, sequence))
            if PurePosixPath(names[-1]).stem != frame:
                earlier.append(sequence)
        else:
            dropped += LAST
    refuse_all(faults)
    what = f"CK+ labels of sequences, the last {LAST} frames of each" + ", the first as neutral" * neutral
    found = _found(root, SEQUENCE_LAYOUT, items, what)
    found.labels = {f"emotion {path.name}": path for _, path in emotions.values()}
    found.faces = "whole frames: no alignment"
    found.dropped = {"contempt": dropped} if dropped else {}
    found.known = [images / name for names in frames.values() for name in names]
    found.known += [place / name for place in (images, labels) for name in unlabelled]
    found.leftovers = listed("sequences", sorted(unlabelled), matters=False)
    if earlier:
        found.warnings.append(
            f"of {len(earlier):,} sequences a frame before the last is the labelled one, {', '.join(earlier[:3])}: the "
            f"last {LAST} were taken"
        )
    return found


def _empty_folders(labels: Path) -> set[str]:
    """Return the sequences, as ``S005/001``, whose folder of labels is empty."""
    return {
        f"{subject.name}/{sequence.name}"
        for subject in labels.iterdir()
        if _SUBJECT.fullmatch(subject.name) and subject.is_dir()
        for sequence in subject.iterdir()
        if _SEQUENCE.fullmatch(sequence.name) and sequence.is_dir() and not any(sequence.iterdir())
    }


def _read_emotions(folder: Path, meanings: SourceLabels, faults: list[FerError]) -> dict[str, tuple[str, Path]]:
    """Return sequence -> label and file; what is wrong is added to ``faults``."""
    emotions: dict[str, tuple[str, Path]] = {}
    for path in walk(folder):
        place = folder / path
        parts = path.split("/")
        name = _EMOTION.fullmatch(parts[-1])
        if name is None or parts[:-1] != [name[2], name[3]]:
            what = "unexpected file: files are S005/001/S005_001_00000011_emotion.txt"
            faults.append(FerError(what, hint="remove it or restore its name", path=place))
        elif name[1] in emotions:
            what = f"sequence {name[1]} has a second label, the first is in {emotions[name[1]][1].name}"
            faults.append(FerError(what, hint="unpack Emotion_labels.zip again", path=place))
        elif label := _read_emotion(place, meanings, faults):
            emotions[name[1]] = label, place
    return emotions


def _read_emotion(path: Path, meanings: SourceLabels, faults: list[FerError]) -> str | None:
    """Return the label in an emotion file (one id, written as a float), or None and what is wrong in ``faults``."""
    hint = "unpack Emotion_labels.zip again"
    try:
        words = [(number, word) for number, text in text_lines(path) for word in text.split()]
    except FerError as error:
        faults.append(error)
        return None
    match = _ID.fullmatch(words[0][1]) if len(words) == 1 else None
    if not words:
        faults.append(FerError("the file is empty", hint=hint, path=path))
    elif len(words) > 1:
        line = words[1][0]
        faults.append(FerError(f"holds {len(words)} numbers, not one", hint=hint, path=path, line=line))
    elif match is not None and (label := meanings.meaning(match[1])) is not None:
        return label
    elif match is None or match[1] != "0":
        what = f"unknown emotion {words[0][1][:40]!r}, not 1 to 7"
        faults.append(FerError(what, hint=hint, path=path, line=words[0][0]))
    else:
        what = "the emotion is 0 (neutral), which no labelled sequence of CK+ is"
        faults.append(FerError(what, hint=hint, path=path, line=words[0][0]))
    return None


def _frames(images: Path, labelled: Collection[str], faults: list[FerError]) -> tuple[dict[str, list[str]], set[str]]:
    """Return sequence -> paths of its frames in order, and the sequences without a label, as ``S005/001``."""
    subjects = {sequence.partition("_")[0] for sequence in labelled}
    frames: defaultdict[str, list[str]] = defaultdict(list)
    unlabelled: set[str] = set()
    for path in walk(images):
        *folders, name = path.split("/")
        match = _FRAME.fullmatch(name)
        sound = match is not None and folders == [match[2], match[3]]
        if match is not None and sound and match[1] in labelled:
            frames[match[1]].append(path)
        elif sound:
            unlabelled.add("/".join(folders))
        elif folders[:1] and folders[0] in subjects:
            what = "unexpected file: frames are S005/001/S005_001_00000011.png"
            faults.append(FerError(what, hint="move it away or restore its name", path=images / path))
    return frames, unlabelled


def read_folders(root: Path, meanings: SourceLabels, *, contempt: bool) -> ParsedSource:
    """List ``anger/S010_004_00000017.png`` and the like.

    Raises:
        FerError: the first fault in the order of files, with the number of the others.
    """
    faults: list[FerError] = []
    items: list[ImageEntry] = []
    dropped: list[Path] = []
    first: dict[str, tuple[str, str]] = {}
    for path, label in class_folders(root, "", meanings.meaning, faults, _CLASSES):
        name = _FRAME.fullmatch(PurePosixPath(path).name)
        if name is None:
            hint = "the names are S010_004_00000017.png; others: fer prepare folder"
            faults.append(FerError("is not a file name of CK+", hint=hint, path=root / path))
        elif (other := first.setdefault(name[1], (label, path)))[0] != label:
            what = f"sequence {name[1]} is {label} here and {other[0]} in {other[1]}"
            faults.append(FerError(what, hint="get the data set again", path=root / path))
        elif contempt or label != "contempt":
            items.append(_item(path, label, name[1]))
        else:
            dropped.append(root / path)
    refuse_all(faults)
    found = _found(root, "class folders", items, f"CK+ labels of sequences, the last {LAST} frames of each")
    found.dropped = {"contempt": len(dropped)} if dropped else {}
    found.known = dropped
    return found


def _item(path: str, label: str, sequence: str) -> ImageEntry:
    subject = sequence.partition("_")[0]
    return ImageEntry(path, None, label, subject=subject, sequence=sequence, id=PurePosixPath(path).stem)


def _found(root: Path, layout: str, items: list[ImageEntry], label_rule: str) -> ParsedSource:
    subjects = {item.subject for item in items}
    return ParsedSource(
        root=root,
        layout=layout,
        items=sorted(items, key=lambda item: item.path),
        parts={WHOLE: "train"},
        label_rule=label_rule,
        faces="cropped by those who made this layout",
        subjects_remark=f"{len(subjects):,}, papers use 10 folds of them (fer split --folds 10)",
    )


def _has_classes(source: Path, meanings: SourceLabels) -> bool:
    """Tell whether a folder holds class folders with pictures."""
    try:
        folders = [path for path in source.iterdir() if path.is_dir() and meanings.meaning(path.name)]
    except OSError:
        return False
    return any(path.suffix.lower() in SUFFIXES for folder in folders for path in folder.iterdir())


DATASET: Final = DatasetDefinition(
    summary="CK+: official sequences, class folders, or ckextended.csv.",
    help=f"{ACCESS.help()}\n\n{RULE}",
    open=open_ckplus,
)
