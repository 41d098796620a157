"""``fer export-predictions`` and ``fer audit --pairs``: tables for other programs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.datasets.dataset import open_dataset
from fer_cli.stages.prepare import prepare
from tests.kits.audit import faces
from tests.kits.compare import answers, labels, scored
from tests.kits.toy import CLASSES, toy_dataset
from tests.kits.train import Fer


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_predictions_of_a_study_by_name(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [answers(210, 0.8, seed) for seed in (1, 2)]
    scored(store, "a", rows, seeds=(1, 2), chosen="seed 1")
    study = next(one for one in store.artifacts("study"))
    capsys.readouterr()
    assert run(["export-predictions", study.name, "--predictor", "seed 2", "--store", str(store.root)]) == 0
    printed = _rows(capsys.readouterr().out)
    assert [one["predicted"] for one in printed] == [CLASSES[k] for k in rows[1]]
    assert [one["label"] for one in printed] == [CLASSES[k] for k in labels()]
    assert {one["split"] for one in printed} == {"test"}
    out = tmp_path / "all.parquet"
    assert run(["export-predictions", study.name, "--all", "-o", str(out), "--store", str(store.root), "--json"]) == 0
    table = pq.read_table(out)
    assert json.loads(capsys.readouterr().out)["rows"] == len(table) == 3 * 210
    assert set(table["predictor"].to_pylist()) == {"seed 1", "seed 2", "ensemble"}


def test_probabilities_are_those_of_the_evaluation(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = toy_dataset(store, images=210)
    given = tmp_path / "given.csv"
    opened = open_dataset(data)
    ids = opened.ids[opened.rows("test")].tolist()
    header = ["id", *(f"p_{name}" for name in opened.classes)]
    p = [0.75, *[0.25 / (len(opened.classes) - 1)] * (len(opened.classes) - 1)]
    given.write_text("\n".join([",".join(header), *(",".join([one, *map(str, p)]) for one in ids)]) + "\n")
    assert run(["eval", "--predictions", str(given), "--data", data.reference, "--store", str(store.root)]) == 0
    capsys.readouterr()
    assert run(["export-predictions", "evaluation", "--store", str(store.root)]) == 0
    printed = _rows(capsys.readouterr().out)
    assert len(printed) == len(ids) > 0
    assert {float(one[header[1]]) for one in printed} == {0.75}
    assert {one["predicted"] for one in printed} == {opened.classes[0]}


def test_what_cannot_be_exported_is_refused(store: Store, tmp_path: Path, fer: Fer) -> None:
    scored(store, "a", answers(210, 0.8, 1))
    where = ["--store", store.root]
    assert "has no suffix of a table" in fer(
        "export-predictions", "evaluation", "-o", tmp_path / "a.xls", *where, code=2
    )
    assert "has no predictor 'seed 9'" in fer("export-predictions", "evaluation", "--predictor", "seed 9", *where)
    assert "contradict" in fer("export-predictions", "evaluation", "--predictor", "x", "--all", *where, code=2)
    assert not list(tmp_path.glob("a.*"))


def test_the_pairs_of_an_audit(store: Store, tmp_path: Path) -> None:
    loader = faces()
    last = len(loader.rows)
    loader.add(0)
    prepare(store=store, loader=loader)
    out = tmp_path / "pairs.csv"
    run(["audit", "dataset", "--pairs", str(out), "--store", str(store.root)])
    found = _rows(out.read_text())
    ids = [row.id for row in loader.rows]
    exact = [one for one in found if {one["id"], one["other_id"]} == {ids[0], ids[last]}]
    assert len(exact) == 1
    assert exact[0]["likeness"] == "1.0"
    assert exact[0]["mirrored"] == "False"
