"""An experiment of several arms and seeds: no form of ``fer gc`` takes anything of it, and each part is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fer_cli.artifacts.annotations import Annotations
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.manifest import Input
from fer_cli.artifacts.sections import Section
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.superseded import fates
from fer_cli.artifacts.work import Plan
from fer_cli.cli.app import run
from fer_cli.stages.compare import compare
from tests.kits.compare import answers, scored
from tests.kits.train import Fer

ARMS: dict[str, dict[str, Any]] = {
    "control": {},
    "low": {"optim": {"lr": 5e-4}},
    "long": {"train": {"epochs": 24}},
    "soft": {"loss": {"soft": True}},
}
SEEDS = (0, 1, 2)
FORMS = (
    ("gc", "--yes"),
    ("gc", "--superseded", "--yes"),
    ("gc", "--unfinished", "--yes"),
    ("gc", "--superseded", "--unfinished", "--yes"),
)


@pytest.fixture(scope="module", params=["a name each", "one name"])
def experiment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four arms of three seeds, their studies and evaluations; under a name each, or all under one."""
    store = Store(tmp_path_factory.mktemp("experiment"))
    for arm, (name, settings) in enumerate(ARMS.items()):
        rows = [answers(210, 0.5 + 0.05 * arm, 10 * arm + seed) for seed in SEEDS]
        scored(store, name if request.param == "a name each" else "arm", rows, seeds=SEEDS, settings=settings)
    return store


def everything(store: Store) -> set[str]:
    return {store.open(path).reference for path in store.directories()}


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_gc_takes_nothing_of_an_experiment(
    experiment: Store, form: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(experiment)
    assert len(before) == 4 * (3 + 1 + 1)
    evaluations = sorted(one for one in before if one.startswith("evaluation/"))
    compared = compare(store=experiment, references=evaluations).comparison
    assert run([*form, "--store", str(experiment.root)]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert everything(experiment) == before
    again = compare(store=experiment, references=evaluations).comparison
    assert [one.scores for one in again.systems] == [one.scores for one in compared.systems]


def test_ls_tells_the_arms_apart(experiment: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", "--sort", "accuracy", "--store", str(experiment.root), "--json"]) == 0
    board = json.loads(capsys.readouterr().out)["artifacts"]
    assert [entry["kind"] for entry in board] == ["evaluation"] * 4
    scores = [entry["accuracy"]["value"] for entry in board]
    assert scores == sorted(scores, reverse=True)
    assert len({(entry["name"], *entry["differs"]) for entry in board}) == 4
    assert run(["ls", "model", "--store", str(experiment.root), "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["artifacts"]
    assert len({(entry["name"], *entry["differs"]) for entry in models}) == 12


def test_ls_takes_any_name(experiment: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def listed(name: str) -> list[str]:
        assert run(["ls", name, "--store", str(experiment.root), "--json"]) == 0
        return [
            f"{one['kind']}/{one['name']}@{one['version']}" for one in json.loads(capsys.readouterr().out)["artifacts"]
        ]

    for path in experiment.directories(["study"]):
        study = experiment.open(path)
        members = {
            f"{one.kind}/{one.name}@{one.version}" for one in study.manifest.inputs.values() if one.kind == "model"
        }
        found = listed(study.reference)
        assert {one for one in found if one.startswith("model/")} == members
        assert [one.partition("/")[0] for one in found if one not in members] == ["evaluation", "study"]
        first = min(members)
        assert set(listed(first)) == {*found} - members | {first}, "a model, and what was made from it"
        assert set(listed(f"{study.name[:2]}*")) >= {*found}
    assert run(["ls", "nothing-of-this-name", "--store", str(experiment.root)]) == 1


def plan(kind: str = "model", revision: int = 1, lr: float = 1e-3, *, data: str = "1", **inputs: Artifact) -> Plan:
    sources = {role: artifact.as_input() for role, artifact in inputs.items()}
    files = {} if inputs else {"source": Input(kind="files", name="drawn", content=data * 64)}
    return Plan(kind, "run", "train" if inputs else "prepare", revision, {"lr": lr}, {**sources, **files})


def made(store: Store, what: Plan) -> Artifact:
    with store.make(what) as work:
        if work.committed is None:
            work.write("result", repr(what).encode())
            return work.commit(summary=Section(), protocol=Section())
        return work.committed


def gone(store: Store) -> set[Path]:
    return {fate.path for fate in fates(store) if fate.goes}


def test_newer_code_and_newer_data_replace_an_equal_run_and_no_other(store: Store) -> None:
    data = made(store, plan("dataset"))
    old, other = made(store, plan(dataset=data)), made(store, plan(lr=5e-4, dataset=data))
    assert gone(store) == set()
    newer_code = made(store, plan(revision=2, dataset=data))
    assert gone(store) == {old.path}
    newer_data = made(store, plan("dataset", data="2"))
    assert gone(store) == {old.path}, "the older data are what the models were made from"
    newest = made(store, plan(revision=2, dataset=newer_data))
    assert gone(store) == {old.path, newer_code.path}
    reasons = {fate.path: fate.reason for fate in fates(store)}
    assert reasons[old.path] == (f"replaced by run@{newest.version}: newer code (revision 1, now 2), newer dataset")
    assert reasons[data.path] == f"{other.reference} needs it"
    assert reasons[other.path] == "no newer run with equal settings"


def test_what_is_tagged_noted_or_scored_stays(store: Store) -> None:
    data = made(store, plan("dataset"))
    old = made(store, plan(dataset=data))
    made(store, plan(revision=2, dataset=data))
    Annotations(store).change(old, add=["paper"])
    assert gone(store) == set()
    assert {fate.reason for fate in fates(store) if fate.path == old.path} == {"tagged paper"}
    Annotations(store).change(old, remove=["paper"], note="the figure of section 4")
    assert gone(store) == set()
    Annotations(store).change(old, note="")
    assert gone(store) == {old.path}
    made(store, plan("evaluation", model=old))
    assert gone(store) == set(), "a kept evaluation names it"


def test_an_older_run_that_was_used_last_stays(store: Store) -> None:
    data = made(store, plan("dataset"))
    made(store, plan(dataset=data))
    made(store, plan(revision=2, dataset=data))
    made(store, plan(dataset=data))
    assert gone(store) == set()


def test_files_that_are_settings_make_another_arm(store: Store) -> None:
    """A hierarchy, a list of ids or predictions of the same name and other bytes are no newer data."""
    for data in "12":
        what = plan(data=data)
        made(store, replace(what, stage="fit-ahm", inputs={"hierarchy": what.inputs["source"]}))
    assert gone(store) == set()


def test_rm_names_what_was_made_from_it(experiment: Store, tmp_path: Path, fer: Fer) -> None:
    import shutil

    store = Store(Path(shutil.copytree(experiment.root, tmp_path / "copy")))
    model = store.open(store.directories(("model",))[0])
    at = ["--store", store.root]
    line = fer("rm", model.reference, "--yes", *at)
    assert "2 artifacts were made from it: evaluation/" in line
    assert "add --with-dependents" in line
    assert "1 artifact would be removed; add --yes" in fer("rm", model.reference, "--force", *at, code=2)
    before = everything(store)
    Annotations(store).change(model, add=["x"])
    fer("rm", model.reference, "--with-dependents", "--yes", *at, code=0)
    assert len(before - everything(store)) == 3
    assert Annotations(store).of("model", model.version).is_empty
    left = store.open(store.directories(("model",))[0])
    fer("rm", left.reference, "--force", "--yes", *at, code=0)
    assert left.reference not in everything(store)
