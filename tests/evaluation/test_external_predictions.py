"""Anybody's predictions get the same numbers as our own, over the same items; whatever is not clear is refused."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import lineage
from fer_cli.artifacts.payload import read_json, read_table
from fer_cli.artifacts.protocol import EvaluationProtocol, TrainedOn
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.cli.common import emit
from fer_cli.cli.evaluate import evaluation_output
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.findings import Check
from fer_cli.core.labels import EXPRESSIONS
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.rafdb import RafDb
from fer_cli.evaluation.common_classes import in_common, over_common
from fer_cli.evaluation.external_predictions import read_predictions
from fer_cli.models import gradcam
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from fer_cli.stages.prepare import prepare
from fer_cli.stages.train import train
from tests.kits.fer2013 import fault
from tests.kits.official import rafdb
from tests.kits.toy import CLASSES, toy_dataset
from tests.kits.train import Fer

Array = NDArray[np.float64]


@pytest.fixture
def data(store: Store) -> Dataset:
    return open_dataset(toy_dataset(store, images=210))


def shares(n: int, c: int, seed: int = 0) -> Array:
    logits = np.random.default_rng(seed).normal(size=(n, c)) * 2
    table: Array = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return table


def csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    path.write_text("\n".join([",".join(header), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def scores_csv(
    path: Path, ids: Sequence[str], table: Array, classes: Sequence[str] = CLASSES, prefix: str = ""
) -> Path:
    rows = [[name, *(f"{value:.9g}" for value in row)] for name, row in zip(ids, table, strict=True)]
    return csv(path, ["id", *(f"{prefix}{name}" for name in classes)], rows)


def scored(store: Store, path: Path, **options: Any) -> tuple[Artifact, dict[str, Any]]:
    artifact = evaluate_model(store=store, predictions=path, resamples=100, **options).artifact
    return artifact, read_json(artifact.file("metrics.json"))["predictors"]["predictions"]


def ids_of(data: Dataset) -> list[str]:
    return [str(name) for name in data.ids[data.rows("test")]]


def test_our_own_predictions_give_our_own_numbers(store: Store, tmp_path: Path) -> None:
    toy_dataset(store, images=420)
    extract(store=store, backbone="test_efficientnet", size=32, weights="none")
    fit_ahm(store=store, lambdas=[1.0])
    own = evaluate_model(store=store, resamples=100).artifact
    ours = read_json(own.file("metrics.json"))
    table = read_table(own.file("predictions.parquet"))
    rows = table.to_pylist()
    order = np.random.default_rng(1).permutation(len(rows))
    names = ["score_" + name for name in CLASSES[::-1]]
    logits = [[row["id"], *(np.log(row[name]) + 3 for name in names)] for row in rows]
    files = {
        "as it is": own.file("predictions.parquet"),
        "shuffled": tmp_path / "shuffled.parquet",
        "csv": csv(tmp_path / "p.csv", ["ID", *names], [[row["id"], *(row[name] for name in names)] for row in rows]),
        "logits": csv(tmp_path / "l.csv", ["id", *(name.replace("score", "logit") for name in names)], logits),
    }
    pq.write_table(table.take(order), files["shuffled"])
    for how, path in files.items():
        artifact, metrics = scored(store, path)
        expected = ours["predictors"][ours["chosen"]]
        assert metrics["confusion"] == expected["confusion"], how
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece", "nll", "brier"):
            for end in ("value", "low", "high"):
                assert metrics[name][end] == pytest.approx(expected[name][end], abs=1e-6), (how, name)
        assert artifact.manifest.protocol["predictions"]["form"] == ("logits" if how == "logits" else "probabilities")
        written = read_table(artifact.file("predictions.parquet"))
        assert written["id"].to_pylist() == table["id"].to_pylist(), "the split's order"
        assert written["predicted"].to_pylist() == table["predicted"].to_pylist()


def test_subgroups_have_their_own_numbers(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loader = RafDb(source=rafdb(tmp_path / "kit"), allow_incomplete=True)
    faces = open_dataset(prepare(store=store, loader=loader).artifact)
    rows = faces.rows("test")
    # Right but for every third image.
    answered = [faces.classes[(faces.labels[row] + (at % 3 == 0)) % 7] for at, row in enumerate(rows)]
    table = [[name, answer] for name, answer in zip(faces.ids[rows], answered, strict=True)]
    file = csv(tmp_path / "p.csv", ["id", "predicted"], table)
    evaluation, _ = scored(store, file, report=True)
    metrics = read_json(evaluation.file("metrics.json"))
    right = np.array([faces.classes[faces.labels[row]] for row in rows]) == np.array(answered)
    wanted = {
        f"{name}={value}": values[rows] == value
        for name, values in faces.subgroups.items()
        for value in sorted(set(values[rows]))
    }
    assert {"gender=female", "race=asian", "age=70+"} < set(wanted)
    assert set(metrics["subsets"]) == set(wanted)
    assert list(metrics["subsets"])[-5:] == ["age=0-3", "age=4-19", "age=20-39", "age=40-69", "age=70+"]
    for name, among in wanted.items():
        part = metrics["subsets"][name]
        assert part["n"] == among.sum(), name
        assert part["accuracy"]["value"] == pytest.approx(right[among].mean()), name
    page = evaluation.file("report.html").read_text("utf-8")
    assert "Parts of the test split" in page
    assert page.count("gender=female") == 1
    emit("eval", evaluation_output(Result(evaluation, up_to_date=False)), as_json=False)
    female = metrics["subsets"]["gender=female"]
    line = next(line for line in capsys.readouterr().out.splitlines() if "gender=female" in line)
    assert line.split()[1:3] == [str(female["n"]), f"{100 * female['accuracy']['value']:.1f}"]


def test_labels_alone_have_no_calibration(store: Store, data: Dataset, tmp_path: Path) -> None:
    ids, true = ids_of(data), [data.classes[label] for label in data.labels[data.rows("test")]]
    said = ["Happiness" if name == "happy" else "sad" if index % 2 else name for index, name in enumerate(true)]
    path = csv(tmp_path / "mine.csv", ["image", "label"], list(zip(ids[::-1], said[::-1], strict=True)))
    artifact, metrics = scored(store, path, report=True)
    right = np.mean(
        [(given == "Happiness" and name == "happy") or given == name for given, name in zip(said, true, strict=True)]
    )
    assert metrics["accuracy"]["value"] == pytest.approx(right)
    for name in ("ece", "nll", "brier"):
        assert metrics[name] == {"value": None, "low": None, "high": None}
    assert {one["count"] for one in metrics["reliability"]} == {0}
    table = read_table(artifact.file("predictions.parquet"))
    assert table["predicted"].to_pylist() == ["happy" if name == "Happiness" else name for name in said]
    assert np.isnan(np.array(table["score_happy"])).all()
    page = artifact.file("report.html").read_text()
    assert 'id="confusion"' in page
    assert 'id="calibration"' not in page
    assert "Calibration error" not in page.partition("<main>")[0]
    assert ">nan<" not in page.lower()
    assert "mine.csv, as labels" in page
    protocol = artifact.manifest.protocol
    assert "training" not in protocol, "nobody knows what it was trained on"
    source = artifact.manifest.inputs["predictions"]
    assert (source.kind, source.name, source.content) == ("files", "mine.csv", protocol["predictions"]["content"])
    assert {node.role for node in lineage(store, artifact).parents} == {"predictions", "dataset"}
    assert artifact.manifest.summary["cautions"][0].startswith("Predictions from a file: what they were trained")
    [command] = [html.unescape(line) for line in re.findall(r"fer eval [^<\n]*", page)]
    assert run([*shlex.split(command)[1:], "--json", "--store", str(store.root)]) == 0
    assert len(store.directories(["evaluation"])) == 1, "the report's command leads to the same evaluation"
    path.write_text(path.read_text().replace("Happiness", "sad"))
    assert scored(store, path)[0].version != artifact.version, "other bytes, another evaluation"


def test_an_answer_that_no_image_has_is_wrong(store: Store, data: Dataset, tmp_path: Path) -> None:
    ids = ids_of(data)
    artifact, metrics = scored(
        store, csv(tmp_path / "c.csv", ["id", "predicted"], [[name, "contempt"] for name in ids])
    )
    assert metrics["accuracy"]["value"] == 0
    assert metrics["classes"] == list(EXPRESSIONS)
    assert "Answers of contempt, which toy lacks, count as wrong" in artifact.manifest.summary["cautions"]


def test_scores_are_over_the_classes_in_common(store: Store, tmp_path: Path) -> None:
    data = open_dataset(toy_dataset(store, images=400, classes=EXPRESSIONS))
    rows, ids = data.rows("test"), ids_of(data)
    known = ("contempt", "happy", "sad", "anger")
    table = shares(len(ids), 4)
    table[3] = [1, 0, 0, 0]
    wide = ("neutral", *known[1:])
    artifact, metrics = scored(store, scores_csv(tmp_path / "few.csv", ids, table, wide, "prob_"), report=True)
    classes = ["neutral", "happy", "sad", "anger"]
    assert metrics["classes"] == classes
    kept = np.flatnonzero(np.isin(data.labels[rows], [EXPRESSIONS.index(name) for name in classes]))
    true = np.array([classes.index(EXPRESSIONS[label]) for label in data.labels[rows[kept]]])
    assert metrics["n"] == len(kept)
    assert metrics["accuracy"]["value"] == pytest.approx((table[kept].argmax(axis=1) == true).mean())
    common = artifact.manifest.protocol["classes_in_common"]
    assert common["left_out_of_predictor"] == []
    assert common["left_out_of_dataset"]["test"] == dict.fromkeys(("surprise", "fear", "disgust", "contempt"), 10)
    page = artifact.file("report.html").read_text()
    assert "10 surprise, 10 fear, 10 disgust, 10 contempt: the predictor does not know these classes" in page
    seven = open_dataset(toy_dataset(store, images=210))
    ids = ids_of(seven)
    table = shares(len(ids), 4, seed=2)
    table[0] = [1, 0, 0, 0]
    artifact, metrics = scored(
        store, scores_csv(tmp_path / "four.csv", ids, table, known), data=f"toy@{seven.artifact.version}"
    )
    assert metrics["classes"] == ["happy", "sad", "anger"]
    written = read_table(artifact.file("predictions.parquet"))
    found = np.column_stack([written[f"score_{name}"] for name in metrics["classes"]])
    place = [ids.index(name) for name in written["id"].to_pylist()]
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(table[place, 1:] / table[place, 1:].sum(axis=1, keepdims=True), nan=1 / 3)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert artifact.manifest.protocol["classes_in_common"]["left_out_of_predictor"] == ["contempt"]


def test_columns_are_taken_by_name() -> None:
    table = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.0, 0.5, 0.0]])
    known = ("neutral", "happy", "sad", "anger")
    found, silent = over_common(table, known, ("anger", "happy"))
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3], [0.5, 0.5]])
    assert silent == 1
    found, silent = over_common(table, known, ("sad", "anger", "happy", "neutral"))
    np.testing.assert_array_equal(found, table[:, [2, 3, 1, 0]])
    assert silent == 0
    common = in_common(known, ("happy", "fear", "anger"), "it")
    assert (common.classes, common.of_predictor, common.of_dataset) == (
        ("happy", "anger"),
        ("neutral", "sad"),
        ("fear",),
    )


def test_names_at_the_wrong_scores_are_told(store: Store, tmp_path: Path) -> None:
    data = open_dataset(toy_dataset(store, images=700))
    rows = data.rows("test")
    table = 0.4 / 7 + 0.6 * np.eye(7)[data.labels[rows]]
    path = scores_csv(tmp_path / "p.csv", ids_of(data), table)
    assert scored(store, path)[0].manifest.summary["unsound"] == []
    path = scores_csv(tmp_path / "q.csv", ids_of(data), table[:, [0, 2, 1, 3, 4, 5, 6]])
    [unsound] = scored(store, path)[0].manifest.summary["unsound"]
    assert unsound.startswith(
        "class names: happy is predicted as sad, sad is predicted as happy: balanced accuracy 71.4%"
    )


Case = Callable[[list[list[object]], list[str]], tuple[list[str], list[list[object]]]]
HEADER = ["id", *CLASSES]


def _drop(rows: list[list[object]], ids: list[str]) -> tuple[list[str], list[list[object]]]:
    return HEADER, [row for index, row in enumerate(rows) if index not in {4, 9}]


def _double(rows: list[list[object]], ids: list[str]) -> tuple[list[str], list[list[object]]]:
    return HEADER, [*rows, rows[2], rows[5]]


def _unknown(rows: list[list[object]], ids: list[str]) -> tuple[list[str], list[list[object]]]:
    return HEADER, [["nobody", *row[1:]] if index in {3, 4, 5} else row for index, row in enumerate(rows)]


def _other_split(rows: list[list[object]], ids: list[str]) -> tuple[list[str], list[list[object]]]:
    return HEADER, [*rows, ["toy-00000", *rows[0][1:]]]


def _cell(row: int, column: int, value: object) -> Case:
    def case(rows: list[list[object]], ids: list[str]) -> tuple[list[str], list[list[object]]]:
        rows[row][column] = value
        return HEADER, rows

    return case


def _all(change: Callable[[list[object]], list[object]], header: Sequence[str] = HEADER) -> Case:
    return lambda rows, ids: (list(header), [change(row) for row in rows])


FAULTS: dict[str, tuple[Case, str]] = {
    "missing": (
        _drop,
        r"p\.csv: 2 of the 42 ids of the test split of .* are missing, the first is 'toy-00032'; give one",
    ),
    "doubled": (_double, r"p\.csv:44: id 'toy-000\d\d' is already in line 4 \(and 1 more such rows\); keep one"),
    "unknown": (
        _unknown,
        r"p\.csv:5: id 'nobody' is not in the test split of .* \(and 2 more such rows\); ids look like",
    ),
    "of another split": (
        _other_split,
        r"p\.csv:44: id 'toy-00000' is of the train split, not of the test split .* --split",
    ),
    "a word for a score": (_cell(6, 2, "high"), r"p\.csv:8: the score of happy is 'high', no finite number; correct"),
    "nan": (_cell(6, 2, "nan"), r"p\.csv:8: the score of happy is 'nan', no finite number"),
    "an empty cell": (_cell(0, 1, ""), r"p\.csv:2: the score of neutral is '', no finite number"),
    "one row of no probabilities": (
        _cell(6, 2, 3.5),
        r"p\.csv:8: scores that sum to .* are no probabilities; they must",
    ),
    "votes named as probabilities": (
        _all(lambda row: [row[0], *([2] * 7)], ["id", *(f"prob_{name}" for name in CLASSES)]),
        r"p\.csv:2: scores that sum to 14, the smallest 2, are no probabilities \(and 41 more such rows\)",
    ),
    "a misspelt class": (
        _all(lambda row: row, ["id", *(f"score_{name}x" for name in CLASSES)]),
        r"p\.csv:1: column 'score_neutralx' names no",
    ),
    "a class twice": (
        _all(lambda row: row, ["id", *CLASSES[:6], "joy"]),
        r"p\.csv:1: columns 'happy' and 'joy' both mean happy; keep one",
    ),
    "mixed names": (
        _all(lambda row: row, ["id", "prob_neutral", *CLASSES[1:]]),
        r"p\.csv:1: columns of scores are named in more than one way",
    ),
    "no ids": (_all(lambda row: row[1:], CLASSES), r"p\.csv:1: the table has no column 'id'; give a column 'id', and"),
    "no answers": (
        _all(lambda row: row[:2], ["id", "note"]),
        r"p\.csv:1: the table has no predictions: its columns are id, note",
    ),
    "one class": (_all(lambda row: row[:2], ["id", "happy"]), r"p\.csv:1: scores of happy alone; give"),
    "numbers for labels": (
        _all(lambda row: [row[0], 3], ["id", "predicted"]),
        r"p\.csv:2: unknown expression '3'; write names, not numbers",
    ),
    "two answers": (
        _all(lambda row: [row[0], "sad", "sad"], ["id", "predicted", "pred"]),
        r"p\.csv:1: more than one column of predictions: predicted, pred",
    ),
    "label and scores apart": (
        _all(lambda row: [*row, "sad"], [*HEADER, "predicted"]),
        r"p\.csv:\d+: predicted is sad, but the largest score is that of \w+; leave out",
    ),
    "no rows": (lambda rows, ids: (HEADER, []), r"p\.csv: the table has no rows"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_not_clear_is_refused(store: Store, data: Dataset, tmp_path: Path, case: str) -> None:
    ids = ids_of(data)
    rows: list[list[object]] = [[name, *row] for name, row in zip(ids, shares(len(ids), 7).tolist(), strict=True)]
    change, message = FAULTS[case]
    path = csv(tmp_path / "p.csv", *change(rows, ids))
    error = fault(lambda: evaluate_model(store=store, predictions=path, resamples=100), at=str(tmp_path))
    assert re.search(message, str(error)), error
    assert not store.directories(["evaluation"])


def test_parquet_is_read_with_the_same_care(store: Store, data: Dataset, tmp_path: Path) -> None:
    ids = ids_of(data)
    path = tmp_path / "p.parquet"

    def refused(columns: dict[str, Any], message: str) -> None:
        pq.write_table(pa.table(columns), path)
        error = fault(lambda: evaluate_model(store=store, predictions=path, resamples=100), at=str(path))
        assert re.search(message, str(error)), error

    table = shares(len(ids), 7)
    columns: dict[str, Any] = {"id": ids} | {name: table[:, index] for index, name in enumerate(CLASSES)}
    refused({**columns, "id": [*ids[:5], ids[0], *ids[6:]]}, r"parquet:6: id 'toy-\d+' is already in row 1")
    refused({**columns, "happy": [None, *table[1:, 1]]}, r"parquet:1: the score of happy is 'None', no finite number")
    refused({**columns, "happy": [[1.0]] * len(ids)}, r"parquet:1: the score of happy is '\[1.0\]'")
    refused({"id": ids, "predicted": [3] * len(ids)}, r"parquet:1: unknown expression '3'")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    fault(lambda: read_predictions(path), "not a readable Parquet table", at=str(path))
    fault(lambda: read_predictions(tmp_path / "none.csv"), "there is no such file", at=str(tmp_path))
    pq.write_table(pa.table({"id": list(range(3)), "predicted": ["sad"] * 3}), path)
    assert read_predictions(path).ids == ("0", "1", "2")


def test_options_that_contradict_each_other(store: Store, data: Dataset, tmp_path: Path, fer: Fer) -> None:
    path = scores_csv(tmp_path / "p.csv", ids_of(data), shares(42, 7))
    where = ("--predictions", path, "--store", store.root)
    assert fer("eval", "toy", *where, code=2) == "MODEL and --predictions contradict each other; leave MODEL out"
    assert "leave --batching out" in fer("eval", *where, "--batching", "alone", code=2)
    assert (
        fer("eval", *where, "--tta", "flip", code=2) == "--tta is for models; leave it out: these predictions are made"
    )
    assert "has no predictor 'network'; take predictions" in fer("eval", *where, "--predictor", "network")
    assert not store.directories(["evaluation"])
    assert "scoring the test split" in fer("eval", *where, code=0)


def test_the_command_prints_one_object(
    store: Store, data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scores_csv(tmp_path / "p.csv", ids_of(data), shares(42, 7))
    words = [
        "eval",
        "--predictions",
        str(path),
        "--data",
        "toy",
        "--split",
        "test",
        "--json",
        "--store",
        str(store.root),
    ]
    assert run(words) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["artifact"]["name"] == "predictions-p-on-toy-test"
    assert shown["metrics"]["chosen"] == "predictions"
    assert shown["protocol"]["checks"][1]["verdict"] == "cannot be told"


def test_a_model_is_scored_on_another_data_set(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seven = open_dataset(toy_dataset(store, images=420))
    settings = [
        *("model.backbone=test_convnext", "model.weights=none", "model.cut=stage2.block0", "data.size=64"),
        *("model.detail=1", "train.batch=20", "train.epochs=2"),
    ]
    model = train(store=store, system="conv-cut", changes=settings, device="cpu").whole.artifact
    eight = open_dataset(toy_dataset(store, images=400, classes=EXPRESSIONS))
    assert seven.artifact.version != eight.artifact.version
    evaluation = evaluate_model(
        store=store, model=model.reference, data=eight.artifact.reference, resamples=100, report=True, device="cpu"
    ).artifact
    assert evaluation.name == f"model-{model.name}-on-toy-resamples100-test"
    metrics = read_json(evaluation.file("metrics.json"))["predictors"]["network"]
    assert metrics["classes"] == list(CLASSES)
    assert metrics["n"] == 70, "of 80, 10 show contempt"
    protocol = evaluation.manifest.protocol
    assert protocol["training"]["data"]["classes"] == list(CLASSES)
    assert protocol["trained_on"]["images"] == "24x24 px, grey"
    assert protocol["data"]["label_rule"] == "toy labels"
    assert protocol["data"]["split_hash"] == eight.artifact.manifest.protocol["split_hash"]
    assert protocol["classes_in_common"]["left_out_of_dataset"]["test"] == {"contempt": 10}
    assert protocol["training"]["selection"] == model.manifest.protocol["selection"]
    cautions = evaluation.manifest.summary["cautions"]
    assert cautions[:2] == [
        "Cross-dataset: trained on toy, scored on toy",
        "Left out of toy: contempt, which the predictor does not know",
    ]
    assert evaluation.manifest.summary["unsound"] == [], "the splits of the other data set chose nothing"
    validation = evaluate_model(
        store=store,
        model=model.reference,
        data=eight.artifact.reference,
        split="validation",
        resamples=100,
        device="cpu",
    ).artifact
    assert validation.manifest.summary["unsound"] == []
    page = html.unescape(evaluation.file("report.html").read_text())
    assert 'id="gradcam"' in page
    assert "trained on" in page
    assert f"--data {eight.artifact.reference}" in page
    assert page.count(seven.artifact.version) >= 1
    two = toy_dataset(store, images=100, classes=("sad", "anger"), grey=False)
    shown: set[int] = set()
    heats = gradcam.gradcam

    def watched(network: Any, layer: Any, x: Any, classes: torch.Tensor) -> torch.Tensor:
        shown.update(classes.tolist())
        return heats(network, layer, x, classes)

    monkeypatch.setattr(gradcam, "gradcam", watched)
    narrow = evaluate_model(
        store=store, model=model.reference, data=two.reference, resamples=100, report=True, device="cpu"
    ).artifact
    assert shown, "heat is of the network's own outputs"
    assert shown <= {CLASSES.index("sad"), CLASSES.index("anger")}
    assert (
        "Preprocessing: trained on images of 24x24 px, grey, scored on images of 24x24 px, colour"
        in (narrow.manifest.summary["cautions"])
    )
    own = evaluate_model(store=store, model=model.reference, data=seven.artifact.reference, resamples=100, device="cpu")
    assert own.artifact.name == f"model-{model.name}-resamples100-test", "its own data set is no other"
    assert "trained_on" not in own.artifact.manifest.protocol


def test_a_model_of_more_classes_is_renormalised(store: Store) -> None:
    toy_dataset(store, images=400, classes=EXPRESSIONS)
    extract(store=store, backbone="test_efficientnet", size=32, weights="none")
    model = fit_ahm(store=store, lambdas=[1.0]).artifact
    other = toy_dataset(store, images=210, classes=("happy", "sad", "anger"))
    wide = evaluate_model(store=store, model=model.reference, resamples=100).artifact
    evaluation = evaluate_model(store=store, model=model.reference, data=other.reference, resamples=100).artifact
    assert len(store.directories(["features"])) == 2, "the same network on the other data set"
    metrics = read_json(evaluation.file("metrics.json"))["predictors"]
    assert {name: one["classes"] for name, one in metrics.items()} == {
        key: ["happy", "sad", "anger"] for key in metrics
    }
    table = read_table(evaluation.file("predictions.parquet"))
    sums = np.sum([np.array(table[f"score_{name}"]) for name in ("happy", "sad", "anger")], axis=0)
    np.testing.assert_allclose(sums, 1, atol=1e-12)
    assert any(
        "the probabilities of the others are renormalised" in one for one in evaluation.manifest.summary["cautions"]
    )
    assert read_json(wide.file("metrics.json"))["predictors"]["logistic"]["classes"] == list(EXPRESSIONS)
    nothing = toy_dataset(store, images=100, classes=("neutral", "happy"), seed=4)
    assert evaluate_model(store=store, model=model.reference, data=nothing.reference, resamples=100).artifact
    few = toy_dataset(store, images=100, classes=("happy", "glee"), seed=4)
    with pytest.raises(FerError, match="only one class is in common; two classes in common are needed"):
        evaluate_model(store=store, model=model.reference, data=few.reference, resamples=100)
    with pytest.raises(UsageError, match="--batching is for deep models"):
        evaluate_model(store=store, model=model.reference, batching="alone")


def test_a_model_whose_training_images_are_elsewhere_is_scored_and_says_what_cannot_be_told(
    store: Store, tmp_path: Path
) -> None:
    own = toy_dataset(store, images=210)
    settings = ["model.backbone=test_efficientnet", "model.weights=none", "model.drop_path=0.0", "data.size=32"]
    settings += ["train.batch=20", "train.epochs=1"]
    model = train(store=store, system="baseline", changes=settings, device="cpu").whole.artifact
    elsewhere = Store(tmp_path / "elsewhere")
    shutil.copytree(model.path, elsewhere.root / model.path.relative_to(store.root))
    other = toy_dataset(elsewhere, images=140, seed=1)

    def checks() -> tuple[str, dict[str, str]]:
        evaluation = evaluate_model(
            store=elsewhere, model=model.reference, data=other.reference, resamples=100, device="cpu", report=True
        ).artifact
        protocol = EvaluationProtocol.of(evaluation)
        assert protocol.trained_on == TrainedOn(dataset=f"toy@{own.version}", images="24x24 px, grey")
        assert f"fer train baseline toy@{own.version}" in evaluation.file("report.html").read_text()
        return evaluation.version, {one.check: one.verdict for one in protocol.checks}

    away, unknown = checks()
    assert (unknown[Check.TRAINING_IDS], unknown[Check.TRAINING_IMAGES]) == ("cannot be told", "cannot be told")
    assert unknown[Check.BATCH_INVARIANCE] == "pass"
    with pytest.raises(FerError, match=f"was made from dataset/toy@{own.version}, which is not in this store"):
        evaluate_model(store=elsewhere, model=model.reference, device="cpu")
    shutil.copytree(own.path, elsewhere.root / own.path.relative_to(store.root))
    here, known = checks()
    assert here != away, "what the checks saw is part of the version"
    assert known[Check.TRAINING_IDS] == "pass"
