"""A user's own pictures: trees of folders and tables, and what is refused in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_cli.core.errors import FerError
from fer_cli.datasets.folder import Folder, safe_name
from fer_cli.datasets.split_names import split_of_name
from tests.kits.fer2013 import drain, fault, write_lines

RNG = np.random.default_rng(2)


def picture(
    path: Path, size: tuple[int, int] = (10, 10), colour: bool = True
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Write a random picture of (height, width) and return its pixels."""
    pixels = RNG.integers(0, 256, (*size, 3) if colour else size, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def load(source: Path) -> object:
    return drain(Folder(source=source))


def test_split_class_picture(tmp_path: Path) -> None:
    root = tmp_path / "My Faces (v2)"
    names = [
        "Training/Angry/b.png",
        "Training/Angry/a.png",
        "Training/1_happiness/x y.png",
        "test/HA/é.png",
        "val/sad/c.bmp",
    ]
    pixels = {name: picture(root / name) for name in names}
    for junk in (".git/HEAD", "Training/.DS_Store", "test/HA/Thumbs.db", "__MACOSX/Training/Angry/a.png", "README.md"):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_text("junk")
    loader = Folder(source=root)
    rows, images, report = drain(loader)
    order = sorted(names)
    assert [row.id for row in rows] == [row.source for row in rows] == order
    np.testing.assert_array_equal(images, np.stack([pixels[name] for name in order]))
    assert [row.label for row in rows] == ["happy", "anger", "anger", "happy", "sad"]
    assert [report.split_of[row.split] for row in rows] == ["train", "train", "train", "test", "validation"]
    assert {(row.width, row.height) for row in rows} == {(10, 10)}
    assert not report.carve_validation
    assert not report.carve_test
    assert report.classes == ("happy", "sad", "anger")
    assert report.label_rule == "folder names, N = 5"
    assert report.warnings == ["synonyms read: 1_happiness=happy, Angry=anger, HA=happy"]
    assert loader.name == "my-faces-v2"
    assert loader.expected_rows == 5
    assert loader.files == {f"picture {name}": root / name for name in order}
    assert loader.config == {
        "layout": "tree",
        "size": None,
        "size_if_mixed": "that of 90% of the images if it is square, else 112",
        "resize": "square, bicubic, antialiased, aspect ratio not kept",
        "grey": None,
    }


def test_class_picture_is_carved_altogether(tmp_path: Path) -> None:
    for name in ("happy/1.png", "fear/2.png"):
        picture(tmp_path / name)
    rows, _, report = drain(Folder(source=tmp_path, name="mine"))
    assert [row.id for row in rows] == ["fear/2.png", "happy/1.png"]
    assert {report.split_of[row.split] for row in rows} == {"train"}
    assert (report.carve_validation, report.carve_test) == (True, True)


def test_train_and_val_report_on_val(tmp_path: Path) -> None:
    for name in ("train/happy/1.png", "dev/happy/2.png"):
        picture(tmp_path / name)
    _, _, report = drain(Folder(source=tmp_path))
    assert report.split_of == {"train": "train", "dev": "test"}
    assert (report.carve_validation, report.carve_test) == (True, False)
    assert [role.part for role in report.parts if role.promoted] == ["dev"]


def test_grey_and_colour(tmp_path: Path) -> None:
    grey = picture(tmp_path / "happy/1.png", colour=False)
    _, images, _ = drain(Folder(source=tmp_path))
    np.testing.assert_array_equal(images, grey[None])
    colour = picture(tmp_path / "happy/2.png")
    _, images, _ = drain(Folder(source=tmp_path))
    np.testing.assert_array_equal(images, np.stack([np.repeat(grey[..., None], 3, axis=2), colour]))
    assert drain(Folder(source=tmp_path, grey=True))[1].shape == (2, 10, 10)
    (tmp_path / "happy/2.png").unlink()
    assert drain(Folder(source=tmp_path, grey=False))[1].shape == (1, 10, 10, 3)


def test_sizes(tmp_path: Path) -> None:
    picture(tmp_path / "happy/1.png", (20, 30))
    rows, images, report = drain(Folder(source=tmp_path))
    assert images.shape == (1, 20, 30, 3)
    assert report.warnings == []
    picture(tmp_path / "happy/2.png", (30, 30))
    rows, images, report = drain(Folder(source=tmp_path))
    assert images.shape == (2, 112, 112, 3)
    assert [(row.width, row.height) for row in rows] == [(30, 20), (30, 30)]  # as they were found
    assert report.warnings == [
        "the images have 2 sizes: all were resized to 112x112",
        "1 image is not square: resizing changed the aspect",
    ]
    (tmp_path / "happy/1.png").unlink()
    assert drain(Folder(source=tmp_path, size=16))[1].shape == (1, 16, 16, 3)
    assert Folder(source=tmp_path, size=16).config["size"] == 16
    for size in (7, 2049, 0, -1):
        fault(lambda size=size: Folder(source=tmp_path, size=size), f"--size {size} is out of range")  # type: ignore[misc]


def test_table(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("img/b.png", "img/a.png", "c.PNG"):
        picture(root / name)
    table = write_lines(
        root / "labels.csv",
        [
            "Subject, Filename ,note,Expression,Set,sequence",
            'S1,img/b.png,"one, two",Happiness,Training,7',
            ",./c.PNG,,AN,Testing,",
            "S2,img/a.png,,sad,valid,8",
        ],
    )
    for source in (table, root):
        loader = Folder(source=source)
        rows, _, report = drain(loader)
        assert [row.id for row in rows] == ["c.PNG", "img/a.png", "img/b.png"]
        assert [row.label for row in rows] == ["anger", "sad", "happy"]
        assert [row.line for row in rows] == [3, 4, 2]
        assert [row.subject for row in rows] == [None, "S2", "S1"]
        assert [row.sequence for row in rows] == [None, "8", "7"]
        assert [report.split_of[row.split] for row in rows] == ["test", "validation", "train"]
        assert loader.files == {"table": table} | {f"picture {row.source}": root / row.source for row in rows}
        assert loader.name == ("labels" if source == table else "set")
        assert report.label_rule == "labels of labels.csv, N = 3"
        assert loader.config["layout"] == "table"


def test_table_without_splits(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    _, _, report = drain(Folder(source=write_lines(tmp_path / "t.csv", ["image,label", "a.png,fear"])))
    assert (report.carve_validation, report.carve_test) == (True, True)


def test_a_table_beside_class_folders_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "train/happy/1.png")
    write_lines(tmp_path / "train_labels.csv", ["image,label"])
    _, _, report = drain(Folder(source=tmp_path))
    (leftover,) = report.leftovers
    assert str(leftover) == "1 table, train_labels.csv: not read"
    assert leftover.matters


TABLE_FAULTS: dict[str, tuple[list[str], int, Sequence[str]]] = {
    "missing file": (["path,label", "a.png,sad", "x/no.png,sad"], 3, ["names 'x/no.png', which does not exist"]),
    "many missing": (
        ["path,label", *(f"{i}.png,sad" for i in range(42))],
        2,
        ["'0.png'", "(and 41 more are at fault)"],
    ),
    "duplicate": (
        ["path,label", "a.png,sad", "b.png,sad", "./a.png,fear"],
        4,
        ["'a.png' is already in line 2"],
    ),
    "unknown class": (["path,label", "a.png,sad", "b.png,meh"], 3, ["unknown expression 'meh'", "neutral, happy"]),
    "a number for a class": (["path,label", "a.png,3"], 2, ["unknown expression '3'"]),
    "unknown split": (["path,label,split", "a.png,sad,train", "b.png,sad,"], 3, ["unknown split ''"]),
    "no path": (["path,label", ",sad"], 2, ["has no path of an image"]),
    "outside": (["path,label", "x/../../a.png,sad"], 2, ["is outside the table's folder"]),
    "absolute": (["path,label", "/etc/a.png,sad"], 2, ["is outside the table's folder"]),
    "not a picture": (["path,label", "t.csv,sad"], 2, ["'t.csv' is not an image by its name"]),
    "control character": (["path,label", "a\x1b.png,sad"], 2, ["holds a control character"]),
    "a folder": (["path,label", "d.png,sad"], 2, ["'d.png', which does not exist"]),
    "long path": (["path,label", "a" * 5000 + ".png,sad"], 2, ["which does not exist"]),
    "two paths": (["path,image,label", "a.png,b.png,sad"], 1, ["more than one path column: 'path' and 'image'"]),
    "no label": (["path,lable", "a.png,sad"], 1, ["no column 'label'"]),
    "no rows": (["path,label"], 1, ["a header and no rows"]),
}


@pytest.mark.parametrize("case", TABLE_FAULTS)
def test_bad_tables_are_refused(tmp_path: Path, case: str) -> None:
    lines, line, words = TABLE_FAULTS[case]
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    (tmp_path / "d.png").mkdir()
    table = write_lines(tmp_path / "t.csv", lines)
    fault(lambda: Folder(source=table), *words, at=f"{table}:{line}: ")


def _mixed(root: Path) -> None:
    picture(root / "train/happy/1.png")
    picture(root / "sad/1.png")


def _deep(root: Path) -> None:
    picture(root / "happy/more/1.png")


def _loop(root: Path) -> None:
    picture(root / "train/happy/1.png")
    (root / "test").symlink_to(root, target_is_directory=True)


TREE_FAULTS: dict[str, tuple[Callable[[Path], object], str, Sequence[str]]] = {
    "unknown class": (lambda r: picture(r / "train/happi/1.png"), "train/happi", ["'happi' is neither a split nor"]),
    "unknown folder": (
        lambda r: picture(r / "faces/1.png"),
        "faces",
        ["'faces' is neither a split nor", "neutral, happy"],
    ),
    "a number for a class": (lambda r: picture(r / "train/3/1.png"), "train/3", ["'3' is neither"]),
    "mixed layouts": (_mixed, "", ["mixes folders of splits (train/) and of expressions (sad/)"]),
    "too deep": (_deep, "happy/more/1.png", ["a folder inside a class folder"]),
    "no class folder": (lambda r: picture(r / "train/1.png"), "train/1.png", ["the image is not in a class folder"]),
    "loose": (lambda r: picture(r / "1.png"), "1.png", ["the image is not in a class folder"]),
    "text": (lambda r: write_lines(r / "happy/notes.txt", ["x"]), "happy/notes.txt", ["not an image by its name"]),
    "newline": (lambda r: picture(r / "happy/a\nb.png"), "happy/a\\nb.png", ["line break or a control character"]),
    "loop": (_loop, "test", ["points to a folder above it"]),
    "empty": (lambda r: (r / "happy").mkdir(), "", ["no images in class folders"]),
    "absent": (lambda r: r.rmdir(), "", ["cannot be read: No such file"]),
    "0 bytes": (lambda r: (r / "happy/2.png").write_bytes(b""), "happy/2.png", ["the file is empty (0 bytes)"]),
    "text as png": (
        lambda r: write_lines(r / "happy/2.png", ["x"]),
        "happy/2.png",
        ["not an image of a supported format"],
    ),
    "twin classes": (lambda r: picture(r / "happiness/1.png"), "happy", ["means happy, like happiness/"]),
    "two tables": (
        lambda r: [write_lines(r / name, ["x"]) for name in ("a.csv", "b.csv")],
        "",
        ["holds several tables: a.csv, b.csv"],
    ),
}


@pytest.mark.parametrize("case", TREE_FAULTS)
def test_bad_trees_are_refused(tmp_path: Path, case: str) -> None:
    write, place, words = TREE_FAULTS[case]
    root = tmp_path / "root"
    root.mkdir()
    if case in {"text", "0 bytes", "text as png", "twin classes"}:
        picture(root / "happy/1.png")
    write(root)
    fault(lambda: load(root), *words, at=f"{root}/{place}: " if place else f"{root}: ")


def test_twin_splits_are_refused(tmp_path: Path) -> None:
    for name in ("val/happy/1.png", "dev/happy/1.png", "train/happy/1.png"):
        picture(tmp_path / name)
    fault(lambda: load(tmp_path), "means validation, like dev/", at=f"{tmp_path / 'val'}: ")


def test_many_faults_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "happy/0.png")
    for index in range(42):
        (tmp_path / f"happy/x{index:02d}.png").write_bytes(b"")
    fault(lambda: load(tmp_path), "0 bytes", "(and 41 more are at fault)", at=f"{tmp_path / 'happy/x00.png'}: ")


def test_names(tmp_path: Path) -> None:
    assert [safe_name(text) for text in ("My Faces (v2)", "../..", "RAF-DB_2.0", "Ünï", "x" * 99, "a\n\x1b[1m")] == [
        *("my-faces-v2", "", "raf-db_2.0", "uni", "x" * 64, "a-1m")
    ]
    picture(tmp_path / "happy/1.png")
    assert Folder(source=tmp_path, name="own.set-1_b").name == "own.set-1_b"
    for name in ("Own", "a/b", "..", "", "a b", "x" * 65):
        fault(lambda name=name: Folder(source=tmp_path, name=name), "cannot be the name of an artifact")  # type: ignore[misc]


def test_names_of_splits() -> None:
    for split, names in {
        "train": ("train", "Training", " TRAIN "),
        "validation": ("val", "valid", "Validation", "dev", "PublicTest"),
        "test": ("test", "Testing", "PrivateTest"),
    }.items():
        assert {split_of_name(name) for name in names} == {split}
    assert split_of_name("happy") is None


PARTS_OF_PATH = st.sampled_from(
    ["train", "test", "happy", "sad", "angry", "x", "1.png", "2.png", "a.csv", ".h", "Thumbs.db"]
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(PARTS_OF_PATH, min_size=1, max_size=4), min_size=1, max_size=6), st.binary(max_size=30))
def test_any_tree_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, names: list[list[str]], data: bytes
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for index, parts in enumerate(names):
        path = root.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if index % 3 == 2:
                path.write_bytes(data)
            else:
                picture(path)
        except (OSError, ValueError):  # a file stands where a folder should, or Pillow writes no such kind
            continue
    try:
        rows, images, report = drain(Folder(source=root))
    except FerError as error:
        assert str(error).startswith(str(root))
        return
    assert len(rows) == len(images)
    assert {report.split_of[row.split] for row in rows} <= {"train", "validation", "test"}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text('abpng./,"\n é\x00sadhpy', max_size=60), st.sampled_from(["path,label\n", "path,label\na.png,sad\n", ""])
)
def test_any_table_is_read_or_refused(tmp_path: Path, text: str, before: str) -> None:
    picture(tmp_path / "a.png")
    table = tmp_path / "t.csv"
    table.write_bytes((before + text).encode())
    try:
        rows, _, _ = drain(Folder(source=table))
    except FerError as error:
        assert str(error).startswith(str(table))
        return
    assert {row.id for row in rows} == {"a.png"}
