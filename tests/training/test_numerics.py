"""What a training is computed with is a part of its version; what is there is used, and unfinished work goes on."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import Numerics, TrainingProtocol
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.core import machine
from fer_cli.core.errors import PreemptedError
from fer_cli.models.trained import WEIGHTS
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from fer_cli.stages.train import TrainedResult, train
from fer_cli.training import engine
from tests.kits.toy import toy_dataset

SMALL = (
    *("model.backbone=test_efficientnet", "model.weights=none", "model.drop_path=0.0"),
    *("data.size=32", "train.batch=20", "train.epochs=1"),
)


@pytest.fixture
def toys(store: Store) -> Store:
    toy_dataset(store, images=70)
    return store


def run(store: Store, threads: int | None = None, **options: Any) -> TrainedResult:
    with machine.computing_with(threads):
        return train(store=store, system="baseline", changes=SMALL, device="cpu", **options)


def numerics_of(artifact: Artifact) -> Numerics:
    numerics = ModelConfig.of(artifact).numerics
    assert numerics is not None
    assert TrainingProtocol.of(artifact).numerics == numerics
    return numerics


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    step, done = engine._Training._step, []

    def counting(self: Any, number: int, *batch: Any) -> None:
        step(self, number, *batch)
        done.append(number)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(engine._Training, "_step", counting)


def on_another_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine.numerics
    monkeypatch.setattr(machine, "numerics", lambda device: here(device) | {"processor": "Another CPU"})


def test_threads_are_another_version_and_say_so(toys: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fer_cli")
    one, before = run(toys, 1).whole.artifact, torch.get_num_threads()
    assert numerics_of(one).threads == 1
    two = run(toys, 2).whole.artifact
    assert torch.get_num_threads() == before
    assert numerics_of(two).threads == 2
    assert (one.name, one.version) != (two.name, two.version)
    assert one.name == two.name
    assert f"{one.reference} is computed with cpu, 1 thread" in caplog.text
    for threads, artifact in ((1, one), (2, two)):
        again = run(toys, threads).whole
        assert (again.up_to_date, again.artifact.version) == (True, artifact.version)
    forced = run(toys, 1, force=True).whole.artifact
    assert (forced.version, (forced.path / WEIGHTS).read_bytes()) == (one.version, (one.path / WEIGHTS).read_bytes())


def test_what_is_there_is_up_to_date_on_another_machine(toys: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    model = run(toys, 1, name="mine").whole.artifact
    on_another_processor(monkeypatch)
    for name in (None, "mine"):
        again = run(toys, name=name).whole
        assert (again.up_to_date, again.artifact.version) == (True, model.version)
    assert numerics_of(run(toys, force=True).whole.artifact).processor == "Another CPU"


def test_an_unfinished_training_goes_on_with_its_own_threads(
    toys: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Store(tmp_path / "whole")
    toy_dataset(other, images=70)
    whole = run(other, 1).whole.artifact
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(PreemptedError):
            run(toys, 1)
    with machine.computing_with(2):
        torch.set_num_threads(2)
    before = torch.get_num_threads()
    resumed = run(toys).whole.artifact
    assert torch.get_num_threads() == before
    assert resumed.version == whole.version
    assert (resumed.path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()


def test_an_unfinished_training_of_another_processor_is_kept(
    toys: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fer_cli")
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(PreemptedError):
            run(toys, 1)
    (begun,) = (toys.root / "model").glob("*/.partial-*")
    with monkeypatch.context() as patch:
        on_another_processor(patch)
        assert numerics_of(run(toys, 1).whole.artifact).processor == "Another CPU"
    assert begun.is_dir()
    assert "numerics.processor" in caplog.text
    assert "it resumes where it was begun" in caplog.text


def test_a_study_of_models_that_were_computed_differently_warns(toys: Store) -> None:
    for seed, threads in ((0, 1), (1, 2)):
        run(toys, threads, seeds=(seed,))
    study = run(toys, seeds=(0, 1)).whole.artifact
    protocol = TrainingProtocol.of(study)
    assert (protocol.numerics, protocol.computed_with) == (None, "not alike, see its models")
    (warning,) = [text for text in study.manifest.warnings if "not computed alike" in text]
    assert [f"cpu, {count}, " in warning for count in ("1 thread", "2 threads")] == [True, True]


def test_a_fit_on_features_is_a_version_of_its_own_threads(toys: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fer_cli")
    features = extract(store=toys, backbone="test_efficientnet", size=32, weights="none").artifact

    def fitted(threads: int | None = None, **options: Any) -> Result:
        with machine.computing_with(threads):
            return fit_ahm(store=toys, lambdas=[1.0], **options)

    one, two = fitted(1).artifact, fitted(2).artifact
    assert (one.name, one.version) != (two.name, two.version)
    assert f"{one.reference} is computed with cpu, 1 thread" in caplog.text
    for threads, artifact in ((1, one), (2, two)):
        protocol = TrainingProtocol.of(artifact)
        assert protocol.numerics is not None
        assert (protocol.numerics.threads, set(protocol.numerics.libraries)) == (threads, {"numpy", "scipy"})
        assert protocol.features is not None
        assert protocol.features == TrainingProtocol.of(features).numerics
        again = fitted(threads)
        assert (again.up_to_date, again.artifact.version) == (True, artifact.version)
    assert fitted().up_to_date
    before = (one.path / "ahm.safetensors").read_bytes()
    forced = fitted(1, force=True).artifact
    assert (forced.version, (forced.path / "ahm.safetensors").read_bytes()) == (one.version, before)
