"""Trainings that go wrong on their way, through the command: one line that says what to do, and nothing lost."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import verify_directory
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.work import Work
from fer_cli.cli.app import run
from fer_cli.models.classifier import ClassifierNetwork
from fer_cli.models.truncation import UpTo
from fer_cli.training import engine
from tests.kits.train import Fer, assert_matches, checkpoints, flip, partial, words

DIVERGING = {"optim__lr": "1e30", "optim__name": "sgd", "optim__clip": "1e30", "schedule__name": "constant"}


# ---- a loss that is no number


def finite(path: Path) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in load_file(path).values())


def test_after_a_loss_that_is_no_number_the_line_says_how_to_go_on(
    own: Store, fer: Fer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = engine._Training._rate
    monkeypatch.setattr(engine._Training, "_rate", lambda self, step: 1e30 if step >= 8 else rate(self, step))
    bad = {"train__epochs": "3", "optim__name": "sgd"}
    said = fer(*words(own, **bad))
    assert_matches(said, r"the loss is (nan|inf) at step \d+ \(epoch 2\); .*optim\.lr")
    assert partial(own) == []
    assert "kept" not in said, "it was too short for a checkpoint"
    monkeypatch.setattr(engine, "SAVE_SECONDS", 0.0)
    said = fer(*words(own, **bad))
    assert_matches(said, "kept.*optim.lr")
    assert checkpoints(own)
    assert all(finite(path) for path in checkpoints(own) if path.suffix == ".safetensors")
    monkeypatch.setattr(engine._Training, "_rate", rate)
    lower = {**bad, "optim__lr": "1e-4"}
    fer(*words(own, **lower), code=0)


@pytest.mark.parametrize("system", ["baseline", "conv-cut"])
@pytest.mark.parametrize("select", ["accuracy", "loss"])
def test_a_validation_loss_that_is_no_number_stops_the_training_too(
    own: Store, fer: Fer, system: str, select: str
) -> None:
    one_step = {"data__limit": "20", "schedule__warmup": "0", "train__monitor": select}
    said = fer(*words(own, system, **DIVERGING, **one_step))
    assert_matches(said, r"loss is (nan|inf) .*epoch 1.*optim\.lr")
    assert partial(own) == []


def test_no_checkpoint_holds_what_is_no_number(own: Store, fer: Fer, monkeypatch: pytest.MonkeyPatch) -> None:
    forward: Callable[..., Any] = ClassifierNetwork.forward
    calls: list[int] = []

    def steep(self: ClassifierNetwork, x: torch.Tensor) -> Any:
        calls.append(1)  # the third loss is a number whose gradient is none
        logits = forward(self, x)
        return logits + torch.sqrt(logits.sum() * 0) if len(calls) == 3 else logits

    monkeypatch.setattr(ClassifierNetwork, "forward", steep)
    monkeypatch.setattr(engine, "SAVE_SECONDS", 0.0)
    assert_matches(fer(*words(own, train__ema="0.0")), r"step [34] \(epoch 1\)")
    assert checkpoints(own)
    assert all(finite(path) for path in checkpoints(own) if path.suffix == ".safetensors")


def test_a_late_look_at_the_loss_names_the_same_step_and_saves_nothing_after_it(
    own: Store, fer: Fer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the loss is looked at every so many steps, at each checkpoint and at the end of an epoch."""
    forward: Callable[..., Any] = ClassifierNetwork.forward
    calls: list[int] = []

    def broken(self: ClassifierNetwork, x: torch.Tensor) -> Any:
        calls.append(1)
        return forward(self, x) * (float("nan") if len(calls) == 2 else 1.0)

    monkeypatch.setattr(ClassifierNetwork, "forward", broken)
    exact = fer(*words(own))
    assert len(calls) == 2
    assert_matches(exact, r"the loss is nan at step 2 \(epoch 1\)")
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_check_every", lambda device: 99)
        assert fer(*words(own)) == exact
    assert len(calls) > 2, "it was found at the end of the epoch"
    assert checkpoints(own) == []
    calls.clear()
    monkeypatch.setattr(engine, "_check_every", lambda device: 99)
    monkeypatch.setattr(engine, "SAVE_SECONDS", 0.0)
    assert_matches(fer(*words(own)), r"the loss is nan at step 2 \(epoch 1\); the last good checkpoint is kept")
    assert len(calls) == 2
    assert len(checkpoints(own)) == 1
    assert all(finite(path) for path in checkpoints(own))


