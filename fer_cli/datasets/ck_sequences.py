"""CK+ in its official layout: sequences of frames, and a file with the emotion of each that has a label."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Final

from fer_cli.core.errors import FerError
from fer_cli.datasets.image_dataset import ParsedSource, first_inside, needed_folder, refuse_all
from fer_cli.datasets.image_files import walk
from fer_cli.datasets.image_list import WHOLE, ImageEntry
from fer_cli.datasets.leftovers import listed
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.splits import shuffled
from fer_cli.datasets.tables import text_lines

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

_ID: Final = re.compile(r"([0-7])(?:\.0*)?(?:e[+-]?0+)?", re.IGNORECASE)
_SUBJECT: Final = re.compile(r"S\d{3}")
_SEQUENCE: Final = re.compile(r"\d{3}")
_EMOTION: Final = re.compile(r"((S\d{3})_(\d{3}))_(\d{8})_emotion\.txt")
FRAME: Final = re.compile(r"((S\d{3})_(\d{3}))_(\d{8})\.(?:png|jpg|tiff?)", re.IGNORECASE)
"""The name of a frame: its sequence, subject, number of the sequence and number of the frame."""


def read_sequences(
    source: Path, meanings: SourceLabels, *, neutral: bool, contempt: bool, random_frames: int | None = None
) -> ParsedSource:
    """Read ``Emotion/`` and list the frames of the labelled sequences: the last three, or some at random.

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
        needed = random_frames or LAST + neutral
        if frame not in {PurePosixPath(name).stem for name in names}:
            what, hint = f"labels {frame}, which is not in {images.name}", "unpack the images again"
            faults.append(FerError(what, hint=hint, path=path))
        elif len(names) < needed:
            what = f"the sequence has {len(names)} frames, {needed} are needed"
            faults.append(FerError(what, hint="unpack the images again", path=images / names[0].rpartition("/")[0]))
        elif contempt or label != "contempt":
            drawn = names[-LAST:] if random_frames is None else sorted(shuffled(names, 0)[:random_frames])
            taken = [(name, label) for name in drawn]
            for name, of in [(names[0], "neutral"), *taken] if neutral else taken:
                items.append(frame_entry(f"{images.name}/{name}", of, sequence))
            if PurePosixPath(names[-1]).stem != frame and random_frames is None:
                earlier.append(sequence)
        else:
            dropped += random_frames or LAST
    refuse_all(faults)
    which = f"the last {LAST} frames of each" if random_frames is None else f"{random_frames} random frames of each"
    what = f"CK+ labels of sequences, {which}" + ", the first as neutral" * neutral
    found = parsed(root, SEQUENCE_LAYOUT, items, what)
    found.labels = {f"emotion {path.name}": path for _, path in emotions.values()}
    found.faces = "whole frames: no alignment"
    found.dropped = {"contempt": dropped} if dropped else {}
    found.known = [images / name for names in frames.values() for name in names]
    found.known += [place / name for place in (images, labels) for name in unlabelled]
    found.leftovers = listed("sequences", sorted(unlabelled), matters=False)
    if random_frames is not None:
        found.warnings.append(
            f"{random_frames} frames of each sequence were drawn at random: many are near neutral and have the "
            "sequence's expression as their label; only to reproduce a paper"
        )
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
        match = FRAME.fullmatch(name)
        sound = match is not None and folders == [match[2], match[3]]
        if match is not None and sound and match[1] in labelled:
            frames[match[1]].append(path)
        elif sound:
            unlabelled.add("/".join(folders))
        elif folders[:1] and folders[0] in subjects:
            what = "unexpected file: frames are S005/001/S005_001_00000011.png"
            faults.append(FerError(what, hint="move it away or restore its name", path=images / path))
    return frames, unlabelled


def frame_entry(path: str, label: str, sequence: str) -> ImageEntry:
    """Return the entry of a frame; its subject is the first part of its sequence's name."""
    subject = sequence.partition("_")[0]
    return ImageEntry(path, None, label, subject=subject, sequence=sequence, id=PurePosixPath(path).stem)


def parsed(root: Path, layout: str, items: list[ImageEntry], label_rule: str) -> ParsedSource:
    """Return CK+ in a layout, its pictures in the order of their paths."""
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
