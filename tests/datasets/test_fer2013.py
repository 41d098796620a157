"""FER2013: every form of the source, the official counts, and one line for whatever is wrong with it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_cli.datasets.fer2013 import EMOTIONS, OFFICIAL, OFFICIAL_ROWS, Fer2013
from tests.kits.fer2013 import (
    IDS,
    IMAGES,
    LINES,
    PARTS,
    TEXT,
    drain,
    fault,
    tar,
    votes_lines,
    write_lines,
    written,
    zipped,
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "fer2013.csv", LINES)


@pytest.fixture
def tiny_official(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make nine rows the complete data set, so that strictness is tested without 35,887."""
    for part in OFFICIAL:
        names = [EMOTIONS[number] for number, where in zip(IDS, PARTS, strict=True) if where == part]
        monkeypatch.setitem(OFFICIAL, part, {name: names.count(name) for name in EMOTIONS})
        monkeypatch.setitem(OFFICIAL_ROWS, part, len(names))


def test_official_counts_are_those_of_the_paper() -> None:
    assert OFFICIAL_ROWS == {"Training": 28_709, "PublicTest": 3_589, "PrivateTest": 3_589}
    totals = {name: sum(OFFICIAL[part][name] for part in OFFICIAL) for name in EMOTIONS}
    assert totals == dict(zip(EMOTIONS, (4953, 547, 5121, 8989, 6077, 4002, 6198), strict=True))  # Goodfellow 2013


