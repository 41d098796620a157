"""The prepare stage: carved splits, duplicates, what the index and the manifest hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.protocol import DatasetProtocol
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.datasets.folder import Folder
from fer_cli.datasets.records import Block, LoadReport, Row
from fer_cli.evaluation.protocol_warnings import judge
from fer_cli.stages.prepare import prepare
from tests.kits.protocols import evaluation_protocol


class Listed:
    """A source that is given as rows with the value that fills each picture."""

    name = "listed"
    files: ClassVar[dict[str, Path]] = {}
    expected_rows = None

    def __init__(self, rows: list[tuple[Row, int]], **report: Any) -> None:
        self.rows = rows
        self.given = report
        self.config = {"rows": [(row.id, row.label, row.split, value) for row, value in rows]}

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.rows), 7):
            part = self.rows[start : start + 7]
            images = np.stack([np.full((4, 4), value % 251, np.uint8) + np.uint8(value // 251) for _, value in part])
            images[:, 0, 0] = [value // 251 for _, value in part]
            yield Block(tuple(row for row, _ in part), images)

    def report(self) -> LoadReport:
        labels = sorted({row.label for row, _ in self.rows}, key=["neutral", "happy", "sad"].index)
        return LoadReport(classes=tuple(labels), label_rule="listed", **self.given)


def rows_of(count: int, split: str = "train", first: int = 0) -> list[tuple[Row, int]]:
    labels = ("happy", "sad", "sad", "sad")
    return [
        (Row(id=f"i{index:04}", split=split, label=labels[index % 4], source="x", line=index + 1), index)
        for index in range(first, first + count)
    ]


def test_validation_is_carved_stratified_with_duplicates_and_subjects_whole(store: Store) -> None:
    rows = rows_of(400)
    rows = [(row, value // 2 if row.label == "sad" else value + 1000) for row, value in rows]
    loader = Listed(rows, carve_validation=True)
    dataset = open_dataset(prepare(store=store, loader=loader, validation=0.2).artifact)
    shares = {
        name: (dataset.splits[dataset.labels == number] == "validation").mean()
        for number, name in enumerate(dataset.classes)
    }
    assert shares == pytest.approx({"happy": 0.2, "sad": 0.2}, abs=0.02)
    by_pixels: dict[bytes, set[str]] = {}
    for image, split in zip(dataset.images, dataset.splits, strict=True):
        by_pixels.setdefault(image.tobytes(), set()).add(str(split))
    assert all(len(splits) == 1 for splits in by_pixels.values())
    assert len(by_pixels) < 400, "there were duplicates to keep together"


def test_another_seed_carves_another_split_and_another_version(store: Store) -> None:
    one = prepare(store=store, loader=Listed(rows_of(400), carve_validation=True), seed=0).artifact
    two = prepare(store=store, loader=Listed(rows_of(400), carve_validation=True), seed=1).artifact
    assert one.version != two.version
    assert one.manifest.protocol["split_hash"] != two.manifest.protocol["split_hash"]
    assert two.manifest.protocol["validation"]["seed"] == 1


def test_a_source_without_splits_gets_all_three(store: Store) -> None:
    loader = Listed(rows_of(400), carve_validation=True, carve_test=True)
    dataset = open_dataset(prepare(store=store, loader=loader).artifact)
    counts = {name: int((dataset.splits == name).sum()) for name in dataset.split_names}
    assert counts["test"] == pytest.approx(80, abs=4)
    assert counts["validation"] == pytest.approx(32, abs=4)
    assert sum(counts.values()) == 400


def test_equal_images_across_splits_are_told(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(40) + [(row, value - 40) for row, value in rows_of(10, "test", 40)]
    rows[0] = (Row(id="i0000", split="train", label="neutral", source="x"), 0)
    artifact = prepare(store=store, loader=Listed(rows)).artifact
    found = artifact.manifest.summary["duplicates"]
    assert found == {"extra_copies": 10, "groups_across_splits": 10, "groups_with_conflicting_labels": 1}
    assert artifact.manifest.protocol["duplicates_across_splits"] == 10
    assert "10 duplicate groups span splits" in capsys.readouterr().err
    index = read_table(artifact.file("index.parquet")).to_pylist()
    assert [row["flags"] for row in index[:11]] == [["duplicate"]] * 10 + [[]]


def test_the_index_holds_what_the_source_told(store: Store) -> None:
    row = Row(
        id="a", split="Training", label="sad", source="s.csv", line=7, width=5, height=6, subject="p", sequence="q",
        votes=(1, 2), target=(0.5, 0.5), flags=("odd",),
    )  # fmt: skip
    other = Row(id="b", split="Training", label="happy", source="s.csv", subject="r", votes=(2, 1), target=(1.0, 0.0))
    loader = Listed([(row, 1), (other, 2)], split_of={"Training": "train"}, vote_columns=("x", "y"))
    artifact = prepare(store=store, loader=loader).artifact
    table = read_table(artifact.file("index.parquet"))
    first = table.to_pylist()[0]
    assert len(first.pop("pixels")) == 32
    assert len(first.pop("decoded_hash")) == 32
    assert first.pop("source_hash") is None, "a table's row has no file of its own"
    assert first == {
        "id": "a", "split": "train", "label": "sad", "source": "s.csv", "line": 7, "width": 5, "height": 6,
        "subject": "p", "sequence": "q", "flags": ["odd"], "votes": [1, 2], "target": [0.5, 0.5],
    }  # fmt: skip
    assert json.loads(table.schema.metadata[b"vote_columns"]) == ["x", "y"]
    dataset = open_dataset(artifact)
    assert dataset.subjects is not None
    assert dataset.targets is not None
    assert dataset.classes == ("happy", "sad")
    assert dataset.targets[0].tolist() == [0.5, 0.5]


def test_an_id_that_stands_twice_is_refused(store: Store) -> None:
    rows = [*rows_of(20), rows_of(20)[3]]
    with pytest.raises(FerError, match="x:4: id 'i0003' is duplicated"):
        prepare(store=store, loader=Listed(rows))
    assert not store.directories()


@pytest.mark.parametrize("share", [0.0, -1.0, 0.5, float("nan")])
def test_a_share_that_is_none(store: Store, share: float) -> None:
    with pytest.raises(FerError, match="is not a share of train"):
        prepare(store=store, loader=Listed(rows_of(40)), validation=share)


def test_a_source_without_images(store: Store) -> None:
    with pytest.raises(FerError, match="has no images"):
        prepare(store=store, loader=Listed([]))
    assert not store.directories()


def test_persons_and_sequences_in_two_splits_are_told(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        (replace(row, subject=f"p{value % 3}" if value % 2 else None, sequence=f"s{value}"), value)
        for row, value in [*rows_of(40), *rows_of(20, "test", 40)]
    ]
    artifact = prepare(store=store, loader=Listed(rows)).artifact
    protocol = artifact.manifest.protocol
    assert (protocol["subjects_across_splits"], protocol["sequences_across_splits"]) == (3, 0)
    assert "3 subjects are in more than one split" in capsys.readouterr().err
    judged = judge(evaluation_protocol(DatasetProtocol.of(artifact)), 0.5)
    assert judged.unsound == ("3 subjects are in more than one split: optimistic",)
    unit, units = open_dataset(artifact).units()
    assert unit == "subject"
    assert units is not None
    assert len(set(units.tolist())) == 3 + 30, "an image without a subject is a group of its own"


def test_a_picture_in_another_class_folder_is_another_version(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    generator = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in ("happy", "sad"):
            (root / split / label).mkdir(parents=True)
            for number in range(4):
                pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{label}{number}.png")
    first = prepare(store=store, loader=Folder(source=root)).artifact
    assert prepare(store=store, loader=Folder(source=root)).up_to_date
    (root / "train" / "happy" / "happy0.png").rename(root / "train" / "sad" / "happy0.png")
    second = prepare(store=store, loader=Folder(source=root))
    assert not second.up_to_date
    assert second.artifact.version != first.version
    assert second.artifact.manifest.summary["classes"]["train"] == {"happy": 3, "sad": 5}


def test_the_protocol_tells_the_share_that_was_taken(store: Store) -> None:
    artifact = prepare(store=store, loader=Listed(rows_of(40), carve_validation=True), validation=0.01).artifact
    taken = artifact.manifest.summary["splits"]["validation"]
    assert taken > 0
    origin = str(DatasetProtocol.of(artifact).validation)
    assert origin.startswith(f"held out from train: 0.01 requested, {taken} images taken")
