"""Recipes that come with fer: each command runs its recipe, and each of a paper says where it differs from it."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.cli.app import run
from fer_cli.datasets.synth.loader import Synth
from fer_cli.stages.parse_masks import parse_masks
from fer_cli.stages.prepare import prepare
from fer_cli.systems.registry import read_recipe
from tests.kits.toy import CLASSES, Toy

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*/*.toml"))
TINY = ("model.weights=none", "data.limit=40", "train.batch=20", "train.epochs=1", "train.compile=false")
NETWORKS = {
    "baseline": ("model.backbone=test_efficientnet", "data.size=32", "model.drop_path=0.0"),
    "conv-cut": ("model.backbone=test_convnext", "data.size=64", "model.cut=stage2", "model.detail=1"),
    "psa-resnet": ("model.backbone=test_resnet", "data.size=32", "model.attention=none"),
    "slfer": ("model.backbone=test_resnet", "data.size=32", "model.attention=none"),
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Small data sets under the names that commands have, with masks where slfer's want them."""
    store = Store(tmp_path_factory.mktemp("faces"))
    for seed, name in enumerate(("rafdb", "ferplus")):
        loader = Synth(images=120, subjects=15, size=32, imbalance=1.5, grey=True, seed=seed)
        prepare(store=store, loader=loader, name=name)
        parse_masks(store=store, dataset=name, parser="truth")
    for seed, name in enumerate(("fer2013", "ckplus", "fer2013-like-ferplus")):
        prepare(store=store, loader=Toy(images=140, grey=True, seed=seed, classes=CLASSES), name=name)
    return store


@pytest.mark.parametrize("path", RECIPES, ids=lambda one: f"{one.parent.name}/{one.stem}")
def test_a_command_runs_its_recipe(
    path: Path, faces: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    about = tomllib.loads(path.read_text(encoding="utf-8"))["about"]
    fer, *words = shlex.split(about["command"])
    assert (fer, words[0], words[1]) == ("fer", "train", about["system"])
    changes = (*NETWORKS[words[1]], *TINY)
    options = [word for change in changes for word in ("--set", change)]
    code = run([*words, *options, "--store", str(faces.root), "--device", "cpu", "--threads", "1", "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    made = faces.open(Path(json.loads(printed.out)["artifact"]["path"]))
    wanted = read_recipe(words[1], path, changes).record()
    assert ModelConfig.of(made).recipe == wanted


@pytest.mark.parametrize(
    "path", [path for path in RECIPES if path.parent.name not in {"baseline", "shipped"}], ids=lambda one: one.stem
)
def test_a_recipe_of_a_paper_opens_with_what_differs_from_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").partition("[about]")[0]
    assert all(line.startswith("#") or not line for line in head.splitlines())
    assert "differs from the" in " ".join(head.replace("#", " ").split())
