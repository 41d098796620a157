"""Writes the official layouts of RAF-DB, CK+, SFEW 2.0 and AffectNet, and their re-layouts, from drawn faces.

Names, folders and files of labels are as in the real ones, the numbers of pictures are small. Every writer takes an
empty folder and returns what ``--source`` should be.

``python -m tests.kit_official FOLDER`` writes ``FOLDER/rafdb`` with as many pictures as the real one has, in about
five minutes: ``fer prepare rafdb`` takes it as complete.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_cli.core.labels import EXPRESSIONS
from fer_cli.datasets.rafdb import OFFICIAL
from fer_cli.datasets.synth.faces import render_face
from fer_cli.datasets.synth.loader import face_of
from tests.kits.fer2013 import table_lines, write_lines

RAF: Final = ("surprise", "fear", "disgust", "happy", "sad", "anger", "neutral")  # ids from 1
CK: Final = ("anger", "contempt", "disgust", "fear", "happy", "sad", "surprise")  # ids from 1
CK48: Final = dict(zip(CK, ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise"), strict=True))
SFEW: Final = {
    "anger": "Angry", "disgust": "Disgust", "fear": "Fear", "happy": "Happy", "neutral": "Neutral", "sad": "Sad",
    "surprise": "Surprise",
}  # fmt: skip
AFFECT: Final = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")  # ids from 0
EXPW: Final = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # ids from 0
FER: Final = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")  # ckextended's ids
SUBJECTS: Final = ("S005", "S010", "S011", "S014", "S022", "S502")
"""Persons of the small CK+; each shows every emotion."""
FRAMES: Final = 5
AFFECT_HEADER: Final = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
)
BOX: Final = (10, 5, 48, 48)
"""Where the face of an AffectNet picture of 80x64 pixels is: left, top, width, height."""

Pixels = NDArray[np.uint8]


@lru_cache(maxsize=512)
def face(person: int, label: str, size: int = 48) -> Pixels:
    """Return a drawn face, (size, size, 3)."""
    return render_face(face_of(0, person, EXPRESSIONS.index(label)), size)[0]


def save(path: Path, pixels: Pixels, size: tuple[int, int] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    (picture if size is None else picture.resize(size)).save(path, quality=95)
    return path


def rafdb_lines(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return the lines of list_patition_label.txt for part -> expression -> pictures."""
    lines = []
    for part, digits in (("train", 5), ("test", 4)):
        labels = [label for label in RAF for _ in range(counts[part][label])]
        lines += [f"{part}_{index:0{digits}}.jpg {RAF.index(label) + 1}" for index, label in enumerate(labels, start=1)]
    return lines


RAF_SMALL: Final = {"train": dict.fromkeys(RAF, 3), "test": dict.fromkeys(RAF, 2)}


