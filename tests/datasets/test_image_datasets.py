"""RAF-DB, CK+, SFEW 2.0 and AffectNet in every layout: what the index holds, and strict counts."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.protocol import DatasetProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import DatasetSummary, Measured
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError, UsageError
from fer_cli.datasets import affectnet, ckplus, rafdb, sfew
from fer_cli.datasets.access import Access
from fer_cli.datasets.ck_sequences import SEQUENCES
from fer_cli.datasets.ckplus import open_ckplus
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.records import Loader
from fer_cli.datasets.sfew import COUNTS, Sfew
from fer_cli.stages.split import split
from tests.kits import official as kit
from tests.kits.fer2013 import drain, fault, write_lines
from tests.kits.train import Fer

Index = list[dict[str, Any]]


def prepared(store: Store, name: str, source: Path, *words: str) -> tuple[Dataset, Index]:
    assert (
        run(["prepare", name, "--source", str(source), "--store", str(store.root), "--allow-incomplete", *words]) == 0
    )
    artifact = store.find("dataset", ["dataset"])
    return open_dataset(artifact), read_table(artifact.file("index.parquet")).to_pylist()


def near(found: np.ndarray[Any, Any], face: kit.Pixels, size: tuple[int, int]) -> bool:
    """Tell whether it is this face, but for what JPEG takes: at most 6.3 grey levels here, other faces are 19 off."""
    wanted = np.asarray(Image.fromarray(face).resize(size), dtype=np.float64)
    return bool(np.abs(found.astype(np.float64) - wanted).mean() < 10)


@pytest.mark.parametrize("layout", ["basic/", "inside basic/", "folders", "inside DATASET/"])
def test_rafdb(store: Store, tmp_path: Path, layout: str) -> None:
    write = kit.rafdb if "basic" in layout else kit.rafdb_folders
    source = write(tmp_path / "raf")
    source = source / {"inside basic/": "basic", "inside DATASET/": "DATASET"}.get(layout, "")
    dataset, index = prepared(store, "rafdb", source)
    assert dataset.classes == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")
    assert dataset.images.shape == (35, 100, 100, 3)
    lines = dict(line.split(".jpg ") for line in kit.rafdb_lines(kit.RAF_SMALL))
    assert {row["id"]: row["label"] for row in index} == {
        name: kit.RAF[int(number) - 1] for name, number in lines.items()
    }
    for number, name in enumerate(lines):
        place = next(place for place, row in enumerate(index) if row["id"] == name)
        assert near(dataset.images[place], kit.face(number, index[place]["label"], 100), (100, 100)), name
        split = index[place]["split"]
        assert (split == "test") == name.startswith("test")
        flags = index[place]["flags"]
        if "basic" in layout:
            assert flags == [
                f"gender={('male', 'female', 'unsure')[number % 3]}",
                f"race={('caucasian', 'african-american', 'asian')[number // 3 % 3]}",
                f"age={('0-3', '4-19', '20-39', '40-69', '70+')[number % 5]}",
            ]
        else:
            assert flags == []
    protocol = dataset.artifact.manifest.protocol
    assert protocol["label_rule"] == "RAF-DB basic labels, N = 21 train + 14 test"
    assert protocol["validation"]["kind"] == "carved"
    assert protocol["missing"][0].startswith("train has 21 of 12,271 rows (surprise 3 of 1,290, ")


def test_rafdb_without_attributes_says_so(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = kit.rafdb(tmp_path / "raf")
    (source / "basic/Annotation/manual/test_0001_manu_attri.txt").unlink()
    _, index = prepared(store, "rafdb", source)
    assert [row["id"] for row in index if not row["flags"]] == ["test_0001"]
    assert "1 image has no gender, race and age" in capsys.readouterr().err
    shutil.rmtree(source / "basic/Annotation")
    _, index = prepared(store, "rafdb", source)
    assert not any(row["flags"] for row in index)
    assert "Annotation/manual is not there" in capsys.readouterr().err


def test_a_changed_attribute_is_another_version(store: Store, tmp_path: Path) -> None:
    source = kit.rafdb(tmp_path / "raf")
    first = prepared(store, "rafdb", source)[0].artifact.version
    assert prepared(store, "rafdb", source)[0].artifact.version == first
    path = source / "basic/Annotation/manual/test_0001_manu_attri.txt"
    path.write_text(path.read_text().replace("\n0\n", "\n1\n", 1))
    assert prepared(store, "rafdb", source)[0].artifact.version != first


@pytest.mark.parametrize("packing", ["", "folders of the archives"])
def test_ckplus(store: Store, tmp_path: Path, packing: str) -> None:
    source = kit.ckplus(tmp_path / "ck")
    if packing:
        for new, old in (("extended-cohn-kanade-images", "cohn-kanade-images"), ("Emotion_labels", "Emotion")):
            (source / new).mkdir()
            (source / old).rename(source / new / old)
    dataset, index = prepared(store, "ckplus", source)
    assert dataset.classes == ("happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
    assert len(index) == len(kit.SUBJECTS) * len(kit.CK) * 3
    for row in index:
        subject, sequence, frame = row["id"].split("_")
        assert row["subject"] == subject
        assert row["sequence"] == f"{subject}_{sequence}"
        assert row["label"] == kit.CK[int(sequence) - 1]
        assert int(frame) in range(kit.FRAMES - 2, kit.FRAMES + 1)
        assert (row["width"], row["height"]) == (64, 49)
    assert dataset.images.shape[1:] == (49, 64)
    people = {split: {row["subject"] for row in index if row["split"] == split} for split in dataset.split_names}
    assert sorted(people) == ["test", "train", "validation"]
    assert sum(map(len, people.values())) == len(kit.SUBJECTS), "nobody is in two splits"
    protocol = dataset.artifact.manifest.protocol
    assert protocol["subjects_across_splits"] == protocol["sequences_across_splits"] == 0
    assert protocol["faces"] == "whole frames: no alignment"
    assert protocol["label_rule"] == "CK+ labels of sequences, the last 3 frames of each, N = 126"


def test_ckplus_with_neutral_and_without_contempt(store: Store, tmp_path: Path) -> None:
    source = kit.ckplus(tmp_path / "ck")
    dataset, index = prepared(store, "ckplus", source, "--neutral", "--no-contempt")
    assert dataset.artifact.name == "ckplus-neutral-no-contempt"
    assert dataset.classes == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")
    sequences = len(kit.SUBJECTS) * 6
    assert Counter(row["label"] for row in index)["neutral"] == sequences
    assert len(index) == 4 * sequences
    assert {row["id"].rpartition("_")[2] for row in index if row["label"] == "neutral"} == {"00000001"}
    assert "the first as neutral" in dataset.artifact.manifest.protocol["label_rule"]
    assert prepared(store, "ckplus", source, "--no-contempt")[0].artifact.name == "ckplus-no-contempt"


def test_ckplus_as_the_psa_paper_has_it(store: Store, tmp_path: Path) -> None:
    """Four random frames a sequence, and a split of each class that leaks: on purpose, and marked."""
    source = kit.ckplus(tmp_path / "ck")
    dataset, index = prepared(store, "ckplus", source, "--random-frames", "4")
    assert dataset.artifact.name == "ckplus-random4"
    frames: dict[str, set[str]] = {}
    for row in index:
        frames.setdefault(str(row["sequence"]), set()).add(str(row["id"])[-8:])
    assert {len(of) for of in frames.values()} == {4}
    assert len({tuple(sorted(of)) for of in frames.values()}) > 2, "not the same four everywhere"
    assert any(text.startswith("4 frames of each sequence were drawn") for text in dataset.artifact.manifest.warnings)
    assert "4 random frames of each" in DatasetProtocol.of(dataset.artifact).label_rule
    made = split(store=store, dataset="ckplus-random4", frames="2:1", by="class", validation=0).artifact
    assert made.name == "ckplus-random4-frames2-1-by-class"
    protocol = DatasetProtocol.of(made)
    assert protocol.leaky_frame_split
    assert str(protocol.test).endswith("2:1 of train to test in each class, seed 0")
    counts = DatasetSummary.of(made).classes
    assert list(counts) == ["train", "test"]
    whole = {label: counts["train"][label] + counts["test"][label] for label in counts["test"]}
    assert counts["test"] == {label: round(number / 3) for label, number in whole.items()}
    assert str(Measured.of(made).command).endswith("--by class --leaky-frame-split 2:1 --validation 0 --seed 0")
    with pytest.raises(UsageError, match="--random-frames and --neutral exclude each other"):
        open_ckplus(source=source, random_frames=4, neutral=True)
    with pytest.raises(FerError, match="the sequence has 5 frames, 6 are needed"):
        open_ckplus(source=source, random_frames=6, allow_incomplete=True)
    with pytest.raises(FerError, match="the last frames alone"):
        open_ckplus(source=kit.ck48(tmp_path / "ck48"), random_frames=4, allow_incomplete=True)


def test_ckplus_in_class_folders_has_the_ids_of_the_official_layout(store: Store, tmp_path: Path) -> None:
    source = kit.ck48(tmp_path / "ck")
    dataset, index = prepared(store, "ckplus", source)
    assert dataset.images.shape == (126, 48, 48)
    official = drain(open_ckplus(source=kit.ckplus(tmp_path / "official"), allow_incomplete=True))[0]
    told = {(row["id"], row["label"], row["subject"], row["sequence"]) for row in index}
    assert told == {(row.id, row.label, row.subject, row.sequence) for row in official}
    again, _ = prepared(store, "ckplus", source / "CK+48")
    assert again.artifact.version == dataset.artifact.version


def test_ckextended(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = kit.ckextended(tmp_path)
    dataset, index = prepared(store, "ckplus", source)
    assert "neutral" not in dataset.classes
    assert len(index) == 42
    assert dataset.artifact.manifest.summary["dropped"] == {"neutral": 6}
    assert "names no subjects" in capsys.readouterr().err
    assert set(dataset.split_names) == {"train", "validation", "test"}
    sequences = list(kit.ck_sequences())
    assert all((image == frames[-1]).all() for image, (_, _, frames) in zip(dataset.images, sequences, strict=True))
    assert [row["label"] for row in index] == [label for _, label, _ in sequences]
    dataset, index = prepared(store, "ckplus", source / "ckextended.csv", "--neutral", "--no-contempt")
    assert Counter(row["label"] for row in index) == Counter({name: 6 for name in kit.FER if name != "contempt"})


def nested(root: Path) -> Path:
    kit.sfew(root)
    for part in ("Train", "Val"):
        (root / part).mkdir()
        (root / f"{part}_Aligned_Faces").rename(root / part / f"{part}_Aligned_Faces")
    return root


def renewed(root: Path) -> Path:
    kit.sfew(root)
    (root / "Val_Aligned_Faces").rename(root / "Val_Aligned_Faces_new")
    return root


def both(root: Path) -> Path:
    return kit.sfew(kit.sfew(root, aligned=False))


@pytest.mark.parametrize("write", [kit.sfew, nested, renewed, both])
def test_sfew_aligned(
    store: Store, tmp_path: Path, write: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, index = prepared(store, "sfew", write(tmp_path / "sfew"))
    assert dataset.images.shape == (42, 181, 143, 3)
    assert Counter(row["split"] for row in index)["test"] == 14
    protocol = dataset.artifact.manifest.protocol
    roles = dict(DatasetProtocol.of(dataset.artifact).roles())
    assert roles["Val"] == "test, because the source has no test part"
    assert roles["Test"] == "not read: its labels were never released"
    assert roles["faces"] == "aligned by the authors"
    assert protocol["sequences_across_splits"] == 0, "clips stay whole where validation is carved"
    told = capsys.readouterr().err
    assert "warning: not the usual counts of SFEW 2.0: Train has 28 of 891 rows" in told
    assert ("next to the aligned faces" in told) == (write is both)
    row = next(row for row in index if row["split"] != "test" and row["label"] == "sad")
    assert row["sequence"].startswith("Airheads_Sad")
    assert row["id"].startswith("train/sad/Airheads_Sad")


def test_sfew_raw(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, index = prepared(store, "sfew", kit.sfew(tmp_path / "sfew", aligned=False), "--size", "48")
    assert dataset.images.shape == (42, 48, 48, 3)
    assert "no alignment" in dataset.artifact.manifest.protocol["faces"]
    assert "as face crops" in capsys.readouterr().err
    assert {(row["width"], row["height"]) for row in index} == {(72, 58)}


@pytest.mark.parametrize("write", [kit.affectnet_csv, kit.affectnet_npy, kit.affectnet_folders])
def test_affectnet(store: Store, tmp_path: Path, write: Callable[[Path], Path]) -> None:
    dataset, index = prepared(store, "affectnet", write(tmp_path / "affect"), "--jobs", "2")
    assert len(dataset.classes) == 8
    side = 48 if write is kit.affectnet_csv else 56
    assert dataset.images.shape == (40, side, side, 3)
    assert Counter(row["label"] for row in index if row["split"] == "test") == dict.fromkeys(kit.AFFECT, 2)
    number_of: Callable[[str], int] = {
        kit.affectnet_csv.__name__: lambda name: int(name.partition("/")[2][:8], 16),
        kit.affectnet_npy.__name__: lambda name: int(name.partition("/")[2]),
        kit.affectnet_folders.__name__: lambda name: int(name[-11:-4]),
    }[write.__name__]
    for row, image in zip(index, dataset.images, strict=True):
        number = number_of(row["id"])
        assert near(image, kit.affect_face(kit.AFFECT.index(row["label"]), number), (side, side))
    dropped = dataset.artifact.manifest.summary["dropped"]
    assert dropped == ({"None": 2, "Uncertain": 2, "No-Face": 2} if write is kit.affectnet_csv else {})


def test_affectnet_boxes(tmp_path: Path) -> None:
    """A box over the edge is clipped and counted; a face of another size gets that of the others."""
    source = kit.affectnet_csv(tmp_path)
    table = source / "Manually_Annotated_file_lists/validation.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace(",10,5,48,48,", ",-8,5,48,48,")
    write_lines(table, lines)
    rows, images, report = drain(affectnet.AffectNet(source=source, allow_incomplete=True))
    assert images.shape == (40, 48, 48, 3)
    assert "1 box reaches over the edge of the image, and only what is inside was taken" in report.warnings
    number = next(number for part, _, number in kit.affect_labels() if part == "val")
    place = next(place for place, row in enumerate(rows) if f"{number:08x}" in row.id)
    canvas = np.full((64, 80, 3), 60, dtype=np.uint8)
    canvas[5:53, 10:58] = kit.affect_face(0, number)
    wanted = np.asarray(Image.fromarray(canvas[5:53, 0:40]).resize((48, 48), Image.Resampling.BICUBIC), np.float64)
    assert np.abs(images[place] - wanted).mean() < 8


def rafdb_tree(root: Path) -> Iterator[Path]:
    (root / "EmoLabel").mkdir(parents=True)
    lines = kit.rafdb_lines(rafdb.OFFICIAL)
    write_lines(root / "EmoLabel/list_patition_label.txt", lines)
    for line in lines:
        yield root / f"Image/aligned/{line.partition('.')[0]}_aligned.jpg"


def ckplus_tree(root: Path) -> Iterator[Path]:
    number = 0
    for label, sequences in SEQUENCES.items():
        for _ in range(sequences):
            subject, sequence = f"S{number % 118:03}", f"{number // 118 + 1:03}"
            number += 1
            for frame in range(1, 5):
                yield root / f"cohn-kanade-images/{subject}/{sequence}/{subject}_{sequence}_{frame:08}.png"
            place = root / f"Emotion/{subject}/{sequence}"
            place.mkdir(parents=True)
            write_lines(
                place / f"{subject}_{sequence}_00000004_emotion.txt", [f"   {kit.CK.index(label) + 1}.0000000e+00"]
            )


def sfew_tree(root: Path) -> Iterator[Path]:
    for part, counts in COUNTS["aligned"].items():
        for label, pictures in counts.items():
            for number in range(pictures):
                yield root / f"{part}_Aligned_Faces/{kit.SFEW[label]}/Film_{number:06}_00000001.png"


def test_the_complete_rafdb_and_one_picture_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "raf"
    assert kit.same_picture(rafdb_tree(root), tmp_path / "one.png") == 15_339
    report = rafdb.RafDb(source=root).report()
    assert report.missing == []
    assert report.label_rule == "RAF-DB basic labels, N = 12,271 train + 3,068 test"
    assert "images of" not in capsys.readouterr().err
    table = root / "EmoLabel/list_patition_label.txt"
    lines = table.read_text().splitlines()
    write_lines(table, [line for line in lines if not line.startswith("test_0100.")])
    (root / "Image/aligned/test_0100_aligned.jpg").unlink()
    words = ("not the complete RAF-DB: test has 3,067 of 3,068 rows (surprise 328 of 329)", "--allow-incomplete")
    fault(lambda: rafdb.RafDb(source=root), *words, at=f"{root}: ")
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "images of RAF-DB (* differs):"
    assert told[1].split() == ["train:", "expected", "found", "test:", "expected", "found"]
    line = next(line for line in told if "surprise" in line)
    assert line.split() == ["surprise", "1,290", "1,290", "329", "328*"]
    assert told[-1].split() == ["all", "12,271", "12,271", "3,068", "3,067*"]
    report = rafdb.RafDb(source=root, allow_incomplete=True).report()
    assert report.missing == ["test has 3,067 of 3,068 rows (surprise 328 of 329)"]


def test_the_complete_ckplus_and_one_sequence_less(tmp_path: Path) -> None:
    root = tmp_path / "ck"
    kit.same_picture(ckplus_tree(root), tmp_path / "one.png")
    for neutral, contempt, number in ((False, True, 981), (True, True, 1308), (False, False, 927), (True, False, 1236)):
        loader: Loader = open_ckplus(source=root, neutral=neutral, contempt=contempt)
        assert loader.expected_rows == number
        assert loader.report().missing == []
    (root / "Emotion/S000/001/S000_001_00000004_emotion.txt").unlink()
    words = "all has 978 of 981 rows (anger 132 of 135)"
    fault(lambda: open_ckplus(source=root), "not the complete CK+", words, at=f"{root}: ")
    assert open_ckplus(source=root, allow_incomplete=True).report().missing == [words]


def test_sfew_counts_are_a_warning_and_a_missing_split_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "sfew"
    assert kit.same_picture(sfew_tree(root), tmp_path / "one.png") == 891 + 431
    assert Sfew(source=root).report().warnings == []
    assert capsys.readouterr().err == ""
    (root / "Val_Aligned_Faces/Sad/Film_000000_00000001.png").unlink()
    warnings = Sfew(source=root).report().warnings
    assert warnings == ["not the usual counts of SFEW 2.0: Val has 430 of 431 rows (sad 72 of 73)"]
    assert "72*" in capsys.readouterr().err
    shutil.rmtree(root / "Val_Aligned_Faces")
    fault(lambda: Sfew(source=root), "not the complete SFEW 2.0: Val is missing", at=f"{root}: ")
    assert Sfew(source=root, allow_incomplete=True).report().missing == ["Val is missing"]


def test_the_complete_affectnet_and_one_row_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the real lists, without their pictures: to look for 291,651 files is what takes time."""
    monkeypatch.setattr(affectnet, "path_fault", lambda root, path: None)
    (tmp_path / "Manually_Annotated_Images").mkdir()
    for part, name in (("train", "training.csv"), ("val", "validation.csv")):
        labels = [number for number, label in enumerate(kit.AFFECT) for _ in range(affectnet.OFFICIAL[part][label])]
        lines = [f"1/{part}{n}.jpg,0,0,9,9,,{label},0,0" for n, label in enumerate([*labels, 8, 10])]
        write_lines(tmp_path / name, [kit.AFFECT_HEADER, *lines])
    loader = affectnet.AffectNet(source=tmp_path)
    assert loader.expected_rows == 287_651 + 4_000
    report = loader.report()
    assert report.missing == []
    assert report.dropped == {"None": 2, "No-Face": 2}
    write_lines(tmp_path / "validation.csv", (tmp_path / "validation.csv").read_text().splitlines()[:-3])
    (tmp_path / "training.csv").unlink()
    words = "train is missing (287,651 rows), val has 3,999 of 4,000 rows (contempt 499 of 500)"
    fault(lambda: affectnet.AffectNet(source=tmp_path), "not the complete AffectNet", words, at=f"{tmp_path}: ")


