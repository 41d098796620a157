"""The stages together: what is fitted on what, chosen where, scored on what, and said of it."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.payload import read_json, read_table, table_bytes
from fer_cli.artifacts.protocol import DatasetProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import DatasetSummary
from fer_cli.artifacts.work import Plan
from fer_cli.cli.app import run
from fer_cli.core.errors import CheckFailedError, FerError, UsageError
from fer_cli.core.labels import EXPRESSIONS
from fer_cli.datasets.dataset import open_dataset
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from fer_cli.systems.ahm.hierarchy import default_hierarchy
from tests.kits.toy import CLASSES, toy_dataset

LAMBDAS = [0.1, 1.0, 10.0]


@pytest.fixture
def fitted(store: Store) -> Artifact:
    toy_dataset(store, images=700)
    extract(store=store, backbone="test_efficientnet", size=32, weights="none", views=("original", "flip"))
    return fit_ahm(store=store, lambdas=LAMBDAS).artifact


def test_the_numbers_of_an_evaluation_are_those_of_its_table(store: Store, fitted: Artifact) -> None:
    evaluation = evaluate_model(store=store, report=True, resamples=200).artifact
    metrics = read_json(evaluation.file("metrics.json"))
    assert metrics["split"] == "test"
    assert metrics["chosen"] == fitted.manifest.summary["chosen"]
    table = read_table(evaluation.file("predictions.parquet"))
    label, predicted = np.array(table["label"].to_pylist()), np.array(table["predicted"].to_pylist())
    scores = metrics["predictors"][metrics["chosen"]]
    assert scores["accuracy"]["value"] == pytest.approx((label == predicted).mean(), abs=1e-12)
    recalls = [(predicted[label == name] == name).mean() for name in CLASSES]
    assert scores["balanced_accuracy"]["value"] == pytest.approx(np.mean(recalls), abs=1e-12)
    assert scores["accuracy"]["low"] < scores["accuracy"]["value"] < scores["accuracy"]["high"]
    columns = np.column_stack([table[f"score_{name}"] for name in CLASSES])
    np.testing.assert_allclose(columns.sum(axis=1), 1, atol=1e-9)
    assert [CLASSES[index] for index in columns.argmax(axis=1)] == predicted.tolist()
    dataset = open_dataset(store.find("toy", ["dataset"]))
    assert table["id"].to_pylist() == dataset.ids[dataset.splits == "test"].tolist()
    everything = read_table(evaluation.file("all-predictors.parquet"))
    assert len(everything) == 4 * len(table)
    for name, of in metrics["predictors"].items():
        rows = [row for row in everything.to_pylist() if row["predictor"] == name]
        found = np.mean([row["label"] == row["predicted"] for row in rows])
        assert of["accuracy"]["value"] == pytest.approx(found, abs=1e-12)
    page = evaluation.file("report.html").read_text(encoding="utf-8")
    assert f"{100 * scores['accuracy']['value']:.1f}" in page
    assert fitted.version in page


def test_test_labels_never_reach_the_fit(store: Store, tmp_path: Path, fitted: Artifact) -> None:
    """Shuffling the labels of the test split changes its score and not one bit of the model."""

    def shuffled(rows: list[dict[str, object]]) -> None:
        test = [row for row in rows if row["split"] == "test"]
        for row, label in zip(test, [row["label"] for row in reversed(test)], strict=True):
            row["label"] = label

    other = copy_with(store, tmp_path / "other", shuffled)
    extract(store=other, backbone="test_efficientnet", size=32, weights="none", views=("original", "flip"))
    again = fit_ahm(store=other, lambdas=LAMBDAS).artifact
    assert again.manifest.content == fitted.manifest.content
    one, two = (evaluate_model(store=place, resamples=100).artifact for place in (store, other))
    assert one.manifest.summary["accuracy"] != two.manifest.summary["accuracy"]


def test_validation_chooses(store: Store, tmp_path: Path, fitted: Artifact) -> None:
    path = read_table(fitted.file("path.parquet")).to_pylist()
    for name in ("ahm-semantic", "ahm-visual", "logistic"):
        points = [row for row in path if row["predictor"] == name]
        assert sum(row["chosen"] for row in points) == 1
        assert next(row for row in points if row["chosen"])["accuracy"] == max(row["accuracy"] for row in points)
    assert {row["relative"] for row in path if row["parameter"] == "lambda"} == set(LAMBDAS)

    def no_validation(rows: list[dict[str, object]]) -> None:
        for row in rows:
            row["split"] = "train" if row["split"] == "validation" else row["split"]

    other = copy_with(store, tmp_path / "other", no_validation)
    extract(store=other, backbone="test_efficientnet", size=32, weights="none")
    with pytest.raises(FerError, match="has no validation split; it has train, test"):
        fit_ahm(store=other)


def copy_with(store: Store, root: Path, change: Callable[[list[dict[str, object]]], None]) -> Store:
    """Write the toy data set with another index into another store."""
    source = store.find("toy", ["dataset"])
    table = read_table(source.file("index.parquet"))
    rows = table.to_pylist()
    change(rows)
    other = Store(root)
    plan = Plan("dataset", "toy", "prepare", 1, {"changed": True}, {})
    with other.make(plan) as work:
        work.write("images.npy", source.file("images.npy").read_bytes())
        columns = {name: [row[name] for row in rows] for name in table.column_names}
        metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        work.write("index.parquet", table_bytes(columns, metadata))
        work.commit(summary=DatasetSummary.of(source), protocol=DatasetProtocol.of(source))
    return other


def test_what_is_unsound_is_marked_and_strict_fails(store: Store, fitted: Artifact) -> None:
    on_validation = evaluate_model(store=store, split="validation", report=True, resamples=100).artifact
    assert on_validation.manifest.summary["unsound"] == ["scored on the selection split: optimistic"]
    assert "scored on the selection split: optimistic" in on_validation.file("report.html").read_text(encoding="utf-8")
    for _ in range(2):  # the second time the evaluation is there already
        with pytest.raises(CheckFailedError, match="is unsound: scored on the selection split: optimistic") as caught:
            evaluate_model(store=store, split="validation", report=True, resamples=100, strict=True)
        assert caught.value.exit_code == 3
    assert evaluate_model(store=store, split="train", resamples=100).artifact.manifest.summary["unsound"]
    sound = evaluate_model(store=store, resamples=100, strict=True).artifact
    assert sound.manifest.summary["unsound"] == []
    assert fitted.manifest.protocol["selection"]["split"] == "validation"


def test_the_store_remembers_how_often_a_split_was_scored(store: Store, fitted: Artifact) -> None:
    def times(**options: object) -> int:
        found = evaluate_model(store=store, resamples=100, **options).artifact  # type: ignore[arg-type]
        return int(found.manifest.protocol["times_these_items_were_scored"])

    assert times() == 4, "all four predictors are shown"
    assert times(report=True) == 4, "the same model in the same setting"
    assert times(predictor="logistic") == 4
    assert times(split="validation") == 4
    fit_ahm(store=store, lambdas=[0.01, 100.0])
    assert times() == 8
    assert times(force=True) == 8
    assert times(tta="flip") == 12

    def carved_anew(rows: list[dict[str, object]]) -> None:
        moved = next(row for row in rows if row["split"] == "validation")
        moved["split"] = "train"

    copy_with(store, store.root, carved_anew)
    extract(store=store, backbone="test_efficientnet", size=32, weights="none", views=("original", "flip"))
    fit_ahm(store=store, lambdas=LAMBDAS)
    assert times() == 16, "another carved validation split does not make the test split fresh"
    assert fitted.kind == "ahm"


def test_flip_averages_both_views(store: Store, fitted: Artifact) -> None:
    one = evaluate_model(store=store, resamples=100).artifact
    both = evaluate_model(store=store, resamples=100, tta="flip").artifact
    assert both.version != one.version
    assert both.manifest.protocol["tta"] == "flip"

    def scores(artifact: Artifact) -> NDArray[np.float64]:
        return np.array(read_table(artifact.file("predictions.parquet"))["score_happy"])

    assert not np.allclose(scores(one), scores(both))
    extract(store=store, backbone="test_efficientnet", size=32, weights="none")
    fit_ahm(store=store, lambdas=LAMBDAS)
    with pytest.raises(FerError, match="has no flip view; extract with --views original,flip"):
        evaluate_model(store=store, resamples=100, tta="flip")
    assert fitted.has("ahm.safetensors")
    with pytest.raises(UsageError, match="'nine' is not a test-time augmentation; take none or flip or ten-crop"):
        evaluate_model(store=store, resamples=100, tta="nine")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="ten-crop is for deep models; take flip"):
        evaluate_model(store=store, resamples=100, tta="ten-crop")


def test_eight_classes_and_a_hierarchy_of_the_users(store: Store, tmp_path: Path) -> None:
    toy_dataset(store, images=400, classes=EXPRESSIONS)
    extract(store=store, backbone="test_efficientnet", size=32, weights="none")
    own = fit_ahm(store=store, lambdas=LAMBDAS).artifact
    assert len(own.manifest.summary["paths"]) == 16
    path = tmp_path / "mine.toml"
    path.write_text(default_hierarchy().text.replace('["1/5", 1],', '["1/3", 1],').replace("[1, 5],", "[1, 3],"))
    mine = fit_ahm(store=store, hierarchy=path, lambdas=LAMBDAS).artifact
    assert mine.version != own.version
    assert mine.file("hierarchy.toml").read_text() == path.read_text()
    full = fit_ahm(store=store, paths="full", lambdas=LAMBDAS).artifact
    assert full.name == own.name.replace("-lambdas-", "-full-lambdas-")
    assert len(full.manifest.summary["paths"]) > 16
    evaluation = evaluate_model(store=store, model=f"{mine.name}@{mine.version}", report=True, resamples=100).artifact
    assert "--hierarchy" in evaluation.file("report.html").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"paths": "some"}, "--paths 'some' is not a choice; take shared or full"),
        ({"lambdas": []}, "--lambdas wants numbers from 1e-12 to 1e12"),
        ({"lambdas": [0.0]}, "--lambdas wants numbers from 1e-12 to 1e12"),
        ({"lambdas": [float("nan")]}, "--lambdas wants numbers from 1e-12 to 1e12"),
        ({"ridge": -1.0}, "--ridge -1.0 is out of range"),
        ({"ridge": float("nan")}, "--ridge nan is out of range"),
        ({"metric": "f1"}, "--metric 'f1' is not a choice"),
    ],
)
def test_options_that_cannot_be(store: Store, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        fit_ahm(store=store, **options)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_a_class_without_training_images_is_named(store: Store, tmp_path: Path) -> None:
    toy_dataset(store, images=210)

    def moved(rows: list[dict[str, object]]) -> None:
        for row in rows:
            if row["label"] == "fear" and row["split"] == "train":
                row["split"] = "test"

    other = copy_with(store, tmp_path / "other", moved)
    extract(store=other, backbone="test_efficientnet", size=32, weights="none")
    with pytest.raises(FerError, match="class 'fear' has no training image"):
        fit_ahm(store=other)
    assert not other.directories(["ahm"])


def test_protocols_travel_down_the_chain(store: Store, fitted: Artifact) -> None:
    evaluation = evaluate_model(store=store, resamples=100).artifact
    protocol = evaluation.manifest.protocol
    dataset = store.find("toy", ["dataset"]).manifest.protocol
    assert protocol["data"] == protocol["training"]["data"] == dataset
    assert protocol["training"]["pretraining"] == {"kind": "random"}
    assert "random weights" in json.dumps(evaluation.manifest.summary["cautions"])
    assert protocol["training"]["selection"]["tried"] == 2 * 3 + 9
    assert fitted.manifest.protocol["views"] == ["original", "flip"]


def test_other_labels_make_another_model(store: Store, fitted: Artifact) -> None:
    """Features of the same pictures are equal to the bit; what is fitted on them is not."""

    def swapped(rows: list[dict[str, object]]) -> None:
        for row in rows:
            if row["split"] == "train":
                row["label"] = {"happy": "sad", "sad": "happy"}.get(str(row["label"]), row["label"])

    other = copy_with(store, store.root, swapped)
    dataset = other.find(None, ["dataset"])
    features = extract(
        store=store, dataset=dataset.reference, backbone="test_efficientnet", size=32, weights="none",
        views=("original", "flip"),
    )  # fmt: skip
    assert features.artifact.manifest.content == store.open(store.directories(["features"])[1]).manifest.content
    again = fit_ahm(store=store, features=features.artifact.reference, lambdas=LAMBDAS)
    assert not again.up_to_date
    assert again.artifact.version != fitted.version


def test_damaged_weights_of_a_model_are_refused(store: Store, fitted: Artifact) -> None:
    path = fitted.path / "ahm.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(FerError, match=r"ahm\.safetensors: sha256 .*, expected .*; the ahm artifact is damaged"):
        evaluate_model(store=store, resamples=100)
    assert not store.directories(["evaluation"])


def test_features_find_an_equal_data_set_when_theirs_is_gone(store: Store, fitted: Artifact) -> None:
    dataset = store.find("dataset/toy", ["dataset"])
    plan = Plan("dataset", "toy", "prepare", 1, {"another": "configuration"}, {})
    with store.make(plan) as work:
        for entry in dataset.manifest.files:
            work.write(entry.path, (dataset.path / entry.path).read_bytes())
        work.commit(summary=DatasetSummary.of(dataset), protocol=DatasetProtocol.of(dataset))
    atomic_io.remove_tree(dataset.path)
    assert fit_ahm(store=store, paths="full", lambdas=LAMBDAS).up_to_date is False
    atomic_io.remove_tree(store.directories(["dataset"])[0])
    with pytest.raises(FerError, match="is not in this store"):
        fit_ahm(store=store, lambdas=[2.0])
    assert fitted.kind == "ahm"


def test_the_commands_of_a_report_lead_to_the_same_evaluation(store: Store, tmp_path: Path, fitted: Artifact) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(default_hierarchy().text.replace('["1/5", 1],', '["1/3", 1],').replace("[1, 5],", "[1, 3],"))
    mine = fit_ahm(store=store, hierarchy=path, lambdas=[0.123456789012345, 3.0])
    page = evaluate_model(store=store, model=mine.artifact.reference, report=True, resamples=100)
    text = html.unescape(page.artifact.file("report.html").read_text())
    commands = re.findall(r"fer (?:extract|fit-ahm|eval) [^<\n]*", text)
    assert [command.split()[1] for command in commands] == ["extract", "fit-ahm", "eval"]
    for command in commands:
        assert run([*shlex.split(command)[1:], "--json", "--store", str(store.root)]) == 0
    assert len(store.directories(["features", "ahm", "evaluation"])) == 4, "nothing new was made"
    assert fitted.kind == "ahm"


def test_a_report_is_a_view_of_the_same_evaluation(store: Store, fitted: Artifact) -> None:
    plain = evaluate_model(store=store, resamples=100)
    assert not plain.artifact.has("report.html")
    reported = evaluate_model(store=store, report=True, resamples=100)
    assert not reported.up_to_date, "the report was missing"
    assert reported.artifact.has("report.html")
    assert (reported.artifact.version, reported.artifact.manifest.content) == (
        plain.artifact.version,
        plain.artifact.manifest.content,
    )
    for report in (True, False):
        again = evaluate_model(store=store, report=report, resamples=100)
        assert again.up_to_date
        assert again.artifact.has("report.html")
    assert len(store.directories(["evaluation"])) == 1
    assert fitted.kind == "ahm"


def test_few_validation_images_are_told(store: Store) -> None:
    toy_dataset(store, images=210)
    extract(store=store, backbone="test_efficientnet", size=32, weights="none")
    fit_ahm(store=store, lambdas=LAMBDAS)
    notes = evaluate_model(store=store, resamples=100).artifact.manifest.summary["cautions"]
    assert "Selected on 42 validation images: too few to select reliably" in notes


def test_a_kind_alone_is_the_last_of_it(store: Store, fitted: Artifact) -> None:
    toy_dataset(store, images=70, seed=3)
    assert store.find("ahm", ["dataset", "features", "ahm"]).path == fitted.path