# ---- memory and disk


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "9 bytes. Error code 12 (Cannot allocate memory)"
)


def room_for(monkeypatch: pytest.MonkeyPatch, kind: type[Any], images: int, error: Exception, *, train: bool) -> None:
    forward = kind.forward

    def limited(self: Any, x: torch.Tensor) -> torch.Tensor:
        if len(x) > images and self.training == train:
            raise error
        out: torch.Tensor = forward(self, x)
        return out

    monkeypatch.setattr(kind, "forward", limited)


@pytest.mark.parametrize(
    ("error", "room", "batch", "fits"),
    [(CUDA, 19, 20, 10), (CPU, 5, 20, 5), (MemoryError(), 2, 3, 2), (CUDA, 1, 20, 0), (CPU, 1, 2, 0)],
)
def test_a_batch_that_fits_is_proposed(
    clean: Store, fer: Fer, monkeypatch: pytest.MonkeyPatch, error: Exception, room: int, batch: int, fits: int
) -> None:
    room_for(monkeypatch, ClassifierNetwork, room, error, train=True)
    said = fer(*words(clean, train__batch=str(batch)))
    assert_matches(said, f"out of memory with train.batch = {batch}\\b")
    assert_matches(said, f"take train.batch = {fits}\\b" if fits else "data.size")
    assert "()" not in said


@pytest.mark.parametrize("error", [CUDA, CPU])
@pytest.mark.parametrize(("system", "kind"), [("baseline", ClassifierNetwork), ("conv-cut", UpTo)])
def test_no_memory_outside_a_step_is_said_in_keys_of_the_recipe(
    own: Store, fer: Fer, monkeypatch: pytest.MonkeyPatch, error: Exception, system: str, kind: type[Any]
) -> None:
    room_for(monkeypatch, kind, 3, error, train=False)
    said = fer(*words(own, system))
    assert_matches(said, "out of memory.*data.size")


