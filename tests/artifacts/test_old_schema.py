"""Artifacts of an older schema: refused in one line with the command that makes them again, and no obstacle else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fer_cli.artifacts.dependents import dependents
from fer_cli.artifacts.maintenance import leftovers
from fer_cli.artifacts.manifest import MANIFEST, SCHEMA, OldSchemaError, read_manifest
from fer_cli.artifacts.store import Store
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError
from fer_cli.stages.prepare import prepare
from tests.kits.toy import CLASSES, Toy


def old(store: Store, kind: str, name: str, version: str, stage: str, **more: Any) -> Path:
    """Write what a manifest of schema 1 held that is still of use."""
    directory = store.root / kind / name / version
    directory.mkdir(parents=True)
    (directory / "data.bin").write_bytes(b"x" * 100)
    manifest = {"schema": 1, "kind": kind, "name": name, "version": version, "stage": stage, "inputs": {}, **more}
    (directory / MANIFEST).write_text(json.dumps(manifest))
    return directory


OLDER = {"dataset": {"kind": "dataset", "name": "rafdb", "version": "3" * 12, "content": "0" * 64}}
DATASET = {"dataset": {"kind": "dataset", "name": "rafdb", "version": "0" * 12, "content": "0" * 64}}


@pytest.mark.parametrize(
    ("kind", "stage", "more", "command"),
    [
        ("dataset", "prepare", {"measured": {"command": "fer prepare rafdb --seed 1"}}, "fer prepare rafdb --seed 1"),
        ("dataset", "prepare", {}, "fer prepare"),
        ("masks", "parse-masks", {"inputs": DATASET}, "fer parse-masks rafdb"),
        ("features", "extract", {"inputs": DATASET}, "fer extract rafdb"),
        (
            "model",
            "train",
            {"inputs": DATASET, "config": {"system": "conv-cut"}, "seeds": [3]},
            "fer train conv-cut rafdb --seeds 3",
        ),
        ("study", "train", {"config": {"system": "slfer"}, "seeds": [0, 1]}, "fer train slfer --seeds 0,1"),
        (
            "evaluation",
            "eval",
            {"inputs": {"model": {"kind": "model", "name": "m", "version": "0" * 12, "content": "0" * 64}}},
            "fer eval m",
        ),
    ],
)
def test_it_is_refused_with_the_command_that_makes_it_again(
    store: Store, kind: str, stage: str, more: dict[str, Any], command: str
) -> None:
    directory = old(store, kind, "old", "a" * 12, stage, **more)
    with pytest.raises(OldSchemaError) as caught:
        store.find("old", [kind])
    assert str(caught.value).endswith(f"manifest of schema 1, this fer reads schema {SCHEMA}; make it again: {command}")
    assert "\n" not in str(caught.value)
    assert str(directory / MANIFEST) in str(caught.value)


@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, "2", None, [1]])
def test_any_other_schema_is_not_old(store: Store, schema: Any) -> None:
    directory = old(store, "dataset", "odd", "a" * 12, "prepare", schema=schema)
    with pytest.raises(FerError, match="use the version of fer that wrote it") as caught:
        read_manifest(directory)
    assert not isinstance(caught.value, OldSchemaError)


def test_ls_and_gc_cope_with_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    made = {"created": "2026-03-01T10:00:00+00:00"}
    parent = old(store, "dataset", "rafdb", "3" * 12, "prepare", measured={"command": "fer prepare rafdb"}, **made)
    newer = old(store, "dataset", "rafdb", "1" * 12, "prepare", created="2026-03-01T10:00:20+00:00")
    model = old(store, "model", "m", "2" * 12, "train", inputs=OLDER, config={"system": "baseline"}, seeds=[0], **made)
    assert store.directories(["dataset"]) == [newer, parent]
    assert run(["ls", "--json", "--store", str(store.root)]) == 0
    listed = json.loads(capsys.readouterr().out)["artifacts"]
    assert all("make it again: fer " in one["old_schema"] for one in listed)
    assert run(["ls", "--store", str(store.root)]) == 0
    assert capsys.readouterr().out.count("old schema") == 3
    assert leftovers(store, superseded=False) == []
    assert leftovers(store, superseded=True) == [], "their settings cannot be read: they may be arms of an experiment"
    assert dependents(store, {("dataset", "3" * 12)}) == [model]
    (model / MANIFEST).unlink()
    assert {one.path for one in leftovers(store, superseded=True)} == {model}


def test_it_is_made_again_in_its_place(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def toy() -> Toy:
        return Toy(images=70, grey=True, seed=0, classes=CLASSES)

    first = prepare(store=store, loader=toy()).artifact
    path = first.path / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 1}))
    capsys.readouterr()
    again = prepare(store=store, loader=toy())
    assert not again.up_to_date
    assert again.artifact.path == first.path
    assert again.artifact.manifest.content == first.manifest.content
    assert "old schema" in capsys.readouterr().err
