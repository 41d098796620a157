"""What ``fer train SYSTEM`` prints of a recipe: the recipe, which can be given back, and the list of its keys."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.systems import registry
from tests.kits.toy import toy_dataset
from tests.kits.train import words

LIGHT = """
import sys
from fer_cli.cli.app import run
for words in (["--help"], ["SYSTEM", "--help"], ["SYSTEM", "--help-recipe"], ["SYSTEM", "--print-config"]):
    assert run(["train", *words]) == 0
"""
NOTHING_HEAVY = """
heavy = {"torch", "timm", "sklearn", "scipy", "matplotlib"} & sys.modules.keys()
assert not heavy, heavy
"""


@pytest.mark.parametrize("system", registry.SYSTEMS.bundled)
def test_a_printed_recipe_can_be_saved_and_given_back(
    system: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", system, "--print-config", "--set", "optim.lr=3e-5", "--set", "train.early_stopping=4"]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "mine.toml").write_text(printed, encoding="utf-8")
    assert run(["train", system, "--recipe", str(tmp_path / "mine.toml"), "--print-config"]) == 0
    assert capsys.readouterr().out == printed
    assert run(["train", system, "--recipe", str(tmp_path / "mine.toml"), "--print-config", "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out)["recipe"]
    assert (recipe["optim"]["lr"], recipe["train"]["early_stopping"]) == (3e-5, 4)


def test_the_keys_of_a_recipe_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "psa-resnet", "--help-recipe"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "(required)" in lines["train.batch"]
    assert "integer, >= 2, <= 65536" in lines["train.batch"]
    assert lines["train.batch"].rstrip().endswith("[images]")
    assert "loss.name = focal: focusing" in lines["loss.gamma"]
    assert '"whole", "split"' in lines["model.branch_input"]
    assert run(["train", "psa-resnet", "--help-recipe", "--json"]) == 0
    keys = json.loads(capsys.readouterr().out)["keys"]
    assert [key["key"] for key in keys] == [name for name in lines if name != "key"]


@pytest.mark.parametrize("system", registry.SYSTEMS.bundled)
def test_help_and_recipes_are_printed_without_heavy_imports(system: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT.replace("SYSTEM", system) + NOTHING_HEAVY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_model_that_is_up_to_date_is_confirmed_without_heavy_imports(tmp_path: Path) -> None:
    store = Store(tmp_path)
    toy_dataset(store, images=140)
    command = [str(word) for word in words(store)]
    assert run(command) == 0
    code = f"import sys\nfrom fer_cli.cli.app import run\nassert run({command!r}) == 0\n{NOTHING_HEAVY}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "up to date" in done.stdout
