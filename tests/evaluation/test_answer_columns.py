"""Which column of somebody's file is the answer and which the truth; rows without an answer; scores as people write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.payload import read_json, read_table
from fer_cli.artifacts.protocol import EvaluationProtocol
from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.evaluation.external_predictions import read_predictions
from fer_cli.stages.evaluate import evaluate_model
from tests.kits.toy import CLASSES, toy_dataset
from tests.kits.train import Fer


@pytest.fixture
def data(store: Store) -> Dataset:
    return open_dataset(toy_dataset(store, images=210))


def truth(data: Dataset) -> tuple[list[str], list[str]]:
    rows = data.rows("test")
    return [str(name) for name in data.ids[rows]], [data.classes[label] for label in data.labels[rows]]


def half(labels: Sequence[str]) -> list[str]:
    """Answer every second image rightly, the others with the next class."""
    return [name if at % 2 else CLASSES[(CLASSES.index(name) + 1) % 7] for at, name in enumerate(labels)]


def written(path: Path, columns: dict[str, Sequence[object]], separator: str = ",") -> Path:
    rows = [separator.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([separator.join(columns), *rows]) + "\n", "utf-8")
    return path


def scored(store: Store, path: Path, **options: Any) -> tuple[Artifact, dict[str, Any]]:
    artifact = evaluate_model(store=store, predictions=path, resamples=100, **options).artifact
    return artifact, read_json(artifact.file("metrics.json"))


NAMED = ["y_pred", "yhat", "Predictions", "predicted_class", "dominant_emotion", "pred emotion", "label_pred", "top1"]


@pytest.mark.parametrize("column", NAMED)
def test_the_answer_is_found_by_its_name(store: Store, data: Dataset, tmp_path: Path, column: str) -> None:
    ids, labels = truth(data)
    path = written(tmp_path / "p.csv", {"id": ids, "label": labels, column: half(labels)})
    artifact, metrics = scored(store, path)
    assert metrics["predictors"]["predictions"]["accuracy"]["value"] == 0.5
    file = EvaluationProtocol.of(artifact).predictions
    assert file is not None
    assert (file.answer, file.answer_by_default) == (column.lower(), False)
    assert "labels in the file" not in " ".join(metrics["unsound"])


NUMBERS = [str(number / 20) for number in range(1, 19)]
UNCLEAR: dict[str, dict[str, list[str]]] = {
    "another name": {"label": ["sad", "happy", "sad"], "my_net": ["happy", "happy", "sad"]},
    "another language": {"label": ["sad", "happy", "sad"], "netz": ["freude", "freude", "trauer"]},
    "numbers": {"label": ["sad", "happy", "sad"], "out": ["1", "0", "1"]},
    "scores of unknown names": {"label": ["sad", "happy", "sad"], "happy_votes": ["0.9", "0.2", "0.1"]},
    "two that may be either": {"label": ["sad", "happy", "sad"], "emotion": ["happy", "happy", "sad"]},
    "classes under the name of something else": {"label": ["sad", "happy", "sad"], "y": ["happy", "happy", "sad"]},
    "classes under the name of a score": {"label": ["sad", "happy", "sad"], "score": ["happy", "happy", "sad"]},
    "codes under the name of a count": {"label": ["sad", "happy", "sad"], "index": ["1", "0", "1"]},
    "codes with a gap": {"label": ["sad", "happy", "sad"], "out": ["1", "nan", "0"]},
    "scores of numbered classes": {"label": ["sad", "happy"] * 9, "c0": NUMBERS, "c1": NUMBERS[::-1]},
    "scores in one cell": {"label": ["sad", "happy", "sad"], "probs": ["[0.1 0.9]", "[0.2 0.8]", "[0.3 0.7]"]},
    "scores in one cell without brackets": {"emotion": ["sad", "happy", "sad"], "prob": ["1 2 3", "2 3 1", "3 1 2"]},
    "the truth alone": {"y_true": ["sad", "happy", "sad"], "mine": ["happy", "sad", "sad"]},
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_the_truth_is_never_the_answer_where_another_column_may_be(tmp_path: Path, case: str) -> None:
    ids = [f"i{at}" for at in range(len(next(iter(UNCLEAR[case].values()))))]
    columns: dict[str, Sequence[object]] = {"id": ids, **UNCLEAR[case]}
    path = written(tmp_path / "p.csv", columns)
    with pytest.raises(FerError, match="--answer") as error:
        read_predictions(path)
    assert all(title in str(error.value) for title in columns), "the columns are listed"
    pq.write_table(pa.table(dict(columns)), tmp_path / "p.parquet")
    with pytest.raises(FerError, match="--answer"):
        read_predictions(tmp_path / "p.parquet")


def test_lists_and_records_in_a_file_may_be_scores(tmp_path: Path) -> None:
    ids, label = ["a", "b", "c"], ["sad", "happy", "sad"]
    lists = [[0.1, 0.9]] * 3
    pq.write_table(pa.table({"id": ids, "label": label, "probs": lists}), tmp_path / "p.parquet")
    records = [{"happy": 0.1, "sad": 0.9}] * 3
    pq.write_table(pa.table({"id": ids, "label": label, "emotions": records}), tmp_path / "q.parquet")
    rows = [{"id": name, "label": text, "scores": [0.1, 0.9]} for name, text in zip(ids, label, strict=True)]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    for name in ("p.parquet", "q.parquet", "p.json"):
        with pytest.raises(FerError, match="which column is the answer cannot be told"):
            read_predictions(tmp_path / name)
        assert read_predictions(tmp_path / name, "label").predicted == ("sad", "happy", "sad")
    boxes = [{**row, "box": [0, 0, 48, 48]} for row in rows]
    for row in boxes:
        del row["scores"]
    (tmp_path / "p.json").write_text(json.dumps(boxes))
    assert read_predictions(tmp_path / "p.json").answer == "label"


def test_an_answer_by_default_that_is_every_label_is_told(store: Store, data: Dataset, tmp_path: Path) -> None:
    ids, labels = truth(data)
    for answers, verdict in ((labels, "caution"), (half(labels), "not measured")):
        artifact, _ = scored(store, written(tmp_path / "p.csv", {"id": ids, "label": answers}))
        [check] = [one for one in EvaluationProtocol.of(artifact).checks if one.check == "labels in the file"]
        assert check.verdict == verdict


def test_classes_beside_scores_are_their_answer_the_truth_or_told(store: Store, data: Dataset, tmp_path: Path) -> None:
    ids, labels = truth(data)
    scores = {f"score_{name}": [float(name == answer) for answer in half(labels)] for name in CLASSES}

    def told(column: str, cells: list[str]) -> tuple[list[str], list[str], float]:
        _, metrics = scored(store, written(tmp_path / "p.csv", {"id": ids, column: cells, **scores}))
        others = [text for text in metrics["cautions"] if "other answers" in text]
        return metrics["unsound"], others, metrics["predictors"]["predictions"]["accuracy"]["value"]

    assert told("emotion", half(labels)) == ([], [], 0.5), "as the scores: no labels that contradict"
    assert told("emotion", labels) == ([], [], 0.5)
    assert told("my net", half(labels)) == told("wahrheit", labels) == ([], [], 0.5)
    unsound, others, _ = told("emotion", labels[::-1])
    assert len(unsound) == 1
    _, others, _ = told("my net", labels[::-1])
    assert others == [
        "Column 'my net' holds other answers than the scores, which alone are scored; if they are the answers, give "
        "--answer 'my net'"
    ]


def test_another_name_of_the_image_is_held_against_its_id(store: Store, data: Dataset, tmp_path: Path) -> None:
    ids, labels = truth(data)
    for column in ("image path", "Picture", "photo", "name"):
        columns: dict[str, Sequence[object]] = {"id": ids, "predicted": half(labels)}
        _, metrics = scored(store, written(tmp_path / "p.csv", {**columns, column: ids}))
        assert metrics["predictors"]["predictions"]["accuracy"]["value"] == 0.5
        with pytest.raises(FerError, match="are different images"):
            scored(store, written(tmp_path / "p.csv", {**columns, column: ids[::-1]}))
    _, metrics = scored(store, written(tmp_path / "p.csv", {"image path": ids, "predicted": half(labels)}))
    assert metrics["predictors"]["predictions"]["accuracy"]["value"] == 0.5


def test_commas_between_thousands_are_no_decimals(tmp_path: Path) -> None:
    def read(*cells: str) -> Any:
        rows = [f'"{cells[at]}";"{cells[at + 1]}"' for at in range(0, len(cells), 2)]
        text = "\n".join(["id;logit_happy;logit_sad", *(f"i{at};{row}" for at, row in enumerate(rows))])
        (tmp_path / "p.csv").write_text(text)
        return read_predictions(tmp_path / "p.csv").predicted

    with pytest.raises(FerError, match=r"p\.csv:2: the score '-1,234' may be -1\.234 or -1234"):
        read("-1,234", "-7", "-5", "-6")
    assert read("-1,234", "-7,5", "-5", "-6") == ("happy", "happy"), "-7,5 has decimals, and so have all"
    assert read("0,123", "0,877") == ("sad",)


def test_label_is_the_answer_beside_what_can_be_none(store: Store, data: Dataset, tmp_path: Path) -> None:
    ids, labels = truth(data)
    n = len(ids)
    beside: dict[str, Sequence[object]] = {
        "": range(n),
        "confidence": np.linspace(0.1, 1, n).tolist(),
        "fold": [at % 5 for at in range(n)],
        "remarks by hand": [f"remark {at}" for at in range(n)],
        "loss_of_it": np.linspace(0.1, 3, n).tolist(),
    }
    path = written(tmp_path / "p.csv", {"id": ids, "label": half(labels), **beside})
    _, metrics = scored(store, path)
    assert metrics["predictors"]["predictions"]["accuracy"]["value"] == 0.5
    assert any("Column 'label' is taken for the answer" in text for text in metrics["cautions"])


def test_the_answer_can_be_told(store: Store, data: Dataset, tmp_path: Path, fer: Fer) -> None:
    ids, labels = truth(data)
    scores = {f"score_{name}": [float(name == label) for label in labels] for name in CLASSES}
    path = written(tmp_path / "p.csv", {"id": ids, "label": labels, "My Net": half(labels), **scores})
    _, by_scores = scored(store, path)
    assert by_scores["predictors"]["predictions"]["accuracy"]["value"] == 1
    artifact, told = scored(store, path, answer="my net", report=True)
    assert told["predictors"]["predictions"]["accuracy"]["value"] == 0.5
    assert "column my net, as labels" in artifact.file("report.html").read_text()
    where = ("--predictions", path, "--store", store.root)
    assert "column 'mine' is not in the table; its columns are id, label, my net" in fer(
        "eval", *where, "--answer", "mine"
    )
    assert "--answer is for --predictions" in fer("eval", "--answer", "mine", "--store", store.root, code=2)
    fer("eval", *where, "--answer", "My Net", code=0)


def test_labels_in_the_file_are_held_against_the_datasets(
    store: Store, data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, labels = truth(data)
    moved = [*labels[3:], *labels[:3]]
    unlike = sum(a != b for a, b in zip(labels, moved, strict=True))

    def finding(column: str, cells: Sequence[object]) -> tuple[str, int | None, list[str]]:
        path = written(tmp_path / "p.csv", {"id": ids, "predicted": half(labels), column: cells})
        artifact, metrics = scored(store, path, report=True)
        [check] = [one for one in EvaluationProtocol.of(artifact).checks if one.check == "labels in the file"]
        page = artifact.file("report.html").read_text()
        assert ("contradicts the labels" in page) == (check.verdict == "fail")
        return check.verdict, check.count, metrics["unsound"]

    assert finding("label", labels) == ("pass", None, [])
    verdict, count, [text] = finding("ground_truth", moved)
    assert (verdict, count) == ("fail", unlike)
    assert f"contradicts the labels of toy for {unlike} of 42 images" in text
    verdict, count, _ = finding("y_true", [*labels[1::-1], *labels[2:]])
    assert (verdict, count) == ("fail", 2), "one exchange is enough"
    assert finding("y", moved)[0] == "fail"
    codes = [6 - CLASSES.index(name) for name in labels]
    assert finding("label_idx", codes)[:2] == ("pass", None)
    assert finding("class id", [codes[1], codes[0], *codes[2:]])[:2] == ("fail", 2)
    assert finding("label", codes)[:2] == ("pass", None), "whatever the numbers stand for"
    assert finding("label", [codes[1], codes[0], *codes[2:]])[:2] == ("fail", 2)
    assert finding("label", [f"class {code}" for code in codes])[0] == "caution"
    assert finding("note", ["x"] * 42)[0] == "not measured"
    path = written(tmp_path / "p.csv", {"id": ids, "predicted": labels, "label": moved})
    words = ["eval", "--predictions", str(path), "--store", str(store.root)]
    assert run(words) == 0
    assert "UNSOUND" in capsys.readouterr().out
    assert run([*words, "--strict"]) == 3


def test_scores_are_found_however_their_columns_are_called(tmp_path: Path) -> None:
    table = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    names = ("anger", "joy", "sad")
    for form in ("{}", "score_{}", "{}_prob", "emotion.{}", "probability of {}".replace(" of", ""), "P_{}"):
        columns = {form.format(name): table[:, at].tolist() for at, name in enumerate(names)}
        file = read_predictions(written(tmp_path / "p.csv", {"id": ["a", "b"], "label": ["sad", "sad"], **columns}))
        assert file.classes == ("happy", "sad", "anger"), form
        np.testing.assert_array_equal(file.probabilities, table[:, [1, 2, 0]])


def test_a_class_whose_score_is_not_read_is_refused(tmp_path: Path) -> None:
    def refused(columns: dict[str, Sequence[object]], message: str) -> None:
        with pytest.raises(FerError, match=message):
            read_predictions(written(tmp_path / "p.csv", {"id": ["a", "b"], **columns}))

    logits: dict[str, Sequence[object]] = {"sad": [-1.5, 2], "fear": [0.5, -2]}
    refused({**logits, "hapy": [0.1, 3]}, "'hapy' names no expression.*did you mean happy")
    refused({**logits, "freude": [0.1, 3.5]}, "is freude the score of a class")
    refused({"sad": [0.2, 0.3], "fear": [0.2, 0.3], "freude": [0.6, 0.4]}, "is freude the score of a class")
    columns: dict[str, Sequence[object]] = {"id": ["a", "b"], **logits, "loss": [0.1, 3.5], "label": ["sad", "fear"]}
    assert read_predictions(written(tmp_path / "p.csv", columns)).form == "logits"


def test_an_image_without_an_answer_is_wrong_and_counted(store: Store, data: Dataset, tmp_path: Path) -> None:
    ids, labels = truth(data)
    nothing = {0: "", 1: "none", 2: "NaN", 3: "No face", 4: "no_face_detected", 5: "n/a"}
    answers = [nothing.get(at, label) for at, label in enumerate(labels)]
    artifact, metrics = scored(store, written(tmp_path / "p.csv", {"id": ids, "predicted": answers}), report=True)
    whole, answered = metrics["predictors"]["predictions"], metrics["subsets"]["with an answer"]
    assert (whole["n"], whole["accuracy"]["value"]) == (42, pytest.approx(36 / 42))
    assert (answered["n"], answered["accuracy"]["value"]) == (36, 1)
    assert [sum(row) for row in whole["confusion"]] == [6] * 7 + [0], "the classes keep all of their images"
    assert sum(row[-1] for row in whole["confusion"]) == 6
    file = EvaluationProtocol.of(artifact).predictions
    assert file is not None
    assert file.unanswered == 6
    assert "Without an answer: 6 images, which count as wrong" in metrics["cautions"]
    assert "6 images, which count as wrong" in artifact.file("report.html").read_text()
    again, same = scored(store, artifact.file("predictions.parquet"))
    assert again.version != artifact.version
    assert same["predictors"] == metrics["predictors"], "our own file of it says the same"
    with pytest.raises(FerError, match="no row has an answer"):
        scored(store, written(tmp_path / "q.csv", {"id": ids, "predicted": ["none"] * 42}))


@pytest.mark.parametrize("zeros", [False, True])
def test_scores_may_be_missing_for_whole_images(store: Store, data: Dataset, tmp_path: Path, zeros: bool) -> None:
    ids, labels = truth(data)
    table = np.full((42, 7), 0.05)
    table[range(42), [CLASSES.index(name) for name in half(labels)]] = 0.7
    cells = table.astype(object)
    cells[[1, 3]] = 0 if zeros else ""
    columns: dict[str, Sequence[object]] = {name: cells[:, at].tolist() for at, name in enumerate(CLASSES)}
    artifact, metrics = scored(store, written(tmp_path / "p.csv", {"id": ids, **columns}))
    whole, answered = metrics["predictors"]["predictions"], metrics["subsets"]["with an answer"]
    assert whole["accuracy"]["value"] == pytest.approx(19 / 42)
    assert whole["nll"]["value"] is None, "no probability, no log loss"
    rest = np.delete(np.arange(42), [1, 3])
    right = np.array(half(labels)) == np.array(labels)
    assert answered["nll"]["value"] == pytest.approx(-np.log(np.where(right[rest], 0.7, 0.05)).mean())
    scores = np.array(read_table(artifact.file("predictions.parquet"))["score_sad"])
    assert np.flatnonzero(np.isnan(scores)).tolist() == [1, 3]
    columns["sad"] = [*cells[:5, 2].tolist(), "", *cells[6:, 2].tolist()]
    with pytest.raises(FerError, match=r"p\.csv:7: the score of sad is '', no finite number"):
        scored(store, written(tmp_path / "p.csv", {"id": ids, **columns}))


def test_rounded_scores_and_percentages_are_probabilities(tmp_path: Path) -> None:
    exact = np.random.default_rng(3).dirichlet(np.full(7, 0.6), 300)
    ids: Sequence[object] = [f"i{at}" for at in range(300)]

    def read(table: Any, separator: str = ",") -> Any:
        columns = {name: table[:, at] for at, name in enumerate(CLASSES)}
        return read_predictions(written(tmp_path / "p.csv", {"id": ids, **columns}, separator))

    off = np.abs(exact.round(2).sum(axis=1) - 1).max()
    assert off > 0.01, "two decimals sum to 1 no more closely"
    for given, form in (
        (exact.round(2), "probabilities"),
        (100 * exact.round(2), "percentages"),
        ((100 * exact).round(1), "percentages"),
        (100 * exact, "percentages"),
        (np.vectorize(lambda value: float(f"{value:.2g}"))(exact), "probabilities"),
    ):
        file = read(given)
        assert file.form == form
        np.testing.assert_allclose(file.probabilities.sum(axis=1), 1, atol=0.01)
        np.testing.assert_allclose(file.probabilities, exact, atol=0.03)
    with_sign = np.vectorize(lambda value: f"{100 * value:.1f}%".replace(".", ","))(exact)
    np.testing.assert_allclose(read(with_sign, ";").probabilities, exact, atol=0.01)
    wrong = exact.round(2)
    wrong[7, 0] += 0.1
    with pytest.raises(FerError, match=r"p\.csv:9: scores that sum to 1\.\d+, .* are no probabilities"):
        read(wrong)


def test_equal_largest_scores_are_told_or_decided_by_the_answer(tmp_path: Path) -> None:
    columns: dict[str, Sequence[object]] = {"id": ["a", "b"], "happy": [0.49, 0.9], "sad": [0.49, 0.1]}
    file = read_predictions(written(tmp_path / "p.csv", {**columns, "fear": [0.02, 0.0]}))
    assert (file.predicted, file.ties) == (("happy", "happy"), 1)
    named = read_predictions(written(tmp_path / "p.csv", {**columns, "fear": [0.02, 0.0], "predicted": ["sad", "joy"]}))
    assert (named.predicted, named.ties) == (("sad", "happy"), 0)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", [",", ", ", ";", "\t"])
def test_tables_are_read_as_programs_write_them(tmp_path: Path, encoding: str, separator: str) -> None:
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    rows = [
        '"id"' + separator + "predicted",
        '"ä, b.png"' + separator + "Happiness",
        "c.png" + separator + '"sad" ',
        "",
    ]
    path = tmp_path / "p.csv"
    path.write_bytes(mark + "\r\n".join([*rows, ""]).encode(encoding))
    file = read_predictions(path)
    assert (file.ids, file.predicted) == (("ä, b.png", "c.png"), ("happy", "sad"))


def test_the_command_gives_all_of_it_as_json(
    store: Store, data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, labels = truth(data)
    path = written(tmp_path / "p.csv", {"id": ids, "label": labels[::-1], "y_pred": ["", *labels[1:]]})
    assert run(["eval", "--predictions", str(path), "--store", str(store.root), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["protocol"]["predictions"]["unanswered"] == 1
    assert [one["verdict"] for one in shown["protocol"]["checks"]] == ["pass", "cannot be told", "fail"]
    assert shown["metrics"]["unsound"]
