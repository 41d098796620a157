"""CONTRIBUTING's four recipes work as they stand: in a copy of the tree, from the files it names to a report."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from PIL import Image

from tests.docs.markdown import ROOT, blocks

PAGE: Final = ROOT / "CONTRIBUTING.md"
SMALL: Final = ("--set", "model.weights=none", "--set", "train.epochs=1", "--set", "data.size=32", "--device", "cpu")


def files(language: str) -> dict[str, str]:
    """Return path -> text of the blocks that begin with a comment that names a file of the repository."""
    named = [re.match(r"# (\S+/\S+)\n", text) for text in blocks(PAGE, language)]
    return {match[1]: match.string[match.end() :] for match in named if match}


def apply(diff: str, tree: Path) -> None:
    """Apply a diff of one hunk, whose lines before the change stand once in the file."""
    path, *lines = diff.splitlines()
    target = tree / path.removeprefix("+++ b/")
    text = target.read_text(encoding="utf-8")
    before, after = ("".join(f"{line[1:]}\n" for line in lines if line[:1] in {" ", side}) for side in "-+")
    assert text.count(before) == 1, f"{before!r} does not stand once in {path}"
    target.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("copy")
    for folder in ("fer_cli", "recipes", "assets"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in {**files("python"), **files("toml")}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text, encoding="utf-8")
    for diff in blocks(PAGE, "diff"):
        apply(diff, tree)
    generator = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 10)):
        (tree / "sketches" / part).mkdir(parents=True)
        for label in range(3):
            for number in range(count):
                pixels = np.clip(generator.normal(60 + 60 * label, 30, (32, 32)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tree / "sketches" / part / f"{label}_{number:03}.png")
    return tree


def fer(tree: Path, *commands: list[str]) -> list[dict[str, object]]:
    """Run commands in one process on the copy, and return what each prints with ``--json``."""
    code = (
        "import sys, json\n"
        "from fer_cli.cli.app import run\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    code = run([*words, '--json'])\n"
        "    assert code == 0, (code, words)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "FER_STORE": str(tree / "store")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_four_recipes_run_to_a_report_and_a_picture(tree: Path) -> None:
    results = fer(
        tree,
        ["prepare", "sketches", "--source", "sketches"],
        ["train", "last-stage", "sketches", *SMALL],
        ["eval", "--report", "--resamples", "100"],
        ["train", "baseline", "sketches", *SMALL, "--set", "model.backbone=resnet18", "--set", "model.drop_path=0",
         "--set", "loss.name=confidence-penalty", "--set", "loss.beta=0.2"],
        ["eval", "--report", "--resamples", "100"],
        ["plot", "confidence", "--out", "confidence.png"],
    )  # fmt: skip
    assert [result["command"] for result in results] == [
        "prepare sketches",
        "train last-stage",
        "eval",
        "train baseline",
        "eval",
        "plot confidence",
    ]
    assert (tree / "confidence.png").stat().st_size > 5_000
    names = {path.parent.name for path in (tree / "store" / "model").glob("*/*")}
    assert names == {
        "sketches-last-stage-resnet18-size32-epochs1-random-seed0",
        "sketches-baseline-resnet18-confidence-penalty-beta-0.2-size32-e4c81e-seed0",
    }


def test_a_picture_of_no_expression_is_refused(tree: Path) -> None:
    stranger = tree / "sketches" / "train" / "7_001.png"
    shutil.copy(tree / "sketches" / "train" / "0_001.png", stranger)
    try:
        with pytest.raises(AssertionError, match=r"7_001\.png: is not a picture of Sketches; remove it"):
            fer(tree, ["prepare", "sketches", "--source", "sketches"])
    finally:
        stranger.unlink()


def test_its_modules_follow_the_style(tree: Path) -> None:
    paths = [str(tree / path) for path in files("python")]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), *paths],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