def test_the_later_affectnet_lacks_one_picture_of_contempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = kit.affectnet_npy(tmp_path)
    small = {"train": dict.fromkeys(kit.AFFECT, 3), "val": dict.fromkeys(kit.AFFECT, 2)}
    monkeypatch.setattr(affectnet, "OFFICIAL", small | {"val": small["val"] | {"contempt": 3}})
    assert affectnet.LATER["val"]["contempt"] == 499
    fault(lambda: affectnet.AffectNet(source=source), "contempt 2 of 3")
    monkeypatch.setattr(affectnet, "LATER", small)
    assert affectnet.AffectNet(source=source).report().missing == []


@pytest.mark.parametrize(
    ("name", "access"),
    [("rafdb", rafdb.ACCESS), ("ckplus", ckplus.ACCESS), ("sfew", sfew.ACCESS), ("affectnet", affectnet.ACCESS)],
)
def test_a_missing_source_says_where_it_was_looked_for_and_how_to_get_it(
    fer: Fer,
    name: str,
    access: Access,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fer("prepare", name).startswith(f"data/{name}: {access.title} was not found: looked for ")
    monkeypatch.setenv("FER_DATA", "/elsewhere")
    said = fer("prepare", name)
    assert said.startswith(f"/elsewhere/{name}: {access.title} was not found: looked for {access.marks}; apply at ")
    for words in (access.home, access.how, access.licence):
        assert words in said
    assert not list(tmp_path.iterdir())
    capsys.readouterr()
    assert run(["prepare", name, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (access.home, access.how, access.licence, *access.layouts, access.notes[:60]):
        assert " ".join(words.split()) in shown
    (tmp_path / "packed.zip").write_bytes(b"PK")
    if name != "ckplus":
        assert fer("prepare", name, "--source", "packed.zip").startswith("packed.zip: is a file; unpack")


def test_a_source_by_its_place_and_json(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kit.rafdb(tmp_path / "rafdb")
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    words = ["prepare", "rafdb", "--allow-incomplete", "--json", "--store", str(store.root)]
    for up_to_date in (False, True):
        assert run(words) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["command"], told["artifact"]["name"]) == ("prepare rafdb", "rafdb")
        assert told["up_to_date"] == up_to_date
        assert told["summary"]["images"] == 35


@pytest.mark.parametrize("words", [("--jobs", "0"), ("--size", "4"), ("--jobs", "100000")])
def test_settings_out_of_range(fer: Fer, tmp_path: Path, words: tuple[str, str]) -> None:
    source = kit.rafdb_folders(tmp_path / "raf")
    said = fer("prepare", "rafdb", "--source", source, "--allow-incomplete", "--store", tmp_path / "store", *words)
    assert said.startswith(f"{words[0]} {words[1]} is out of range; ")


def test_the_number_of_threads_changes_nothing(store: Store, tmp_path: Path) -> None:
    source = kit.sfew(tmp_path / "sfew", aligned=False)
    one, _ = prepared(store, "sfew", source, "--jobs", "1")
    many, _ = prepared(store, "sfew", source, "--jobs", "7", "--force")
    assert one.artifact.manifest.content == many.artifact.manifest.content
