"""``fer bench``: what is measured is every form once a round, and its figures are those of its passes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.core.errors import UsageError
from fer_cli.stages.bench import bench, median_interval
from fer_cli.stages.train import train
from tests.kits.toy import toy_dataset
from tests.kits.train import Fer


def test_the_interval_of_a_median_is_of_ranks() -> None:
    assert median_interval(range(5)) == (-math.inf, math.inf)
    assert median_interval(range(6)) == (0, 5)  # 1 - 2 / 64 = 0.97
    assert median_interval(range(10)) == (1, 8)  # 1 - 2 * 11 / 1024 = 0.98; by the next ranks 0.89


def test_each_form_and_batch_is_measured_and_written(store: Store, tmp_path: Path, fer: Fer) -> None:
    toy_dataset(store, images=105)
    small = ["model.backbone=test_efficientnet", "model.weights=none", "data.size=32", "train.epochs=1"]
    train(store=store, system="baseline", changes=[*small, "train.batch=20"], device="cpu", name="a")
    out, plot = tmp_path / "speeds.json", tmp_path / "speeds.png"
    words = (
        "--forms",
        "fp32,onnx",
        "--batches",
        "1,4",
        "--threads",
        "1",
        "--rounds",
        "1",
        "--out",
        out,
        "--plot",
        plot,
    )
    fer("bench", "a-seed0", *words, "--store", store.root, code=0)
    written = json.loads(out.read_text())
    keys = [(one["form"], one["threads"], one["batch"]) for one in written["speeds"]]
    assert keys == [("fp32", 1, 1), ("fp32", 1, 4), ("onnx", 1, 1), ("onnx", 1, 4)]
    assert all(one["low"] is None and one["passes"] >= 3 and one["p50"] <= one["p95"] for one in written["speeds"])
    assert not written["missing"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="--batches 65 is out of range"):
        bench(store=store, model="a-seed0", batches=[65])