def test_a_full_disk_at_the_very_end_loses_no_training(own: Store, fer: Fer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SAVE_SECONDS", 0.0)
    write = Work.write

    def full(self: Work, name: str, data: bytes, *, view: bool = False) -> Path:
        if name == "model.safetensors":
            raise OSError(28, "No space left on device", str(self.directory / name))
        return write(self, name, data, view=view)

    with monkeypatch.context() as patch:
        patch.setattr(Work, "write", full)
        assert "No space left on device" in fer(*words(own))
    assert checkpoints(own)
    assert "resuming from epoch 2" in fer(*words(own), code=0)


def _killed(*_arguments: object, **_more: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("of", "name"), [(Work, "write"), (Work, "commit"), (Work, "put_in_place"), (atomic_io, "publish")]
)
def test_a_kill_after_the_last_step_costs_no_step(
    own: Store, fer: Fer, monkeypatch: pytest.MonkeyPatch, of: Any, name: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(of, name, _killed)
        assert "interrupted" in fer(*words(own), code=130)
    assert own.directories(["model"]) == []
    monkeypatch.setattr(engine._Training, "_step", _killed)
    fer(*words(own), code=0)
    model = own.find(None, ["model"]).path
    assert sorted(path.name for path in model.iterdir()) == [
        *("history.jsonl", "manifest.json", "model.safetensors", "recipe.toml")
    ]
    assert verify_directory(model) == []


def test_a_forced_training_that_was_stopped_goes_on_without_force(
    own: Store, fer: Fer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fer(*words(own), code=0)
    first = own.find(None, ["model"]).manifest
    saves = engine._Training._save_if_asked
    with monkeypatch.context() as patch:

        def stopped(self: Any) -> None:
            self.stop.signal = signal.SIGUSR1
            saves(self)

        patch.setattr(engine._Training, "_save_if_asked", stopped)
        again = fer(*words(own, "baseline", "--force"), code=75)
    assert_matches(again, "stopped by SIGUSR1, saved after step 1 of 6, epoch 1 of 1; .*without --force")
    assert own.find(None, ["model"]).manifest == first
    assert "resuming from epoch 1, step 1" in fer(*words(own), code=0)
    made = own.find(None, ["model"]).manifest
    assert (made.content, made.files) == (first.content, first.files)
    assert made.measured != first.measured
    assert fer(*words(own), code=0).count("epoch 1/") == 0, "it is up to date"


def test_a_file_is_no_folder_for_tensorboard(clean: Store, fer: Fer, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    said = fer(*words(clean), "--tensorboard", tmp_path / "x")
    assert said == f"{tmp_path / 'x'}: this is a file; give --tensorboard a folder"
    assert not list(clean.root.glob("model/*"))


# ---- checkpoints


@pytest.fixture(scope="module")
def stopped(toys: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A store with a training that stopped after four of six steps, and the weights that it should come to."""
    root = tmp_path_factory.mktemp("stopped")
    shutil.copytree(toys.root, root / "whole")
    shutil.copytree(toys.root, root / "stopped")
    assert run([str(word) for word in words(Store(root / "whole"))]) == 0
    with pytest.MonkeyPatch.context() as patch:
        step = engine._Training._step

        def dying(self: Any, number: int, *more: Any) -> None:
            if number == 4:
                raise KeyboardInterrupt
            step(self, number, *more)

        patch.setattr(engine._Training, "_step", dying)
        patch.setattr(engine, "SAVE_SECONDS", 0.0)
        assert run([str(word) for word in words(Store(root / "stopped"))]) == 130
    return root / "stopped", weights_of(Store(root / "whole"))


def weights_of(store: Store) -> bytes:
    return (store.directories(["model"])[0] / "model.safetensors").read_bytes()


@pytest.mark.parametrize("number", [0, 1])  # of the two checkpoints
@pytest.mark.parametrize("place", [0.0, 0.1, 0.999])
def test_a_flipped_bit_is_named_or_harmless_and_no_step_but_the_last_is_lost(
    stopped: tuple[Path, bytes], fer: Fer, tmp_path: Path, number: int, place: float
) -> None:
    shutil.copytree(stopped[0], tmp_path / "own")
    store = Store(tmp_path / "own")
    there = checkpoints(store)
    assert len(there) == 2
    flip(there[number], int(place * there[number].stat().st_size))
    command = [str(word) for word in words(store)]
    if run(command) != 0:
        said = fer(*command)
        assert said.startswith(f"{there[number].parent}/"), said
        Path(said.split(": ")[0]).unlink()  # as the line proposes
        assert "remove this file" in said
        assert "resuming from epoch 1, step" in fer(*command, code=0)
    assert weights_of(store) == stopped[1]


# ---- what was trained


@pytest.fixture(scope="module")
def trained(toys: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("trained") / "store")
    shutil.copytree(toys.root, store.root)
    assert run([str(word) for word in words(store)]) == 0
    return store


def damaged_weights(model: Artifact) -> None:
    flip(model.path / "model.safetensors", -9)


def damaged_history(model: Artifact) -> None:
    flip(model.path / "history.jsonl", 9)


def unknown_backbone(model: Artifact) -> None:
    config = model.manifest.config
    recipe = config["recipe"]
    config = {**config, "recipe": {**recipe, "model": {**recipe["model"], "backbone": "nobody"}}}
    (model.path / "manifest.json").write_bytes(model.manifest.model_copy(update={"config": config}).sealed().to_bytes())


def without_data(model: Artifact) -> None:
    shutil.rmtree(model.path.parents[2] / "dataset")


@pytest.mark.parametrize(
    ("damage", "expected", "curves_too"),
    [
        (damaged_weights, "model.safetensors: sha256 .*, expected .*; .*fer train", False),
        (damaged_history, "history.jsonl: sha256 .*, expected .*; .*fer train", True),
        (unknown_backbone, "timm has no backbone 'nobody'", False),
        (without_data, "was made from dataset/toy@.*, which is not in this store; rebuild that one", False),
    ],
)
def test_a_damaged_model_is_neither_scored_nor_drawn(
    trained: Store,
    fer: Fer,
    tmp_path: Path,
    damage: Callable[[Artifact], None],
    expected: str,
    curves_too: bool,
) -> None:
    shutil.copytree(trained.root, tmp_path / "own")
    store = Store(tmp_path / "own")
    damage(store.find(None, ["model"]))
    commands = [["eval", "--report", "--resamples", 100, "--device", "cpu"]]
    if damage is not damaged_history:
        commands.append(["plot", "gradcam", "--out", tmp_path / "x.svg", "--device", "cpu"])
    if curves_too:
        commands.append(["plot", "curves", "--out", tmp_path / "x.svg"])
    for command in commands:
        assert_matches(fer(*command, "--store", store.root), expected)
    assert store.directories(["evaluation"]) == []
    assert not (tmp_path / "x.svg").exists()
