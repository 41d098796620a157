"""The batch scripts, run here as plain scripts: a study that is stopped goes on, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.core import assets
from tests.kits.toy import toy_dataset

SMALL = [
    *("--set", "model.weights=none", "--set", "data.size=32", "--set", "train.batch=20", "--device", "cpu"),
    *("--set", "model.backbone=test_efficientnet"),
]


@pytest.fixture
def environment(store: Store) -> dict[str, str]:
    toy_dataset(store, images=210)
    torchrun = f"{sys.executable} -m torch.distributed.run"
    given = {"FER": f"{sys.executable} -m fer_cli", "FER_STORE": str(store.root), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **given, "DATASETS": "toy", "SYSTEMS": "baseline", "SEEDS": "0,1", "TORCHRUN": torchrun}


def start(name: str, *arguments: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = ["bash", str(assets.recipe(f"batch/{name}")), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_study_is_stopped_and_goes_on(store: Store, environment: dict[str, str]) -> None:
    arguments = [*SMALL, "--set", "train.epochs=16"]
    with start("study.sh", *arguments, environment=environment) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("epoch 2/"):
                process.send_signal(signal.SIGUSR1)
    assert process.returncode == 75, said
    assert not store.directories(["study"])
    with start("study.sh", *arguments, environment=environment) as process:
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert "resuming from epoch" in said
    assert [len(store.directories([kind])) for kind in ("model", "study", "evaluation")] == [2, 1, 1]
    made = sorted(path.name for path in store.directories())
    with start("study.sh", *arguments, environment=environment) as process:
        out, said = process.communicate()
    assert process.returncode == 0
    assert "epoch 1/" not in said
    assert "up to date" in out
    assert sorted(path.name for path in store.directories()) == made


def test_an_array_job_takes_its_seed(store: Store, environment: dict[str, str]) -> None:
    environment = {**environment, "SEED": "7"}
    with start(
        "array.sbatch", "baseline", "toy", *SMALL, "--set", "train.epochs=1", environment=environment
    ) as process:
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert store.find(None, ["model"]).manifest.seeds == [7]


@pytest.mark.parametrize(
    ("script", "table", "rows"),
    [
        ("slfer/tables.sh", "tasks", 5),
        ("slfer/tables.sh", "lambda1", 5),
        ("slfer/tables.sh", "lambda2", 5),
        ("slfer/tables.sh", "components", 6),
        ("slfer/tables.sh", "masks", 3),
        ("psa-resnet/tables.sh", "ablation", 4),
        ("psa-resnet/tables.sh", "attention", 7),
        ("psa-resnet/tables.sh", "networks", 7),
    ],
)
def test_a_papers_table_trains_and_scores_each_row_by_its_reference(
    tmp_path: Path, script: str, table: str, rows: int
) -> None:
    log, stub = tmp_path / "log", tmp_path / "fer"
    stub.write_text(
        f"""#!/bin/bash
echo "$@" >> {log}
n=$(wc -l < {log})
[[ $* == *--json* ]] && echo "{{\\"schema\\": 1, \\"artifact\\": {{\\"kind\\": \\"x\\", \\"path\\": \\"/s/a b/$n\\"}}}}"
exit 0
"""
    )
    stub.chmod(0o755)
    words = ["bash", str(assets.recipe(script)), table, "--set", "data.size=64"]
    environment = {**os.environ, "FER": str(stub), "DATASET": "toy@12", "SEEDS": "0,1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    trained = [number for number, line in enumerate(lines, 1) if line.startswith("train ")]
    assert len(trained) == rows
    assert len({lines[number - 1] for number in trained}) == rows, "no row is there twice"
    for number in trained:
        line = lines[number - 1]
        assert "toy@12" in line
        assert "--set data.size=64" in line
        assert lines[number] == f"eval /s/a b/{number} --report"
    if script.startswith("slfer"):
        assert all("--masks /s/a b/" in lines[number - 1] for number in trained)
    (stub.parent / "fer").write_text("#!/bin/bash\nexit 75\n")
    stopped = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert stopped.returncode == 75, "a table that is pre-empted says so"


@pytest.mark.parametrize("script", ["slfer/tables.sh", "psa-resnet/tables.sh"])
def test_a_table_that_is_not_there_is_named(script: str) -> None:
    done = subprocess.run(
        ["bash", str(assets.recipe(script)), "tabel"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "FER": "true"},
    )
    assert done.returncode == 2
    assert "there is no table 'tabel': take" in done.stderr
