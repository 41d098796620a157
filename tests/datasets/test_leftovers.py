"""What a source holds and was not read: each kind in one line, with its number and its first names."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_cli.datasets.leftovers import unread_columns, unread_images


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_folders_and_images_that_were_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, "train/happy/1.png", "train/happy/2.JPG", "train/happy/notes.txt", "train/sad/3.png")
    files(tmp_path, "valid/happy/1.png", "valid/sad/2.png", "more/valid/4.png", "extra/deep/a.png")
    files(tmp_path, ".git/x.png", "__MACOSX/train/1.png", "docs/readme.md", "original/9.png")
    read = ["train/happy/1.png", "more/5.png"]
    for source in (tmp_path, Path()):
        monkeypatch.chdir(tmp_path)
        leftovers = unread_images(source, [source / name for name in read], known={"original"})
        assert [str(leftover) for leftover in leftovers] == [
            "4 folders of images, extra/ (1 image), more/valid/ (1 image), train/sad/ (1 image), 1 more: not read",
            "1 image, train/happy/2.JPG: not read",
        ]
    assert leftovers[0].names == ("extra/", "more/valid/", "train/sad/")
    (only,) = unread_images(tmp_path, [tmp_path / name for name in read], known={"original"}, single=False)
    assert (only.kind, only.count, only.images, only.matters) == ("folders", 4, (1, 1, 1), True)


def test_a_source_that_was_read_leaves_nothing(tmp_path: Path) -> None:
    files(tmp_path, "happy/1.png", "list.csv")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert unread_images(tmp_path, [tmp_path / "happy/1.png"]) == []


def test_columns_that_were_not_read(tmp_path: Path) -> None:
    (columns,) = unread_columns(tmp_path / "l.csv", ["path", "a\x1b", "", "b", "c"], {"path"})
    assert str(columns) == "4 columns of l.csv, a\\x1b, (no name), b, 1 more: not read"
    assert unread_columns(tmp_path / "l.csv", ["path"], {"path"}) == []
