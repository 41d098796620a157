"""A user's own pictures as people have them: columns, boxes, codes in file names, accents, other kinds of files."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from fer_cli.core.errors import UsageError
from fer_cli.datasets.folder import Folder, name_of, open_folder
from fer_cli.datasets.image_files import native, portable
from tests.datasets.test_folder import picture
from tests.kits.fer2013 import drain, fault, write_lines

Form = Literal["NFC", "NFD"]
E_COMPOSED, E_DECOMPOSED = "\u00e9", "e\u0301"


def table(root: Path, header: str, *cells: str, name: str = "t.csv") -> Path:
    """Write a table of pictures 0.png, 1.png, ... of happy faces, with these cells behind path and label."""
    for index in range(len(cells)):
        picture(root / f"{index}.png")
    rows = [f"{index}.png,happy,{cell}" for index, cell in enumerate(cells)]
    return write_lines(root / name, [f"path,label,{header}", *rows])


@pytest.mark.parametrize(
    "name", ["subject", "subject_id", "Person ID", "person", "identity", "actor", "Participant-ID"]
)
def test_persons_are_read_from_a_column_of_any_usual_name(tmp_path: Path, name: str) -> None:
    rows, _, report = drain(Folder(source=table(tmp_path, name, "P1", "P2", "P1")))
    assert [row.subject for row in rows] == ["P1", "P2", "P1"]
    assert report.leftovers == []


@pytest.mark.parametrize("name", ["split", "usage", "set", "partition", "subset", "data split"])
def test_splits_are_read_from_a_column_of_any_usual_name(tmp_path: Path, name: str) -> None:
    rows, _, report = drain(Folder(source=table(tmp_path, name, "train", "test", "dev")))
    assert [report.split_of[row.split] for row in rows] == ["train", "test", "validation"]


@pytest.mark.parametrize(
    ("columns", "column", "what"),
    [
        ("subject,person", "person", "a person"),
        ("main_person_nr", "main_person_nr", "a person"),
        ("fold", "fold", "a split"),
        ("split,subset", "subset", "a split"),
        ("bbox", "bbox", "a box"),
        ("confidence", "confidence", "a score"),
        ("prob_happy", "prob_happy", "a score"),
        ("happy", "happy", "the score of a class"),
        ("sequence,clip_nr", "clip_nr", "a film"),
        ("user_id", "user_id", "a person"),
        ("groups", "groups", "a person"),
        ("session", "session", "a film"),
        ("is_test", "is_test", "a split"),
        ("kfold", "kfold", "a split"),
        ("p_happy", "p_happy", "the score of a class"),
        ("hapiness", "hapiness", "the score of a class"),
    ],
)
def test_a_column_that_looks_like_something_else_is_refused(
    tmp_path: Path, columns: str, column: str, what: str
) -> None:
    source = table(tmp_path, columns, "train," * columns.count(",") + "1")
    said = f"column {column!r} looks like {what} and is not read"
    fault(lambda: Folder(source=source), said, f"--ignore-columns {column}", at=f"{source}:1: ")
    _, _, report = drain(Folder(source=source, ignore_columns=column.upper()))
    assert [str(leftover) for leftover in report.leftovers] == [f"1 column of t.csv, {column}: not read"]


@pytest.mark.parametrize(
    "spellings",
    [
        ("s1", "S1"),
        ("1", "1.0"),
        ("1", "001"),
        ("Ann Lee", "ann  lee "),
        ("Zo\u00eb", "Zoe\u0308"),
        ("s1", "ｓ1\u200b"),
    ],
)
def test_one_person_in_several_spellings_is_one(tmp_path: Path, spellings: tuple[str, str]) -> None:
    cells = [spellings[0], spellings[1], "other", "n/a"]
    rows, _, report = drain(Folder(source=table(tmp_path, "person", *cells)))
    persons = [row.subject for row in rows]
    assert persons == [persons[0], persons[0], "other", None]
    assert len({person for person in persons if person}) == 2
    composed = {unicodedata.normalize("NFC", text).strip() for text in spellings}
    remarks = [text for text in report.warnings if "subject" in text]
    assert [text.split(":")[0] for text in remarks] == [
        *(["each subject that is spelled in several ways was taken for one"] if len(composed) > 1 else []),
        "1 of 4 images have no subject",
    ]


VALUES: dict[str, tuple[str, list[str], str]] = {
    "splits": ("role", ["train", "test", "test"], "a split"),
    "boxes": ("crop", ["0 0 9 9", "[1, 2, 7, 8]", "0;0;9.5;9"], "a box"),
    "classes of another": ("second opinion", ["happy", "sad", "anger"], "a class"),
    "images that repeat": ("parent", ["o1.jpg", "o2.jpg", "o1.jpg"], "the image that several rows come from"),
    "ids that repeat": ("ID", ["1", "2", "1"], "a person"),
    "names that repeat": ("name", ["ann", "bob", "bob"], "a person"),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_column_is_known_by_its_cells_whatever_its_name(tmp_path: Path, case: str) -> None:
    column, cells, what = VALUES[case]
    lines = [f"path,label;{column}".replace(",", ";")]
    for at, (label, cell) in enumerate(zip(("happy", "sad", "happy"), cells, strict=True)):
        picture(tmp_path / f"{at}.png")
        lines.append(f'{at}.png;{label};"{cell}"')
    source = write_lines(tmp_path / "t.csv", lines)
    fault(lambda: Folder(source=source), f"column {column.lower()!r} looks like {what} and is not read")
    rows, _, _ = drain(Folder(source=source, ignore_columns=column))
    assert len(rows) == 3


def test_cells_that_are_nothing_of_the_kind_are_passed_over(tmp_path: Path) -> None:
    lines = ["path;label;same;id;photo of;note;region 3"]
    for at, label in enumerate(("happy", "sad", "happy")):
        picture(tmp_path / f"{at}.png")
        lines.append(f"{at}.png;{label};{label.title()};{at};o{at}.jpg;{'train' if at else 'blurred'};1 2 3")
    rows, _, report = drain(Folder(source=write_lines(tmp_path / "t.csv", lines)))
    assert [row.label for row in rows] == ["happy", "sad", "happy"]
    assert str(report.leftovers[0]) == "5 columns of t.csv, same, id, photo of, 2 more: not read"


def test_other_columns_are_listed(tmp_path: Path) -> None:
    source = table(tmp_path, "age,width,height,note,gender", "31,10,10,x,f")
    _, _, report = drain(Folder(source=source))
    assert [str(leftover) for leftover in report.leftovers] == [
        "5 columns of t.csv, age, width, height, 2 more: not read"
    ]
    fault(lambda: Folder(source=source, ignore_columns="agee"), "has no column 'agee'", "age, width")


def test_a_second_class_must_agree_with_the_label(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    lines = ["path,label,label_id", "a.png,happy,3", "b.png,sad,4", "c.png,happy,3"]
    _, _, report = drain(Folder(source=write_lines(tmp_path / "t.csv", lines)))
    assert report.leftovers == []
    source = write_lines(tmp_path / "t.csv", [*lines[:3], "c.png,happy,4"])
    fault(lambda: Folder(source=source), "label_id '4' is happy here and sad in line 3", at=f"{source}:4: ")
    lines = ["path,label,emotion_name", "a.png,happy,Sadness", "b.png,sad,Happiness", "c.png,happy,Sadness"]
    source = write_lines(tmp_path / "t.csv", lines)  # each name means one label, and none is it
    fault(lambda: Folder(source=source), "'Sadness' is another expression than the label, happy", at=f"{source}:2: ")


BOX_FORMS: dict[str, tuple[str, str, str]] = {
    "x, y, width, height": ("x,y,width,height", "2,3,5,4", "0,0,9,9"),
    "face_x ...": ("face_x,face_y,face_width,face_height", "2,3,5,4", "0,0,9,9"),
    "corners": ("left,top,right,bottom", "2,3,7,7", "0,0,9,9"),
    "xmin ...": ("xmin,ymin,xmax,ymax", "2.2,2.8,7.1,6.9", "0,0,9,9"),
    "x1 ...": ("x1,y1,x2,y2,width,height", "2,3,7,7,12,10", "0,0,9,9,12,10"),
    "x0 ...": ("bbox_x0,bbox_y0,bbox_x1,bbox_y1", "2,3,7,7", "0,0,9,9"),
    "w and h": ("bbox_x,bbox_y,bbox_w,bbox_h", "2,3,5,4", "0,0,9,9"),
}


@pytest.mark.parametrize("form", BOX_FORMS)
def test_faces_are_cut_out_by_their_boxes(tmp_path: Path, form: str) -> None:
    header, first, second = BOX_FORMS[form]
    pixels = picture(tmp_path / "group.png", (10, 12))
    alone = picture(tmp_path / "alone.png", (10, 12))
    rows = [f"group.png,happy,{first}", f"group.png,sad,{second}", f"alone.png,sad,{first}"]
    loader = Folder(source=write_lines(tmp_path / "t.csv", [f"path,label,{header}", *rows]))
    found, images, report = drain(loader)
    assert [row.id for row in found] == ["alone.png", "group.png#1", "group.png#2"]
    assert [row.sequence for row in found] == [None, "group.png", "group.png"]
    assert report.faces == "cut out by the boxes of t.csv: not aligned"
    crops = (alone[3:7, 2:7], pixels[3:7, 2:7], pixels[:9, :9])
    expected = [np.asarray(Image.fromarray(crop).resize((112, 112), Image.Resampling.BICUBIC)) for crop in crops]
    np.testing.assert_array_equal(images, expected)
    with pytest.raises(UsageError, match="the table has boxes"):
        open_folder(source=tmp_path / "t.csv", align=True)


@pytest.mark.parametrize(
    ("header", "cells", "line", "what"),
    [
        ("x,y,width", "1,2,3", 1, "lacks its height: there are 'x', 'y', 'width'"),
        ("left,top,right,bottom,xmin", "1,2,3,4,1", 1, "two columns are the left of a box: 'left' and 'xmin'"),
        ("x,y,w,h", "1,2,,4", 2, "'1, 2, , 4' is not a box"),
        ("x,y,w,h", "1,2,nan,4", 2, "is not a box"),
        ("x,y,w,h", "1,2,1e9,4", 2, "is not a box"),
        ("x,y,w,h", "1,2,0,4", 2, "the box '1, 2, 0, 4' is empty"),
        ("x1,y1,x2,y2", "5,2,3,4", 2, "is empty"),
        ("x,y,w,h", "0.1,0.2,0.5,0.5", 2, "is in shares of the image"),
    ],
)
def test_a_box_at_fault_is_refused(tmp_path: Path, header: str, cells: str, line: int, what: str) -> None:
    source = table(tmp_path, header, cells)
    fault(lambda: Folder(source=source), what, at=f"{source}:{line}: ")


def test_a_box_outside_its_picture_names_the_row(tmp_path: Path) -> None:
    source = table(tmp_path, "x,y,w,h", "1,1,5,5", "8,8,9,9")
    fault(lambda: drain(Folder(source=source)), "lies outside '1.png'", at=f"{source}:3: ")


def test_landmarks_are_no_box(tmp_path: Path) -> None:
    source = table(tmp_path, ",".join(f"x_{n},y_{n}" for n in range(5)), ",".join("1" * 10))
    _, images, report = drain(Folder(source=source))
    assert images.shape == (1, 10, 10, 3)
    assert report.leftovers[0].count == 10


def test_four_corners_and_centres_are_no_landmarks(tmp_path: Path) -> None:
    source = table(tmp_path, ",".join(f"x{n},y{n}" for n in range(1, 5)), ",".join("1" * 8))
    fault(lambda: Folder(source=source), "look like four corners of a face, or two boxes, and are not read")
    source = table(tmp_path, "x_center,y_center,width,height", "5,5,4,4")
    fault(lambda: Folder(source=source), "column 'x_center' looks like a box")
    source = table(tmp_path, "x,y,w,h", "0,0,1,1")
    fault(lambda: Folder(source=source), "is in shares of the image")


def test_pictures_elsewhere(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for name in ("a/1.png", "b/2.png", "b/3.png"):
        picture(root / name)
    rows = ["path,label", "a/1.png,happy", r"b\2.png,sad", f"{root}/b/3.png,fear"]
    (tmp_path / "lists").mkdir()
    source = write_lines(tmp_path / "lists/t.csv", rows)
    fault(lambda: Folder(source=source), "names 'a/1.png', which does not exist", at=f"{source}:2: ")
    found, _, report = drain(Folder(source=source, images=root))
    assert [row.id for row in found] == ["a/1.png", "b/2.png", "b/3.png"]
    assert report.leftovers == []
    for option in ({"images": root}, {"ignore_columns": "x"}):
        with pytest.raises(UsageError, match="is for a table"):
            Folder(source=root, labels="a=happy,b=sad", **option)


def test_what_a_table_leaves_is_listed(tmp_path: Path) -> None:
    source = table(tmp_path, "age", "1", "2", name="train.csv")
    for name in ("3.png", "test/4.png", "test/5.png"):
        picture(tmp_path / name)
    write_lines(tmp_path / "my_test.csv", ["path,label"])
    write_lines(tmp_path / "notes.csv", ["x"])
    _, _, report = drain(Folder(source=source))
    assert [(str(leftover), leftover.matters) for leftover in report.leftovers] == [
        ("1 column of train.csv, age: not read", False),
        ("1 folder of images, test/ (2 images): not read", True),
        ("1 image not listed in train.csv, 3.png: not read", True),
        ("1 table, my_test.csv: not read", True),
        ("1 table, notes.csv: not read", False),
    ]


def test_what_a_tree_leaves_is_listed(tmp_path: Path) -> None:
    picture(tmp_path / "train/happy/1.png")
    for name in ("train/anger", "test", "train/.cache"):
        (tmp_path / name).mkdir()
    for name in ("readme.txt", "labels.csv", "train/list.tsv", "train/happy/Thumbs.db"):
        (tmp_path / name).touch()
    _, _, report = drain(Folder(source=tmp_path))
    assert [(str(leftover), leftover.matters) for leftover in report.leftovers] == [
        ("2 folders without images: test/, train/anger/", True),
        ("2 tables, labels.csv, train/list.tsv: not read", True),
        ("1 file, readme.txt: not read", False),
        ("1 hidden file, train/.cache/: not read", False),
    ]


PATTERN_CASES: dict[str, tuple[str, dict[str, tuple[str, str | None, tuple[str, ...]]]]] = {
    "jaffe": ("jaffe", {"KA.AN1.39.tiff": ("anger", "KA", ()), "NM.NE3.97.tiff": ("neutral", "NM", ())}),
    "jaffe, converted": ("jaffe", {"KA.AN1.39.png": ("anger", "KA", ()), "NM.NE3.97.JPG": ("neutral", "NM", ())}),
    "kdef": (
        "kdef",
        {
            "AF01/AF01AFHL.JPG": ("fear", "F01", ("pose=HL", "session=A")),
            "BM35/BM35SUS.JPG": ("surprise", "M35", ("pose=S", "session=B")),
        },
    ),
    "rafd": (
        "rafd",
        {"Rafd090_01_Caucasian_female_contemptuous_left.jpg": ("contempt", "01", ("gaze=left", "pose=090"))},
    ),
    "own, on the file name": (r"s(?P<subject>\d+)-(?P<label>\w+)\.png", {"s7-joy.png": ("happy", "7", ())}),
    "own, on the path": (r"(?P<subject>\w+)/(?P<label>\w+)/.*", {"bob/sad/1.png": ("sad", "bob", ())}),
    "own, with codes": (r"(?P<label>\d)_\d+\.png", {"0_12.png": ("anger", None, ()), "1_7.png": ("happy", None, ())}),
}


@pytest.mark.parametrize("case", PATTERN_CASES)
def test_labels_in_file_names(tmp_path: Path, case: str) -> None:
    pattern, expected = PATTERN_CASES[case]
    for name in expected:
        picture(tmp_path / name)
    picture(tmp_path / "other.png")
    (tmp_path / "README").touch()
    labels = "0=anger,1=happy" if case == "own, with codes" else None
    rows, _, report = drain(Folder(source=tmp_path, pattern=pattern, labels=labels))
    assert {row.id: (row.label, row.subject, row.flags) for row in rows} == expected
    assert [str(leftover) for leftover in report.leftovers] == [
        "1 image, other.png: not read",
        "1 file, README: not read",
    ]
    assert report.label_rule.startswith("file names")


def test_splits_in_file_names(tmp_path: Path) -> None:
    for name in ("train_happy.png", "test_happy.png"):
        picture(tmp_path / name)
    rows, _, report = drain(Folder(source=tmp_path, pattern=r"(?P<split>\w+)_(?P<label>\w+)\.png"))
    assert [report.split_of[row.split] for row in rows] == ["test", "train"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", ["is not a regular expression"]),
        (r"\w+", ["has no group (?P<label>...)"]),
        ("x" * 1001, ["longer than 1,000"]),
        ("jaffe", ["no name of an image matches", "'s1-zz.png'"]),
        (r"s\d-(?P<label>\w+)\.png", ["unknown expression 'zz'", "--labels zz=..."]),
        (r"(?P<split>s\d)-z(?P<label>z)\.png", ["unknown expression 'z'"]),
    ],
)
def test_a_bad_pattern_is_refused(tmp_path: Path, pattern: str, words: Sequence[str]) -> None:
    picture(tmp_path / "s1-zz.png")
    fault(lambda: Folder(source=tmp_path, pattern=pattern), *words)


def test_class_folders_in_another_language(tmp_path: Path) -> None:
    for name in ("Freude/1.png", f"col{E_DECOMPOSED}re/2.png", "0/3.png"):
        picture(tmp_path / name)
    fault(lambda: Folder(source=tmp_path), "is neither a split nor an expression", "--labels 0=...")
    rows, _, _ = drain(Folder(source=tmp_path, labels=f"freude=happy,Col{E_COMPOSED}re=anger,0=neutral"))
    assert [row.label for row in rows] == ["neutral", "happy", "anger"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_names_are_composed_whatever_the_disk_and_the_table_hold(tmp_path: Path, form: Form, typed: Form) -> None:
    name = unicodedata.normalize(form, f"Ren{E_COMPOSED}/Jos{E_COMPOSED}.png")
    picture(tmp_path / name)
    listed = unicodedata.normalize(typed, f"Ren{E_COMPOSED}/Jos{E_COMPOSED}.png")
    loader = Folder(source=write_lines(tmp_path / "t.csv", ["path,label", f"{listed},happy"]))
    rows, _, _ = drain(loader)
    assert [row.id for row in rows] == [row.source for row in rows] == [f"Ren{E_COMPOSED}/Jos{E_COMPOSED}.png"]
    assert loader.files.keys() == {"table", f"picture Ren{E_COMPOSED}/Jos{E_COMPOSED}.png"}


def test_two_names_that_look_the_same_are_refused(tmp_path: Path) -> None:
    for name in (E_COMPOSED, E_DECOMPOSED):
        picture(tmp_path / f"happy/{name}.png")
    fault(lambda: Folder(source=tmp_path), "differ in the form of accents alone")


def test_ids_do_not_depend_on_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / f"{E_COMPOSED}\u00df\u8868.png")
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("latin-1"))
    monkeypatch.setattr(os, "fsdecode", lambda data: data.decode("latin-1"))
    seen = f"{E_COMPOSED}\u00df\u8868.png".encode().decode("latin-1")  # what os.listdir gives in such a locale
    assert portable(seen) == f"{E_COMPOSED}\u00df\u8868.png"
    assert native(tmp_path, f"{E_COMPOSED}\u00df\u8868.png") == seen


@pytest.mark.parametrize("name", ["\u8868\u60c5", "ma\u00dfe", "\u0444", "faces-\u8868", "___"])
def test_a_name_that_would_be_lost_is_asked_for(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    picture(root / "happy/1.png")
    fault(lambda: Folder(source=root), "cannot be the name of an artifact", "--name", at=f"{root}: ")
    assert Folder(source=root, name="faces").name == "faces"


def test_accents_are_taken_off_names(tmp_path: Path) -> None:
    for name in (f"Donn{E_COMPOSED}es v2", f"Donn{E_DECOMPOSED}es v2"):
        (tmp_path / name).mkdir()
        assert name_of(tmp_path / name) == "donnees-v2"


def test_gif_and_jfif_are_images(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "happy/a.png", (12, 12))
    grey = pixels[..., 0]
    Image.fromarray(grey).save(tmp_path / "happy/b.gif")
    Image.fromarray(pixels).save(tmp_path / "happy/c.jfif", "JPEG", quality=95)
    rows, images, _ = drain(Folder(source=tmp_path))
    assert [row.id for row in rows] == ["happy/a.png", "happy/b.gif", "happy/c.jfif"]
    np.testing.assert_array_equal(images[1], np.repeat(grey[..., None], 3, axis=2))
    film = [Image.fromarray(frame) for frame in (grey, 255 - grey)]
    film[0].save(tmp_path / "happy/b.gif", save_all=True, append_images=film[1:])
    fault(lambda: drain(Folder(source=tmp_path)), "several frames", "save the one that counts as PNG")


@pytest.mark.parametrize(
    ("name", "data", "hint"),
    [
        ("a.heic", b"x", "convert it to PNG"),
        ("a.AVIF", b"x", "convert it to PNG"),
        ("a.mp4", b"x", "save its frames as PNG"),
        ("a.npy", b"x", "save its images as PNG"),
        ("a.zip", b"PK", "unpack it"),
        ("a", b"\xff\xd8\xff\xe0", "rename it to .jpg"),
        ("a.txt", b"x", "move it out of the class folder"),
    ],
)
def test_no_hint_throws_away_what_could_be_read(tmp_path: Path, name: str, data: bytes, hint: str) -> None:
    picture(tmp_path / "happy/1.png")
    (tmp_path / "happy" / name).write_bytes(data)
    error = fault(lambda: Folder(source=tmp_path), "not an image by its name", hint)
    assert "remove" not in str(error)
