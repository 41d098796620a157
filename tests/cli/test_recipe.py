"""``fer recipe`` and ``--recipe``: what is found by which name, faults at their lines, what travels with a model."""

from __future__ import annotations

import json
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core import assets
from fer_cli.systems import registry
from fer_cli.systems.recipe_sources import Shipped, find_source, shipped
from tests.kits.train import RECIPES, Fer, words

WRONG = """[about]
system = "baseline"
paper = "x"
command = "y"
papers_figure = "z"

[data]
size = 8
[model]
backbone = "resnet18"
weights =
[augmentation]
flip = 2.0
[loss]
name = "crossentropy"
label_smoothing = 3.0
foo = 1
[optim]
lrr = 1e-3
[schedule]
name = "steps"
[train]
epochs = 3
batch = 64
sampling = "balanced"
batch = 3
"""


def test_every_fault_is_named_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that hide others too: what is not TOML, a loss that is none, rules between keys."""
    path = tmp_path / "wrong.toml"
    path.write_text(WRONG, encoding="utf-8")
    assert run(["recipe", "check", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    begins = [
        "8: data.size: ",
        "11: is not TOML: ",
        "13: augmentation.flip: ",
        "15: loss.name: there is no 'crossentropy' here",
        "16: loss.label_smoothing: ",
        "17: loss.foo is not a key",
        "19: optim.lrr is not a key of this recipe; did you mean optim.lr?",
        "20: schedule.epochs is empty",
        "26: is not TOML: Cannot overwrite a value",
    ]
    places = sorted(lines, key=lambda line: int(line.removeprefix(f"{path}:").partition(":")[0]))
    assert [line.startswith(f"{path}:{text}") for line, text in zip(places, begins, strict=True)] == [True] * 9, lines


def test_what_cannot_be_told_apart_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "open.toml"
    path.write_text('[about]\nsystem = "baseline"\nx = [1,\n[data]\nsize = 8\n', encoding="utf-8")
    assert run(["recipe", "check", str(path), "--system", "baseline"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("what follows was not looked at")


@pytest.mark.parametrize("one", shipped(), ids=lambda one: one.name)
def test_recipes_that_come_with_fer_are_sound_and_found(
    one: object, tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    name = one.name  # type: ignore[attr-defined]
    assert run(["recipe", "check", name]) == 0
    assert run(["recipe", "cp", name, str(tmp_path / "copy.toml")]) == 0
    capsys.readouterr()
    assert run(["recipe", "diff", name, str(tmp_path / "copy.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == []
    assert run(["recipe", "cp", name, str(tmp_path / "copy.toml")]) == 1
    assert find_source(f"recipes/{name}.toml", store).system == name.partition("/")[0]


def test_recipes_are_found_in_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """A wheel holds them inside the package, and there is no checkout round it."""
    shutil.copytree(RECIPES, tmp_path / "site" / "fer_cli" / "_recipes")
    monkeypatch.setattr(assets, "_PACKAGE", tmp_path / "site" / "fer_cli")
    monkeypatch.chdir(tmp_path)
    assert {one.path.is_relative_to(tmp_path) for one in shipped()} == {True}
    assert find_source("recipes/baseline/gpu.toml", store).path.is_relative_to(tmp_path)


def test_differences_are_those_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", "diff", "baseline", "baseline/gpu", "--json"]) == 0
    found = {one["key"]: (one["first"], one["second"]) for one in json.loads(capsys.readouterr().out)["differences"]}
    assert found["optim.lr"] == ("0.001", "0.0005")
    assert not any(key.startswith("about.") for key in found)
    assert run(["recipe", "diff", "baseline", "slfer", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["differences"][0]
    assert (first["key"], first["first"], first["second"]) == ("system", '"baseline"', '"slfer"')


def test_a_recipe_of_another_system_is_refused_by_name(fer: Fer) -> None:
    said = fer("train", "baseline", "--recipe", "slfer/paper", "--print-config")
    assert "is a recipe of slfer, not of baseline" in said
    assert "did you mean baseline/gpu" in fer("train", "baseline", "--recipe", "baseline/gup", "--print-config")


def test_the_measured_figure_goes_with_the_settings_alone() -> None:
    def measured(*changes: str) -> str | None:
        figure: str | None = registry.read_recipe("baseline", None, changes).about.measured
        return figure

    assert measured()
    assert measured("optim.lr=1e-3") == measured(), "as the file says"
    assert measured("data.crop=0.0") == measured(), "the default"
    assert measured("optim.lr=1e-4") is None
    assert measured("optim.lr=1e-4", "about.measured=mine") == "mine"


@pytest.mark.parametrize(("system", "changes"), [("baseline", ()), ("conv-cut", ())])
def test_the_recipe_of_a_model_trains_the_same_model(
    system: str, changes: tuple[str, ...], own: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(word) for word in words(own, system, optim__lr="2e-3")]
    assert run(command) == 0
    (model,) = own.models()
    text = model.file("recipe.toml").read_text(encoding="utf-8")
    recipe = tomllib.loads(text)
    assert recipe["about"]["system"] == system
    assert "measured" not in recipe["about"]
    assert recipe["optim"]["lr"] == 2e-3
    assert run(["verify", "--store", str(own.root)]) == 0
    tail = ["--store", str(own.root), "--device", "cpu"]
    capsys.readouterr()
    assert run(["show", model.reference, "--store", str(own.root)]) == 0
    assert "lr = 0.002  # default: 0.001" in capsys.readouterr().out
    assert run(["train", system, "--recipe", model.reference, "--print-config", "--store", str(own.root)]) == 0
    (tmp_path / "mine.toml").write_text(capsys.readouterr().out, encoding="utf-8")
    for given in (model.reference, str(tmp_path / "mine.toml"), str(model.path / "recipe.toml")):
        assert run(["train", system, "--recipe", given, "--json", *tail]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["up_to_date"]
        assert answer["artifact"]["version"] == model.version


@pytest.mark.parametrize("recipe", shipped(), ids=lambda one: one.name)
def test_the_command_that_a_recipe_names_runs_that_recipe(recipe: Shipped, store: Store) -> None:
    command = shlex.split(tomllib.loads(recipe.path.read_text(encoding="utf-8"))["about"]["command"])
    assert command[:3] == ["fer", "train", recipe.system]
    named = command[command.index("--recipe") + 1] if "--recipe" in command else recipe.system
    assert find_source(named, store).path.resolve() == recipe.path
