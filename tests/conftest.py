"""Fixtures that most tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.cli.terminal import on_stderr
from fer_cli.core.machine import wait_passively
from tests.kits.toy import toy_dataset
from tests.kits.train import Fer, files

wait_passively()  # before anything loads torch: the tests' own processes share the cores


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the developer's store, data or weights, nor reaches a hub."""
    for name in ("FER_STORE", "FER_DATA", "FER_WEIGHTS", "FER_ALLOCATOR", "FER_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


@pytest.fixture(autouse=True)
def shown() -> Iterator[None]:
    """Tests that call a stage read on stderr what its command would show there."""
    with on_stderr():
        yield


@pytest.fixture
def fer(capsys: pytest.CaptureFixture[str]) -> Fer:
    """Run ``fer``, check how it ended, and return its line of error; all that it said where it ends well."""

    def call(*words: object, code: int = 1) -> str:
        capsys.readouterr()
        ended = run([str(word) for word in words])
        out, said = capsys.readouterr()
        assert ended == code, said
        if code == 0:
            return said
        lines = said.splitlines()
        assert "Traceback" not in said
        assert out == ""
        assert [line.startswith("fer: error: ") for line in lines].count(True) == 1, said
        assert lines[-1].startswith("fer: error: ")
        return lines[-1].removeprefix("fer: error: ")

    return call


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What every test has a copy of."""
    store = Store(tmp_path_factory.mktemp("toys"))
    toy_dataset(store, images=210)
    return store


@pytest.fixture
def own(toys: Store, tmp_path: Path) -> Store:
    shutil.copytree(toys.root, tmp_path / "own")
    return Store(tmp_path / "own")


@pytest.fixture
def clean(own: Store) -> Iterator[Store]:
    """A store in which nothing may be made."""
    before = files(own)
    yield own
    assert files(own) == before
