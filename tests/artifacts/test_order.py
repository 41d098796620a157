"""The order of artifacts, and what ``fer verify`` and ``fer gc`` find: told by the store, not by times of files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fer_cli.artifacts.journal import Journal
from fer_cli.artifacts.maintenance import REQUESTS, leftovers, remove, verify_store
from fer_cli.artifacts.manifest import MANIFEST
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from tests.artifacts.test_store import build, plan


def test_a_copy_has_the_order_whatever_its_times_and_the_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("time.time_ns", lambda: 4 * 10**18)  # a clock that was far ahead once
        first = build(store, plan(revision=1))
    second = build(store, plan(revision=2))
    copy = Store(Path(shutil.copytree(store.root, store.root.parent / "copy")))
    os.utime(copy.root / second.path.relative_to(store.root) / MANIFEST, (1, 1))
    assert [path.name for path in copy.directories()] == [second.version, first.version]
    assert [one.path.name for one in leftovers(copy, superseded=True)] == [first.version]
    build(copy, plan(revision=1))
    assert copy.find(None, ["dataset"]).version == first.version, "what is confirmed as up to date is the newest"
    assert not [fault for one in verify_store(copy) for fault in one.damage]


def test_verify_finds_a_payload_without_manifest_and_a_missing_input(store: Store) -> None:
    source = build(store, plan())
    features = build(store, plan("f", kind="features", inputs={"dataset": source.as_input()}))
    (source.path / MANIFEST).unlink()
    found = {str(fault.path) for one in verify_store(store) for fault in one.damage}
    assert found == {str(source.path / MANIFEST), str(source.path)}
    shutil.rmtree(source.path)
    assert [fault.found for one in verify_store(store) for fault in one.damage] == ["no such artifact"]
    assert [one.directory for one in verify_store(store)] == [features.path]


def test_exchanged_artifacts_are_not_taken_for_each_other(store: Store) -> None:
    one, other = build(store, plan(seed=0)), build(store, plan(seed=1))
    aside = one.path.rename(one.path.parent / "aside")
    other.path.rename(one.path)
    aside.rename(other.path)
    with pytest.raises(FerError, match="it was renamed or exchanged"):
        store.find(f"toy@{one.version}", ["dataset"])


def test_gc_takes_the_answers_of_requests_whose_artifacts_are_gone(store: Store) -> None:
    artifact = build(store, plan())
    folder = store.root / REQUESTS
    folder.mkdir()
    (folder / "kept.json").write_text(f'["kept", [["dataset/toy/{artifact.version}", "c"]]]')
    (folder / "gone.json").write_text('["gone", [["dataset/toy/000000000000", "c"]]]')
    (folder / "another.json").write_text(f'["kept", [["dataset/toy/{artifact.version}", "c"]]]')
    remove(store, leftovers(store, superseded=False))
    assert [path.name for path in folder.iterdir()] == ["kept.json"]


def test_a_journal_of_another_run_counts_as_none(tmp_path: Path) -> None:
    Journal(tmp_path, 0, "one").note(3, {"a": 7})
    assert Journal.read(tmp_path, "one") == {3: {"a": 7}}
    assert Journal.read(tmp_path, "other") == {}
