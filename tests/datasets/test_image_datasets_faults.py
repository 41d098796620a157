"""Malformed trees of RAF-DB, CK+, SFEW 2.0 and AffectNet: one line naming file and line, nothing written."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from tests.kits import official as kit
from tests.kits.fer2013 import write_lines, zipped

LABELS = "basic/EmoLabel/list_patition_label.txt"
ALIGNED = "basic/Image/aligned"
MANUAL = "basic/Annotation/manual"
SEQUENCE = "S010/003"
EMOTION = f"Emotion/{SEQUENCE}/S010_003_00000005_emotion.txt"
FRAMES = f"cohn-kanade-images/{SEQUENCE}"
TRAINING = "Manually_Annotated_file_lists/training.csv"
NPY = "train_set/annotations/0_exp.npy"

WRITERS: dict[str, Callable[[Path], Path]] = {
    "rafdb": kit.rafdb,
    "rafdb folders": kit.rafdb_folders,
    "ckplus": kit.ckplus,
    "ckplus folders": kit.ck48,
    "ckplus csv": kit.ckextended,
    "sfew": kit.sfew,
    "affectnet": kit.affectnet_csv,
    "affectnet npy": kit.affectnet_npy,
    "affectnet folders": kit.affectnet_folders,
}
Spoil = Callable[[Path], object]


def line(path: str, number: int, text: str | None, *, add: bool = False) -> Spoil:
    """Return what changes a line of a file, or removes it, or puts one before it."""

    def spoil(root: Path) -> None:
        lines = (root / path).read_text().splitlines()
        lines[number - 1 : number - 1 + (not add)] = [] if text is None else [text]
        write_lines(root / path, lines)

    return spoil


def field(path: str, number: int, column: int, text: str) -> Spoil:
    """Return what changes one cell of a csv."""

    def spoil(root: Path) -> None:
        lines = (root / path).read_text().splitlines()
        cells = lines[number - 1].split(",")
        cells[column] = text
        lines[number - 1] = ",".join(cells)
        write_lines(root / path, lines)

    return spoil


def holds(path: str, data: bytes) -> Spoil:
    def spoil(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    return spoil


def gone(path: str) -> Spoil:
    return lambda root: shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()


def moved(old: str, new: str) -> Spoil:
    def spoil(root: Path) -> None:
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)

    return spoil


def copied(old: str, new: str) -> Spoil:
    def spoil(root: Path) -> None:
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / old, root / new)

    return spoil


def array(value: object) -> Spoil:
    return lambda root: np.save(root / NPY, np.array(value))


class Bomb:
    """A pickle that makes a folder when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def object_array(root: Path) -> None:
    bomb = np.empty((), dtype=object)
    bomb[()] = Bomb()
    np.save(root / NPY, bomb, allow_pickle=True)


def huge_header(root: Path) -> None:
    text = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    (root / NPY).write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)


def packed(root: Path) -> None:
    shutil.make_archive(str(root / ALIGNED), "zip", root / ALIGNED)
    shutil.rmtree(root / ALIGNED)


def archive_outside(root: Path) -> None:
    (root / "ckextended.csv").unlink()
    zipped(root / "ckextended.zip", {"../../escape.txt": b"x", "../../also.csv.exe": b"y"})


def raw_val(root: Path) -> None:
    kit.sfew(root, aligned=False)
    shutil.rmtree(root / "Val_Aligned_Faces")


def frames_less(root: Path) -> None:
    for number in (1, 2, 3):
        (root / FRAMES / f"S010_003_{number:08}.png").unlink()


