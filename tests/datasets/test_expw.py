"""ExpW: faces cut out by the boxes of label.lst, pictures kept whole by the split, faults named with their line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.store import Store
from fer_cli.datasets.dataset import INDEX, open_dataset
from fer_cli.datasets.expw import EMOTIONS, ExpW
from tests.kits.train import Fer, assert_matches, files

PICTURES = 70
SIDE = 32
LIST = "label/label.lst"


def face(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Pictures of 96x64 with two faces each, at (left, top) (4, 8) and (50, 16); the expressions take turns."""
    root = tmp_path / "expw"
    (root / "label").mkdir(parents=True)
    (root / "image/origin").mkdir(parents=True)
    lines = []
    for number in range(PICTURES):
        canvas = np.full((64, 96, 3), 40, dtype=np.uint8)
        for index, (left, top) in enumerate([(4, 8), (50, 16)]):
            canvas[top : top + SIDE, left : left + SIDE] = face(2 * number + index)
            box = f"{top} {left} {left + SIDE} {top + SIDE}"
            lines.append(f"crowd_{number}.png {index} {box} 61.{index}5 {(number + index) % 7}")
        Image.fromarray(canvas).save(root / f"image/origin/crowd_{number}.png")
    (root / LIST).write_text("\n".join(lines) + "\n")
    Image.fromarray(canvas).save(root / "image/origin/nobody_labelled.png")
    return root


def test_each_face_is_a_row_cut_out_by_its_box(source: Path, store: Store, fer: Fer) -> None:
    words = ["prepare", "expw", "--source", source, "--store", store.root]
    printed = fer(*words, code=1)
    assert_matches(
        printed, r"not the complete ExpW: all has 140 of 91,793 rows \(anger 20 of 3,671, .*--allow-incomplete"
    )
    printed = fer(*words, "--allow-incomplete", code=0)
    assert "140 images" in printed
    dataset = open_dataset(store.find("dataset/expw", ["dataset"]))
    assert set(dataset.classes) == set(EMOTIONS)
    assert dataset.images.shape == (140, SIDE, SIDE, 3)
    rows = read_table(dataset.artifact.file(INDEX)).to_pylist()
    for row, pixels in zip(rows, dataset.images, strict=True):
        name, index = row["id"].split("#")
        number = int(name.removeprefix("crowd_").removesuffix(".png"))
        assert row["label"] == EMOTIONS[(number + int(index)) % 7]
        assert row["line"] == 2 * number + int(index) + 1
        assert (row["source"], row["subject"]) == (name, None)
        np.testing.assert_array_equal(pixels, face(2 * number + int(index)))


def test_test_and_validation_are_held_out_and_no_picture_is_in_two_splits(source: Path, store: Store, fer: Fer) -> None:
    fer("prepare", "expw", "--source", source, "--store", store.root, "--allow-incomplete", code=0)
    dataset = open_dataset(store.find("dataset/expw", ["dataset"]))
    counts = {name: len(dataset.rows(name)) for name in dataset.split_names}
    assert counts == {"train": 100, "validation": 12, "test": 28}
    of_picture: dict[str, set[str]] = {}
    for name, split in zip(dataset.ids.tolist(), dataset.splits.tolist(), strict=True):
        of_picture.setdefault(name.partition("#")[0], set()).add(split)
    assert {len(splits) for splits in of_picture.values()} == {1}


def test_a_box_over_the_edge_is_clipped_and_reported(source: Path, store: Store, fer: Fer) -> None:
    spoil(source, 1, "crowd_0.png 0 -4 -4 28 28 50 0")
    printed = fer("prepare", "expw", "--source", source, "--store", store.root, "--allow-incomplete", code=0)
    assert "1 box reaches over the edge of the image, and only what is inside was taken" in printed


def test_the_data_folder_of_the_download_is_found(source: Path) -> None:
    root = source.parent / "download"
    root.mkdir()
    source.rename(root / "data")
    assert ExpW(source=root, allow_incomplete=True).expected_rows == 140


def spoil(root: Path, number: int, text: str) -> None:
    lines = (root / LIST).read_text().splitlines()
    lines[number - 1] = text
    (root / LIST).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crowd_1.png 0 8 4 36 40 61 5 9", "not an image by its name"),
        ("crowd_1.png 0 8 4 36 40 5", "expected 8 fields, got 7"),
        ("crowd_1.png 0 8 4 36 40 61 7", "unknown expression id '7'; ExpW has 0 to 6"),
        ("crowd_1.png 0 8 4 36 40 61 happy", "unknown expression id 'happy'"),
        ("crowd_1.png 0 8 4 36 40 61 03", "unknown expression id '03'"),
        ("crowd_1.png 0 8 4 thirty 40 61 3", "is not a box and its confidence"),
        ("crowd_1.png 0 8 4 36 40 sure 3", "is not a box and its confidence"),
        ("crowd_1.png 0 8 36 4 40 61 3", "the box from 36,8 to 4,40 is empty"),
        ("crowd_1.png 0 40 4 36 8 61 3", "the box from 4,40 to 36,8 is empty"),
        ("crowd_1.png -1 8 4 36 40 61 3", "'-1' is not a face id"),
        ("crowd_1.png 1 8 4 36 40 61 3", "crowd_1.png#1 is already in line 3"),
        ("nobody.png 0 8 4 36 40 61 3", "names 'nobody.png', which does not exist"),
        ("../origin/crowd_1.png 0 8 4 36 40 61 3", "is not a file name"),
        ("crowd_1.png 0 500 400 440 560 61 3", "lies outside 'crowd_1.png', which is 96x64 pixels"),
    ],
)
def test_a_malformed_line_is_named(source: Path, store: Store, fer: Fer, text: str, message: str) -> None:
    spoil(source, 3, text)
    error = fer("prepare", "expw", "--source", source, "--store", store.root, "--allow-incomplete")
    at = 4 if "already" in message else 3
    assert error.startswith(f"{source / LIST}:{at}: ")
    assert message in error
    assert not files(store)


def test_all_faults_are_counted(source: Path, fer: Fer, store: Store) -> None:
    for number in (2, 5, 9):
        spoil(source, number, "crowd_1.png")
    error = fer("prepare", "expw", "--source", source, "--store", store.root)
    assert error.startswith(f"{source / LIST}:2: expected 8 fields, got 1")
    assert "2 more" in error


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (lambda root: (root / LIST).unlink(), "ExpW was not found: looked for label/label.lst and image/origin/"),
        (
            lambda root: (root / "image/origin").rename(root / "image/pictures"),
            "this folder is missing; unpack origin.7z",
        ),
    ],
)
def test_a_source_that_lacks_a_part(
    source: Path, store: Store, fer: Fer, remove: Callable[[Path], object], message: str
) -> None:
    remove(source)
    assert message in fer("prepare", "expw", "--source", source, "--store", store.root)
