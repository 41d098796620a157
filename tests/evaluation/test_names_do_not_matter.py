"""What a dataset, weights, subjects and columns are called decides no verdict and no caution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.protocol import DatasetProtocol, EvaluationProtocol, Pretraining
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import EvaluationSummary
from fer_cli.datasets.dataset import open_dataset
from fer_cli.datasets.folder import Folder
from fer_cli.datasets.overlap import shared_subjects
from fer_cli.datasets.records import Block, LoadReport
from fer_cli.datasets.synth.loader import Synth
from fer_cli.evaluation.protocol_warnings import judge
from fer_cli.stages.compare import compare
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from fer_cli.stages.prepare import prepare
from tests.kits.protocols import dataset_protocol, evaluation_protocol, training_protocol
from tests.kits.toy import CLASSES, Toy


def folder(root: Path) -> Path:
    generator = np.random.default_rng(0)
    for number in range(60):
        path = root / ("happy", "sad", "anger")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (24, 24), dtype=np.uint8)).save(path)
    return root


@pytest.mark.parametrize("name", ["synth-gan-faces", "fer2013-crops-of-my-own", "rafdb", "none-aligned"])
def test_a_folder_is_anybodys_whatever_it_is_called(store: Store, tmp_path: Path, name: str) -> None:
    artifact = prepare(store=store, loader=Folder(source=folder(tmp_path / name), name=name)).artifact
    protocol = DatasetProtocol.of(artifact)
    assert (protocol.dataset, protocol.family, protocol.synthetic) == (name, "other", False)
    assert judge(evaluation_protocol(protocol), 0.99).unsound == ()
    cautions = judge(evaluation_protocol(protocol), 0.99).cautions
    assert not any("synthetic" in text.lower() or "suspect" in text or "aligned" in text for text in cautions)


@pytest.mark.parametrize(
    ("trained_on", "kind", "is_random"),
    [
        ("MS-Celeb-1M, random erasing", "file", False),
        ("random", "imported", False),
        ("ImageNet-1k", "random", True),
    ],
)
def test_weights_are_random_by_their_kind(trained_on: str, kind: str, is_random: bool) -> None:
    data = dataset_protocol()
    pretraining = Pretraining.model_validate({"kind": kind, "trained_on": trained_on, "source": "file"})
    training = training_protocol(data, pretraining=pretraining)
    cautions = judge(evaluation_protocol(data, training=training), 0.5).cautions
    assert any("random weights" in text for text in cautions) is is_random


@pytest.mark.parametrize("family", ["fer2013", "ferplus", "rafdb"])
def test_the_ceiling_is_that_of_the_family(family: str) -> None:
    for name in (family, "my-faces"):
        data = dataset_protocol(dataset=name, family=family)
        assert any("suspect" in text for text in judge(evaluation_protocol(data), 0.99).cautions)
        assert not judge(evaluation_protocol(data), 0.5).cautions


class Subjects(Toy):
    """Half of the images have a subject, and subjects are called as unknown ones once were."""

    def blocks(self) -> Iterator[Block]:
        for block in super().blocks():
            ids = [row.id for row in block.rows]
            names = [None if n % 2 else f"image {ids[n - n % 4 + 1]}" for n in range(len(ids))]
            rows = [replace(row, subject=name) for row, name in zip(block.rows, names, strict=True)]
            yield replace(block, rows=tuple(rows))


def test_subjects_may_be_called_images(store: Store) -> None:
    artifact = prepare(store=store, loader=Subjects(images=84, grey=True, seed=0, classes=CLASSES)).artifact
    dataset = open_dataset(artifact)
    column = read_table(artifact.file("index.parquet"))["subject"].to_pylist()
    assert dataset.subjects is not None
    assert dataset.subjects.tolist() == column
    assert not dataset.names_every_subject
    unit, units = dataset.units()
    assert unit == "subject"
    assert units is not None
    named = {name for name in column if name is not None}
    assert len(np.unique(units)) == len(named) + column.count(None), "an unknown subject is its own"
    rows = np.arange(len(column))
    subjects, _ = shared_subjects(dataset, rows, dataset, rows)
    assert subjects.tolist() == [row for row in rows if column[row] is not None]


def test_columns_may_be_called_seeds(store: Store, tmp_path: Path) -> None:
    artifact = prepare(store=store, loader=Toy(images=420, grey=True, seed=0, classes=CLASSES)).artifact
    dataset = open_dataset(artifact)
    rows, references = dataset.rows("test"), []
    for name, shift in (("seed 3", 0), ("fold 1, seed 2", 1)):
        guess = [dataset.classes[(dataset.labels[row] + shift * (row % 2)) % len(CLASSES)] for row in rows]
        path = tmp_path / f"{name}.csv"
        lines = [f"{dataset.ids[row]},{word}" for row, word in zip(rows, guess, strict=True)]
        path.write_text("\n".join(["id,label", *lines]))
        scored = evaluate_model(store=store, predictions=path, resamples=100).artifact
        [output] = EvaluationSummary.of(scored).outputs.values()
        assert (output.kind, output.seed, output.fold) == ("file", None, None)
        references.append(scored.reference)
    comparison = compare(store=store, references=references, resamples=100).comparison
    assert [system.seeds for system in comparison.systems] == [(), ()]


class Renamed(Synth):
    """Synthetic faces under another name."""

    @property
    def name(self) -> str:
        return "holiday-photos"


def chain(store: Store, loader: Synth) -> Artifact:
    prepare(store=store, loader=loader)
    extract(store=store, backbone="test_efficientnet", size=32, weights="none", device="cpu")
    fit_ahm(store=store, lambdas=(1.0,))
    return evaluate_model(store=store, resamples=100).artifact


def test_a_renamed_chain_has_the_same_verdicts(tmp_path: Path) -> None:
    plain = chain(Store(tmp_path / "one"), Synth(images=210, size=32, grey=True))
    renamed = chain(Store(tmp_path / "other"), Renamed(images=210, size=32, grey=True))
    assert renamed.name != plain.name
    one, other = EvaluationProtocol.of(plain), EvaluationProtocol.of(renamed)
    assert (one.data.dataset, other.data.dataset) == ("synth-grey", "holiday-photos")
    assert one.checks == other.checks
    first, second = EvaluationSummary.of(plain), EvaluationSummary.of(renamed)
    assert first.unsound == second.unsound
    assert first.cautions == second.cautions
    assert any(text.startswith("Synthetic faces: ") for text in second.cautions)
    assert first.accuracy == second.accuracy


def test_a_loader_that_says_nothing_is_of_no_family() -> None:
    report = LoadReport(classes=("happy", "sad"), label_rule="synth, none, random")
    assert (report.family, report.synthetic, report.alignment, report.official_counts) == ("other", False, None, False)
