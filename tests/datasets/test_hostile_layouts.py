"""Official layouts as people and systems spoil them: each is read right, told in a line, or refused in one."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from fer_cli.core.errors import FerError
from fer_cli.datasets.records import Loader, LoadReport
from fer_cli.datasets.registry import DATASETS
from tests.datasets.test_ferplus import VOTES
from tests.datasets.test_image_datasets_faults import (
    ALIGNED,
    EMOTION,
    FRAMES,
    LABELS,
    TRAINING,
    Spoil,
    copied,
    gone,
    holds,
    line,
    moved,
)
from tests.kits import official as kit
from tests.kits.fer2013 import LINES, PARTS, drain, votes_lines, write_lines

Write = Callable[[Path], Path]
RAF_CSV = "train_labels.csv"
RAF_1 = "DATASET/test/1/test_0001_aligned.jpg"
CK_1 = "CK+48/fear/S010_004_00000003.png"
LST = "label/label.lst"


def fer2013_csv(root: Path) -> Path:
    write_lines(root / "fer2013.csv", LINES)
    return root


def ferplus(root: Path) -> Path:
    write_lines(root / "fer2013new.csv", votes_lines(PARTS, VOTES))
    return fer2013_csv(root)


WRITERS: dict[str, Write] = {
    "rafdb": kit.rafdb,
    "rafdb folders": kit.rafdb_folders,
    "ckplus": kit.ckplus,
    "ckplus folders": kit.ck48,
    "ckplus csv": kit.ckextended,
    "sfew": kit.sfew,
    "affectnet": kit.affectnet_csv,
    "affectnet npy": kit.affectnet_npy,
    "affectnet folders": kit.affectnet_folders,
    "expw": kit.expw,
    "fer2013": fer2013_csv,
    "fer2013 folders": kit.fer2013_folders,
    "ferplus": ferplus,
}


@dataclass(frozen=True)
class Refused:
    place: str
    words: str


@dataclass(frozen=True)
class Told:
    """A line that was not there before; whether it stands in every report."""

    words: str
    matters: bool = False


@dataclass(frozen=True)
class Read:
    """As before, pixels and all."""


def bytes_of(path: str, change: Callable[[bytes], bytes]) -> Spoil:
    return lambda root: (root / path).write_bytes(change((root / path).read_bytes()))


def text_of(path: str, old: str, new: str) -> Spoil:
    return bytes_of(path, lambda data: data.decode().replace(old, new).encode())


def column(path: str, name: str, value: str) -> Spoil:
    """Return what adds a column to a csv."""

    def spoil(root: Path) -> None:
        first, *rest = (root / path).read_text().splitlines()
        write_lines(root / path, [f"{first},{name}", *(f"{row},{value}" for row in rest)])

    return spoil


def linked(path: str, to: str) -> Spoil:
    def spoil(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(to)

    return spoil


def all_of(*spoils: Spoil) -> Spoil:
    def spoil(root: Path) -> None:
        for one in spoils:
            one(root)

    return spoil


def gif(root: Path) -> None:
    frames = [Image.fromarray(np.full((100, 100), level, np.uint8)) for level in (0, 255)]
    frames[0].save(root / RAF_1, format="GIF", save_all=True, append_images=frames[1:])


def large(root: Path) -> None:
    Image.open(root / RAF_1).resize((3000, 3000)).save(root / RAF_1)


def as_png(root: Path) -> None:
    Image.open(root / RAF_1).save(root / "lossless.png")
    (root / "lossless.png").replace(root / RAF_1)


def folder(path: str) -> Spoil:
    return lambda root: (root / path).mkdir(parents=True)


CASES: dict[str, tuple[str, Spoil, Refused | Told | Read]] = {
    # lists
    "list with CR LF": ("rafdb", bytes_of(LABELS, lambda data: data.replace(b"\n", b"\r\n")), Read()),
    "list with a mark": ("rafdb", bytes_of(LABELS, lambda data: b"\xef\xbb\xbf" + data), Read()),
    "list in UTF-16": ("rafdb", bytes_of(LABELS, lambda data: data.decode().encode("utf-16")), Read()),
    "list with tabs and blanks": ("rafdb", text_of(LABELS, " ", "\t  "), Read()),
    "list with an empty label": ("rafdb", line(LABELS, 2, "train_00002.jpg "), Refused(f"{LABELS}:2", "has 1 fields")),
    "list with another label for a picture": (
        "rafdb",
        line(LABELS, 9, "train_00001.jpg 4", add=True),
        Refused(f"{LABELS}:9", "train_00001.jpg is already in line 1"),
    ),
    "list with absolute paths": (
        "rafdb",
        line(LABELS, 1, "/data/raf/train_00001.jpg 1"),
        Refused(f"{LABELS}:1", "is not a file name of RAF-DB"),
    ),
    "list of an absent picture": (
        "rafdb",
        gone(f"{ALIGNED}/train_00004_aligned.jpg"),
        Refused(f"{LABELS}:4", "is not in Image/aligned"),
    ),
    "picture that is not listed": (
        "rafdb",
        line(LABELS, 5, None),
        Refused(f"{ALIGNED}/train_00005_aligned.jpg", "is not in the list of labels"),
    ),
    "csv with CR LF and blanks": (
        "rafdb folders",
        all_of(text_of(RAF_CSV, ",", ", "), text_of(RAF_CSV, "\n", " \r\n")),
        Read(),
    ),
    "csv with semicolons in UTF-16": (
        "rafdb folders",
        bytes_of(RAF_CSV, lambda data: data.decode().replace(",", ";").encode("utf-16")),
        Read(),
    ),
    "csv with an empty label": (
        "rafdb folders",
        line(RAF_CSV, 2, "train_00001_aligned.jpg,"),
        Refused(f"{RAF_CSV}:2", "unknown label id ''"),
    ),
    "csv with another label for a picture": (
        "rafdb folders",
        line(RAF_CSV, 3, "train_00001_aligned.jpg,4", add=True),
        Refused(f"{RAF_CSV}:3", "is already in line 2"),
    ),
    # columns
    "csv with subjects": (
        "rafdb folders",
        column(RAF_CSV, "subject_id", "7"),
        Refused(f"{RAF_CSV}:1", "column 'subject_id' looks like a person"),
    ),
    "csv with a box": (
        "rafdb folders",
        column(RAF_CSV, "bbox", "1 2 3 4"),
        Refused(f"{RAF_CSV}:1", "column 'bbox' looks like a box"),
    ),
    "csv with widths": ("rafdb folders", column(RAF_CSV, "width", "100"), Told("1 column of train_labels.csv, width")),
    "AffectNet with subjects": (
        "affectnet",
        column(TRAINING, "person", "x"),
        Refused(f"{TRAINING}:1", "column 'person' looks like a person"),
    ),
    "FER2013 with subjects": (
        "fer2013",
        column("fer2013.csv", "subject", "x"),
        Refused("fer2013.csv:1", "column 'subject' looks like a person"),
    ),
    "FER2013 with an index": ("fer2013", column("fer2013.csv", "index", "1"), Told("1 column of fer2013.csv, index")),
    "FER2013 with blanks after commas": ("fer2013", text_of("fer2013.csv", ",", ", "), Read()),
    "votes with a fold": (
        "ferplus",
        column("fer2013new.csv", "fold", "1"),
        Refused("fer2013new.csv:1", "column 'fold' looks like a split"),
    ),
    "ckextended with scores": (
        "ckplus csv",
        column("ckextended.csv", "happy", "0.5"),
        Refused("ckextended.csv:1", "column 'happy' looks like the score of a class"),
    ),
    "ckextended with notes": (
        "ckplus csv",
        column("ckextended.csv", "note", "x"),
        Told("1 column of ckextended.csv, note"),
    ),
    # folders
    "valid/ of test pictures": (
        "rafdb folders",
        copied(RAF_1, "DATASET/valid/1/test_0001_aligned.jpg"),
        Refused("DATASET/valid", "looks like a split"),
    ),
    "a split beside the layout": (
        "rafdb folders",
        copied(RAF_1, "validation/1/test_0001_aligned.jpg"),
        Refused("validation", "looks like a split"),
    ),
    "class folder 8": (
        "rafdb folders",
        copied(RAF_1, "DATASET/test/8/test_0001_aligned.jpg"),
        Refused("DATASET/test/8", "is not a class folder"),
    ),
    "misspelt class folder": (
        "ckplus folders",
        moved("CK+48/fear", "CK+48/faer"),
        Refused("CK+48/faer", "is not a class folder"),
    ),
    "neutral in CK+48": (
        "ckplus folders",
        copied(CK_1, "CK+48/neutral/S010_004_00000001.png"),
        Refused("CK+48/neutral", "is not a class folder"),
    ),
    "empty class folder": (
        "rafdb folders",
        folder("DATASET/test/9"),
        Told("1 folder without images: DATASET/test/9/", True),
    ),
    "a folder in a class folder": (
        "rafdb folders",
        copied(RAF_1, "DATASET/test/1/more/test_0009_aligned.jpg"),
        Refused("DATASET/test/1/more/test_0009_aligned.jpg", "a folder inside a class folder"),
    ),
    "pictures beside the layout": (
        "rafdb",
        copied(f"{ALIGNED}/test_0001_aligned.jpg", "samples/a.jpg"),
        Told("1 folder of images, samples/ (1 image)", True),
    ),
    "RAF-DB's other parts": (
        "rafdb",
        all_of(
            copied(f"{ALIGNED}/test_0001_aligned.jpg", "basic/Image/original/test_0001.jpg"),
            copied(f"{ALIGNED}/test_0001_aligned.jpg", "compound/Image/aligned/test_0001_aligned.jpg"),
        ),
        Told("2 parts of the data set, basic/Image/original, compound"),
    ),
    "AffectNet's automatic part": (
        "affectnet",
        copied("Manually_Annotated_Images/3/00000002c0ffee.png", "Automatically_Annotated_Images/1/a.png"),
        Told("1 part of the data set, Automatically_Annotated_Images"),
    ),
    "test/ of AffectNet": (
        "affectnet folders",
        copied("train/0/image0000000.jpg", "test/0/image0000000.jpg"),
        Refused("test", "looks like a split"),
    ),
    "labels of SFEW's Test": (
        "sfew",
        folder("Test_Aligned_Faces/Happy"),
        Refused("Test_Aligned_Faces", "holds class folders"),
    ),
    "SFEW's Val twice": (
        "sfew",
        lambda root: shutil.copytree(root / "Val_Aligned_Faces", root / "Val_Aligned_Faces_new"),
        Refused("Val_Aligned_Faces", "looks like a split"),
    ),
    "a new Train of SFEW": (
        "sfew",
        lambda root: shutil.copytree(root / "Train_Aligned_Faces", root / "Train_new"),
        Refused("Train_new", "looks like a split"),
    ),
    "valid/ of FER2013": (
        "fer2013 folders",
        lambda root: shutil.copytree(root / "test", root / "valid"),
        Refused("valid/anger/test_0_0.png", "does not belong to valid"),
    ),
    "pictures beside FER2013": (
        "fer2013",
        lambda root: kit.save(root / "faces/1.png", kit.face(0, "sad")),
        Told("1 folder of images, faces/ (1 image)", True),
    ),
    # files
    "a table of another split": (
        "rafdb folders",
        holds("valid_labels.csv", b"image,label\n"),
        Told("1 table, valid_labels.csv", True),
    ),
    "readme and archive": (
        "rafdb",
        all_of(holds("readme.txt", b"x"), holds("a.zip", b"PK")),
        Told("2 files, a.zip, readme.txt"),
    ),
    "AppleDouble": (
        "rafdb",
        holds(f"{ALIGNED}/._test_0001_aligned.jpg", b"\0\x05\x16\x07"),
        Told(f"1 hidden file, {ALIGNED}/._test"),
    ),
    "hidden folder": ("fer2013 folders", holds(".cache/a.png", b"x"), Told("1 hidden file, .cache/")),
    "what systems leave": (
        "rafdb",
        all_of(holds(f"{ALIGNED}/.DS_Store", b"x"), holds("Thumbs.db", b"x"), holds("__MACOSX/basic/._a", b"x")),
        Read(),
    ),
    "empty picture": ("rafdb folders", holds(RAF_1, b""), Refused(RAF_1, "the file is empty (0 bytes)")),
    "text called .jpg": ("rafdb folders", holds(RAF_1, b"<html>"), Refused(RAF_1, "is not an image")),
    "PNG called .jpg": ("rafdb folders", as_png, Read()),
    "film called .jpg": ("rafdb folders", gif, Refused(RAF_1, "the image has several frames")),
    "JPG in capitals": (
        "rafdb",
        moved(f"{ALIGNED}/test_0002_aligned.jpg", f"{ALIGNED}/test_0002_aligned.JPG"),
        Refused(f"{LABELS}:23", "is called 'test_0002_aligned.JPG'"),
    ),
    "wrong extension": (
        "affectnet folders",
        moved("train/0/image0000000.jpg", "train/0/image0000000.dat"),
        Refused("train/0/image0000000.dat", "it begins like an image: rename it to .jpg"),
    ),
    "one picture of 3000 px": ("rafdb folders", large, Told("1 image is not of 100x100 px as all others", True)),
    "link in a circle beside": ("rafdb", linked("basic/again", ".."), Read()),
    "link in a circle inside": (
        "rafdb",
        linked(f"{ALIGNED}/again", "."),
        Refused(f"{ALIGNED}/again", "the link points to a folder above it"),
    ),
    "broken link": ("rafdb", linked(f"{ALIGNED}/a.jpg", "nowhere"), Refused(f"{ALIGNED}/a.jpg", "the link is broken")),
    # CK+
    "a sequence without a label": ("ckplus", gone(EMOTION), Told("4 sequences without a label, S005/009, S010/003,")),
    "a subject without labels": (
        "ckplus",
        copied(f"{FRAMES}/S010_003_00000001.png", "cohn-kanade-images/S999/001/S999_001_00000001.png"),
        Told("4 sequences without a label"),
    ),
    "a label without images": ("ckplus", gone(FRAMES), Refused(EMOTION, "which is not in cohn-kanade-images")),
    "frames behind the labelled one": (
        "ckplus",
        copied(f"{FRAMES}/S010_003_00000005.png", f"{FRAMES}/S010_003_00000006.png"),
        Told("of 1 sequences a frame before the last is the labelled one, S010_003", True),
    ),
    "notes among subjects": (
        "ckplus",
        holds("cohn-kanade-images/notes.txt", b"x"),
        Told("1 file, cohn-kanade-images/notes.txt"),
    ),
    # boxes
    "box beyond the picture": (
        "expw",
        line(LST, 1, "crowd_0.png 0 50 80 120 90 44 0"),
        Refused(f"{LST}:1", "lies outside 'crowd_0.png', which is 96x64 pixels"),
    ),
    "box over the edge": (
        "expw",
        line(LST, 1, "crowd_0.png 0 -2 -2 38 38 44 0"),
        Told("1 box reaches over the edge", True),
    ),
    "box without a confidence": (
        "expw",
        line(LST, 1, "crowd_0.png 0 8 4 44 48 nan 0"),
        Refused(f"{LST}:1", "is not a box and its confidence"),
    ),
    "a picture without faces": (
        "expw",
        copied("image/origin/crowd_0.png", "image/origin/none.png"),
        Told("1 image not listed in label.lst, image/origin/none.png", True),
    ),
    "a face with another label": (
        "expw",
        line(LST, 2, "crowd_0.png 0 8 4 44 48 44 6", add=True),
        Refused(f"{LST}:2", "crowd_0.png#0 is already in line 1"),
    ),
    "No-Face where there is a label": (
        "affectnet",
        line(TRAINING, 3, "3/00000002c0ffee.png,NULL,NULL,NULL,NULL,x,10,-2,-2", add=True),
        Refused(f"{TRAINING}:5", "is already in line 3 of training.csv"),
    ),
    "AffectNet picture that is not listed": (
        "affectnet",
        copied("Manually_Annotated_Images/3/00000002c0ffee.png", "Manually_Annotated_Images/3/more.png"),
        Told("1 image, Manually_Annotated_Images/3/more.png", True),
    ),
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name.replace(" ", "-"))) for name, write in WRITERS.items()}


def opened(tree: str, root: Path) -> Loader:
    return DATASETS.load(tree.partition(" ")[0]).open_with(source=root, allow_incomplete=True)


def lines_of(report: LoadReport) -> dict[str, bool]:
    """Return what a person is told, and whether every report says it."""
    told = {str(leftover): leftover.matters for leftover in report.leftovers}
    return told | dict.fromkeys([*map(str, report.odd_images), *report.warnings], True)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_passed_over_in_silence(name: str, trees: dict[str, Path], tmp_path: Path) -> None:
    tree, spoil, expected = CASES[name]
    root = tmp_path / "tree"
    shutil.copytree(trees[tree], root)
    spoil(root)
    if isinstance(expected, Refused):
        with pytest.raises(FerError) as caught:
            drain(opened(tree, root))
        assert str(caught.value).startswith(f"{root / expected.place}"), caught.value
        assert expected.words in str(caught.value) or expected.words in str(caught.value.hint), caught.value
        assert "\n" not in str(caught.value)
        return
    rows, images, report = drain(opened(tree, root))
    rows_before, images_before, before = drain(opened(tree, trees[tree]))
    told = lines_of(report)
    if isinstance(expected, Told):
        assert [matters for line, matters in told.items() if expected.words in line][:1] == [expected.matters], told
        assert expected.words not in "\n".join(lines_of(before))
    else:
        assert told.keys() == lines_of(before).keys()
        assert [(row.id, row.label, row.split) for row in rows] == [
            (row.id, row.label, row.split) for row in rows_before
        ]
        np.testing.assert_array_equal(images, images_before)


def test_at_least_thirty_kinds_and_all_layouts() -> None:
    assert len(CASES) >= 60
    assert {tree for tree, *_ in CASES.values()} == set(WRITERS) - {"affectnet npy"}


HONEST: dict[str, list[str]] = {
    "rafdb": [],
    "rafdb folders": [],
    "ckplus": [
        "3 sequences without a label, S005/009, S010/009, S011/009: not read",
        "1 part of the data set, FACS: not read",
    ],
    "ckplus folders": [],
    "ckplus csv": [],
    "sfew": ["1 part of the data set, Test_Aligned_Faces: not read"],
    "affectnet": [
        "3 columns of training.csv, facial_landmarks, valence, arousal: not read",
        "3 columns of validation.csv, facial_landmarks, valence, arousal: not read",
    ],
    "affectnet npy": [
        "3 parts of the data set, *_set/annotations/*_aro.npy, *_set/annotations/*_lnd.npy, "
        "*_set/annotations/*_val.npy: not read"
    ],
    "affectnet folders": [],
    "expw": [],
    "fer2013": [],
    "fer2013 folders": [],
    "ferplus": [],
}


@pytest.mark.parametrize("tree", HONEST)
def test_official_layouts_leave_what_their_loaders_never_read(tree: str, trees: dict[str, Path]) -> None:
    report = drain(opened(tree, trees[tree]))[2]
    assert [str(leftover) for leftover in report.leftovers] == HONEST[tree]
    assert not any(leftover.matters for leftover in report.leftovers)


def test_one_large_picture_leaves_the_others_as_they_are(trees: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.copytree(trees["rafdb folders"], root)
    large(root)
    rows, images, report = drain(opened("rafdb", root))
    before, images_before, _ = drain(opened("rafdb", trees["rafdb folders"]))
    assert images.shape == images_before.shape == (35, 100, 100, 3)
    (odd,) = [index for index, row in enumerate(rows) if row.id == "test_0001"]
    assert [row.id for row in rows] == [row.id for row in before]
    assert (rows[odd].width, rows[odd].height) == (3000, 3000)
    np.testing.assert_array_equal(np.delete(images, odd, 0), np.delete(images_before, odd, 0))
    assert abs(images[odd].astype(int) - images_before[odd]).mean() < 8, "the same face, reduced"
    assert (
        "the images have 2 sizes: the 34 of 100x100 stay as they are, the others were resized to it" in report.warnings
    )


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_either_form_of_their_accents(form: Literal["NFC", "NFD"], tmp_path: Path) -> None:
    name = "Änne é"
    for tree, path, table in (
        ("affectnet", "Manually_Annotated_Images/3/00000002c0ffee.png", TRAINING),
        ("expw", "image/origin/crowd_3.png", LST),
    ):
        root = WRITERS[tree](tmp_path / tree)
        before = drain(opened(tree, root))
        (root / path).rename(root / path.replace(Path(path).stem, unicodedata.normalize(form, name.replace(" ", ""))))
        other = unicodedata.normalize("NFD" if form == "NFC" else "NFC", name.replace(" ", ""))
        text_of(table, Path(path).stem, other)(root)
        rows, images, report = drain(opened(tree, root))
        ids = [row.id.replace("Änne\u00e9", Path(path).stem) for row in rows]
        assert sorted(ids) == sorted(row.id for row in before[0])
        order = [ids.index(row.id) for row in before[0]]
        np.testing.assert_array_equal(images[order], before[1])
        assert not any(leftover.matters for leftover in report.leftovers)


def test_the_confidence_of_boxes_is_kept_in_bands(trees: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.copytree(trees["expw"], root)
    for number, confidence in enumerate(("0", "19.99", "20", "99.9", "100", "173.25"), start=1):
        words = (root / LST).read_text().splitlines()[number - 1].split()
        line(LST, number, " ".join([*words[:6], confidence, words[7]]))(root)
    rows, _, _ = drain(opened("expw", root))
    bands = {row.line: row.flags for row in rows}
    assert [bands[number][0] for number in range(1, 8)] == [
        f"box confidence={band}" for band in ("0-20", "0-20", "20-40", "80-100", "100+", "100+", "40-60")
    ]


@pytest.mark.parametrize(("tree", "dropped"), [("ckplus", 18), ("ckplus folders", 18)])
def test_contempt_that_is_left_out_is_counted(tree: str, dropped: int, trees: dict[str, Path]) -> None:
    loader = DATASETS.load("ckplus").open_with(source=trees[tree], allow_incomplete=True, contempt=False)
    rows, _, report = drain(loader)
    assert report.dropped == {"contempt": dropped}
    assert [str(leftover) for leftover in report.leftovers] == HONEST[tree]
    assert len(rows) == 6 * 6 * 3