# kind -> (tree, what spoils it, the file that is named with its line if it has one, words)
CASES: dict[str, tuple[str, Spoil, str, str]] = {
    "no list of labels": ("rafdb", gone(LABELS), LABELS, "the list of labels is missing"),
    "label id 8": ("rafdb", line(LABELS, 3, "train_00003.jpg 8"), f"{LABELS}:3", "unknown label id '8'"),
    "label in words": ("rafdb", line(LABELS, 3, "train_00003.jpg sad"), f"{LABELS}:3", "unknown label id 'sad'"),
    "listed and absent": (
        "rafdb",
        gone(f"{ALIGNED}/train_00004_aligned.jpg"),
        f"{LABELS}:4",
        "names train_00004.jpg, but train_00004_aligned.jpg is not in Image/aligned",
    ),
    "there and not listed": (
        "rafdb",
        line(LABELS, 5, None),
        f"{ALIGNED}/train_00005_aligned.jpg",
        "is not in the list of labels",
    ),
    "three fields": ("rafdb", line(LABELS, 2, "train_00002.jpg 1 1"), f"{LABELS}:2", "the line has 3 fields"),
    "listed twice": (
        "rafdb",
        line(LABELS, 9, "train_00001.jpg 1", add=True),
        f"{LABELS}:9",
        "train_00001.jpg is already in line 1",
    ),
    "another name": ("rafdb", line(LABELS, 1, "face.jpg 1"), f"{LABELS}:1", "'face.jpg' is not a file name of RAF-DB"),
    "list not UTF-8": ("rafdb", holds(LABELS, b"train_00001.jpg 1\n\xff\xfe\n"), f"{LABELS}:2", "not UTF-8"),
    "list with a NUL": ("rafdb", holds(LABELS, b"train_00001.jpg 1\n\0\n"), f"{LABELS}:2", "NUL"),
    "picture in another case": (
        "rafdb",
        moved(f"{ALIGNED}/test_0002_aligned.jpg", f"{ALIGNED}/Test_0002_Aligned.JPG"),
        f"{LABELS}:23",
        "is called 'Test_0002_Aligned.JPG'",
    ),
    "folder in another case": (
        "rafdb",
        moved("basic/EmoLabel", "basic/emolabel"),
        "basic/emolabel",
        "its name in the official layout is 'EmoLabel'",
    ),
    "pictures still packed": ("rafdb", packed, ALIGNED, "this folder is missing; unpack aligned.zip"),
    "empty picture": (
        "rafdb",
        holds(f"{ALIGNED}/test_0001_aligned.jpg", b""),
        f"{ALIGNED}/test_0001_aligned.jpg",
        "0 b",
    ),
    "text for a picture": (
        "rafdb",
        holds(f"{ALIGNED}/test_0001_aligned.jpg", b"<html>"),
        f"{ALIGNED}/test_0001_aligned.jpg",
        "is not an image",
    ),
    "attributes cut short": (
        "rafdb",
        line(f"{MANUAL}/train_00001_manu_attri.txt", 8, None),
        f"{MANUAL}/train_00001_manu_attri.txt",
        "has 7 lines",
    ),
    "gender 5": (
        "rafdb",
        line(f"{MANUAL}/train_00001_manu_attri.txt", 6, "5"),
        f"{MANUAL}/train_00001_manu_attri.txt:6",
        "unknown gender id '5'",
    ),
    "two layouts of RAF-DB": ("rafdb", kit.rafdb_folders, "", "more than once: EmoLabel/ and train/"),
    "csv against its folder": (
        "rafdb folders",
        line("train_labels.csv", 2, "train_00001_aligned.jpg,4"),
        "train_labels.csv:2",
        "is happy here and surprise by its folder",
    ),
    "id 8 in a csv": (
        "rafdb folders",
        line("test_labels.csv", 2, "test_0001_aligned.jpg,8"),
        "test_labels.csv:2",
        "unknown label id '8'",
    ),
    "csv names what is absent": (
        "rafdb folders",
        gone("DATASET/test/1/test_0001_aligned.jpg"),
        "test_labels.csv:2",
        "which is not in a class folder",
    ),
    "csv forgets a picture": (
        "rafdb folders",
        line("test_labels.csv", 2, None),
        "DATASET/test/1/test_0001_aligned.jpg",
        "is not in test_labels.csv",
    ),
    "a test picture in train": (
        "rafdb folders",
        copied("DATASET/test/1/test_0001_aligned.jpg", "DATASET/train/1/test_0001_aligned.jpg"),
        "DATASET/train/1/test_0001_aligned.jpg",
        "belongs to test, not train",
    ),
    "class folder 8": (
        "rafdb folders",
        copied("DATASET/test/1/test_0001_aligned.jpg", "DATASET/test/8/test_0001_aligned.jpg"),
        "DATASET/test/8",
        "is not a class folder",
    ),
    "one class twice": (
        "rafdb folders",
        copied("DATASET/test/1/test_0001_aligned.jpg", "DATASET/test/surprise/test_0099_aligned.jpg"),
        "DATASET/test/surprise",
        "means surprise, like 1/",
    ),
    "one picture in two classes": (
        "rafdb folders",
        copied("DATASET/test/1/test_0001_aligned.jpg", "DATASET/test/2/test_0001_aligned.jpg"),
        "DATASET/test/2/test_0001_aligned.jpg",
        "is also in test/1/",
    ),
    "emotion file empty": ("ckplus", holds(EMOTION, b""), EMOTION, "the file is empty"),
    "emotion file blank": ("ckplus", holds(EMOTION, b"  \n\n"), EMOTION, "the file is empty"),
    "two emotions": (
        "ckplus",
        holds(EMOTION, b"   3.0000000e+00\n   4.0000000e+00\n"),
        f"{EMOTION}:2",
        "holds 2 numbers, not one",
    ),
    "emotion 9": ("ckplus", holds(EMOTION, b"   9.0000000e+00\n"), f"{EMOTION}:1", "unknown emotion '9.0000000e+00'"),
    "emotion 3.5": ("ckplus", holds(EMOTION, b"3.5\n"), f"{EMOTION}:1", "unknown emotion '3.5'"),
    "emotion 30": ("ckplus", holds(EMOTION, b"3.0e+01\n"), f"{EMOTION}:1", "unknown emotion '3.0e+01'"),
    "emotion 0": ("ckplus", holds(EMOTION, b"   0.0000000e+00\n"), f"{EMOTION}:1", "the emotion is 0 (neutral)"),
    "stray file of a subject": (
        "ckplus",
        holds("Emotion/S010/notes.txt", b"x"),
        "Emotion/S010/notes.txt",
        "unexpected file",
    ),
    "stray frame of a subject": (
        "ckplus",
        copied(f"{FRAMES}/S010_003_00000001.png", "cohn-kanade-images/S010/a.png"),
        "cohn-kanade-images/S010/a.png",
        "unexpected file",
    ),
    "a label in another's folder": (
        "ckplus",
        moved(EMOTION, "Emotion/S010/009/S010_003_00000005_emotion.txt"),
        "Emotion/S010/009/S010_003_00000005_emotion.txt",
        "unexpected file",
    ),
    "two labels of a sequence": (
        "ckplus",
        copied(EMOTION, EMOTION.replace("00005", "00004")),
        EMOTION,
        "sequence S010_003 has a second label",
    ),
    "peak frame absent": (
        "ckplus",
        gone(f"{FRAMES}/S010_003_00000005.png"),
        EMOTION,
        "labels S010_003_00000005, which is not in cohn-kanade-images",
    ),
    "too few frames": ("ckplus", frames_less, FRAMES, "the sequence has 2 frames, 3 are needed"),
    "no labels": ("ckplus", gone("Emotion"), "Emotion", "the folder of labels is missing; unpack Emotion_labels.zip"),
    "no images": ("ckplus", gone("cohn-kanade-images"), "cohn-kanade-images", "this folder is missing"),
    "Emotion in another case": (
        "ckplus",
        moved("Emotion", "emotion"),
        "emotion",
        "its name in the official layout is 'Emotion'",
    ),
    "two layouts of CK+": ("ckplus", kit.ck48, "", "more than once: Emotion/ and class folders"),
    "not a file name of CK+": (
        "ckplus folders",
        copied("CK+48/fear/S010_004_00000003.png", "CK+48/fear/1.png"),
        "CK+48/fear/1.png",
        "is not a file name of CK+",
    ),
    "one sequence of two classes": (
        "ckplus folders",
        moved("CK+48/fear/S010_004_00000003.png", "CK+48/anger/S010_004_00000003.png"),
        "CK+48/fear/S010_004_00000004.png",
        "sequence S010_004 is fear here and anger in anger/",
    ),
    "emotion 8 of 0 to 7": ("ckplus csv", field("ckextended.csv", 3, 0, "8"), "ckextended.csv:3", "emotion id '8'"),
    "unknown Usage": ("ckplus csv", field("ckextended.csv", 4, 2, "Test"), "ckextended.csv:4", "unknown Usage 'Test'"),
    "pixel 256": ("ckplus csv", field("ckextended.csv", 5, 1, "256 " * 2304), "ckextended.csv:5", "256"),
    "archive that is outsideside": (
        "ckplus csv",
        archive_outside,
        "ckextended.zip",
        "the archive holds no ckextended.csv",
    ),
    "Train aligned, Val raw": (
        "sfew",
        raw_val,
        "",
        "Val is raw while Train_Aligned_Faces is aligned",
    ),
    "unknown expression": (
        "sfew",
        moved("Train_Aligned_Faces/Sad", "Train_Aligned_Faces/Gloomy"),
        "Train_Aligned_Faces/Gloomy",
        "is not a class folder",
    ),
    "contempt in SFEW": (
        "sfew",
        moved("Train_Aligned_Faces/Sad", "Train_Aligned_Faces/Contempt"),
        "Train_Aligned_Faces/Contempt",
        "is not a class folder",
    ),
    "Angry and anger": (
        "sfew",
        moved("Val_Aligned_Faces/Fear", "Val_Aligned_Faces/anger"),
        "Val_Aligned_Faces/anger",
        "means anger, like Angry/",
    ),
    "split in another case": (
        "sfew",
        moved("Train_Aligned_Faces", "train_aligned_faces"),
        "train_aligned_faces",
        "its name in the official layout is 'Train_Aligned_Faces'",
    ),
    "text among pictures": (
        "sfew",
        holds("Val_Aligned_Faces/Sad/list.txt", b"x"),
        "Val_Aligned_Faces/Sad/list.txt",
        "not an image by its name",
    ),
    "loose picture": (
        "sfew",
        lambda root: kit.save(root / "Val_Aligned_Faces/1.png", kit.face(0, "sad")),
        "Val_Aligned_Faces/1.png",
        "the image is not in a class folder",
    ),
    "box outside": (
        "affectnet",
        field(TRAINING, 4, 1, "70"),
        f"{TRAINING}:4",
        "the box from 70,5 to 118,53 lies outside '3/00000002c0ffee.png', which is 80x64 pixels",
    ),
    "box without width": ("affectnet", field(TRAINING, 4, 3, "0"), f"{TRAINING}:4", "'10,5,0,48' is not a box"),
    "box of words": ("affectnet", field(TRAINING, 4, 2, "NULL"), f"{TRAINING}:4", "'10,NULL,48,48' is not a box"),
    "path that is outside": (
        "affectnet",
        field(TRAINING, 5, 0, "../../secret.jpg"),
        f"{TRAINING}:5",
        "'../../secret.jpg' is outside",
    ),
    "absolute path": ("affectnet", field(TRAINING, 5, 0, "/etc/a.jpg"), f"{TRAINING}:5", "'/etc/a.jpg' is outside"),
    "picture absent": (
        "affectnet",
        gone("Manually_Annotated_Images/3/00000002c0ffee.png"),
        f"{TRAINING}:4",
        "names '3/00000002c0ffee.png', which does not exist",
    ),
    "expression 11": ("affectnet", field(TRAINING, 6, 6, "11"), f"{TRAINING}:6", "unknown expression id '11'"),
    "no column of boxes": (
        "affectnet",
        line(TRAINING, 1, kit.AFFECT_HEADER.replace("face_width", "w")),
        f"{TRAINING}:1",
        "the header has no column 'face_width'",
    ),
    "row cut short": ("affectnet", line(TRAINING, 7, "1/a.jpg,10,5"), f"{TRAINING}:7", "the row has 3 fields"),
    "picture in two rows": (
        "affectnet",
        field(TRAINING, 5, 0, "3/00000002c0ffee.png"),
        f"{TRAINING}:5",
        "is already in line 4 of training.csv",
    ),
    "two layouts of AffectNet": ("affectnet", kit.affectnet_npy, "", "more than once: csv lists and"),
    "npy with an object": ("affectnet npy", object_array, NPY, "holds an object, not a number"),
    "npy with a word": ("affectnet npy", array("happy"), NPY, "unknown expression id 'happy'"),
    "npy with two numbers": ("affectnet npy", array([1, 2]), NPY, "holds values of shape (2,), not one number"),
    "npy with NaN": ("affectnet npy", array(float("nan")), NPY, "unknown expression id 'nan'"),
    "npy with -1": ("affectnet npy", array(-1), NPY, "unknown expression id '-1'"),
    "npy cut short": ("affectnet npy", holds(NPY, b"\x93NUMPY\x01\x00"), NPY, "not a readable .npy file"),
    "npy that is text": ("affectnet npy", holds(NPY, b"3\n"), NPY, "not a readable .npy file"),
    "npy that is a pickle": ("affectnet npy", holds(NPY, pickle.dumps(Bomb())), NPY, "not a readable .npy file"),
    "npy that asks for 8 TB": ("affectnet npy", huge_header, NPY, "holds values of shape (1000000000000,)"),
    "npy of 5 kB": ("affectnet npy", array(list(range(640))), NPY, "is too large for one number"),
    "picture without npy": (
        "affectnet npy",
        gone(NPY),
        "train_set/images/0.jpg",
        "has no train_set/annotations/0_exp.npy",
    ),
    "npy without picture": (
        "affectnet npy",
        gone("train_set/images/0.jpg"),
        NPY,
        "labels train_set/images/0.jpg, which does not exist",
    ),
    "no annotations": (
        "affectnet npy",
        gone("val_set/annotations"),
        "val_set/annotations",
        "this folder is missing",
    ),
    "id 8 as a folder": ("affectnet folders", moved("train/7", "train/8"), "train/8", "is not a class folder"),
    "16 bits a channel": (
        "affectnet folders",
        lambda root: Image.fromarray(np.zeros((8, 8), np.uint16)).save(root / "train/0/deep.png"),
        "train/0/deep.png",
        "16 or more bits",
    ),
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name.replace(" ", "-"))) for name, write in WRITERS.items()}


