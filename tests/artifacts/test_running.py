"""What work under way says of itself: while it runs, when it is silent, after a kill, and when it ended."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fer_cli.artifacts import heartbeat
from fer_cli.artifacts.heartbeat import ENDING, Running
from fer_cli.artifacts.maintenance import leftovers, remove
from fer_cli.artifacts.running import running_work, work_directory
from fer_cli.artifacts.sections import Section
from fer_cli.artifacts.store import LOCKS, Store
from fer_cli.artifacts.work import Plan
from fer_cli.cli.app import run
from fer_cli.cli.watch import curve, curves
from fer_cli.core import progress
from fer_cli.core.progress import track


class Epochs(Section):
    """A summary."""

    epochs: int


def plan(name: str = "slow-seed0") -> Plan:
    return Plan(kind="model", name=name, stage="train", revision=1, config={"name": name}, inputs={})


HISTORY = [
    {"epoch": 1.0, "train_loss": 2.0, "validation_loss": 1.5, "accuracy": 0.40, "balanced_accuracy": 0.2},
    {"epoch": 2.0, "train_loss": 1.0, "validation_loss": 1.0, "accuracy": 0.70, "balanced_accuracy": 0.5},
    {"epoch": 3.0, "train_loss": 0.5, "validation_loss": 1.2, "accuracy": 0.65, "balanced_accuracy": 0.6},
]


def work_for_long(root: Path, told: Any) -> None:
    """Make an artifact in a process of its own: a quarter is done, then it waits to be killed."""
    with Store(root).make(plan(), resumable=True) as work:
        (work.directory / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in HISTORY))
        with track("train slow-seed0", 400, unit="steps", done=60) as advance:
            time.sleep(0.05)
            advance(40, "epoch 4/12")
            told.set()
            time.sleep(600)


def begun(root: Path, monkeypatch: pytest.MonkeyPatch) -> multiprocessing.context.ForkProcess:
    monkeypatch.setattr(progress, "RECORD_SECONDS", 0.0)
    context = multiprocessing.get_context("fork")
    told = context.Event()
    process = context.Process(target=work_for_long, args=(root, told))
    process.start()
    assert told.wait(60)
    return process


def test_work_is_followed_until_it_is_killed_and_then_until_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    process = begun(tmp_path, monkeypatch)
    try:
        ((running, state),) = running_work(store)
        assert state == "running"
        assert (running.reference, running.host, running.process) == (
            f"model/slow-seed0@{plan().version}",
            socket.gethostname(),
            process.pid,
        )
        assert (running.before, running.done, running.total, running.unit) == (60, 100, 400, "steps")
        assert running.status == "epoch 4/12"
        rate = 40 / (running.heard - running.begun)
        assert running.rate == pytest.approx(rate)
        assert running.left == pytest.approx(300 / rate)
        assert [one for one in leftovers(store, superseded=False) if ENDING in one.path.name] == []

        assert run(["ls", "--running", "--json", "--store", str(tmp_path)]) == 0
        (shown,) = json.loads(capsys.readouterr().out)["running"]
        assert (shown["state"], shown["done"], shown["history"]) == ("running", 100, HISTORY)
        assert run(["watch", "another", "--store", str(tmp_path)]) == 1
        assert "slow-seed0" in capsys.readouterr().err
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert [state for _, state in running_work(store)] == ["stopped"]
    assert run(["watch", "slow", "--store", str(tmp_path)]) == 0  # it does not wait for what will not come
    line = capsys.readouterr().out
    assert line.startswith(f"slow-seed0@{plan().version[:6]}: stopped, 100/400, ")
    assert f"on {socket.gethostname()}" in line

    remove(store, leftovers(store, superseded=False, unfinished=True))
    assert running_work(store) == []
    assert list((tmp_path / LOCKS).glob(f"*{ENDING}*")) == []


def test_what_was_killed_goes_on_and_leaves_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = begun(tmp_path, monkeypatch)
    process.kill()
    process.join()
    part = tmp_path / LOCKS / f".model.{plan().version}{ENDING}.part"
    part.write_bytes(b"{")
    assert [one.path for one in leftovers(Store(tmp_path), superseded=False)] == [part]
    with Store(tmp_path).make(plan(), resumable=True) as work:
        assert work.committed is None
        with track("train", 400, unit="steps", done=100):
            assert [(one.done, state) for one, state in running_work(Store(tmp_path))] == [(100, "running")]
    assert running_work(Store(tmp_path)) == []


def test_silence_and_other_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    (tmp_path / LOCKS).mkdir()
    said = Running(
        kind="model", name="far", version="0" * 12, host="elsewhere", process=1, begun=0.0, heard=time.time(),
        title="train far", unit=None, total=10.0, before=0.0, done=5.0, status="",
    )  # fmt: skip

    def say(running: Running) -> str:
        (tmp_path / LOCKS / f"model.{'0' * 12}{ENDING}").write_text(running.model_dump_json())
        return " ".join(state for _, state in running_work(store))

    assert say(said) == "running"  # its lock may not be seen here
    assert say(said.model_copy(update={"host": socket.gethostname()})) == ""  # nobody holds it, nothing to go on from
    (tmp_path / "model" / "far" / f".partial-{'0' * 12}").mkdir(parents=True)
    assert say(said.model_copy(update={"host": socket.gethostname()})) == "stopped"
    assert say(said.model_copy(update={"heard": time.time() - 1000})) == "stopped"
    with store.exclusive("model", "0" * 12):
        assert say(said.model_copy(update={"heard": time.time() - 1000})) == "silent"
        assert work_directory(store, said) == tmp_path / "model" / "far" / f".partial-{'0' * 12}"
    (tmp_path / LOCKS / f"model.{'0' * 12}{ENDING}").write_text('{"kind": "model"}')
    assert running_work(store) == []


def test_work_goes_on_where_it_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "RECORD_SECONDS", 0.0)
    place = tmp_path / "no such folder" / f"model.{'0' * 12}{ENDING}"
    with heartbeat.recorded(place, plan()), track("train", 3, unit="steps") as advance:
        advance()
        advance()
    assert [("cannot follow" in record.message) for record in caplog.records] == [True]


def test_nested_work_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "RECORD_SECONDS", 0.0)
    store = Store(tmp_path)
    with store.make(plan("outer")), track("outer", 10) as outer:
        outer(3)
        with store.make(plan("inner")), track("inner", 4) as inner:
            inner(1)
            assert [(one.name, one.done) for one, _ in running_work(store)] == [("inner", 1), ("outer", 3)]
        outer(1)
        assert [(one.name, one.done) for one, _ in running_work(store)] == [("outer", 4)]


def test_curves_end_with_the_last_value_and_name_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert curves([]) == []
    assert curves(HISTORY) == [
        "training loss      █▃▁  0.500, best 0.500 at epoch 3",
        "validation loss    █▁▄  1.200, best 1.000 at epoch 2",
        "accuracy           ▁█▇  65.0%, best 70.0% at epoch 2",
        "balanced accuracy  ▁▇█  60.0%, best 60.0% at epoch 3",
    ]
    assert len(curve([float(number) for number in range(1000)])) <= 48
    assert curve([float(number) for number in range(1000)])[-1] == "█"
    assert curve([1.0, 1.0]) == "▁▁"

    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr(sys, "stdout", Ascii())
    assert curve([0.0, 1.0]) == ".@"


def test_a_word_that_outlived_its_work_goes_when_the_artifact_is_asked_for(tmp_path: Path) -> None:
    """A kill between the last rename and the end leaves the artifact whole and the word behind."""
    store = Store(tmp_path)
    with store.make(plan()) as work:
        work.commit(summary=Epochs(epochs=1), protocol=Epochs(epochs=1))
    word = tmp_path / LOCKS / f"model.{plan().version}{ENDING}"
    word.write_bytes(b"{}")
    with store.make(plan()) as again:
        assert again.committed is not None
    assert not word.exists()
