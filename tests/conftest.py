"""Fixtures that most tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_cli.artifacts.store import Store


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
