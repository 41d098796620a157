"""Names, tags and notes: what a user says of artifacts changes no version, and survives."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fer_cli.artifacts.annotations import ANNOTATIONS, Annotations
from fer_cli.artifacts.maintenance import open_parent, verify_store
from fer_cli.artifacts.manifest import MANIFEST
from fer_cli.artifacts.naming import chosen_name, composed_name
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError, UsageError
from tests.artifacts.test_store import build, plan
from tests.kits.train import Fer


def test_words_that_are_too_many_give_way_to_a_hash_of_all_of_them() -> None:
    assert composed_name("d-baseline", ["lr0.0005"], ["seed0"]) == "d-baseline-lr0.0005-seed0"
    many = [f"setting{number}" for number in range(9)]
    name = composed_name("d-baseline", many, ["seed0"])
    assert name.startswith("d-baseline-setting0-setting1-setting2-")
    assert len(name) <= len("d-baseline--seed0") + 48
    assert composed_name("d-baseline", [*many[:-1], "other"], ["seed0"]) != name
    long = composed_name("d" * 200, ["a"], ["seed0"], 96)
    assert len(long) == 96
    assert long.endswith("-a-seed0")
    assert composed_name("d" * 199 + "e", ["a"], ["seed0"], 96) != long


@pytest.mark.parametrize("name", ["A", "a b", "a/b", "..", "-a", "", "é", "e\u0301", "x" * 81, "model", "a\n"])
def test_a_name_that_cannot_be_one_is_refused_before_any_work(name: str) -> None:
    with pytest.raises(UsageError):
        chosen_name(name)


def test_the_same_run_under_another_name_is_not_made_again(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    first = build(store, plan("first"))
    for force in (False, True):
        again = build(store, plan("second"), force=force)
        assert (again.path, again.manifest.content) == (first.path, first.manifest.content)
        assert f"second is the same as dataset/first@{first.version}, which keeps" in capsys.readouterr().err
    assert [path.parent.name for path in store.directories()] == ["first"]
    other = build(store, plan("first", seed=1))
    assert other.path.parent == first.path.parent, "two runs of one name are two versions of it"


def test_a_rename_keeps_version_lineage_tags_and_requests(store: Store) -> None:
    data = build(store, plan("first"))
    features = build(store, plan("f", kind="features", inputs={"dataset": data.as_input()}))
    Annotations(store).change(data, add=["paper"], note="as published")
    renamed = store.rename(data, "second")
    assert (renamed.version, renamed.manifest.content) == (data.version, data.manifest.content)
    assert open_parent(store, features, "dataset").reference == renamed.reference
    assert store.find(data.reference, ["dataset", "features"]).path == renamed.path, "its old reference leads to it"
    assert Annotations(store).of("dataset", data.version).tags == ("paper",)
    assert build(store, plan("first")).path == renamed.path
    assert not [fault for one in verify_store(store) for fault in one.damage]
    assert not data.path.parent.exists()


def test_a_rename_that_was_killed_leaves_sound_artifacts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = build(store, plan("first"))
    with monkeypatch.context() as patch:
        patch.setattr("fer_cli.artifacts.atomic_io.remove_tree", lambda _path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.rename(data, "second")
    assert not [fault for one in verify_store(store) for fault in one.damage]
    renamed = store.rename(store.find("first", ["dataset"]), "second")
    assert store.directories() == [renamed.path]


def test_tags_and_notes_change_no_byte_of_an_artifact_and_survive_a_copy(store: Store, fer: Fer) -> None:
    data = build(store, plan())
    before = (data.path / MANIFEST).read_bytes()
    at = ["--store", store.root]
    fer("tag", "toy", "+paper", "+e\u0301te\u0301", "+host", *at, code=0)
    fer("tag", "toy", "-host", *at, code=0)
    fer("note", "toy", "  as  published\n", *at, code=0)
    assert (data.path / MANIFEST).read_bytes() == before
    copy = Store(Path(shutil.copytree(store.root, store.root.parent / "copy")))
    said = Annotations(copy).of("dataset", data.version)
    assert (said.tags, said.note) == (("paper", "été"), "as published")
    assert "has no tag nowhere" in fer("tag", "toy", "-nowhere", *at)
    assert "write +bare to add it" in fer("tag", "toy", "bare", *at, code=2)
    assert "is not a tag" in fer("tag", "toy", "+a b", *at, code=2)
    fer("note", "toy", "", *at, code=0)
    assert Annotations(store).of("dataset", data.version).note == ""


def test_writers_of_tags_do_not_lose_each_others(store: Store) -> None:
    data = build(store, plan())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: Annotations(store).change(data, add=[f"t{number}"]), range(24)))
    assert len(Annotations(store).of("dataset", data.version).tags) == 24


def test_a_damaged_list_of_tags_is_named_and_nothing_is_removed(store: Store, fer: Fer) -> None:
    build(store, plan(revision=1))
    build(store, plan(revision=2))
    (store.root / ANNOTATIONS).write_text("{")
    with pytest.raises(FerError, match=r"annotations\.json: is not a list of tags and notes"):
        Annotations(store)
    assert ANNOTATIONS in fer("gc", "--superseded", "--yes", "--store", store.root)
    assert len(store.directories()) == 2


def test_a_name_stands_for_the_only_seed_that_was_trained_under_it(store: Store) -> None:
    zero = build(store, plan("ctl-seed0", kind="model"))
    assert store.find("ctl", ["model", "study"]).path == zero.path
    build(store, plan("ctl-seed1", kind="model", seed=1))
    with pytest.raises(FerError, match="there is ctl-seed"):
        store.find("ctl", ["model", "study"])


def test_a_name_without_settings_stands_for_the_only_ones_and_says_so(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    small = build(store, plan("ctl-size32-seed0", kind="model"))
    assert store.find("ctl-seed0", ["model"]).path == small.path
    assert "using ctl-size32-seed0" in capsys.readouterr().err
    build(store, plan("ctl-size64-seed1", kind="model", seed=1))
    assert store.find("ctl-seed0", ["model"]).path == small.path, "of another seed"
    build(store, plan("ctl-size64-seed0", kind="model", seed=2))
    with pytest.raises(FerError, match="there is ctl-size"):
        store.find("ctl-seed0", ["model"])
    usual = build(store, plan("ctl-seed0", kind="model", seed=3))
    assert store.find("ctl-seed0", ["model"]).path == usual.path
