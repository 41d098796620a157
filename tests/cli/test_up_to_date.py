"""A command that has nothing to do says so at once: nothing heavy is imported, and whatever has changed is noticed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from fer_cli.artifacts.maintenance import REQUESTS
from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run

TINY: Final = ["--backbone", "test_efficientnet", "--size", "32", "--weights", "none"]
SMALL: Final = ["data.size=32", "train.epochs=1", "train.batch=16", "model.weights=none"]


def sets(*changes: str) -> list[str]:
    return [word for change in (*SMALL, *changes) for word in ("--set", change)]


CHAIN: Final = [
    ["prepare", "synth", "--images", "160", "--subjects", "14", "--size", "48", "--imbalance", "2", "--jobs", "1"],
    ["split", "synth", "--folds", "3"],
    ["parse-masks", "synth", "--size", "64", "--no-mirror"],
    ["extract", "synth", *TINY, "--views", "original,flip"],
    ["fit-ahm", "--lambdas", "0.1,1,10"],
    ["eval", "--report", "--resamples", "200"],
    ["train", "baseline", "synth", *sets("model.backbone=test_efficientnet")],
    ["train", "conv-cut", "synth", *sets("model.backbone=test_efficientnet")],
    ["train", "psa-resnet", "synth", *sets("model.backbone=resnet26")],
    ["train", "slfer", "synth", *sets("model.backbone=test_efficientnet")],
    [
        "search",
        "baseline",
        "synth",
        "--method",
        "grid",
        "--space",
        "optim.lr=1e-3,2e-3",
        *sets("model.backbone=test_efficientnet"),
    ],
]
LIGHT: Final = [
    ["ls"],
    ["ls", "synth", "--sort", "accuracy"],
    ["show"],
    ["tag", "dataset/synth", "+checked"],
    ["note", "dataset/synth", "checked"],
    ["rename", "evaluation", "scored"],
    ["gc", "--superseded"],
    ["weights", "ls"],
    ["doctor"],
    ["train", "baseline", "--print-config"],
    ["train", "baseline", "--help-recipe"],
    ["recipe", "ls"],
    ["recipe", "check", "psa-resnet/paper"],
    ["recipe", "diff", "baseline", "baseline/gpu"],
    ["verify"],
    ["audit", "synth"],
]
NO_NUMPY: Final = [
    ["ls"],
    ["show", "model"],
    ["tag", "dataset/synth", "+checked"],
    ["note", "dataset/synth", "checked"],
]
HEAVY: Final = ["torch", "timm", "torchvision", "sklearn", "matplotlib", "scipy", "pandas", "wandb", "mlflow"]


def in_a_new_process(
    commands: list[list[str]], store: Path, heavy: list[str] = HEAVY
) -> tuple[list[dict[str, Any]], list[str]]:
    """Run commands one after the other in a fresh process; return what each printed, and what is imported then."""
    code = (
        "import json, sys; from fer_cli.cli.app import run\n"
        "for command in json.loads(sys.argv[1]): assert run(command) == 0, command\n"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([[*command, "--json"] for command in commands])],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "FER_STORE": str(store)},
    )
    *printed, imported = [json.loads(line) for line in done.stdout.splitlines()]
    return printed, imported


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which every command of the chain has run."""
    root = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FER_DATA", "FER_WEIGHTS"):
            patch.delenv(name, raising=False)
        patch.setenv("FER_STORE", str(root))
        patch.setenv("FER_CACHE", str(root / "cache"))
        patch.setenv("HF_HOME", str(root / "hub"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        for command in (*CHAIN, ["audit", "synth"]):
            assert run(command) == 0
    return root


@pytest.fixture
def same_environment(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_STORE", str(built))
    monkeypatch.setenv("FER_CACHE", str(built / "cache"))
    monkeypatch.setenv("HF_HOME", str(built / "hub"))


@pytest.mark.usefixtures("same_environment")
def test_an_answer_that_is_up_to_date_imports_nothing_heavy(built: Path) -> None:
    printed, imported = in_a_new_process(CHAIN, built)
    assert [entry["up_to_date"] for entry in printed] == [True] * len(CHAIN)
    assert imported == []


@pytest.mark.usefixtures("same_environment")
@pytest.mark.parametrize("command", LIGHT, ids=" ".join)
def test_a_command_that_looks_imports_nothing_heavy(command: list[str], built: Path) -> None:
    assert in_a_new_process([command], built)[1] == []


@pytest.mark.usefixtures("same_environment")
def test_what_reads_manifests_alone_needs_no_numpy(built: Path) -> None:
    assert in_a_new_process(NO_NUMPY, built, ["numpy", "pyarrow", "ssl"])[1] == []


@pytest.mark.usefixtures("same_environment")
def test_an_answer_reads_no_table_and_what_needs_no_array_no_numpy(built: Path) -> None:
    assert in_a_new_process([CHAIN[6], CHAIN[-1]], built, ["pyarrow"])[1] == []
    assert in_a_new_process([CHAIN[1], CHAIN[3], CHAIN[4]], built, ["numpy", "pyarrow", "filelock"])[1] == []


@pytest.mark.usefixtures("same_environment")
@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (["train", "baseline", "synthh"], "synth"),
        (["train", "baseline", "synth", *sets("model.backbone=test_efficientnett")], "test_efficientnet"),
        (["train", "baselin", "synth"], "baseline"),
        (["extract", "synth", "--backbone", "resnet5", "--weights", "none"], "resnet50"),
        (["eval", "synth-baselin"], "synth-baseline"),
        (["plot", "gradcam", "synth-baselin"], "synth-baseline"),
        (["plot", "confusoin"], "confusion"),
        (["export", "synth-baselin"], "synth-baseline"),
        (["trian"], "train"),
    ],
    ids=lambda words: " ".join(words[:2]) if isinstance(words, list) else "",
)
def test_a_name_that_is_not_there_is_said_before_anything_heavy_is_imported(
    command: list[str], meant: str, built: Path
) -> None:
    code = (
        "import json, sys; from fer_cli.cli.app import run\n"
        "code = run(json.loads(sys.argv[1]))\n"
        f"print(json.dumps([code, *(name for name in {HEAVY!r} if name in sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(command)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "FER_STORE": str(built)},
    )
    assert json.loads(done.stdout) in ([1], [2])
    assert re.search(rf"(there is|did you mean) .*\b{meant}", done.stderr.splitlines()[-1])


@pytest.mark.usefixtures("same_environment")
def test_what_has_changed_is_planned_again(
    built: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another option, another file of the same name, other weights and a damaged artifact each lead to a full plan."""
    hierarchy = tmp_path / "hierarchy.toml"
    capsys.readouterr()
    assert run(["fit-ahm", "--print-hierarchy"]) == 0
    hierarchy.write_text(capsys.readouterr().out)
    # By name: the newest features are those that Conv-cut kept, where no other test has asked for the chain since.
    features = "synth-test_efficientnet-32-random-flip"
    fit = ["fit-ahm", features, "--lambdas", "0.1,1,10", "--hierarchy", str(hierarchy), "--json"]

    def fitted(*more: str) -> dict[str, Any]:
        assert run([*fit, *more]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    asked = len(list((built / REQUESTS).iterdir()))
    first = fitted()
    assert first["up_to_date"], "the same hierarchy from a file: planned, and found"
    assert len(list((built / REQUESTS).iterdir())) == asked + 1
    hierarchy.write_text(hierarchy.read_text() + "# edited\n")
    assert not fitted()["up_to_date"], "the file has other bytes now"
    assert fitted()["up_to_date"]
    assert not fitted("--metric", "balanced")["up_to_date"]
    assert not fitted("--threads", "3")["up_to_date"]
    assert fitted("--threads", "3")["up_to_date"]
    assert not fitted("--force")["up_to_date"]
    again = fitted()
    assert again["up_to_date"]
    predictors = Path(again["artifact"]["path"]) / "ahm.safetensors"
    predictors.write_bytes(predictors.read_bytes() + b"x")
    assert not fitted()["up_to_date"], "damaged, so built again"
    weights = tmp_path / "weights"
    weights.mkdir()
    monkeypatch.setenv("FER_WEIGHTS", str(weights))
    asked = len(list((built / REQUESTS).iterdir()))
    assert fitted()["up_to_date"]
    (weights / "test_efficientnet.safetensors").write_bytes(b"x")
    assert fitted()["up_to_date"]
    assert len(list((built / REQUESTS).iterdir())) == asked + 2, "each time another request"


@pytest.mark.usefixtures("same_environment")
def test_the_answer_of_another_request_is_none(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that were renamed or exchanged: each request is planned, and leads to what is its own."""

    def answers() -> list[str]:
        capsys.readouterr()
        for command in (CHAIN[3], CHAIN[4]):
            assert run([*command, "--json"]) == 0
        return [json.loads(line)["artifact"]["path"] for line in capsys.readouterr().out.splitlines()]

    before = answers()
    files = sorted((built / REQUESTS).iterdir())
    texts = [file.read_bytes() for file in files]
    for file, text in zip(files, [*texts[1:], texts[0]], strict=True):
        file.write_bytes(text)
    assert answers() == before


@pytest.mark.usefixtures("same_environment")
def test_an_answer_becomes_the_newest(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was confirmed last is what the next stage takes, whichever way it was confirmed."""
    for command in (CHAIN[0], CHAIN[1], CHAIN[0]):
        assert run([*command, "--json"]) == 0
        artifact = json.loads(capsys.readouterr().out)["artifact"]
        assert Store(built).find(None, ["dataset"]).version == artifact["version"]


def test_a_failure_is_never_remembered(store: Store) -> None:
    assert run(["extract", "--store", str(store.root)]) == 1
    assert not store.root.exists()
