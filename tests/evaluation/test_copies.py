"""An image is told by its file and its pixels, whatever its name, size, format or data set; what cannot be is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.manifest import Input
from fer_cli.artifacts.payload import read_table, table_bytes
from fer_cli.artifacts.protocol import DatasetProtocol, Tta
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import DatasetSummary, Measured
from fer_cli.artifacts.work import Plan
from fer_cli.core.findings import Check, Finding
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.fer2013 import Fer2013
from fer_cli.datasets.folder import Folder
from fer_cli.datasets.image_list import ImageEntry, Pictures
from fer_cli.datasets.overlap import overlap
from fer_cli.datasets.records import Block, LoadReport
from fer_cli.datasets.synth.loader import Synth
from fer_cli.evaluation import copies
from fer_cli.evaluation.cross_dataset import EvaluationTarget
from fer_cli.evaluation.leakage import leaks, selection
from fer_cli.evaluation.predictor import Origin, Predictor, ReportExtras, Rows, Tables, TrainingRecord
from fer_cli.evaluation.subsets import UNSEEN, subsets_of
from fer_cli.stages.prepare import prepare
from fer_cli.stages.split import export, split
from tests.kits.fer2013 import table_lines, write_lines

IMAGES = 90
EMOTIONS = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")


class Silent(Predictor):
    """A predictor of which only what it was trained on is asked."""

    def probabilities(self, rows: Rows, tta: Tta) -> tuple[Tables, Measured]:
        raise NotImplementedError

    def report_extras(self, measured: Measured) -> ReportExtras:
        raise NotImplementedError


def on(dataset: Dataset, trained_on: Dataset) -> Silent:
    record = TrainingRecord(trained_on, trained_on.rows("train"), "validation", {}, {})
    return Silent(
        origin=Origin(None, Input(kind="files", name="x", content="0" * 64), "x", "x", "x", ()),
        target=EvaluationTarget(dataset, DatasetProtocol.of(dataset.artifact)),
        training_record=record,
        outputs={},
        chosen="x",
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("copies"))


def drawn(store: Store, **changes: Any) -> Dataset:
    options: dict[str, Any] = {"images": IMAGES, "size": 64, "subjects": 9, "imbalance": 1, "jobs": 1}
    return open_dataset(prepare(store=store, loader=Synth(**options | changes)).artifact)


@pytest.fixture(scope="module")
def faces(store: Store) -> Dataset:
    return drawn(store)


def write(
    root: Path,
    data: Dataset,
    *,
    change: Callable[[Image.Image], Image.Image] = lambda picture: picture,
    suffix: str = "png",
    name: Callable[[int], str] = lambda row: f"{row:03}",
    shift: int = 0,
) -> Path:
    """Write a data set as pictures ``class/name``; ``shift`` gives each the face of another of its class."""
    for label in range(len(data.classes)):
        rows = np.flatnonzero(data.labels == label)
        for row, face in zip(rows, np.roll(rows, shift), strict=True):
            path = root / data.classes[label] / f"{name(int(row))}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            change(Image.fromarray(np.asarray(data.images[face]))).save(path)
    return root


def folder(store: Store, root: Path, name: str = "folder", seed: int = 0, **options: Any) -> Dataset:
    return open_dataset(prepare(store=store, loader=Folder(source=root, name=name, **options), seed=seed).artifact)


@pytest.fixture(scope="module")
def source(faces: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("faces"), faces)


@pytest.fixture(scope="module")
def first(store: Store, source: Path) -> Dataset:
    return folder(store, source)


def training_row(first: Dataset, row_of: Callable[[str], str], names: list[str]) -> list[bool]:
    """Tell which images of another data set, by their ids, were trained on in the first one."""
    trained = set(first.ids[first.rows("train")].tolist())
    return [row_of(name) in trained for name in names]


def check(findings: tuple[Finding, ...], which: Check) -> Finding:
    return next(one for one in findings if one.check == which)


def stem(name: str) -> str:
    return f"{name.partition('.')[0].replace('new-', '')}.png"


EQUAL: dict[str, Callable[[Path, Dataset, Path], tuple[Path, dict[str, Any]]]] = {
    "another size, name and seed": lambda source, *_: (source, {"name": "b", "seed": 1, "size": 48}),
    "grey": lambda source, *_: (source, {"name": "b", "grey": True}),
    "renamed": lambda _, faces, to: (write(to, faces, name=lambda row: f"new-{row:03}"), {"seed": 3}),
    "another format": lambda _, faces, to: (write(to, faces, suffix="bmp"), {"size": 40}),
    "links": lambda source, _, to: (linked(source, to), {"name": "links", "seed": 2}),
}


def linked(source: Path, to: Path) -> Path:
    for path in source.rglob("*.png"):
        link = to / path.parent.name / f"new-{path.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return to


@pytest.mark.parametrize("variant", EQUAL)
@pytest.mark.parametrize("part", ["test", "train"])
def test_the_same_pictures_are_told_whatever_became_of_them(
    store: Store, faces: Dataset, source: Path, first: Dataset, tmp_path: Path, variant: str, part: str
) -> None:
    root, options = EQUAL[variant](source, faces, tmp_path)
    other = folder(store, root, **options)
    rows = other.rows(part)
    expected = training_row(first, stem, other.ids[rows].tolist())
    predictor = on(other, first)
    found = copies.trained_on(predictor, rows)
    assert found.all.tolist() == np.flatnonzero(expected).tolist()
    assert (len(found.near), found.sought, found.untold) == (0, 0, 0), "hashes decide"
    failing = [one.verdict for one in leaks(predictor, rows)]
    assert ("fail" in failing) is any(expected)
    rest = subsets_of(predictor, rows).get(UNSEEN)
    if 0 < sum(expected) < len(rows):
        assert rest is not None
        assert rest.tolist() == np.flatnonzero(~np.array(expected)).tolist()


NEAR: dict[str, dict[str, Any]] = {
    "jpg": {"suffix": "jpg"},
    "resized": {"change": lambda picture: picture.resize((40, 40), Image.Resampling.LANCZOS)},
    "larger, grey and mirrored": {
        "change": lambda picture: picture.convert("L").resize((96, 96)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    },
}


@pytest.mark.parametrize("variant", NEAR)
def test_pictures_saved_anew_are_near_copies(
    store: Store, faces: Dataset, first: Dataset, tmp_path: Path, variant: str
) -> None:
    other = folder(store, write(tmp_path, faces, **NEAR[variant]), name="saved-anew", seed=1)
    rows = other.rows("test")
    expected = training_row(first, stem, other.ids[rows].tolist())
    predictor = on(other, first)
    found = copies.trained_on(predictor, rows)
    assert 0 < sum(expected) < len(rows)
    assert found.near.tolist() == np.flatnonzero(expected).tolist()
    assert (len(found.same), len(found.equal), found.sought, found.untold) == (0, 0, len(rows), 0)
    ids, images = leaks(predictor, rows)
    assert (ids.verdict, images.verdict) == ("pass", "fail")
    assert images.measured.startswith(f"{sum(expected)} of {len(rows)} scored images are near copies of a training")


def test_other_faces_under_equal_paths_are_others(store: Store, faces: Dataset, tmp_path: Path) -> None:
    """At one size and at another, the same name of the data set and the same ids prove nothing."""
    first = folder(store, write(tmp_path / "a", faces), name="same-name")
    apart = folder(store, write(tmp_path / "b", drawn(store, seed=7)), name="same-name", size=48)
    assert set(first.ids.tolist()) & set(apart.ids.tolist())
    rows = apart.rows("test")
    found = copies.trained_on(on(apart, first), rows)
    assert (len(found.all), found.sought, found.untold) == (0, len(rows), 0)
    assert {one.verdict for one in leaks(on(apart, first), rows)} == {"pass"}
    # And where the paths are exchanged, the face counts, not the path.
    turned = folder(store, write(tmp_path / "c", faces, shift=1), name="same-name", size=48)
    pixels = dict(zip(first.ids.tolist(), first.decoded_hashes.tolist(), strict=True))
    trained = {pixels[name] for name in first.ids[first.rows("train")].tolist()}
    rows = turned.rows("test")
    found = copies.trained_on(on(turned, first), rows)
    assert found.equal.tolist() == [at for at, row in enumerate(rows) if turned.decoded_hashes[row] in trained]
    assert not len(found.same)


def test_merged_data_sets_and_one_folder_under_two_roots(
    store: Store, faces: Dataset, first: Dataset, tmp_path: Path
) -> None:
    write(tmp_path, faces, name=lambda row: f"one-{row:03}")
    write(tmp_path, faces, name=lambda row: f"two-{row:03}")
    write(tmp_path, drawn(store, seed=5), name=lambda row: f"other-{row:03}")
    merged = folder(store, tmp_path, name="merged", seed=4)
    rows = np.arange(len(merged.ids))
    found = copies.trained_on(on(merged, first), rows)
    names = [f"{name.partition('/')[0]}/{name.partition('-')[2]}" for name in merged.ids.tolist()]
    mine = np.array(["/other-" not in name for name in merged.ids.tolist()])
    expected = np.array(training_row(first, str, names)) & mine
    assert found.all.tolist() == np.flatnonzero(expected).tolist()
    assert found.sought == int((~mine).sum()), "no hash tells where the others come from"
    hashes = merged.source_hashes[mine]
    assert len(set(hashes.tolist())) * 2 == len(hashes)


def test_drawn_faces_are_told_by_what_they_are_drawn_from(store: Store, faces: Dataset) -> None:
    other = drawn(store, size=48)
    rows = np.arange(IMAGES)
    assert len(overlap(other, rows, faces, rows).same) == IMAGES
    assert len(overlap(drawn(store, seed=9, size=48), rows, faces, rows).unknown) == IMAGES


def test_a_fold_and_a_new_split_know_their_images(store: Store, first: Dataset) -> None:
    folds = open_dataset(split(store=store, dataset=first.artifact.reference, folds=3, by="class").artifact)
    assert folds.decoded_hashes.tolist() == first.decoded_hashes.tolist()
    rows = np.arange(len(folds.ids))
    found = copies.trained_on(on(folds, first), rows)
    assert found.same.tolist() == first.rows("train").tolist()
    assert (len(found.equal), len(found.near), found.sought) == (0, 0, 0)


def test_a_published_split_is_of_the_same_images_at_another_size(
    store: Store, source: Path, first: Dataset, tmp_path: Path
) -> None:
    export(store=store, dataset=first.artifact.reference, path=tmp_path / "list.csv")
    other = folder(store, source, name="smaller", seed=1, size=48)
    assert other.splits.tolist() != first.splits.tolist()
    made = split(store=store, dataset=other.artifact.reference, ids=tmp_path / "list.csv").artifact
    assert open_dataset(made).splits.tolist() == first.splits.tolist()
    assert not any("cannot be told" in text for text in made.manifest.warnings)


def test_pixels_in_a_table_equal_pictures_in_a_folder(store: Store, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (28, 48, 48), dtype=np.uint8)
    parts = ["Training"] * 14 + ["PublicTest"] * 7 + ["PrivateTest"] * 7
    table = write_lines(tmp_path / "fer2013.csv", table_lines(parts, [row % 7 for row in range(28)], images))
    rows = open_dataset(prepare(store=store, loader=Fer2013(source=table, allow_incomplete=True)).artifact)
    for row, image in enumerate(images):
        path = tmp_path / "folder" / EMOTIONS[row % 7] / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(image[..., None], 3, axis=2)).save(path)
    other = folder(store, tmp_path / "folder", name="as-pictures", size=64)
    expected = {f"{EMOTIONS[row % 7]}/{row:02}.png" for row in range(14)}
    found = copies.trained_on(on(other, rows), np.arange(28))
    assert {str(other.ids[row]) for row in found.equal} == expected
    assert found.sought == 0


class Boxed:
    """Two faces in each picture."""

    name, files, config = "boxed", dict[str, Path](), dict[str, Any]()

    def __init__(self, root: Path) -> None:
        self.files = {f"picture {number}.png": root / f"{number}.png" for number in range(4)}
        entries = [
            ImageEntry(f"{number}.png", "all", ("happy", "sad")[side], box=box, id=f"{number}-{side}")
            for number in range(4)
            for side, box in enumerate([(0, 0, 30, 30), (30, 0, 60, 30)])
        ]
        self.pictures = Pictures(root, entries)

    @property
    def expected_rows(self) -> int:
        return 8

    def blocks(self) -> Iterator[Block]:
        return self.pictures.blocks()

    def report(self) -> LoadReport:
        return LoadReport(("happy", "sad"), "boxes", split_of={"all": "train"}, carve_validation=True, carve_test=True)


def test_two_faces_of_one_picture_are_two_images(store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (30, 60), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    boxed = open_dataset(prepare(store=store, loader=Boxed(tmp_path)).artifact)
    assert set(boxed.source_hashes.tolist()) == {""}
    assert len(set(boxed.decoded_hashes.tolist())) == 8
    assert not len(overlap(boxed, np.array([1, 3]), boxed, np.array([0, 2])).equal)


def without_hashes(store: Store, artifact: Artifact, name: str) -> Dataset:
    """Write a data set as it was before hashes of its source were kept."""
    table = read_table(artifact.file("index.parquet")).drop_columns(["source_hash", "decoded_hash"])
    with store.make(Plan("dataset", name, "prepare", 2, {}, {})) as work:
        work.write("images.npy", artifact.file("images.npy").read_bytes())
        metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        work.write("index.parquet", table_bytes({key: table[key] for key in table.column_names}, metadata))
        old = work.commit(summary=DatasetSummary.of(artifact), protocol=DatasetProtocol.of(artifact))
    return open_dataset(old)


def test_what_cannot_be_told_is_no_pass(store: Store, source: Path, first: Dataset, tmp_path: Path) -> None:
    """Without hashes, near copies fail, and other faces cannot be told from copies that do not look like one."""
    old = without_hashes(store, folder(store, source, name="old", seed=1, size=48).artifact, "old")
    rows = old.rows("test")
    expected = training_row(first, str, old.ids[rows].tolist())
    found = copies.trained_on(on(old, first), rows)
    assert found.near.tolist() == np.flatnonzero(expected).tolist()
    assert found.untold == len(rows) - sum(expected) > 0
    _, images = leaks(on(old, first), rows)
    assert images.verdict == "fail"
    assert f"of {found.untold} more it cannot be told" in images.measured
    apart = folder(store, write(tmp_path, drawn(store, seed=11)), name="apart")
    apart = without_hashes(store, apart.artifact, "apart-old")
    rows = apart.rows("test")
    checks = (*leaks(on(apart, first), rows), selection(on(apart, first), rows, "test"))
    assert [one.verdict for one in checks] == ["cannot be told"] * 3
    assert f"whether {len(rows)} of {len(rows)} scored images were trained on" in checks[0].measured
    assert checks[0].to_json()["verdict"] == "cannot be told"
    # Where the very pixels are kept, they tell.
    again = without_hashes(store, first.artifact, "again")
    found = copies.trained_on(on(again, first), again.rows("test"))
    assert (len(found.all), found.untold) == (0, 0)


@pytest.mark.parametrize(("limit", "value", "reason"), [("MOST", 20, "among 20 images"), ("SMALLEST", 65, "too small")])
def test_a_search_that_is_not_made_is_no_pass(
    store: Store, first: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, reason: str
) -> None:
    monkeypatch.setattr(copies, limit, value)
    apart = folder(store, write(tmp_path, drawn(store, seed=12)), name="far")
    rows = apart.rows("test")
    images = check(leaks(on(apart, first), rows), Check.TRAINING_IMAGES)
    assert images.verdict == "cannot be told"
    assert reason in images.measured
