"""Trainings that are logged elsewhere: each epoch once, in one run however often they stop, and never at their cost."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError, PreemptedError, UsageError
from fer_cli.stages.train import train
from fer_cli.training.loggers import Logger, Run, State, WandbLogger, flat, logged_to, tag
from tests.kits.toy import toy_dataset
from tests.training.test_numerics import SMALL, stop_after

RUN = Run("toy-seed0-0123456789ab", "toy", {"dataset": "dataset/toy", "recipe": {"optim": {"lr": 0.1}, "empty": {}}})
HISTORY = [{"epoch": float(epoch), "lr": 0.1, "train_loss": 1 / epoch, "accuracy": epoch / 10} for epoch in (1, 2, 3)]


class Service:
    """A service that keeps what it is given, and fails where it is told to."""

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.opened: list[str | None] = []
        self.given: list[tuple[int, dict[str, float]]] = []
        self.states: list[State] = []

    def __call__(self, run: Run, resumed: str | None) -> Logger:
        self._may_fail("open")
        self.opened.append(resumed)
        return _Session(self, resumed or f"run{len(self.opened)}")

    def _may_fail(self, at: str) -> None:
        if at == self.fails_at:
            raise OSError("no route to host\nand more")


class _Session:
    def __init__(self, service: Service, id_: str) -> None:
        self.service, self.id = service, id_

    def log(self, epoch: int, values: Any) -> None:
        self.service._may_fail("log")
        self.service.given.append((epoch, dict(values)))

    def close(self, state: State) -> None:
        self.service._may_fail("close")
        self.service.states.append(state)


def test_a_training_that_resumes_goes_on_in_its_run_and_sends_each_epoch_once(tmp_path: Path) -> None:
    service = Service()
    for upto, stop in ((2, True), (2, True), (3, False)):
        try:
            with logged_to(RUN, {"service": ("Service", service)}, tmp_path) as record:
                for count in range(1, upto + 1):  # the second part lost its last epoch, and repeats it
                    record(HISTORY[:count])
                if stop:
                    raise PreemptedError("stopped", without_force=False)
        except PreemptedError:
            pass
    assert service.opened == [None, "run1", "run1"]
    assert [epoch for epoch, _ in service.given] == [1, 2, 3]
    assert service.given[0][1] == {"learning rate": 0.1, "loss/train": 1.0, "accuracy/validation": 0.1}
    assert service.states == ["stopped", "stopped", "finished"]


def test_one_that_is_asked_for_later_gets_all_epochs(tmp_path: Path) -> None:
    (tmp_path / "loggers.json").write_text('{"other": {"id": ')  # torn
    service = Service()
    with logged_to(RUN, {"service": ("Service", service)}, tmp_path) as record:
        record(HISTORY)
    assert [epoch for epoch, _ in service.given] == [1, 2, 3]


@pytest.mark.parametrize("at", ["open", "log", "close"])
def test_a_service_that_fails_is_said_once_and_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, at: str
) -> None:
    bad, good = Service(at), Service()
    with logged_to(RUN, {"bad": ("Bad", bad), "good": ("Good", good)}, tmp_path) as record:
        for count in (1, 2, 3):
            record(HISTORY[:count])
    assert [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING] == [
        "Bad failed, and the training goes on without it: no route to host"
    ]
    assert ([epoch for epoch, _ in good.given], good.states) == ([1, 2, 3], ["finished"])


def test_a_training_that_fails_is_shown_as_failed(tmp_path: Path) -> None:
    service = Service()
    with pytest.raises(FerError), logged_to(RUN, {"service": ("Service", service)}, tmp_path):
        raise FerError("the loss is nan", hint="")
    assert service.states == ["failed"]


def test_names_of_settings_and_measures() -> None:
    assert dict(flat(RUN.settings)) == {"dataset": "dataset/toy", "recipe.optim.lr": 0.1, "recipe.empty": {}}
    assert [tag(name) for name in ("lr", "validation_loss", "macro_f1")] == [
        *("learning rate", "loss/validation", "macro_f1/validation")
    ]


def test_wandb_is_offline_without_a_key_and_resumes_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[dict[str, Any]] = []
    logged: list[tuple[dict[str, float], int]] = []
    ended: list[int] = []

    def finish(exit_code: int) -> None:
        ended.append(exit_code)

    def init(**options: Any) -> Any:
        begun.append(options)
        return SimpleNamespace(
            offline=options["mode"] == "offline",
            dir="/w/offline-run/files",
            url="https://example.org/run",
            log=lambda values, step: logged.append((values, step)),
            finish=finish,
        )

    fake = ModuleType("wandb")
    key = [False]
    fake.__dict__.update(init=init, login=lambda prompt: key[0], Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_SILENT"):
        monkeypatch.delenv(name, raising=False)
    first = WandbLogger(RUN, None)
    first.log(1, {"loss/train": 0.5})
    first.close("stopped")
    key[0] = True
    again = WandbLogger(RUN, first.id)
    again.close("failed")
    assert again.id == first.id == begun[0]["id"] == begun[1]["id"]
    assert [one["mode"] for one in begun] == ["offline", None]
    assert {(one["resume"], one["name"], one["group"], one["project"]) for one in begun} == {
        ("allow", RUN.name, "toy", "fer")
    }
    assert begun[0]["config"] == RUN.settings
    assert (logged, ended) == ([({"loss/train": 0.5}, 1)], [0, 1])


def test_mlflow_keeps_one_run_of_a_training_that_was_stopped(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    toy_dataset(store, images=70)

    def trained(log: tuple[str, ...] = ("mlflow",)) -> Artifact:
        changes = (*SMALL, "train.epochs=2")
        return train(store=store, system="baseline", changes=changes, device="cpu", log=log).whole.artifact

    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(PreemptedError):
            trained()
    client = MlflowClient()
    (experiment,) = [one for one in client.search_experiments() if one.name == "fer"]
    (begun,) = client.search_runs([experiment.experiment_id])
    assert begun.info.status == "KILLED"
    model = trained()
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status) == (begun.info.run_id, "FINISHED")
    assert run.info.run_name == f"{model.name}-{model.version}"
    assert run.data.params["model"] == model.reference
    assert run.data.params["recipe.train.epochs"] == "2"
    assert [one.step for one in client.get_metric_history(run.info.run_id, "accuracy/validation")] == [1, 2]
    assert not (model.path / "loggers.json").exists()


def test_what_is_not_asked_for_is_not_imported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    toy_dataset(store, images=70)
    assert train(store=store, system="baseline", changes=SMALL, device="cpu").whole.artifact
    with pytest.raises(UsageError, match="--log 'comet' is not a choice"):
        train(store=store, system="baseline", changes=SMALL, device="cpu", log=["comet"])
