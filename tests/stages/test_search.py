"""Searches from outside: what they train, that stopping one changes nothing, and that gc keeps what they name."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_cli.artifacts.annotations import Annotations
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import TrainingProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelSummary, SearchSummary
from fer_cli.artifacts.superseded import fates
from fer_cli.core.errors import FerError, PreemptedError
from fer_cli.stages import search as stage
from fer_cli.stages.search import search
from fer_cli.stages.train import train
from fer_cli.systems import job
from fer_cli.training import engine
from fer_cli.training.trials import read_trials

SMALL = (
    *("model.backbone=test_efficientnet", "model.weights=none", "model.drop_path=0.0"),
    *("data.size=32", "train.batch=42", "train.epochs=1", "train.monitor=loss"),
)
LR = "optim.lr=1e-3,3e-3,1e-2"


def run(store: Store, *space: str, changes: tuple[str, ...] = (), **options: Any) -> Artifact:
    found = search(
        store=store,
        recipe="baseline",
        space=space,
        changes=[*SMALL, *changes],
        device="cpu",
        **{"method": "grid", **options},
    )
    return found.artifact


@pytest.fixture(scope="module")
def whole(toys: Store, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The search that nobody stopped."""
    store = Store(tmp_path_factory.mktemp("whole"))
    shutil.copytree(toys.root, store.root, dirs_exist_ok=True)
    return run(store, LR)


def models(store: Store) -> list[Artifact]:
    return [store.open(path) for path in store.directories(["model"])]


def stop_at(monkeypatch: pytest.MonkeyPatch, training: int, how: Callable[[], None]) -> None:
    """Stop in the first step of the n-th training."""
    begun, step = [], engine._Training._step

    def counting(self: Any, number: int, *batch: Any) -> None:
        if self not in begun:
            begun.append(self)
            if len(begun) == training:
                how()
        step(self, number, *batch)

    monkeypatch.setattr(engine._Training, "_step", counting)


def test_the_best_on_validation_wins_and_says_how_many_were_compared(whole: Artifact) -> None:
    store = Store(whole.path.parents[2])
    summary, trials = SearchSummary.of(whole), read_trials(whole)
    assert [one.values for one in trials] == [{"optim.lr": text} for text in ("0.001", "0.003", "0.01")]
    assert [one.model for one in trials] == [
        one.reference for one in sorted(models(store), key=lambda one: one.manifest.order)
    ]
    chosen = [ModelSummary.of(store.find(str(one.model), ["model"])).selected for one in trials]
    assert [one.scores for one in trials] == chosen
    losses = [one.validation_loss for one in chosen]
    assert len(set(losses)) == 3
    best = int(np.argmin(losses))
    assert (summary.model, summary.score, summary.trials) == (trials[best].model, losses[best], 3)
    for number, trial in enumerate(trials):
        selection = TrainingProtocol.of(store.find(str(trial.model), ["model"])).selection
        assert selection is not None
        assert selection.trials == (3 if number == best else None)


def test_training_the_best_again_keeps_the_count(whole: Artifact, tmp_path: Path) -> None:
    shutil.copytree(whole.path.parents[2], tmp_path / "copy")
    store = Store(tmp_path / "copy")
    trained = train(
        store=store, system="baseline", recipe=f"search/{whole.name}", seeds=(0,), device="cpu", force=True
    ).whole.artifact
    assert trained.reference == SearchSummary.of(whole).model
    selection = TrainingProtocol.of(trained).selection
    assert selection is not None
    assert selection.trials == 3


@pytest.mark.parametrize("how", ["terminated", "killed"])
def test_a_search_that_was_stopped_ends_as_one_that_was_not(
    own: Store, whole: Artifact, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    class Killed(BaseException): ...

    def end() -> None:
        if how == "killed":
            raise Killed
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        stop_at(patch, 2, end)
        with pytest.raises(PreemptedError if how == "terminated" else Killed):
            run(own, LR)
    assert len(models(own)) == 1, "the trial before it is kept"
    assert not own.directories(["search"])
    with monkeypatch.context() as patch:
        stop_at(patch, 3, pytest.fail)  # the first is not trained again
        resumed = run(own, LR)
    assert resumed.version == whole.version
    assert resumed.file("trials.json").read_bytes() == whole.file("trials.json").read_bytes()
    assert resumed.file("recipe.toml").read_bytes() == whole.file("recipe.toml").read_bytes()


def test_gc_removes_the_trials_of_a_replaced_search_but_not_of_one_that_is_kept(
    whole: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole.path.parents[2], tmp_path / "copy")
    store = Store(tmp_path / "copy")
    old, job_revision = {one.reference for one in [*models(store), whole]}, job.REVISION
    assert not any(fate.goes for fate in fates(store))
    monkeypatch.setattr(stage, "TRAINING_REVISION", 99)
    monkeypatch.setattr(job, "REVISION", 99)
    fewer = run(store, "optim.lr=1e-3,3e-3")
    assert not {whole.reference, fewer.reference} & {fate.reference for fate in fates(store) if fate.goes}
    newer = run(store, LR)
    assert {fate.reference for fate in fates(store) if fate.goes} == old
    reason = next(fate.reason for fate in fates(store) if fate.reference == whole.reference)
    assert reason == f"replaced by {newer.name}@{newer.version}: newer trainings (revision {job_revision}, now 99)"
    Annotations(store).change(store.find(whole.reference, ["search"]), add=("keep",))
    reasons = {fate.reference: fate.reason for fate in fates(store) if fate.reference in old}
    assert not any(fate.goes for fate in fates(store))
    assert reasons.pop(whole.reference) == "tagged keep"
    assert set(reasons.values()) == {f"{whole.reference} needs it"}
    assert newer.reference not in old


def test_a_trial_that_diverges_is_told_and_not_tried_again(
    own: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(own, "optim.lr=1e-3,1e30", changes=("optim.clip=1e30",))
    states = [one.state for one in read_trials(found)]
    assert states == ["trained", "diverged"]
    assert SearchSummary.of(found).failed == 1
    assert SearchSummary.of(found).best == {"optim.lr": "0.001"}
    assert "trial 1 diverged: " in capsys.readouterr().err
    monkeypatch.setattr(engine._Training, "_step", pytest.fail)
    again = run(own, "optim.lr=1e-3,1e30", changes=("optim.clip=1e30",), force=True)
    assert [one.state for one in read_trials(again)] == states


def test_a_search_in_which_all_diverge_says_so(own: Store) -> None:
    with pytest.raises(FerError, match="all 2 trials diverged"):
        run(own, "optim.lr=1e29,1e30", changes=("optim.clip=1e30",))
    assert not own.directories(["search"])


def test_halving_goes_on_with_the_best_third(own: Store) -> None:
    found = run(own, "optim.lr=log:1e-4..1e-1", changes=("train.epochs=3",), method="halving", trials=3)
    trials = read_trials(found)
    first, last = [one for one in trials if one.round == 0], [one for one in trials if one.round == 1]
    assert [(one.number, one.epochs) for one in first] == [(0, 1), (1, 1), (2, 1)]
    best = min(first, key=lambda one: one.scores.validation_loss if one.scores else np.inf)
    assert [(one.number, one.epochs, one.values) for one in last] == [(best.number, 3, best.values)]
    assert SearchSummary.of(found).model == last[0].model
