"""What a source holds and was not read: each kind in one line, with its number and its first names."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fer_cli.core.errors import FerError
from fer_cli.datasets.affectnet import AffectNet
from fer_cli.datasets.leftovers import find_unread, unread_columns, unread_members
from fer_cli.datasets.rafdb import RafDb
from fer_cli.datasets.votes import read_votes
from tests.kits.fer2013 import fault, votes_lines, write_lines, zipped
from tests.kits.official import affectnet_csv, rafdb_folders, save


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_everything_that_was_not_read_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, "train/happy/1.png", "train/happy/2.JPG", "train/happy/notes.txt", "train/sad/3.png")
    files(tmp_path, "valid/happy/1.png", "valid/sad/2.png", "more/valid/4.png", "extra/deep/a.png")
    files(tmp_path, ".git/x.png", "__MACOSX/train/1.png", "docs/readme.md", "original/9.png", "lists/people.csv")
    files(
        tmp_path,
        "train/happy/._1.png",
        "train/.DS_Store",
        "Thumbs.db",
        "more/5.png",
        "left/out/7.png",
        "fear/.DS_Store",
    )
    read = [*map(Path, ("train/happy/1.png", "more/5.png", "left/out"))]
    first = "extra/ (1 image), more/valid/ (1 image), train/sad/ (1 image)"
    for source in (tmp_path, Path()):
        monkeypatch.chdir(tmp_path)
        unread = find_unread(source, [source / name for name in read], parts=["original", "FACS"])
        assert [(str(leftover), leftover.matters) for leftover in unread.leftovers()] == [
            (f"4 folders of images, {first}, 1 more: not read", True),
            ("1 image, train/happy/2.JPG: not read", True),
            ("1 folder without images: fear/", True),
            ("1 table, lists/people.csv: not read", True),
            ("2 files, docs/readme.md, train/happy/notes.txt: not read", False),
            ("2 hidden files, .git/, train/happy/._1.png: not read", False),
            ("1 part of the data set, original: not read", False),
        ]
        assert unread.holders["valid/"] == {"happy", "sad"}
    only = unread.leftovers(images_matter=False, tables_matter=(), table=Path("l.csv"))
    assert [str(leftover) for leftover in only if not leftover.matters][:2] == [
        "1 image not listed in l.csv, train/happy/2.JPG: not read",
        "1 table, lists/people.csv: not read",
    ]


def test_a_source_that_was_read_leaves_nothing(tmp_path: Path) -> None:
    files(tmp_path, "happy/1.png", "list.csv")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert find_unread(tmp_path, [tmp_path / "happy/1.png", tmp_path / "list.csv"]).leftovers() == []


def test_the_other_files_of_an_archive_are_listed() -> None:
    names = ["x/README", "x\\more.csv", "test/happy/1.PNG", "__MACOSX/._a.csv", "./kaggle/test.csv", ".git/a", "../b"]
    unread = unread_members(Path("in/a.zip"), names, parts=["test.csv"])
    assert [(str(leftover), leftover.matters) for leftover in unread.leftovers()] == [
        ("1 image, a.zip/test/happy/1.PNG: not read", True),
        ("1 table, a.zip/x/more.csv: not read", True),
        ("2 files, a.zip/../b, a.zip/x/README: not read", False),
        ("1 hidden file, a.zip/.git/a: not read", False),
        ("1 part of the data set, a.zip/./kaggle/test.csv: not read", False),
    ]


@pytest.mark.parametrize("layout", ["votes", "affectnet", "rafdb"])
def test_the_other_files_of_an_archive_of_labels_are_listed(tmp_path: Path, layout: str) -> None:
    """An archive that stands where the table is looked for is read as the table; what else it holds is said."""

    def packed(path: Path, name: str) -> None:
        zipped(path, {name: path.read_bytes(), "test/happy/1.png": b"?", "README": b"?"})

    if layout == "votes":
        table = write_lines(tmp_path / "fer2013new.csv", votes_lines(["Training"], [[10, *[0] * 9]]))
        packed(table, table.name)
        leftovers = read_votes(table, ("Training",)).leftovers
    elif layout == "affectnet":
        table = affectnet_csv(tmp_path) / "Manually_Annotated_file_lists/training.csv"
        packed(table, table.name)
        leftovers = list(AffectNet(source=tmp_path, allow_incomplete=True).report().leftovers)
    else:
        table = rafdb_folders(tmp_path) / "train_labels.csv"
        packed(table, table.name)
        leftovers = list(RafDb(source=tmp_path, allow_incomplete=True).report().leftovers)
    said = [str(one) for one in leftovers if one.kind in {"images", "files"}]
    assert said == [
        f"1 image, {table.name}/test/happy/1.png: not read",
        f"1 file, {table.name}/README: not read",
    ]


def test_folders_that_are_reached_by_links_were_read(tmp_path: Path) -> None:
    files(tmp_path, "elsewhere/1.png", "elsewhere/2.png", "source/sad/3.png")
    for name in ("a", "happy"):
        (tmp_path / "source" / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    source = tmp_path / "source"
    (leftover,) = find_unread(source, [source / "happy/1.png", source / "sad/3.png"]).leftovers()
    assert (leftover.kind, leftover.count) == ("images", 1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("valid/1.png", "looks like a split"),
        ("test_new/happy/1.png", "looks like a split, with its class folder happy/,"),
        ("Angry/1.png", "looks like a class"),
        ("7/1.png", "looks like a class"),
        ("subjects/1.png", "looks like a person"),
        ("more/surprise/1.png", "looks like a split, with its class folder surprise/,"),
    ],
)
def test_what_looks_like_a_part_of_the_data_is_refused(tmp_path: Path, name: str, words: str) -> None:
    files(tmp_path, "train/1/1.png", "train/originals/1.png", "elsewhere/happy/1.png", name)
    unread = find_unread(tmp_path, [tmp_path / "train/1/1.png", tmp_path / "elsewhere"])
    fault(lambda: unread.refuse_lookalikes(tmp_path, ["1", "7"]), words, "fer prepare folder", at=f"{tmp_path}/")


def test_beside_the_layout_may_lie_other_data_sets(tmp_path: Path) -> None:
    files(tmp_path, "basic/1/1.png", "other/train/happy/1.png", "mine/happy/1.png", "test_results/plot.png")
    files(tmp_path, "basic/validation_plots/1.png", "happy/1.png", "persons/1.png")
    unread = find_unread(tmp_path, [tmp_path / "basic/1/1.png"])
    unread.refuse_lookalikes(tmp_path / "basic", ["1"])
    assert len(unread.folders) == 6
    for name in ("valid/1.png", "train_more/1/1.png"):
        files(tmp_path, name)
        more = find_unread(tmp_path, [tmp_path / "basic/1/1.png"])
        with pytest.raises(FerError, match="looks like a split"):
            more.refuse_lookalikes(tmp_path / "basic", ["1"])
        (tmp_path / name).unlink()
    with pytest.raises(FerError, match="happy: looks like a class"):
        unread.refuse_lookalikes(tmp_path, ["1"])


def test_images_of_the_data_sets_size_in_a_folder_called_like_a_split(tmp_path: Path) -> None:
    """A flat ``test_new/`` is no class folder, yet it is the test images of somebody; plots have another size."""
    image = save(tmp_path / "train/1/1.png", np.zeros((48, 48), dtype=np.uint8))
    save(tmp_path / "test_new/a.png", np.ones((48, 48), dtype=np.uint8))
    save(tmp_path / "test_results/plot.png", np.ones((300, 400), dtype=np.uint8))
    files(tmp_path, "test_damaged/1.png")
    save(tmp_path / "spare/1.png", np.ones((48, 48), dtype=np.uint8))
    unread = find_unread(tmp_path, [image])
    words = "looks like a split, with images of the data set's size"
    fault(lambda: unread.refuse_lookalikes(tmp_path, ["1"], like=image), words, at=f"{tmp_path}/test_new")
    del unread.folders["test_new/"]
    unread.refuse_lookalikes(tmp_path, ["1"], like=image)


def test_columns_that_were_not_read(tmp_path: Path) -> None:
    table, header = tmp_path / "l.csv", ["path", "a\x1b", "", "b", "c"]
    (columns,) = unread_columns(table, header, [0])
    assert str(columns) == "4 columns of l.csv, a\\x1b, (no name), b, 1 more: not read"
    assert unread_columns(table, ["path"], [0]) == []
    for name in ("subject_id", "bbox", "fold", "confidence", "label", "happy"):
        fault(partial(unread_columns, table, ["path", name], [0]), repr(name), "looks like", at=f"{table}:1: ")
        assert len(unread_columns(table, ["path", name], [0], known=[name])) == 1
