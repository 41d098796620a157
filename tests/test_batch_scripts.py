"""The batch scripts, run here as plain scripts: a study that is stopped goes on, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from fer_cli import assets
from fer_cli.artifacts.store import Store
from tests.kit_toy import toy_dataset

SMALL = [
    *("--set", "model.weights=none", "--set", "data.size=64", "--set", "train.batch=20", "--device", "cpu"),
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
    arguments = [*SMALL, "--set", "train.epochs=60"]
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
    assert "going on from epoch" in said
    assert [len(store.directories([kind])) for kind in ("model", "study", "evaluation")] == [2, 1, 1]
    made = sorted(path.name for path in store.directories())
    with start("study.sh", *arguments, environment=environment) as process:
        out, said = process.communicate()
    assert process.returncode == 0
    assert "epoch" not in said
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