def test_rows_pixels_and_roles(table: Path, tiny_official: None) -> None:
    loader = Fer2013(source=table)
    rows, images, report = drain(loader)
    np.testing.assert_array_equal(images, IMAGES)
    assert [row.id for row in rows] == [f"row-{index:05d}" for index in range(9)]
    assert [row.label for row in rows] == [
        *("anger", "neutral", "happy", "happy", "disgust", "fear", "sad", "surprise", "happy")
    ]
    assert [row.split for row in rows] == PARTS
    assert [row.line for row in rows] == list(range(2, 11))
    assert {(row.source, row.width, row.height) for row in rows} == {("fer2013.csv", 48, 48)}
    assert report.split_of == {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
    assert (report.carve_validation, report.carve_test) == (False, False)
    assert report.classes == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")
    assert report.label_rule == "FER2013 labels, N = 5 Training + 2 PublicTest + 2 PrivateTest"
    assert report.missing == report.warnings == []
    assert (loader.name, loader.files) == ("fer2013", {"table": table})
    assert loader.expected_rows == 9
    assert loader.config == {"allow_incomplete": False, "drop_nonface": None}


def test_a_missing_part_is_refused_unless_allowed(tmp_path: Path, tiny_official: None) -> None:
    path = write_lines(tmp_path / "fer2013.csv", LINES[:8])
    fault(
        lambda: drain(Fer2013(source=path)),
        "not the complete FER2013: PrivateTest is missing (2 rows); ",
        "--allow-incomplete",
        at=f"{path}: ",
    )
    _, _, report = drain(Fer2013(source=path, allow_incomplete=True))
    assert report.missing == ["PrivateTest is missing (2 rows)"]
    assert report.split_of == {"Training": "train", "PublicTest": "test"}
    assert report.carve_validation
    assert [role.part for role in report.parts if role.promoted] == ["PublicTest"]
    assert Fer2013(source=path, allow_incomplete=True).expected_rows is None


def test_a_missing_row_and_a_changed_label_are_told(tmp_path: Path, tiny_official: None) -> None:
    path = write_lines(tmp_path / "fer2013.csv", LINES[:4] + LINES[5:])
    fault(lambda: drain(Fer2013(source=path)), "Training has 4 of 5 rows (happy 1 of 2)")
    write_lines(path, [*LINES[:9], LINES[9].replace("3,", "4,", 1)])
    fault(lambda: drain(Fer2013(source=path)), "PrivateTest has 2 of 2 rows (happy 0 of 1, sad 1 of 0)")
    write_lines(path, [*LINES, LINES[1]])
    fault(
        lambda: drain(Fer2013(source=path, allow_incomplete=True)),
        "Training has more than the 5 rows of FER2013",
        at=f"{path}:11: ",
    )


FORMS: dict[str, Callable[[Path], Path]] = {
    "plain": lambda d: written(d / "fer2013.csv", TEXT),
    "no newline at the end": lambda d: written(d / "fer2013.csv", TEXT[:-1]),
    "blank lines at the end": lambda d: written(d / "fer2013.csv", TEXT + b"\n \r\n"),
    "gz": lambda d: written(d / "fer2013.csv.gz", gzip.compress(TEXT)),
    "gz in two members": lambda d: written(d / "a.gz", gzip.compress(TEXT[:9999]) + gzip.compress(TEXT[9999:])),
    "xz": lambda d: written(d / "fer2013.csv.xz", lzma.compress(TEXT)),
    "xz in two padded streams": lambda d: written(
        d / "a.xz", lzma.compress(TEXT[:9999]) + b"\0" * 8 + lzma.compress(TEXT[9999:]) + b"\0" * 4
    ),
    "bz2": lambda d: written(d / "fer2013.csv.bz2", bz2.compress(TEXT)),
    "zip": lambda d: zipped(
        d / "fer2013.zip", {"x/README": b"?", "x/fer2013.csv": TEXT, "__MACOSX/._fer2013.csv": b"?"}
    ),
    "zip, another name": lambda d: zipped(d / "fer2013.csv.zip", {"data.csv": TEXT, "notes.txt": b"?"}),
    "tar.gz": lambda d: tar(d / "fer2013.tar.gz", {"fer2013/README": b"?", "fer2013/fer2013.csv": TEXT}, "w:gz"),
    "tar.xz": lambda d: tar(d / "fer2013.tar.xz", {"fer2013/fer2013.csv": TEXT, "fer2013/fer2013.bib": b"?"}, "w:xz"),
    "tar": lambda d: tar(d / "fer2013.tar", {"fer2013.csv": TEXT}, "w"),
    "the suffix lies": lambda d: written(d / "fer2013.csv", gzip.compress(TEXT)),
    "bom": lambda d: written(d / "fer2013.csv", b"\xef\xbb\xbf" + TEXT),
    "crlf": lambda d: written(d / "fer2013.csv", TEXT.replace(b"\n", b"\r\n")),
    "quotes": lambda d: write_lines(
        d / "fer2013.csv", [",".join(f'"{cell}"' for cell in line.split(",")) for line in LINES]
    ),
    "quotes and crlf": lambda d: written(
        d / "fer2013.csv", b"".join(b'"' + line.encode().replace(b",", b'","') + b'"\r\n' for line in LINES)
    ),
    "many blanks": lambda d: written(d / "fer2013.csv", TEXT.replace(b" ", b"   ").replace(b",", b" , ")),
    "icml": lambda d: write_lines(
        d / "icml_face_data.csv",
        ["emotion, Usage, pixels"] + [",".join(np.array(line.split(","))[[0, 2, 1]]) for line in LINES[1:]],
    ),
    "folder": lambda d: written(d / "fer2013.csv.xz", lzma.compress(TEXT)).parent,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(tmp_path: Path, form: str, tiny_official: None) -> None:
    rows, images, _ = drain(Fer2013(source=FORMS[form](tmp_path)))
    np.testing.assert_array_equal(images, IMAGES)
    assert [EMOTIONS.index(row.label) for row in rows] == IDS
    assert [row.split for row in rows] == PARTS


@pytest.mark.parametrize(
    ("pack", "name"), [(zipped, "a.zip"), (lambda path, members: tar(path, members, "w:gz"), "a.tar.gz")]
)
def test_what_else_an_archive_holds_is_listed(
    tmp_path: Path, tiny_official: None, pack: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    members = {"fer2013.csv": TEXT, "test_new/happy/1.png": b"?", "more.csv": TEXT, "test.csv": b"?", "README": b"?"}
    _, _, report = drain(Fer2013(source=pack(tmp_path / name, members)))
    assert [(one.kind, one.names, one.matters) for one in report.leftovers] == [
        ("images", (f"{name}/test_new/happy/1.png",), True),
        ("tables", (f"{name}/more.csv",), True),
        ("files", (f"{name}/README",), False),
        ("parts", (f"{name}/test.csv",), False),
    ]


def test_a_table_of_several_blocks(tmp_path: Path) -> None:
    """1,500 rows (12 MB) in two blocks: ids and lines go on, and so does the line of a fault behind them."""
    lines = [LINES[0], *LINES[1:6] * 300]
    path = write_lines(tmp_path / "a.csv", lines)
    loader = Fer2013(source=path, allow_incomplete=True)
    assert [len(block.rows) for block in loader.blocks()] == [1024, 476]
    rows, images, _ = drain(Fer2013(source=path, allow_incomplete=True))
    assert [row.id for row in rows] == [f"row-{index:05d}" for index in range(1500)]
    assert [row.line for row in rows] == list(range(2, 1502))
    np.testing.assert_array_equal(images, np.concatenate([IMAGES[:5]] * 300))
    write_lines(path, [*lines, "0," + "1 " * 40_000])
    fault(lambda: drain(Fer2013(source=path, allow_incomplete=True)), "longer than", at=f"{path}:1502: ")


def test_members_are_neverwritten(tmp_path: Path, tiny_official: None) -> None:
    inside = tmp_path / "in" / "side"
    inside.mkdir(parents=True)
    name = "../../fer2013.csv"
    for archive in (zipped(inside / "a.zip", {name: TEXT}), tar(inside / "a.tar.gz", {name: TEXT}, "w:gz")):
        _, images, _ = drain(Fer2013(source=archive))
        np.testing.assert_array_equal(images, IMAGES)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.tar.gz", "a.zip"]


def test_places_without_a_source_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(lambda: Fer2013(source=tmp_path / "absent"), "No such file", "fer2013.tar.gz", at=f"{tmp_path / 'absent'}: ")
    fault(lambda: Fer2013(source=tmp_path), "FER2013 is not in this folder", "icml_face_data.csv", at=f"{tmp_path}: ")
    write_lines(tmp_path / "fer2013.csv", LINES)
    write_lines(tmp_path / "icml_face_data.csv", LINES)
    (tmp_path / "train").mkdir()
    fault(lambda: Fer2013(source=tmp_path), "several sources: fer2013.csv, icml_face_data.csv, train/")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, whom no file mode stops
    path = tmp_path / "fer2013.csv"
    fault(lambda: Fer2013(source=path), "cannot be read: Permission denied", at=f"{path}: ")


def test_nonfaces_are_dropped_by_their_votes(tmp_path: Path, table: Path) -> None:
    clear, split, nonface, six, five = (
        [10, *[0] * 9],
        [4, 0, 0, 4, 0, 0, 0, 0, 0, 2],
        [0] * 9 + [10],
        [4] + [0] * 8 + [6],
        [5] + [0] * 8 + [5],
    )
    votes = write_lines(
        tmp_path / "v.csv", votes_lines(PARTS, [clear, nonface, split, six, five, clear, clear, nonface, clear])
    )
    loader = Fer2013(source=table, allow_incomplete=True, drop_nonface=votes)
    rows, images, report = drain(loader)
    kept = [0, 2, 4, 5, 6, 8]
    assert [row.id for row in rows] == [f"row-{index:05d}" for index in kept]
    np.testing.assert_array_equal(images, IMAGES[kept])
    assert report.dropped == {"NF holds more than half of the FER+ votes": 3}
    assert report.label_rule.endswith("N = 3 Training + 2 PublicTest + 1 PrivateTest")
    assert loader.name == "fer2013-faces"
    assert loader.files == {"table": table, "votes": votes}
    assert loader.config["drop_nonface"] == "NF holds more than half of the FER+ votes"
    write_lines(votes, votes_lines(PARTS[:8], [clear] * 8))
    fault(
        lambda: drain(Fer2013(source=table, allow_incomplete=True, drop_nonface=votes)),
        "v.csv ends after 8 rows",
        at=f"{table}:10: ",
    )


def _tree(root: Path, named: bool = True, suffix: str = "png") -> list[tuple[str, int]]:
    """Write the re-layout and return (relative path, index into IMAGES) in sorted order."""
    folders = {"anger": "angry", "surprise": "surprise"}
    names = []
    for index, (part, number, image) in enumerate(zip(PARTS, IDS, IMAGES, strict=True)):
        prefix = f"{part}_" if named or part == "Training" else "im"
        label = EMOTIONS[number]
        name = f"{'train' if part == 'Training' else 'test'}/{folders.get(label, label)}/{prefix}{index}.{suffix}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name)
        names.append((name, index))
    return sorted(names)


@pytest.mark.parametrize("named", [True, False])
def test_the_re_layout_in_folders(tmp_path: Path, named: bool, tiny_official: None) -> None:
    names = _tree(tmp_path, named)
    (tmp_path / "train/Thumbs.db").touch()
    loader = Fer2013(source=tmp_path)
    rows, images, report = drain(loader)
    assert [row.id for row in rows] == [row.source for row in rows] == [name for name, _ in names]
    np.testing.assert_array_equal(images, IMAGES[[index for _, index in names]])
    assert [row.label for row in rows] == [EMOTIONS[IDS[index]] for _, index in names]
    assert loader.expected_rows == 9
    assert loader.files == {f"picture {name}": tmp_path / name for name, _ in names}
    if named:
        assert [row.split for row in rows] == [PARTS[index] for _, index in names]
        assert report.split_of["PublicTest"] == "validation"
        assert not report.carve_validation
    else:
        assert report.split_of == {"Training": "train", "test": "test"}
        assert report.carve_validation
        assert report.label_rule == "FER2013 labels, N = 4 test + 5 Training"


@pytest.mark.parametrize("folder", ["test_new", "train_old/happy", "Training (copy)", "old/test/happy", "test2/sad"])
def test_a_folder_beside_the_re_layout_is_not_passed_over(tmp_path: Path, tiny_official: None, folder: str) -> None:
    names = _tree(tmp_path)
    assert len(drain(Fer2013(source=tmp_path))[0]) == 9
    (tmp_path / folder).mkdir(parents=True)
    shutil.copy(tmp_path / names[0][0], tmp_path / folder / "1.png")
    error = fault(lambda: Fer2013(source=tmp_path, allow_incomplete=True), folder.partition("/")[0])
    assert ("neither a split nor an expression" in error.what) == (not folder.startswith("old"))


def test_the_re_layout_is_as_strict(tmp_path: Path, tiny_official: None) -> None:
    names = _tree(tmp_path)
    first, public = tmp_path / names[-1][0], tmp_path / "test/fear/PublicTest_5.png"
    keep = first.read_bytes()

    first.unlink()
    fault(lambda: Fer2013(source=tmp_path), "Training has 4 of 5 rows (neutral 0 of 1)", at=f"{tmp_path}: ")
    assert drain(Fer2013(source=tmp_path, allow_incomplete=True))[2].missing == [
        "Training has 4 of 5 rows (neutral 0 of 1)"
    ]
    first.write_bytes(keep)

    public.rename(public.with_name("im5.png"))
    fault(lambda: Fer2013(source=tmp_path), "neither PublicTest nor PrivateTest", at=f"{public.with_name('im5.png')}: ")
    public.with_name("im5.png").rename(public)

    Image.fromarray(IMAGES[0, :47]).save(public)
    fault(lambda: drain(Fer2013(source=tmp_path)), "48x47 pixels, those of FER2013 are 48x48", at=f"{public}: ")
    Image.fromarray(IMAGES[5]).save(public)

    fault(lambda: Fer2013(source=tmp_path, drop_nonface=public), "folders do not keep", at=f"{tmp_path}: ")
    (tmp_path / "train/contempt").mkdir()
    (tmp_path / "train/contempt/1.png").write_bytes(keep)
    fault(lambda: Fer2013(source=tmp_path), "not a class of FER2013", at=f"{tmp_path / 'train/contempt/1.png'}: ")
    (tmp_path / "train/contempt/1.png").rename(tmp_path / "train/happy/PublicTest_1.png")
    fault(lambda: Fer2013(source=tmp_path), "does not belong to train", "PublicTest_1.png: ")


def test_the_re_layout_in_colour_is_read_and_told(tmp_path: Path, tiny_official: None) -> None:
    names = _tree(tmp_path)
    for name, index in names:
        Image.fromarray(IMAGES[index]).convert("RGB").save(tmp_path / name)
    _, images, report = drain(Fer2013(source=tmp_path))
    np.testing.assert_array_equal(images, IMAGES[[index for _, index in names]])
    assert report.warnings == ["9 images are stored in colour; their luma was taken"]
