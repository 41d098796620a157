"""The split stage and its command: what is made, shared, published and taken up again, and what is refused."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import open_parent, verify_directory
from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.protocol import LEAKY_FRAMES, DatasetProtocol
from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError
from fer_cli.datasets.ckplus import open_ckplus
from fer_cli.datasets.dataset import INDEX, open_dataset
from fer_cli.evaluation.protocol_warnings import judge
from fer_cli.stages.prepare import prepare
from fer_cli.stages.split import export, split
from tests.kits.films import film_dataset
from tests.kits.official import ckextended
from tests.kits.protocols import evaluation_protocol
from tests.kits.toy import toy_dataset
from tests.kits.train import Fer, assert_matches, files


@pytest.fixture
def films(store: Store) -> Store:
    film_dataset(store, subjects=20, sequences=60)
    return store


def made(store: Store, **options: Any) -> Artifact:
    return split(store=store, dataset="films", **options).artifact


def listed(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_pictures_are_shared_and_all_else_is_the_parents(films: Store) -> None:
    parent = films.find("films", ["dataset"])
    artifact = made(films, folds=3)
    assert artifact.name == "films-folds3"
    assert artifact.manifest.inputs["dataset"] == parent.as_input()
    assert open_parent(films, artifact, "dataset").version == parent.version
    assert (artifact.path / "images.npy").samefile(parent.path / "images.npy")
    before, after = read_table(parent.file(INDEX)), read_table(artifact.file(INDEX))
    assert after.column_names == [*before.column_names, "fold", "validation_of"]
    assert after.drop_columns(["fold", "validation_of"]).equals(before)
    assert after.schema.metadata[b"classes"] == before.schema.metadata[b"classes"]
    assert verify_directory(artifact.path) == []
    assert split(store=films, dataset="films", folds=3).up_to_date
    atomic_io.remove_tree(parent.path)
    assert verify_directory(artifact.path) == []
    assert open_dataset(artifact).images[0].any()


def test_masks_and_action_units_go_along(store: Store) -> None:
    small = ["--images", "160", "--subjects", "14", "--size", "32", "--imbalance", "2", "--jobs", "1"]
    assert run(["prepare", "synth", *small, "--store", str(store.root)]) == 0
    artifact = split(store=store, folds=2).artifact
    parent = store.find("synth", ["dataset"])
    assert {entry.path for entry in artifact.manifest.files} == {entry.path for entry in parent.manifest.files}
    assert (artifact.path / "masks.npy").samefile(parent.path / "masks.npy")
    assert artifact.manifest.summary["aus"] == parent.manifest.summary["aus"]


def test_a_file_system_without_links_gets_copies(films: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "link", refuse)
    artifact, parent = made(films, folds=3), films.find("films", ["dataset"])
    assert not (artifact.path / "images.npy").samefile(parent.path / "images.npy")
    assert (artifact.path / "images.npy").read_bytes() == (parent.path / "images.npy").read_bytes()
    assert verify_directory(artifact.path) == []


def test_damage_is_not_inherited(films: Store) -> None:
    path = films.find("films", ["dataset"]).path / "images.npy"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    before = files(films)
    with pytest.raises(FerError, match=r"images\.npy: block 0 .* has checksum \w+, expected \w+; the dataset"):
        made(films, folds=3)
    assert {path for path in files(films) if ".locks" not in path.parts} == before


@pytest.mark.parametrize("options", [{"folds": 3}, {"folds": 3, "by": "class"}, {"frames": "2:1"}, {"validation": 0.2}])
def test_what_is_published_comes_back_as_it_was(films: Store, tmp_path: Path, options: dict[str, Any]) -> None:
    first = made(films, **options)
    path = tmp_path / f"{first.name}.csv"
    assert export(store=films, dataset=first.reference, path=path).version == first.version
    again = made(films, ids=path)
    assert again.name == first.name
    assert (again.path / INDEX).read_bytes() == (first.path / INDEX).read_bytes()
    assert again.manifest.content == first.manifest.content
    assert again.manifest.protocol["split_hash"] == first.manifest.protocol["split_hash"]
    assert again.manifest.protocol.get("folds", {}).get("hash") == first.manifest.protocol.get("folds", {}).get("hash")
    shuffled = listed(path)
    np.random.default_rng(0).shuffle(shuffled)
    assert made(films, ids=write(tmp_path / "other.csv", shuffled)).manifest.content == first.manifest.content


def test_a_list_that_says_nothing_of_its_images_is_taken_with_a_word(films: Store, tmp_path: Path) -> None:
    export(store=films, dataset="films", path=tmp_path / "list.csv")
    rows = listed(tmp_path / "list.csv")
    other = write(tmp_path / "other.csv", [{**row, "pixels": f"{at:032x}"} for at, row in enumerate(rows)])
    warnings = made(films, ids=other).manifest.warnings
    assert "other.csv: 180 of its 180 images have other pixels now" in warnings[-1]
    bare = write(tmp_path / "bare.csv", [{"id": row["id"], "split": row["split"]} for row in rows])
    assert not any("cannot be told" in text for text in made(films, ids=bare).manifest.warnings)
    (tmp_path / "ck").mkdir()
    table = ckextended(tmp_path / "ck")
    prepare(store=films, loader=open_ckplus(source=table, allow_incomplete=True))
    dataset = open_dataset(films.find("ckplus", ["dataset"]))
    numbers = write(tmp_path / "numbers.csv", [{"id": name, "split": "train"} for name in dataset.ids.tolist()])
    warnings = split(store=films, dataset="ckplus", ids=numbers).artifact.manifest.warnings
    assert "numbers.csv names images by the numbers of their rows" in warnings[-1]


def test_a_list_of_folds_alone_gets_validation_carved(films: Store, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    export(store=films, dataset=made(films, folds=3).reference, path=path)
    bare = write(tmp_path / "bare.csv", [{"id": row["id"], "fold": row["fold"]} for row in listed(path)])
    artifact = made(films, ids=bare)
    assert artifact.name == "films-bare"
    dataset, parent = open_dataset(artifact), open_dataset(films.find("films", ["dataset"]))
    assert dataset.chosen_on is not None
    assert dataset.chosen_on.sum(axis=0).min() > 0
    assert dataset.splits.tolist() == parent.splits.tolist()
    none = open_dataset(made(films, ids=bare, validation=0.0))
    assert none.chosen_on is not None
    assert not none.chosen_on.any()


def test_the_frame_split_runs_on_purpose_and_is_marked(films: Store) -> None:
    artifact = made(films, frames="2:1")
    protocol = artifact.manifest.protocol
    assert protocol["n"]["test"] == 60
    assert protocol["n"]["train"] + protocol["n"]["validation"] == 120
    assert protocol["leaky_frame_split"]
    assert protocol["sequences_across_splits"] > 20
    assert protocol["subjects_across_splits"] == 20
    judged = judge(evaluation_protocol(DatasetProtocol.of(artifact)), 0.9)
    assert LEAKY_FRAMES in judged.unsound
    assert any("sequences are in more than one split" in text for text in artifact.manifest.warnings)
    # The paper's own: nothing is kept aside.
    assert made(films, frames="2:1", validation=0.0).manifest.protocol["n"] == {"train": 120, "test": 60}


@pytest.mark.parametrize(("ratio", "what"), [("999:1", "leaves nothing to test"), ("1:999", "no training image of ")])
def test_a_ratio_that_leaves_nothing_is_refused(films: Store, ratio: str, what: str) -> None:
    before = sorted(films.root.glob("dataset/*/*"))
    with pytest.raises(FerError, match=what):
        made(films, frames=ratio)
    assert sorted(films.root.glob("dataset/*/*")) == before


def test_an_export_that_cannot_be_written_makes_nothing(films: Store, fer: Fer, tmp_path: Path) -> None:
    before = sorted(films.root.glob("dataset/*/*"))
    for path in (tmp_path, tmp_path / "no" / "x.csv"):
        said = fer("split", "films", "--folds", "7", "--export", path, "--store", films.root, code=2)
        assert f"--export {path} cannot be written" in said
    assert sorted(films.root.glob("dataset/*/*")) == before


def test_the_mark_stays_while_the_test_split_does(films: Store) -> None:
    def kept(dataset: str, **options: Any) -> bool:
        return DatasetProtocol.of(split(store=films, dataset=dataset, **options).artifact).leaky_frame_split

    leaky = made(films, frames="2:1").reference
    assert kept(leaky, validation=0.2)
    assert kept(leaky, folds=3)
    assert not kept("films", validation=0.2)
    sound = split(store=films, dataset=leaky, folds=3).artifact
    assert sound.manifest.protocol["folds"]["sequences_across"] == 0


def test_sequences_stay_whole_where_subjects_are_not_known(store: Store) -> None:
    film_dataset(store, subjects=20, sequences=60, known=("sequence",))
    dataset = open_dataset(made(store, folds=3))
    assert dataset.folds is not None
    assert dataset.sequences is not None
    assert len(set(zip(dataset.sequences.tolist(), dataset.folds.tolist(), strict=True))) == 60
    carved = open_dataset(made(store, validation=0.2))
    parts = [set(dataset.sequences[carved.rows(name)].tolist()) for name in ("train", "validation")]
    assert not parts[0] & parts[1]


def test_subjects_that_are_not_known_cannot_be_folds(store: Store) -> None:
    toy_dataset(store, images=210)
    with pytest.raises(FerError, match=r"not every image of dataset/toy@\w+ has a subject; take --by class"):
        split(store=store, folds=5, by="subject")
    with pytest.raises(FerError, match="has no sequences, so there are no frames to split"):
        split(store=store, frames="2:1")
    artifact = split(store=store, folds=5).artifact
    assert artifact.name == "toy-folds5"
    assert artifact.manifest.protocol["folds"]["images"] == [42] * 5


Change = Callable[[list[dict[str, str]]], list[dict[str, str]]]


def changed(line: int, **cells: str) -> Change:
    def change(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        rows[line - 2] |= cells
        return rows

    return change


@pytest.mark.parametrize(
    ("change", "line", "what"),
    [
        (changed(7, id="nobody"), 7, "id 'nobody' is not in dataset/films@"),
        (lambda rows: [*rows, rows[4]], 182, "is duplicated, first in line 6"),
        (lambda rows: rows[:-3], None, "3 images of dataset/films@.* are missing, the first is 'S"),
        (changed(9, split="val"), 9, "unknown split 'val'; write train, validation, test"),
        (changed(9, split=""), 9, "unknown split ''"),
        (changed(11, fold="-1"), 11, "fold '-1' is not a number from 0 to 999"),
        (changed(11, fold="1.0"), 11, "fold '1.0' is not a number"),
        (changed(11, fold="99999999999"), 11, "is not a number"),
        (changed(11, fold="7"), None, "no image is in fold 3, but one in 7; number the folds from 0"),
        (changed(12, validation_of="0 9"), 12, "validation_of names fold 9; there are 0 to 2"),
        (changed(12, validation_of="0 1 2"), 12, "validation_of names fold .; that is the fold that tests this image"),
        (changed(12, validation_of="one"), 12, "fold 'one' is not a number"),
        (lambda rows: [{**row, "fold": "0"} for row in rows], None, "all images are in one fold"),
        (lambda rows: [{"id": row["id"]} for row in rows], 1, "no column 'split' or 'fold'"),
        (lambda rows: [{"id": r["id"], "split": "train", "validation_of": ""} for r in rows], 1, "but none 'fold'"),
        (lambda rows: [{"split": row["split"]} for row in rows], 1, "has no column 'id'"),
        (
            lambda rows: [{**row, "pixels": rows[at - 1]["pixels"]} for at, row in enumerate(rows)],
            2,
            "is not the image that the list was made of, which is '.*' now .180 ids differ",
        ),
    ],
)
def test_a_list_that_is_at_fault_is_refused_by_line(
    films: Store, tmp_path: Path, fer: Fer, change: Change, line: int | None, what: str
) -> None:
    good = tmp_path / "good.csv"
    export(store=films, dataset=made(films, folds=3).reference, path=good)
    bad = write(tmp_path / "bad.csv", change(listed(good)))
    before = files(films)
    said = fer("split", "films", "--ids", bad, "--store", films.root)
    assert said.startswith(f"{bad}: " if line is None else f"{bad}:{line}: ")
    assert_matches(said, what)
    assert files(films) == before


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        ([], 2, "no split was requested"),
        (["--folds", "3", "--leaky-frame-split", "2:1"], 2, "--folds and --leaky-frame-split exclude each other"),
        (["--by", "class"], 2, "--by is for --folds and --leaky-frame-split"),
        (["--leaky-frame-split", "2:1", "--by", "subject"], 2, "--by subject is not for --leaky-frame-split"),
        (["--folds", "3", "--by", "age"], 2, "--by 'age' is not a choice"),
        (["--folds", "1"], 2, "--folds 1 is out of range"),
        (["--leaky-frame-split", "2"], 2, "--leaky-frame-split '2' is not a ratio"),
        (["--leaky-frame-split", "0:1"], 2, "--leaky-frame-split '0:1' is not a ratio"),
        (["--validation", "0"], 2, "--validation 0 holds nothing out"),
        (["--folds", "3", "--validation", "0.5"], 2, "--validation 0.5 is not a share"),
        (["--folds", "3", "--validation", "1e-320"], 2, "--validation 1e-320 is not a share"),
        (["--folds", "22"], 1, "20 subjects are too few for 22 folds"),
        (["--ids", "/nowhere.csv"], 1, "/nowhere.csv: no such file"),
    ],
)
def test_what_cannot_be_made(films: Store, fer: Fer, words: list[str], code: int, what: str) -> None:
    assert what in fer("split", "films", *words, "--store", films.root, code=code)


def test_a_list_with_validation_needs_no_share(films: Store, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    export(store=films, dataset="films", path=path)
    with pytest.raises(FerError, match="--validation has no effect"):
        made(films, ids=path, validation=0.2)
    only = [{"id": row["id"], "split": "test" if row["split"] == "test" else "train"} for row in listed(path)]
    assert set(made(films, ids=write(path, only)).manifest.protocol["n"]) == {"train", "test"}
    assert made(films, ids=path, validation=0.2).manifest.protocol["n"]["validation"] > 0


def test_the_command_prints_one_object_and_writes_the_list(
    films: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "list.csv"
    words = ["split", "films", "--folds", "3", "--export", str(path), "--json", "--store", str(films.root)]
    assert run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["command"], told["artifact"]["name"]) == ("split", "films-folds3")
    assert len(listed(path)) == 180
    assert run(["split", "films-folds3", "--export", str(path), "--json", "--store", str(films.root)]) == 0
    told = json.loads(capsys.readouterr().out)
    protocol = films.find("films-folds3", ["dataset"]).manifest.protocol
    assert told["folds_hash"] == protocol["folds"]["hash"]
    assert told["images"] == 180
    assert [left.name for left in tmp_path.iterdir() if left.name.endswith(".part")] == []


def test_the_commands_that_make_it_again_are_kept(films: Store) -> None:
    artifact = made(films, folds=3)
    parent = films.find("films", ["dataset"])
    assert artifact.manifest.measured["command"] == (
        f"fer split films@{parent.version} --folds 3 --by subject --seed 0"
    )


def test_a_class_that_cannot_be_carved_is_named_with_its_fold(store: Store) -> None:
    film_dataset(store, subjects=21, sequences=63)  # each subject shows one class: some fold leaves one of a class
    with pytest.raises(FerError, match=r"fold \d: class '\w+' has only one independent .*; use fewer"):
        made(store, folds=3)
    assert [path.name for path in (store.root / "dataset").iterdir()] == ["films"]
