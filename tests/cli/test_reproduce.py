"""``fer reproduce``: the list, a table of tiny networks made once, a stop that goes on, and data that stand in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.core.errors import PreemptedError
from fer_cli.stages import evaluate
from tests.kits import official
from tests.kits.toy import toy_dataset
from tests.kits.train import files

Fer = Callable[..., str]
TINY = (
    *("--set", "model.backbone=test_convnext", "--set", "model.weights=none", "--set", "data.size=64"),
    *("--set", "model.cut=stage2"),
    *("--set", "train.epochs=1", "--set", "train.batch=20", "--device", "cpu"),
)
TABLE = ("reproduce", "conv-cut/table3-f1", "--scale", "paper", "--data", "toy", *TINY)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store that holds one seed of every row."""
    from fer_cli.cli.app import run

    store = Store(tmp_path_factory.mktemp("reproduce"))
    toy_dataset(store, images=210)
    assert run([*TABLE, "--seeds", "0,1", "--store", str(store.root)]) == 0
    return store


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    from fer_cli.cli.app import run

    capsys.readouterr()
    assert run([str(word) for word in (*words, "--json")]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def test_the_list_has_every_entry_and_needs_no_torch(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    listed = answer(capsys, "reproduce", "--store", store.root)["entries"]
    assert len(listed) == 50
    by = {one["entry"]: one for one in listed}
    assert (by["ahm/table2"]["measured"], by["ahm/table2"]["rows"]) == (22, 22)
    assert not by["conv-cut/table2-rafdb"]["can_run"]
    code = f"import sys; from fer_cli.cli.app import run; run(['reproduce', '--store', {str(store.root)!r}]); "
    ended = subprocess.run(
        [sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "conv-cut/table2-ferplus" in ended.stdout


def test_settings_are_compared_without_data(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    [one] = answer(capsys, "reproduce", "ahm/table2", "--store", store.root)["reproductions"]
    verdicts = {row["name"]: (row["measured"], row["judged"]["verdict"]) for row in one["rows"]}
    assert verdicts["C3: D7/D5"] == ("1/5", "not reproduced")
    assert verdicts["B3: C1/C3"] == ("1/5", "reproduced")
    [one] = answer(capsys, "reproduce", "psa-resnet/table2", "--store", store.root)["reproductions"]
    assert {row["judged"]["verdict"] for row in one["rows"]} == {"reproduced"}


def test_a_second_run_makes_nothing(made: Store, fer: Fer, capsys: pytest.CaptureFixture[str]) -> None:
    words = (*TABLE, "--seeds", "0,1", "--store", made.root)
    before = files(made)
    [one] = answer(capsys, *words)["reproductions"]
    assert files(made) == before
    assert one["stands_in"]
    rows = {row["name"]: row for row in one["rows"]}
    assert rows["three layers"]["why"].startswith("3 detail layers leave nothing of a 8x8 map")
    two = rows["two layers"]
    assert two["judged"] == {"verdict": "not comparable", "reason": "other data or settings"}
    assert two["difference"] == pytest.approx(two["measured"]["value"] - 94.69)
    assert two["gain"]["figure"] == pytest.approx(94.69 - 86.84)
    assert two["gain"]["measured"]["low"] <= two["gain"]["measured"]["value"] <= two["gain"]["measured"]["high"]
    keys = {deviation["text"].split(" is ")[0] for deviation in one["deviations"]}
    assert {"model.backbone", "data.size", "train.epochs"} <= keys
    steps = answer(capsys, *words, "--dry-run")
    assert [step["is_there"] for step in steps["steps"]] == [True] * 4 + [False] * 2 + [True] * 2, (
        "three layers cannot be made"
    )


def test_a_stop_keeps_what_was_made_and_the_same_command_goes_on(
    made: Store, tmp_path: Path, fer: Fer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "own")
    shutil.copytree(made.root / "dataset", store.root / "dataset")
    words = (*TABLE, "--seeds", "0", "--store", store.root)
    scored: list[object] = []
    score = evaluate.evaluate_model

    def stop(**values: Any) -> Any:
        if scored:
            raise PreemptedError("stopped by SIGTERM; saved")
        scored.append(1)
        return score(**values)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "evaluate_model", stop)
        fer(*words, code=75)
    kept = {path for path in files(store) if path.parts[-4] == "model"}
    assert len({path.parent for path in kept}) == 2
    steps = answer(capsys, *words, "--dry-run")["steps"]
    assert [step["is_there"] for step in steps] == [True, True, False, False]
    assert steps[2]["measured"]
    changed = {path: path.stat().st_mtime_ns for path in kept if path.suffix == ".safetensors"}
    answer(capsys, *words)
    assert {path: path.stat().st_mtime_ns for path in changed} == changed


def test_commands_are_the_plain_ones(made: Store, tmp_path: Path, fer: Fer, capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    words = (*TABLE, "--seeds", "0,1", "--store", made.root)
    lines = answer(capsys, *words, "--commands")["commands"]
    assert [shlex.split(line)[:2] for line in lines] == [["fer", "train"], ["fer", "eval"]] * 4
    before = files(made)
    for line in lines[:2]:
        fer(*shlex.split(line)[1:], "--device", "cpu", "--store", made.root, code=0)
    assert files(made) == before


def test_a_report_opens_with_what_holds(made: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    words = ("reproduce", "conv-cut", "--report", "--data", "toy", "--seeds", "0,1", *TINY[:-2], "--store", made.root)
    answer(capsys, *words, "--out", out)
    page = out.read_text(encoding="utf-8")
    assert page.index("What holds and what does not") < page.index("deviations")
    assert "in place of rafdb (stand-in data)" in page


def test_what_is_not_here_says_what_to_prepare(store: Store, fer: Fer) -> None:
    assert fer("reproduce", "slfer/table1-sfew", "--store", store.root).endswith(
        "slfer/table1-sfew wants sfew, which is not in this store; fer prepare sfew; or prepare ferplus, which can "
        "stand in; or give another with --data"
    )
    assert "is a whole paper" in fer("reproduce", "slfer", "--store", store.root, code=2)
    assert "--set 'x=1' is not for ahm" in fer(
        *("reproduce", "ahm/fig3-fer2013", "--data", "toy", "--set", "x=1", "--store"), toys(store).root, code=2
    )


def toys(store: Store) -> Store:
    toy_dataset(store, images=70)
    return store


@pytest.mark.parametrize("dataset", ["rafdb"])
def test_a_gated_data_set_needs_one_command(
    dataset: str, store: Store, tmp_path: Path, fer: Fer, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {"train": dict.fromkeys(official.RAF, 4), "test": dict.fromkeys(official.RAF, 1)}
    (tmp_path / "raw").mkdir()
    source = official.rafdb(tmp_path / "raw", counts)
    fer("prepare", dataset, "--source", source, "--allow-incomplete", "--store", store.root, code=0)
    [one] = answer(
        capsys,
        *("reproduce", "slfer/table2", "--seeds", "0", "--device", "cpu", "--store", store.root),
        *("--set", "model.backbone=test_resnet", "--set", "model.weights=none", "--set", "data.size=32"),
        *("--set", "train.epochs=1", "--set", "train.batch=8"),
    )["reproductions"]
    assert one["entry"]["id"] == "table2-rafdb"
    assert not one["stands_in"]
    rows = {row["name"]: row for row in one["rows"]}
    assert rows["SCN"]["judged"]["reason"] == "of another work"
    assert rows["proposed"]["gain"]["judged"]["reason"] == "one seed"
    assert any("is not complete" in deviation["text"] for deviation in one["deviations"])


def test_ahm_is_measured_on_a_network_that_was_trained_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    toy_dataset(store, images=140)
    words: tuple[object, ...] = (
        *("reproduce", "ahm/fig3-fer2013", "--data", "toy", "--store", store.root, "--device", "cpu"),
        *("--set", "backbone=test_resnet", "--set", "model.weights=none", "--set", "data.size=32"),
        *("--set", "train.epochs=1", "--set", "train.batch=20", "--set", "model.drop_path=0.0"),
    )
    steps = answer(capsys, *words, "--dry-run")["steps"]
    assert [(step["what"], step["is_there"]) for step in steps] == [
        ("seed 0", False),
        ("features of test_resnet", False),
    ]
    [one] = answer(capsys, *words)["reproductions"]
    assert [row["gain"]["judged"]["reason"] for row in one["rows"]] == ["one seed"] * 2
    assert not [told for told in one["deviations"] if "ImageNet weights" in told["text"]]
    before = files(store)
    [again] = answer(capsys, *words)["reproductions"]
    assert again["rows"] == one["rows"]
    assert files(store) == before
    model = store.find(None, ["model"])
    given = (*words[:8], "--set", f"model={model.reference}")
    [third] = answer(capsys, *given)["reproductions"]
    measured = [row["gain"]["measured"] for row in one["rows"]]
    assert [row["gain"]["measured"] for row in third["rows"]] == measured
    assert files(store) == before