@pytest.mark.parametrize("name", CASES)
def test_malformed_trees(
    name: str,
    trees: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree, spoil, place, words = CASES[name]
    root = tmp_path / "tree"
    shutil.copytree(trees[tree], root)
    spoil(root)
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "store")
    before = sorted(tmp_path.rglob("*"), key=str)
    arguments = ["prepare", tree.partition(" ")[0], "--source", str(root), "--allow-incomplete"]
    assert run([*arguments, "--store", str(store.root)]) == 1
    out, told = capsys.readouterr()
    errors = [text for text in told.splitlines() if text.startswith("fer: error: ")]
    assert len(errors) == 1
    assert out == ""
    assert errors[0].startswith(f"fer: error: {root / place if place else root}: "), errors[0]
    assert words in errors[0]
    assert "; " in errors[0], "what to do"
    assert "Traceback" not in told
    assert not store.directories()
    after = [path for path in sorted(tmp_path.rglob("*"), key=str) if not path.is_relative_to(store.root)]
    assert after == before, "nothing is written beside the store, and nothing was executed"
    assert not list(store.root.glob("dataset/*/.*"))


def test_at_least_forty_kinds_and_all_layouts() -> None:
    assert len(CASES) >= 40
    assert {tree for tree, *_ in CASES.values()} == set(WRITERS)


