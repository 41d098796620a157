"""The training engine from outside: what it makes, that it learns, and that stopping it anywhere changes nothing."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import verify_directory
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.core.errors import FerError, InterruptedWorkError, PreemptedError, UsageError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.evaluation.predictors.model import _commands, read_history
from fer_cli.models.classifier import ClassifierNetwork
from fer_cli.models.trained import WEIGHTS
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.export import predictions
from fer_cli.stages.plot import plot
from fer_cli.stages.train import TrainedResult, train
from fer_cli.systems.registry import read_recipe
from fer_cli.systems.trained import open_trained
from fer_cli.training import engine
from fer_cli.training.history import HISTORY
from tests.kits.toy import toy_dataset

# Dropout, augmentation, running mean and warm-up: whatever draws or remembers must survive a stop.
SMALL = (
    *("model.backbone=test_efficientnet", "model.weights=none", "model.dropout=0.3", "model.drop_path=0.0"),
    *("data.size=32", "train.batch=20", "train.epochs=3", "train.ema=0.9", "optim.lr=3e-3"),
)
STEPS = 12 // 2  # of an epoch: 126 training images in batches of 20


def run(store: Store, *changes: str, **options: Any) -> TrainedResult:
    return train(store=store, system="baseline", changes=[*SMALL, *changes], device="cpu", **options)


def model(store: Store, *changes: str, **options: Any) -> Artifact:
    return run(store, *changes, **options).whole.artifact


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The training that nobody stopped."""
    store = Store(tmp_path_factory.mktemp("reference"))
    toy_dataset(store, images=210)
    return model(store)


@pytest.fixture
def toys(store: Store) -> Store:
    toy_dataset(store, images=210)
    return store


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, how: type[BaseException] | None = None) -> None:
    """Let a signal come, or the process die, after so many steps of this process."""
    done = []
    step = engine._Training._step

    def counting(self: Any, number: int, *batch: Any) -> None:
        step(self, number, *batch)
        done.append(number)
        if len(done) == steps:
            if how is not None:
                raise how
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(engine._Training, "_step", counting)