def rafdb(root: Path, counts: Mapping[str, Mapping[str, int]] = RAF_SMALL) -> Path:
    """Write ``basic/`` with aligned pictures of 100x100, labels and attributes."""
    lines = rafdb_lines(counts)
    (root / "basic/EmoLabel").mkdir(parents=True)
    write_lines(root / "basic/EmoLabel/list_patition_label.txt", lines)
    (root / "basic/Annotation/manual").mkdir(parents=True)
    for number, line in enumerate(lines):
        name, label = line.split(".jpg ")
        save(root / f"basic/Image/aligned/{name}_aligned.jpg", face(number, RAF[int(label) - 1], 100))
        landmarks = ["32.500000\t41.250000"] * 5
        attributes = [str(number % 3), str(number // 3 % 3), str(number % 5)]
        write_lines(root / f"basic/Annotation/manual/{name}_manu_attri.txt", [*landmarks, *attributes])
    return root


def rafdb_folders(root: Path) -> Path:
    """Write ``DATASET/train/1`` and so on, and the two tables beside ``DATASET``."""
    rows: dict[str, list[str]] = {"train": ["image,label"], "test": ["image,label"]}
    for number, line in enumerate(rafdb_lines(RAF_SMALL)):
        name, label = line.split(".jpg ")
        part = name.partition("_")[0]
        save(root / f"DATASET/{part}/{label}/{name}_aligned.jpg", face(number, RAF[int(label) - 1], 100))
        rows[part].append(f"{name}_aligned.jpg,{label}")
    for part, lines in rows.items():
        write_lines(root / f"{part}_labels.csv", lines)
    return root


def ck_sequences() -> Iterator[tuple[str, str, list[Pixels]]]:
    """Yield subject, label and grey frames from neutral to the peak."""
    for number, subject in enumerate(SUBJECTS):
        calm = np.asarray(Image.fromarray(face(number, "neutral")).convert("L"), dtype=np.float64)
        for label in CK:
            peak = np.asarray(Image.fromarray(face(number, label)).convert("L"), dtype=np.float64)
            weights = np.linspace(0, 1, FRAMES)
            yield subject, label, [((1 - w) * calm + w * peak).astype(np.uint8) for w in weights]


def ckplus(root: Path) -> Path:
    """Write ``cohn-kanade-images``, ``Emotion`` and ``FACS``; the last sequence of a person has no label."""
    for subject, label, frames in ck_sequences():
        sequence = f"{CK.index(label) + 1:03}"
        stem = f"{subject}_{sequence}"
        for number, pixels in enumerate(frames, start=1):
            save(root / f"cohn-kanade-images/{subject}/{sequence}/{stem}_{number:08}.png", pixels, (64, 49))
        for kind, text in (("Emotion", f"   {CK.index(label) + 1}.0000000e+00"), ("FACS", "   9.0000000e+00")):
            (root / kind / subject / sequence).mkdir(parents=True)
            end = "emotion" if kind == "Emotion" else "facs"
            write_lines(root / kind / subject / sequence / f"{stem}_{FRAMES:08}_{end}.txt", [text])
    for subject in SUBJECTS[:3]:
        save(root / f"cohn-kanade-images/{subject}/009/{subject}_009_00000001.png", frames[0], (64, 49))
        (root / "Emotion" / subject / "009").mkdir()
    return root


def ck48(root: Path) -> Path:
    """Write ``CK+48/anger`` and so on: the last three frames, 48x48."""
    for subject, label, frames in ck_sequences():
        stem = f"{subject}_{CK.index(label) + 1:03}"
        for number, pixels in enumerate(frames[-3:], start=FRAMES - 2):
            save(root / f"CK+48/{CK48[label]}/{stem}_{number:08}.png", pixels)
    return root


def ckextended(root: Path) -> Path:
    """Write ``ckextended.csv``: a peak frame of each sequence, and the first as neutral."""
    rows = [(FER.index(label), frames[-1]) for _, label, frames in ck_sequences()]
    rows += [(FER.index("neutral"), frames[0]) for _, label, frames in ck_sequences() if label == "sad"]
    usage = [("Training", "Training", "Training", "PublicTest", "PrivateTest")[n // 7 % 5] for n in range(len(rows))]
    images = np.stack([pixels for _, pixels in rows])
    write_lines(root / "ckextended.csv", table_lines(usage, [number for number, _ in rows], images))
    return root


def sfew(root: Path, *, aligned: bool = True) -> Path:
    """Write Train and Val, and a Test without labels; aligned faces are 143x181, raw frames 72x58."""
    names = {"Train": "Train_Aligned_Faces", "Val": "Val_Aligned_Faces", "Test": "Test_Aligned_Faces"}
    size = (143, 181) if aligned else (72, 58)
    for part, pictures in (("Train", 4), ("Val", 2)):
        folder = root / (names[part] if aligned else part)
        for label, name in SFEW.items():
            for number in range(pictures):
                person = number + (100 if part == "Val" else 0)
                clip = f"{'Airheads' if part == 'Train' else 'AboutABoy'}_{SFEW[label]}{number // 2:06}"
                save(folder / f"{name}/{clip}_{number + 1:08}.png", face(person, label), size)
    save(root / (names["Test"] if aligned else "Test") / "Serendipity_000101_00000001.png", face(50, "happy"), size)
    return root


def affect_labels() -> Iterator[tuple[str, int, int]]:
    """Yield part, id and a running number: every expression, and one picture each of None, Uncertain, No-Face."""
    number = 0
    for part, pictures in (("train", 3), ("val", 2)):
        for label in [*range(len(AFFECT))] * pictures + [8, 9, 10]:
            yield part, label, number
            number += 1


def affect_face(label: int, number: int) -> Pixels:
    return face(number, AFFECT[label] if label < len(AFFECT) else "neutral")


def affectnet_csv(root: Path) -> Path:
    """Write the two lists and pictures of 80x64 with a face at :data:`BOX`; other sizes among those without one."""
    rows: dict[str, list[str]] = {"train": [AFFECT_HEADER], "val": [AFFECT_HEADER]}
    left, top, width, height = BOX
    landmarks = ";".join(["20.5;30.25"] * 68)
    for part, label, number in affect_labels():
        canvas = np.full((64, 80, 3), 60, dtype=np.uint8)
        canvas[top : top + height, left : left + width] = affect_face(label, number)
        path = f"{number % 3 + 1}/{number:08x}c0ffee.{'png' if number % 5 else 'JPG'}"
        save(root / "Manually_Annotated_Images" / path, canvas)
        box = "NULL,NULL,NULL,NULL" if label == 10 else ",".join(map(str, BOX))
        rows[part].append(f"{path},{box},{landmarks},{label},{-2 if label > 7 else 0.25},{-2 if label > 7 else 0.5}")
    (root / "Manually_Annotated_file_lists").mkdir()
    write_lines(root / "Manually_Annotated_file_lists/training.csv", rows["train"])
    write_lines(root / "Manually_Annotated_file_lists/validation.csv", rows["val"])
    return root


def affectnet_npy(root: Path) -> Path:
    """Write ``train_set`` and ``val_set``; ids are text in the one and numbers in the other."""
    for part, label, number in affect_labels():
        if label > 7:
            continue
        folder = root / f"{part}_set"
        save(folder / f"images/{number}.jpg", affect_face(label, number), (56, 56))
        (folder / "annotations").mkdir(exist_ok=True)
        values = {"exp": str(label) if part == "train" else label, "val": "0.25", "aro": "0.5", "lnd": [1.0, 2.0]}
        for end, value in values.items():
            np.save(folder / f"annotations/{number}_{end}.npy", np.array(value))
    return root


def affectnet_folders(root: Path) -> Path:
    """Write ``train/0`` and so on."""
    for part, label, number in affect_labels():
        if label < len(AFFECT):
            save(root / f"{part}/{label}/image{number:07}.jpg", affect_face(label, number), (56, 56))
    return root


def expw(root: Path) -> Path:
    """Write ``label/label.lst`` and pictures of 96x64 with two faces each, at (left, top) (4, 8) and (50, 16)."""
    (root / "label").mkdir(parents=True)
    lines = []
    for number in range(14):
        canvas = np.full((64, 96, 3), 40, dtype=np.uint8)
        for index, (left, top) in enumerate([(4, 8), (50, 16)]):
            label = (number + index) % 7
            canvas[top : top + 40, left : left + 40] = face(2 * number + index, EXPW[label], 40)
            lines.append(
                f"crowd_{number}.png {index} {top} {left} {left + 40} {top + 40} {44 + 30 * index}.0389 {label}"
            )
        save(root / f"image/origin/crowd_{number}.png", canvas)
    write_lines(root / "label/label.lst", lines)
    return root


def fer2013_folders(root: Path) -> Path:
    """Write ``train/angry`` and so on, and ``test`` likewise."""
    for part, pictures in (("train", 3), ("test", 2)):
        for index, label in enumerate(FER[:7]):
            for number in range(pictures):
                pixels = np.asarray(Image.fromarray(face(number + 10 * pictures, label)).convert("L"))
                save(root / f"{part}/{label}/{part}_{index}_{number}.png", pixels)
    return root


def same_picture(paths: Iterator[Path], picture: Path) -> int:
    """Give one tiny picture many names, and return how many: a full-sized tree that costs nothing to write."""
    Image.new("L", (2, 2)).save(picture)
    made: set[Path] = set()
    number = 0
    for path in paths:
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        os.link(picture, path)
        number += 1
    return number


if __name__ == "__main__":
    rafdb(Path(sys.argv[1]) / "rafdb", OFFICIAL)
