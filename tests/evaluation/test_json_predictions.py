"""Predictions in JSON as people's tools write them; what names the image twice must name the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_cli.artifacts.store import Store
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.evaluation import prediction_json
from fer_cli.evaluation.external_predictions import in_order_of, read_predictions
from fer_cli.stages.evaluate import evaluate_model
from tests.evaluation.test_answer_columns import half, scored, truth, written
from tests.kits.fer2013 import fault
from tests.kits.toy import toy_dataset

IDS = ["a.png", "b.png", "c/d.png"]
NAMES = ["happy", "sad", "fear"]
SCORES = [
    {"happy": 0.7, "sad": 0.2, "fear": 0.1},
    {"happy": 0.2, "sad": 0.5, "fear": 0.3},
    {"happy": 0.3, "sad": 0.3, "fear": 0.4},
]


@pytest.fixture
def data(store: Store) -> Dataset:
    return open_dataset(toy_dataset(store, images=210))


def saved(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), "utf-8")
    return path


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


LABELS: dict[str, object] = {
    "list of objects": rows(id=IDS, predicted=NAMES),
    "other names": rows(filename=IDS, y_pred=["Happiness", "SAD", "afraid"]),
    "object of id to class": dict(zip(IDS, NAMES, strict=True)),
    "object of id to object": {name: {"prediction": of, "time": 3} for name, of in zip(IDS, NAMES, strict=True)},
    "object of id to a face": {name: [{"dominant_emotion": of}] for name, of in zip(IDS, NAMES, strict=True)},
    "behind a key": {"model": "mine", "seed": 3, "predictions": rows(id=IDS, predicted=NAMES)},
    "columns of pandas": {
        "id": dict(zip("012", IDS, strict=True)),
        "predicted": dict(zip("012", NAMES, strict=True)),
    },
    "columns as lists": {"id": IDS, "predicted": NAMES},
    "an object a line": "\n".join(map(json.dumps, rows(id=IDS, predicted=NAMES))),
    "an object a line, CR LF and blank lines": "\r\n\r\n".join(map(json.dumps, rows(id=IDS, predicted=NAMES))) + "\r\n",
    "indented": json.dumps(rows(id=IDS, predicted=NAMES), indent=2),
    "with a mark": "\ufeff" + json.dumps(rows(id=IDS, predicted=NAMES)),
    "with what is not read": rows(id=IDS, predicted=NAMES, embedding=[[0.1, 0.2]] * 3, region=[{"x": 1, "w": 4}] * 3),
}


@pytest.mark.parametrize("form", LABELS)
def test_classes_are_read_in_every_form(form: str, tmp_path: Path) -> None:
    found = read_predictions(saved(tmp_path / "p.json", LABELS[form]))
    assert (list(found.ids), list(found.predicted), found.form) == (IDS, NAMES, "labels")
    assert found.probabilities is None


def ranking(scores: dict[str, float]) -> list[dict[str, object]]:
    """Return what a pipeline of transformers gives: the classes by their scores, the highest first."""
    return [{"label": name, "score": scores[name]} for name in sorted(scores, key=lambda name: -scores[name])]


SCORED: dict[str, object] = {
    "list of objects": [{"id": name, **of} for name, of in zip(IDS, SCORES, strict=True)],
    "object of id to scores": dict(zip(IDS, SCORES, strict=True)),
    "scores inside": [{"id": name, "probabilities": of} for name, of in zip(IDS, SCORES, strict=True)],
    "a ranking by id": {name: ranking(of) for name, of in zip(IDS, SCORES, strict=True)},
    "a ranking inside": [{"id": name, "predictions": ranking(of)} for name, of in zip(IDS, SCORES, strict=True)],
    "DeepFace's": [
        {
            "id": name,
            "emotion": {of: 100 * score for of, score in scores.items()},
            "dominant_emotion": label,
            "face_confidence": 0.9,
            "region": {"x": 0, "y": 1, "w": 40, "h": 40, "left_eye": None},
        }
        for name, scores, label in zip(IDS, SCORES, NAMES, strict=True)
    ],
}


@pytest.mark.parametrize("form", SCORED)
def test_scores_are_read_in_every_form(form: str, tmp_path: Path) -> None:
    found = read_predictions(saved(tmp_path / "p.json", SCORED[form]))
    assert (list(found.ids), list(found.predicted)) == (IDS, NAMES)
    assert found.classes == ("happy", "sad", "fear")
    assert found.form == ("percentages" if form == "DeepFace's" else "probabilities")
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, [list(of.values()) for of in SCORES])


def test_utf_16_and_no_answers(tmp_path: Path) -> None:
    value: dict[str, object] = {"a.png": "happy", "b.png": None, "c.png": [], "d.png": "no face"}
    (tmp_path / "p.json").write_bytes(json.dumps(value).encode("utf-16"))
    found = read_predictions(tmp_path / "p.json")
    assert found.predicted == ("happy", "", "", "")
    assert found.unanswered.tolist() == [False, True, True, True]


def test_a_file_of_json_is_scored_as_a_csv_is(store: Store, data: Dataset, tmp_path: Path) -> None:
    ids, labels = truth(data)
    _, metrics = scored(store, written(tmp_path / "p.csv", {"id": ids, "predicted": half(labels)}))
    for name, value in (
        ("p.json", dict(zip(ids, half(labels), strict=True))),
        ("p.jsonl", "\n".join(map(json.dumps, rows(id=ids, predicted=half(labels))))),
    ):
        _, other = scored(store, saved(tmp_path / name, value))
        assert other == metrics
    # The truth is not taken for the answer here either.
    only = saved(tmp_path / "q.json", rows(id=ids, label=labels, guess=half(labels)))
    fault(lambda: read_predictions(only), "which column is the answer cannot be told", "guess", "label")
    assert read_predictions(only, "guess").predicted == tuple(half(labels))


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


BAD: dict[str, tuple[object, str]] = {
    "an id twice": ('{"a.png": "happy", "a.png": "sad"}', "'a.png' comes twice"),
    "a name twice in a line": ('{"id": "a", "predicted": "happy"}\n{"id": "b", "id": "c"}', ":2: 'id' comes twice"),
    "damaged": ('[{"id": "a"', ":1: is no JSON"),
    "damaged on a later line": ('{"id": "a", "predicted": "happy"}\n{"id": "b", ', ":2: is no JSON"),
    "a line that is no object": ('{"id": "a", "predicted": "happy"}\n["b", "sad"]', ":2: the line is no object"),
    "too deep": (nested(100_000), "nests too deep"),
    "too deep inside": ('{"a": {"b": {"c": {"d": {"e": 1}}}}}', "nests too deep"),
    "a number of many digits": ('[{"id": "a", "happy": ' + "9" * 5000 + "}]", "is no JSON"),
    "a number beyond floats": ('[{"id": "a", "happy": ' + "9" * 400 + ', "sad": 0}]', "no finite number"),
    "nothing": ("[]", "holds no predictions"),
    "nothing in an object": ("{}", "holds no predictions"),
    "a list of names": ('["happy", "sad"]', "entry 1 is no object"),
    "scores without names": ('{"a": [0.1, 0.9]}', "entry 1 has 2 values without names"),
    "several faces": ([[{"emotion": "happy"}, {"emotion": "sad"}]], "entry 1 has 2 faces"),
    "several faces by id": ({"a": [{"emotion": "happy"}, {"emotion": "sad"}]}, "entry 1 has 2 faces"),
    "a class twice": ({"a": [*ranking({"happy": 0.9}), *ranking({"happy": 0.1})]}, "entry 1 has a class twice"),
    "the first classes alone": (
        {"a": ranking({"happy": 0.7, "sad": 0.2}), "b": ranking({"fear": 0.7, "sad": 0.2})},
        "the score of fear is 'None', no finite number",
    ),
    "numbers for classes": ({"a": 3, "b": 4}, "unknown expression '3'"),
    "a list for an answer": (rows(id=["a"], predicted=[["happy"]]), "unknown expression '[1 values]'"),
    "a row without an id": ('[{"id": "a", "predicted": "sad"}, {"predicted": "happy"}]', ":2: the row has no id"),
    "columns of unlike rows": ({"id": ["a", "b"], "predicted": ["sad"]}, "have not the same rows"),
    "another id inside": ({"a": {"id": "b", "predicted": "sad"}}, "'a' has the id 'b'"),
    "no text": (b"[\xff\xfe\xfa]", "is not text"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_predictions_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    value, words = BAD[kind]
    path = tmp_path / "p.json"
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        saved(path, value)
    fault(lambda: read_predictions(path), words, at=str(path))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_json, "MAX_JSON_BYTES", 1 << 20)
    path = saved(tmp_path / "p.json", " " * 10 + '["' + "a" * (1 << 20) + '"]')
    fault(lambda: read_predictions(path), "has more than 1 MiB of JSON", "csv or Parquet", at=str(path))


def as_csv(path: Path, columns: Mapping[str, list[str]]) -> Path:
    return written(path, dict(columns))


def as_parquet(path: Path, columns: Mapping[str, list[str]]) -> Path:
    pq.write_table(pa.table(dict(columns)), path)
    return path


def as_json(path: Path, columns: Mapping[str, list[str]]) -> Path:
    return saved(path, rows(**columns))


@pytest.mark.parametrize("write", [as_csv, as_parquet, as_json])
def test_a_file_name_that_is_of_another_image_is_refused(
    write: Callable[[Path, Mapping[str, list[str]]], Path], tmp_path: Path
) -> None:
    ids = ["test/1.png", "test/2.png", "test/3.png", "more/3.png"]
    names = {
        "file names": ["1.png", "2.png", "3.png", "3.png"],
        "paths": ["/data/test/1.png", "/data/test/2.png", "C:\\data\\test\\3.png", "x/more/3.png"],
        "stems": ["1", "2", "3", "3"],
        "blank or strange": ["", "IMG_7.jpg", "?", "2022-01-03"],
    }
    for column in names.values():
        path = write(tmp_path / "p", {"id": ids, "filename": column, "predicted": ["sad"] * 4})
        assert in_order_of(read_predictions(path), ids, "the test split", {}).tolist() == [0, 1, 2, 3]
    for column in (["1.png", "3.png", "2.png", "3.png"], ["1", "train/9", "2", "test/3"]):
        path = write(tmp_path / "p", {"id": ids, "filename": column, "predicted": ["sad"] * 4})
        line = 3 if write is as_csv else 2
        what = f"id 'test/2.png' and filename '{column[1]}' are different images"
        fault(
            partial(in_order_of, read_predictions(path), ids, "the test split", {"train/9.png": "train"}),
            what,
            "more such row",
            at=f"{path}:{line}: ",
        )


def test_the_check_is_made_in_the_evaluation(store: Store, data: Dataset, tmp_path: Path) -> None:
    ids, labels = truth(data)
    path = written(tmp_path / "p.csv", {"id": ids, "image": [*ids[1:], ids[0]], "predicted": labels})
    fault(
        lambda: evaluate_model(store=store, predictions=path, resamples=100), "are different images", at=f"{path}:2: "
    )
