"""A system of another package, found by its entry point, is trained, scored, drawn and shown as our own are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError, UsageError
from fer_cli.systems import registry
from fer_cli.systems.naming import RecipeVariant, recipe_variant
from fer_cli.weights import files
from fer_cli.weights.catalogue import BACKBONES
from fer_cli.weights.files import WeightsFile, find_weights
from tests.kits.packages import install
from tests.kits.toy import toy_dataset

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tests/kits/dropnet"
LITE = next(name for name in BACKBONES if name.startswith("tf_efficientnet_lite0"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as installing the package would leave it."""
    folder = tmp_path_factory.mktemp("site")
    for file in (PACKAGE / "dropnet.py", PACKAGE / "dropnet.toml"):
        shutil.copy(file, folder)
    info = folder / "dropnet-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: dropnet\nVersion: 1.0\nSummary: A small residual network\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(
        "[fer_cli.systems]\ndropnet = dropnet:DropNet\nbroken = dropnet_that_is_not_there:Broken\n"
        "baseline = dropnet:DropNet\nmisnamed = dropnet:DropNet\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    toy_dataset(store, images=140)
    return store


Fer = Callable[..., str]


@pytest.fixture
def fer(site: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fer:
    """Run a command with the package installed; return stdout, or stderr of one that fails."""
    install(monkeypatch, site, registry.SYSTEMS)
    monkeypatch.setenv("FER_STORE", str(store.root))

    def call(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        ended = run(list(words))
        out, said = capsys.readouterr()
        assert ended == code, said
        return out if code == 0 else said

    return call


def test_it_is_listed_without_being_imported_and_says_what_its_recipe_holds(fer: Fer) -> None:
    listed = fer("train", "--help")
    assert "dropnet" in listed
    assert "A small residual network" in listed
    assert "broken" in listed, "what cannot be imported does not keep the others from being listed"
    keys = json.loads(fer("train", "dropnet", "--help-recipe", "--json"))["keys"]
    assert {"model.blocks", "loss.gamma", "optim.lr"} <= {key["key"] for key in keys}
    assert "blocks = 3" in fer("train", "dropnet", "--print-config", "--set", "model.blocks=3")


def test_it_is_trained_scored_drawn_and_shown(fer: Fer, site: Path) -> None:
    trained = json.loads(fer("train", "dropnet", "--device", "cpu", "--json"))
    assert trained["artifact"]["name"] == "toy-dropnet-1-blocks-seed0"
    assert trained["summary"]["details"]["blocks"] == 1
    model = trained["artifact"]["path"]
    again = json.loads(fer("train", "dropnet", "--device", "cpu", "--json"))
    assert again["up_to_date"]
    evaluation = json.loads(fer("eval", model, "--report", "--json"))
    page = (Path(evaluation["artifact"]["path"]) / "report.html").read_text(encoding="utf-8")
    assert "dropnet, 24 px" in page
    assert "fer train dropnet" in page
    assert "model.blocks=1" in page, "a section of its own stands in the command that trains it again"
    assert "Grad-CAM" in page
    fer("plot", "gradcam", model, "--out", str(site / "gradcam.svg"))
    assert (site / "gradcam.svg").stat().st_size > 10_000
    assert "dropnet" in fer("show", model)


def test_what_is_wrong_with_a_system_is_said(fer: Fer) -> None:
    broken = fer("train", "broken", code=1)
    assert "system 'broken' of the package dropnet cannot be imported: No module named" in broken
    assert len(broken.splitlines()) == 1
    assert "is not a System of this name" in fer("train", "misnamed", code=1)
    assert "any timm backbone" in fer("train", "baseline", "--help").lower(), "ours cannot be replaced"
    assert "--masks is not for dropnet" in fer("train", "dropnet", "--masks", "x", code=2)


def test_a_process_of_its_own_finds_it_and_without_it_says_what_is_missing(fer: Fer, site: Path, store: Store) -> None:
    model = json.loads(fer("train", "dropnet", "--device", "cpu", "--json"))["artifact"]["path"]

    def ended(path: str, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": path, "FER_STORE": str(store.root), "NO_COLOR": "1"}
        command = [sys.executable, "-m", "fer_cli", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=site.parent)

    assert "A small residual network" in ended(f"{ROOT}{os.pathsep}{site}", "train", "--help").stdout
    alone = ended(str(ROOT), "plot", "gradcam", model)
    assert alone.returncode == 1
    assert "the system 'dropnet', which is not installed; install the package" in alone.stderr


def test_systems_are_found_by_name() -> None:
    assert [registry.load(name).name for name in registry.SYSTEMS.bundled] == list(registry.SYSTEMS.bundled)
    for name in registry.SYSTEMS.bundled:
        system = registry.load(name)
        assert system.default_recipe.is_file()
        assert registry.help_line(name) == system.help
        assert system.paper
    with pytest.raises(UsageError, match="no system 'conv-cot'; did you mean conv-cut"):
        registry.load("conv-cot")


def test_weights_that_are_not_there_stop_a_training_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for system in ("baseline", "psa-resnet", "slfer"):
        backbone = registry.read_recipe(system).backbone
        assert backbone is not None
        assert backbone.weights == "auto"
    with pytest.raises(FerError) as refused:
        find_weights("resnet34.a1_in1k", "auto")
    assert "--set model.weights=none of a recipe" in refused.value.hint
    assert "('fer weights ls')" in refused.value.hint
    here = dict.fromkeys(BACKBONES) | {LITE: WeightsFile(Path("x"), "a package", "ImageNet-1k")}
    monkeypatch.setattr(files, "find_here", here.get)
    with pytest.raises(FerError) as refused:
        find_weights("resnet34.a1_in1k", "auto")
    assert f"the weights of {LITE} are here" in refused.value.hint


def test_a_recipe_has_words_where_none_came_with_its_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = registry.load("baseline")
    recipe = registry.read_recipe("baseline", None, ["optim.lr=0.01"])
    assert "lr0.01" in recipe_variant(system, recipe).words
    monkeypatch.setattr(type(system), "default_recipe", tmp_path / "none.toml")
    assert recipe_variant(system, recipe) == RecipeVariant("", recipe.variant(), {})
