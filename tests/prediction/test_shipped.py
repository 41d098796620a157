"""The model that comes with fer: it answers in an empty store, and nothing changes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fer_cli.artifacts.catalogue import SHIPPED
from fer_cli.artifacts.maintenance import verify_store
from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.train import train
from tests.kits.toy import toy_dataset
from tools.ship_model.card import card
from tools.ship_model.rounding import halved, round_model

NAME = "shipped-ferplus"
CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")


def test_it_answers_where_no_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(tmp_path / "face.png")
    line = [
        "predict",
        str(tmp_path / "face.png"),
        "--faces",
        "whole",
        "--device",
        "cpu",
        "--store",
        str(tmp_path / "a"),
    ]
    assert run([*line, "--format", "csv"]) == 0
    printed = capsys.readouterr()
    assert f"model/{NAME}@" in printed.err
    header, _row = printed.out.splitlines()
    assert [name for name in header.split(",") if name.startswith("p_")] == [f"p_{name}" for name in CLASSES]
    assert not (tmp_path / "a").exists()


def test_its_file_is_sound_and_small() -> None:
    (directory,) = Store(SHIPPED).directories(["model"], NAME)
    assert [verified.damage for verified in verify_store(Store(SHIPPED), [directory])] == [[]]
    assert sum(path.stat().st_size for path in directory.iterdir()) < 12e6


def test_what_it_was_computed_with_is_not_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", NAME, "--store", str(SHIPPED)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("computed with")]
    assert line.split(maxsplit=2)[2] == "not recorded"


def test_nothing_changes_or_removes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory,) = Store(SHIPPED).directories(["model"], NAME)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    for line in (["rename", NAME, "mine"], ["tag", NAME, "+paper"], ["note", NAME, "good"], ["rm", NAME, "--yes"]):
        assert run([*line, "--store", str(tmp_path / "a")]) == 1
        assert f"model/{NAME}@{directory.name} comes with fer" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_a_trained_model_becomes_one_with_a_card(tmp_path: Path) -> None:
    store, out = Store(tmp_path / "store"), Store(tmp_path / "shipped")
    toy_dataset(store, images=210)
    small = [
        *("model.backbone=test_efficientnet", "model.weights=none", "model.drop_path=0.0"),
        *("data.size=32", "train.batch=20", "train.epochs=1", "optim.lr=3e-3"),
    ]
    model = train(store=store, system="baseline", changes=small, device="cpu").whole.artifact
    rounded = round_model(store, model.reference, name="half", out=out, device="cpu")
    assert rounded.artifact.path.parents[2] == out.root
    assert rounded.changed <= 1
    assert 0 < rounded.largest < 0.01
    assert rounded.artifact.manifest.inputs["model"].content == model.manifest.content
    assert (
        rounded.artifact.file("model.safetensors").stat().st_size < 0.7 * model.file("model.safetensors").stat().st_size
    )
    evaluation = evaluate_model(store=store, model=model.reference, device="cpu").artifact
    lines = card(store, evaluation.reference).splitlines()
    accuracy = evaluation.manifest.summary["accuracy"]["network"]
    assert any(line.startswith(f"| all | 42 | {100 * accuracy:.1f} [") for line in lines)
    recalls = [line for line in lines if line.startswith("| happy |")]
    assert len(recalls) == 1


def test_what_half_precision_cannot_hold_is_refused() -> None:
    sound = {"conv": torch.ones(2, 2) / 3, "bias": torch.full((2,), 1e6)}
    rounded = halved(sound)
    assert (rounded["conv"].dtype, rounded["bias"].dtype) == (torch.float16, torch.float32)
    with pytest.raises(FerError, match="conv holds values that half precision cannot"):
        halved({"conv": torch.full((2, 2), 1e6)})