def trainers(process: int) -> list[int]:
    """Return the processes that train: a command's own, or those that torchrun started."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in children] or [process]


def equal(one: Artifact, other: Artifact) -> None:
    assert (one.path / WEIGHTS).read_bytes() == (other.path / WEIGHTS).read_bytes()
    assert (one.path / HISTORY).read_bytes() == (other.path / HISTORY).read_bytes()
    assert one.version == other.version


def test_it_says_what_it_did(reference: Artifact, store: Store) -> None:
    history = read_history(reference)
    assert [line["epoch"] for line in history] == [1, 2, 3]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    summary = reference.manifest.summary
    best = max(range(3), key=lambda number: history[number]["accuracy"])
    assert summary["epoch"] == best + 1
    assert summary["selected"]["accuracy"] == history[best]["accuracy"]
    assert reference.manifest.protocol["selection"] == {
        **{"split": "validation", "metric": "accuracy", "what": "the epoch", "tried": 3}
    }
    assert reference.manifest.protocol["pretraining"] == {"kind": "random"}
    assert {path.name for path in reference.path.iterdir()} == {"manifest.json", WEIGHTS, HISTORY, "recipe.toml"}
    assert verify_directory(reference.path) == []
    again = Store(reference.path.parents[2])
    assert run(again).whole.up_to_date


def test_it_learns(toys: Store) -> None:
    plain = [f"augmentation.{what}=0.0" for what in ("flip", "rotation", "scale", "shift", "erase")]
    how = ("model.backbone=test_resnet", "model.dropout=0.0", "train.epochs=8", "train.ema=0.5", "optim.lr=1e-2")
    learned = model(toys, *how, *plain)
    assert learned.manifest.summary["selected"]["accuracy"] > 0.25  # of seven classes, from noisy patterns
    assert read_history(learned)[-1]["train_accuracy"] > 0.75


def test_the_kept_weights_have_the_validation_score_that_was_told(reference: Artifact) -> None:
    store = Store(reference.path.parents[2])
    dataset = open_dataset(store.find("toy", ["dataset"]))
    opened = open_trained(reference, "cpu")
    rows = dataset.rows("validation")
    with torch.inference_mode():
        logits = opened.network(opened.preprocessing.apply(torch.from_numpy(dataset.images[rows])))
    accuracy = float((logits.argmax(1).numpy() == dataset.labels[rows]).mean())
    assert accuracy == pytest.approx(reference.manifest.summary["selected"]["accuracy"])
    # The running mean is of weights and norms; what counts their batches is taken over.
    counted = {int(value) for name, value in opened.network.state_dict().items() if name.endswith("batches_tracked")}
    assert counted == {STEPS * int(reference.manifest.summary["epoch"])}


@pytest.mark.parametrize(
    ("steps", "before", "after"), [(1, 0, 2), (STEPS - 1, 2, 0), (STEPS, 2, 2), (2 * STEPS + 3, 0, 0)]
)
def test_a_signal_anywhere_changes_nothing_nor_do_workers(
    toys: Store, reference: Artifact, monkeypatch: pytest.MonkeyPatch, steps: int, before: int, after: int
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(PreemptedError, match="stopped by SIGTERM, saved after ") as caught:
            run(toys, workers=before)
    assert caught.value.exit_code == 75
    assert not toys.directories(["model"])
    equal(model(toys, workers=after), reference)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Hear SIGINT as at a terminal: jobs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, place: str, call: int, *, times: int = 1) -> None:
    """Press Ctrl-C so many times at the beginning of the n-th call of a function of the engine."""
    owner: Any = engine._Training if place.startswith("_") else engine
    function, calls = getattr(owner, place), []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(place)
        if len(calls) == call:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return function(*arguments, **named)

    monkeypatch.setattr(owner, place, interrupted)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("place", "call", "saved"),
    [
        ("_restore", 1, f"saved after step 1 of {STEPS}, epoch 1 of 3"),  # at the start
        ("_step", STEPS + 3, f"saved after step 3 of {STEPS}, epoch 2 of 3"),
        ("save_checkpoint", 2, f"saved after step 3 of {STEPS}, epoch 1 of 3"),
        ("validate", 2, f"saved after step {STEPS} of {STEPS}, epoch 2 of 3"),
        ("validate", 3, f"saved after step {STEPS} of {STEPS}, epoch 3 of 3"),
    ],
)
def test_ctrl_c_anywhere_saves_and_changes_nothing(
    toys: Store, reference: Artifact, monkeypatch: pytest.MonkeyPatch, place: str, call: int, saved: str
) -> None:
    monkeypatch.setattr(engine, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        interrupt_at(patch, place, call)
        with pytest.raises(InterruptedWorkError, match=f"stopped by SIGINT, {saved}; the same command") as caught:
            run(toys)
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    taken: list[int] = []
    step = engine._Training._step

    def noting(self: Any, number: int, *batch: Any) -> None:
        taken.append(number)
        step(self, number, *batch)

    monkeypatch.setattr(engine._Training, "_step", noting)
    equal(model(toys), reference)
    epoch, of_epoch = int(saved.split("epoch ")[1][0]), int(saved.split("step ")[1].split(maxsplit=1)[0])
    assert len(taken) == 3 * STEPS - (epoch - 1) * STEPS - of_epoch, "no step that was finished is made again"


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_twice_stops_at_once_and_after_the_last_check_it_is_not_lost(
    toys: Store, reference: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        interrupt_at(patch, "_step", STEPS + 3, times=2)
        with pytest.raises(KeyboardInterrupt):
            run(toys)
    assert (3 * STEPS + 4) > len(list(toys.root.glob("model/*/.partial-*/checkpoint-*"))) > 0
    with monkeypatch.context() as patch:
        patch.setattr(engine, "SAVE_SECONDS", 1e9)
        interrupt_at(patch, "save_checkpoint", 1)  # the last one, of the finished training
        with pytest.raises(KeyboardInterrupt):
            run(toys, seeds=[0, 1])
    assert not toys.directories(["model"])
    equal(model(toys), reference)


def test_what_a_loss_remembers_goes_on_too(toys: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joint = ("loss.name=island", "loss.island=0.5", "model.backbone=test_resnet", "model.attention=se")
    whole = Store(tmp_path / "whole")
    toy_dataset(whole, images=210)
    with monkeypatch.context() as patch:
        stop_after(patch, STEPS + 2)
        with pytest.raises(PreemptedError):
            run(toys, *joint)
    place = next(toys.root.glob("model/*/.partial-*/checkpoint-*.safetensors"))
    assert load_file(place)["loss.centres"].any()
    equal(model(toys, *joint), model(whole, *joint))


def test_two_signals_and_a_death_change_nothing(
    toys: Store, reference: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SAVE_SECONDS", 0.0)
    for steps, how in ((2, None), (STEPS, None), (3, KeyboardInterrupt)):
        with monkeypatch.context() as patch:
            stop_after(patch, steps, how)
            with pytest.raises((PreemptedError, KeyboardInterrupt)):
                run(toys)
    taken: list[int] = []
    step = engine._Training._step

    def noting(self: Any, number: int, *batch: Any) -> None:
        taken.append(number)
        step(self, number, *batch)

    monkeypatch.setattr(engine._Training, "_step", noting)
    equal(model(toys), reference)
    assert len(taken) == 3 * STEPS - (2 + STEPS + 2), "what was saved is not done again"


@pytest.mark.parametrize(("ranks", "loss"), [(1, "cross-entropy"), (2, "island")])
def test_processes_from_the_shell_stop_and_go_on(toys: Store, tmp_path: Path, ranks: int, loss: str) -> None:
    whole = Store(tmp_path / "whole")
    toy_dataset(whole, images=210)
    head = [sys.executable, "-m", "fer_cli"]
    if ranks > 1:
        head = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        head += ["-m", "fer_cli"]
    changes = [*SMALL, f"loss={loss}"]
    words = ["train", "baseline", *(word for change in changes for word in ("--set", change)), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(store: Store) -> subprocess.CompletedProcess[str]:
        arguments = [*head, *words, "--store", str(store.root)]
        return subprocess.run(arguments, check=False, capture_output=True, text=True, env=environment)

    assert (done := command(whole)).returncode == 0, done.stderr
    number = signal.SIGINT if ranks == 1 else signal.SIGTERM
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    # The signal goes to one process alone, when it has told of its first epoch: the others must stop with it.
    with subprocess.Popen(
        [*head, *words, "--store", str(toys.root)], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("epoch 1/3"):
                os.kill(trainers(process.pid)[-1], number)
    signal.signal(signal.SIGINT, before)
    assert process.returncode == (130 if ranks == 1 else 1), said
    assert f"stopped by {number.name}, saved after " in said
    assert f"the same command resumes it: fer train baseline --set {changes[0]}" in said
    assert not toys.directories(["model"])
    assert (done := command(toys)).returncode == 0, done.stderr
    assert "resuming from epoch" in done.stderr
    equal(toys.find(None, ["model"]), whole.find(None, ["model"]))


def test_a_process_that_dies_is_no_bug_of_the_others(toys: Store) -> None:
    head = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fer_cli"]
    words = ["train", "baseline", *(word for change in SMALL for word in ("--set", change)), "--device", "cpu"]
    words += ["--set", "train.epochs=99", "--store", str(toys.root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*head, *words], stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("epoch 1/99"):
                os.kill(trainers(process.pid)[-1], signal.SIGKILL)
    assert process.returncode == 1
    assert "a bug in fer" not in said
    errors = [line for line in said.splitlines() if line.startswith("fer: error: ")]
    known = (
        "another process of this job has stopped; see its own error, then run the same command again",
        "stopped by SIGTERM",
    )
    assert all(any(word in error for word in known) for error in errors)  # torchrun ends the others when one is gone


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(
    toys: Store, reference: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(PreemptedError):
            run(toys)
    place = next(toys.root.glob("model/*/.partial-*"))
    older, newest = sorted(place.glob("checkpoint-*.safetensors"))
    assert "checkpoint-000000003-" in older.name
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    with pytest.raises(
        FerError, match=r"checkpoint-000000004-\w+\.safetensors: the checkpoint is damaged: sha256 .*remove"
    ):
        run(toys)
    newest.unlink()
    equal(model(toys), reference)


def test_other_settings_begin_beside_an_unfinished_training_and_each_is_found_again(
    toys: Store, reference: Artifact, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other = toys.find("toy", ["dataset"]).reference, toy_dataset(toys, images=210, seed=1).reference
    places = set()
    for settings in ((), ("optim.lr=2e-3",)):
        with monkeypatch.context() as patch:
            stop_after(patch, 2)
            with pytest.raises(PreemptedError):
                run(toys, *settings, dataset=first if settings else other, name="arm")
        places |= set(toys.root.glob("model/arm-seed0/.partial-*"))
    assert "unfinished and kept: model/arm-seed0@" in (said := capsys.readouterr().err)
    assert "optim.lr = 0.003, now 0.002; its own settings resume it" in said
    assert "the dataset" in said
    assert len(places) == 2
    for settings in (("optim.lr=2e-3",), ()):
        begun = next(place for place in places if place.exists())
        run(toys, *settings, dataset=first if settings else other, name="arm")
        assert len([place for place in places if place.exists()]) == len(places) - 1, begun
        places = {place for place in places if place.exists()}
    assert len(toys.directories(["model"], "arm-seed0")) == 2


def test_a_training_that_was_stopped_is_resumed_under_another_name(
    toys: Store, reference: Artifact, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(PreemptedError):
            run(toys, name="first")
    done = model(toys, name="second")
    assert done.name == "first-seed0"
    assert "second-seed0 is the same as model/first-seed0@" in capsys.readouterr().err
    equal(done, reference)


def test_a_loss_that_is_no_number_stops_at_its_step(toys: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SAVE_SECONDS", 0.0)
    with pytest.raises(
        FerError, match=r"the loss is (nan|inf) at step \d+ \(epoch \d\); the last good checkpoint is kept"
    ):
        run(toys, "optim.lr=1e30", "optim.name=sgd", "optim.clip=1e30", "schedule.warmup=0")
    kept = next(toys.root.glob("model/*/.partial-*/checkpoint-*.safetensors"))
    assert all(bool(torch.isfinite(tensor).all()) for name, tensor in load_file(kept).items() if "best" in name)


def test_out_of_memory_names_a_batch_that_fits(toys: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = ClassifierNetwork.forward

    def small(self: ClassifierNetwork, x: torch.Tensor) -> Any:
        if len(x) > 7:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
        return forward(self, x)

    monkeypatch.setattr(ClassifierNetwork, "forward", small)
    with pytest.raises(
        FerError,
        match=r"out of memory with train\.batch = 20 \(CUDA out of memory\); take train\.batch = 5, which fits",
    ):
        run(toys)
    assert not list(toys.root.glob("model/*/.partial-*"))
    assert model(toys, "train.batch=4", "train.epochs=1")


def test_what_is_measured_can_be_read_while_it_trains_and_in_tensorboard(
    toys: Store, reference: Artifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with monkeypatch.context() as patch:
        stop_after(patch, 2 * STEPS + 1)
        with pytest.raises(PreemptedError):
            run(toys, tensorboard=tmp_path)
    begun = next(toys.root.glob(f"model/*/.partial-*/{HISTORY}")).read_text()
    assert begun == "".join((reference.path / HISTORY).read_text().splitlines(keepends=True)[:2])
    done = model(toys, tensorboard=tmp_path)
    equal(done, reference)
    events = EventAccumulator(str(tmp_path / f"{done.name}-{done.version}")).Reload()
    told = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    history = read_history(done)
    assert sorted(told) == [
        *("accuracy/train", "accuracy/validation", "balanced_accuracy/validation", "learning rate"),
        *("loss/train", "loss/validation", "macro_f1/validation", "temperature/validation"),
    ]
    assert [step for step, _ in told["loss/train"]] == [1, 2, 3]
    assert [value for _, value in told["accuracy/validation"]] == pytest.approx([line["accuracy"] for line in history])


def test_seeds_make_a_study_and_all_of_it_is_scored(toys: Store) -> None:
    trained = run(toys, "train.epochs=1", seeds=(0, 1))
    assert trained.study is not None
    weights = [(one.artifact.path / WEIGHTS).read_bytes() for one in trained.models]
    assert weights[0] != weights[1]
    assert model(toys, "train.epochs=1").version == trained.models[0].artifact.version
    study = trained.study.artifact
    assert study.kind == "study"
    result = evaluate_model(store=toys, model=study.reference, report=True, resamples=200).artifact
    metrics = json.loads((result.path / "metrics.json").read_text())
    assert list(metrics["predictors"]) == ["mean of seeds", "seed 0", "seed 1", "ensemble"]
    assert metrics["chosen"] == "mean of seeds"
    whole, *seeds = (metrics["predictors"][name] for name in ("mean of seeds", "seed 0", "seed 1"))
    for metric in ("accuracy", "macro_f1", "ece", "nll"):
        scores = [seed[metric]["value"] for seed in seeds]
        assert whole[metric]["value"] == pytest.approx(np.mean(scores))
        assert whole[metric]["sd"] == pytest.approx(np.std(scores, ddof=1))
    assert whole["runs"] == ["seed 0", "seed 1"]
    summary = result.manifest.summary
    assert summary["headline"].startswith("mean of 2 seeds (± SD) on toy test: accuracy ")
    assert summary["sd"]["accuracy"] == pytest.approx(whole["accuracy"]["sd"])
    asked = evaluate_model(store=toys, model=study.reference, predictor="seed 1", resamples=200).artifact
    assert asked.manifest.summary["headline"].startswith("seed 1 on toy test")
    assert asked.manifest.summary["accuracy"]["seed 1"] == seeds[1]["accuracy"]["value"]
    _, exported = predictions(store=toys, reference=result.reference)
    assert set(exported["predictor"].to_pylist()) == {"seed 0", "seed 1"}, "the mean is of scores, not of predictions"
    page = (result.path / "report.html").read_text()
    assert "Loss, validation metrics and learning rate by epoch" in page
    for name in ("seed 0", "seed 1"):
        assert f"{name}: epoch 1, " in page
    assert "Thin lines and bands are the 2 runs, bold lines their mean." in page
    assert "fer train baseline" in page
    config = ModelConfig.of(trained.models[0].artifact)
    recipe = {**config.recipe, "data": {**config.recipe["data"], "oversample": {"fear": 3}}}
    (line,) = _commands(config.model_copy(update={"recipe": recipe}), [0, 1], "toy", None, None, None)
    words = shlex.split(line)
    again = read_recipe("baseline", None, [words[at + 1] for at, word in enumerate(words) if word == "--set"]).record()
    assert again == {name: recipe[name] for name in again}
    alone = evaluate_model(store=toys, model=trained.models[1].artifact.reference, resamples=200).artifact
    one = json.loads((alone.path / "metrics.json").read_text())["predictors"]["network"]
    assert one["accuracy"]["value"] == metrics["predictors"]["seed 1"]["accuracy"]["value"]


def test_curves_and_gradcam_are_drawn_from_models_and_studies(reference: Artifact, tmp_path: Path) -> None:
    store = Store(reference.path.parents[2])
    paths = [
        plot(store=store, what="curves", model=reference.reference, out=tmp_path / "c.svg"),
        plot(
            store=store,
            what="gradcam",
            out=tmp_path / "g.svg",
            split="validation",
            each=1,
            device="cpu",
        ),
    ]
    texts = [path.read_text() for path in paths]
    best = reference.manifest.summary["epoch"]
    assert f"seed 0: epoch {best}" in texts[0]
    assert "neutral" in texts[1]
    assert "evidence" in texts[1]


def test_what_is_selected_on_test_is_marked(toys: Store) -> None:
    chosen = model(toys, "train.epochs=1", select_on="test")
    assert chosen.manifest.protocol["selection"]["split"] == "test"
    scored = evaluate_model(store=toys, model=chosen.reference, resamples=100).artifact
    assert scored.manifest.summary["unsound"] == ["scored on the selection split: optimistic"]


def test_early_stopping_and_the_last_epoch(toys: Store) -> None:
    still = ("optim.lr=1e-12", "train.ema=0.0", "augmentation.flip=0.0")
    stopped = model(toys, *still, "train.epochs=9", "train.early_stopping=2", "model.dropout=0.0")
    assert stopped.manifest.summary["epoch"] == 1
    assert stopped.manifest.summary["epochs"] == 3
    last = model(toys, "train.monitor=last", "train.epochs=2")
    assert last.manifest.summary["epoch"] == 2
    assert last.manifest.protocol["selection"]["tried"] == 1


def test_what_cannot_be_trained_is_said_in_one_line(toys: Store) -> None:
    cases: list[tuple[tuple[str, ...], dict[str, Any], type[FerError], str]] = [
        (("optim.lrr=1",), {}, UsageError, "--set 'optim.lrr=1': optim.lrr is not a key of this recipe"),
        (("optim.lr=fast",), {}, UsageError, r"--set 'optim\.lr=fast': optim\.lr: input should be a valid number"),
        (("optim.lr",), {}, UsageError, "--set 'optim.lr' sets nothing"),
        (("model.backbone=resnet1",), {}, FerError, "timm has no backbone 'resnet1'; did you mean"),
        (("train.batch=200",), {}, FerError, "126 training images .* batch"),
        (("model.attention=aff",), {}, FerError, "aff .*ResNet"),
        ((), {"seeds": (0, 0)}, UsageError, "--seeds must be different numbers"),
        ((), {"select_on": "train"}, UsageError, "--select-on 'train' is not a choice"),
        (("model.weights=/none.safetensors",), {}, FerError, "no such file"),
        (("schedule.name=steps",), {}, FerError, "schedule.epochs is empty"),
    ]
    for changes, options, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            run(toys, *changes, **options)
        assert "\n" not in str(caught.value)
    assert not list(toys.root.glob("model/*/*"))