def test_the_trees_are_sound_before_they_are_spoiled(trees: dict[str, Path], tmp_path: Path) -> None:
    for name, root in trees.items():
        words = ["prepare", name.partition(" ")[0], "--source", str(root), "--allow-incomplete"]
        assert run([*words, "--store", str(tmp_path / name)]) == 0, name


def test_of_many_files_at_fault_twenty_are_listed(
    trees: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "tree"
    shutil.copytree(trees["rafdb"], root)
    for number in range(1, 22):
        (root / ALIGNED / f"train_{number:05}_aligned.jpg").unlink()
    (root / ALIGNED / "test_0003_aligned.jpg").unlink()
    words = ["prepare", "rafdb", "--source", str(root), "--allow-incomplete", "--store", str(tmp_path / "store")]
    assert run(words) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 21
    for number, text in enumerate(told[:20], start=1):
        assert text.startswith(f"at fault: {root / LABELS}:{number}: names train_{number:05}.jpg, but ")
    assert told[20].startswith(f"fer: error: {root / LABELS}:1: names train_00001.jpg, but ")
    assert "(and 21 more are at fault); " in told[20]


def test_ids_as_the_official_files_write_them(trees: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.copytree(trees["ckplus"], root)
    for text in (b"   3.0000000e+00\n", b"3\n", b"3.0\r\n", b" 3.000E+000 "):
        (root / EMOTION).write_bytes(text)
        words = ["prepare", "ckplus", "--source", str(root), "--allow-incomplete"]
        assert run([*words, "--store", str(tmp_path / "store")]) == 0, text
    root = tmp_path / "affect"
    shutil.copytree(trees["affectnet npy"], root)
    for value in ("0", 0, 0.0, np.float32(0), b"0", ["0"], "0.0", np.uint8(0)):
        array(value)(root)
        words = ["prepare", "affectnet", "--source", str(root), "--allow-incomplete"]
        assert run([*words, "--store", str(tmp_path / "store")]) == 0, value
