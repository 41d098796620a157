"""A training that begins with a model's weights: its tensors, its version, and what that model had seen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import DatasetProtocol, StartingWeights, TrainingProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import EvaluationSummary, ModelConfig, ModelSummary
from fer_cli.core.errors import FerError
from fer_cli.core.findings import Check, Finding
from fer_cli.datasets.dataset import open_dataset
from fer_cli.datasets.records import Block
from fer_cli.stages.audit_model import audit_model
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.prepare import prepare
from fer_cli.stages.split import split
from fer_cli.stages.train import train
from fer_cli.training.engine import fit
from tests.kits.toy import CLASSES, Toy, toy_dataset

SMALL = (
    *("model.backbone=test_efficientnet", "model.drop_path=0.0", "data.size=32", "train.batch=20", "train.epochs=1"),
    "optim.lr=3e-3",
)
"""Settings of a training that takes a second."""


class Turned(Toy):
    """The same images, of which test and validation have changed places with the first third of train."""

    @property
    def name(self) -> str:
        return "turned"

    def blocks(self) -> Iterator[Block]:
        others = ("test", "validation", "train", "train", "train")
        for block in super().blocks():
            rows = []
            for row in block.rows:
                index = int(row.id.removeprefix("toy-"))
                rows.append(row.__class__(row.id, others[index // len(self.classes) % 5], row.label, row.source))
            yield Block(tuple(rows), block.images)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact]:
    """A store with two data sets of the same images, split otherwise, and a model of the first."""
    store = Store(tmp_path_factory.mktemp("begun"))
    prepare(store=store, loader=Turned(images=105, grey=True, seed=0, classes=CLASSES))
    toy_dataset(store, images=105)
    return store, trained(store, "toy", "model.weights=none", name="first")


def trained(store: Store, dataset: str, *changes: str, **options: Any) -> Artifact:
    result = train(store=store, system="baseline", dataset=dataset, changes=(*SMALL, *changes), device="cpu", **options)
    return result.whole.artifact


def start_of(model: Artifact) -> StartingWeights:
    start = TrainingProtocol.of(model).start
    assert start is not None
    return start


def finding(findings: tuple[Finding, ...]) -> Finding:
    [found] = [one for one in findings if one.check == Check.STARTING_WEIGHTS]
    return found


def first_tensors(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Note the tensors that a training begins with."""
    seen: list[dict[str, torch.Tensor]] = []

    def noting(task: Any, *arguments: Any, **options: Any) -> Any:
        seen.append({name: one.clone() for name, one in task.network.state_dict().items()})
        return fit(task, *arguments, **options)

    monkeypatch.setattr("fer_cli.training.engine.fit", noting)
    return seen


def test_it_begins_with_the_models_tensors_and_keeps_the_classifier_of_the_same_classes(
    begun: tuple[Store, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, model = begun
    seen = first_tensors(monkeypatch)
    made = trained(store, "toy", f"model.weights={model.name}")
    theirs = load_file(model.file("model.safetensors"))
    assert seen[0].keys() == theirs.keys()
    assert all(torch.equal(seen[0][name], theirs[name]) for name in theirs)
    assert start_of(made).classifier == "kept"
    assert ModelConfig.of(made).recipe["model"]["weights"] == f"model@{model.version}"
    assert made.manifest.inputs["start"].version == model.version
    assert "from-first-seed0" in ModelSummary.of(made).headline


def test_the_classifier_is_new_where_the_classes_differ(
    begun: tuple[Store, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, model = begun
    toy = Toy(images=90, grey=True, seed=1, classes=CLASSES[:6])
    other = prepare(store=store, loader=toy, name="six").artifact
    seen = first_tensors(monkeypatch)
    made = trained(store, other.reference, f"model.weights={model.reference}")
    theirs = load_file(model.file("model.safetensors"))
    same = {name for name in theirs if torch.equal(seen[0][name], theirs[name])}
    assert {name for name in theirs if name not in same} <= {"classifier.weight", "classifier.bias"}
    assert seen[0]["classifier.weight"].shape[0] == 6
    assert start_of(made).classifier == "new"


def test_attention_is_taken_over_too(begun: tuple[Store, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = begun
    se = ("model.backbone=test_resnet", "model.attention=se")
    model = trained(store, "toy", *se, "model.weights=none")
    seen = first_tensors(monkeypatch)
    trained(store, "toy", *se, f"model.weights={model.reference}")
    theirs = load_file(model.file("model.safetensors"))
    assert all(torch.equal(seen[0][name], theirs[name]) for name in theirs)
    with pytest.raises(FerError, match="does not fit the network") as refused:
        trained(store, "toy", se[0], f"model.weights={model.reference}")
    assert "model.attention" in refused.value.hint


def test_images_that_the_model_was_trained_on_are_found_in_any_split(begun: tuple[Store, Artifact]) -> None:
    store, model = begun
    made = trained(store, "turned", f"model.weights={model.reference}")
    start = start_of(made)
    assert start.trained_on == {"train": 21, "validation": 21, "test": 21}
    assert [one.reference for one in start.models] == [model.reference]
    assert sum("were trained on by" in text for text in made.manifest.warnings) == 2
    scored = evaluate_model(store=store, model=made.reference, resamples=100, device="cpu").artifact
    unsound = EvaluationSummary.of(scored).unsound
    assert any("21 of 21 scored images were trained on by" in text for text in unsound), unsound
    found = finding(audit_model(store=store, model=made.reference, device="cpu").findings)
    assert (found.verdict, "--like" in found.advice) == ("fail", True)


def test_the_same_splits_pass_and_a_grandparent_counts(begun: tuple[Store, Artifact]) -> None:
    store, model = begun
    second = trained(store, "toy", f"model.weights={model.reference}")
    assert start_of(second).trained_on == {"train": 63, "validation": 0, "test": 0}
    assert not [text for text in second.manifest.warnings if "trained on by" in text]
    assert finding(audit_model(store=store, model=second.reference, device="cpu").findings).verdict == "pass"
    third = trained(store, "turned", f"model.weights={second.reference}", "optim.lr=1e-3")
    assert [one.reference for one in start_of(third).models] == [second.reference, model.reference]
    findings = audit_model(store=store, model=third.reference, device="cpu").findings
    verdicts = [one.verdict for one in findings if one.check == Check.STARTING_WEIGHTS]
    assert verdicts == ["fail", "fail"]


def test_a_split_like_another_data_sets_has_its_images_where_that_has_them(begun: tuple[Store, Artifact]) -> None:
    store, model = begun
    made = split(store=store, dataset="turned", like="toy").artifact
    index, theirs = open_dataset(made), open_dataset(store.find("toy", ["dataset"]))
    assert made.name == "turned-like-toy"
    assert index.splits.tolist() == theirs.splits.tolist()
    again = trained(store, made.reference, f"model.weights={model.reference}")
    assert start_of(again).trained_on == {"train": 63, "validation": 0, "test": 0}
    stranger = toy_dataset(store, images=105, seed=9)
    with pytest.raises(FerError, match="no image in common"):
        split(store=store, dataset="turned", like=stranger.reference)


def test_without_the_models_data_set_it_cannot_be_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    toy_dataset(store, images=105)
    model = trained(store, "toy", "model.weights=none")
    other = toy_dataset(store, images=105, seed=3)
    made = trained(store, other.reference, f"model.weights={model.reference}")
    first = model.manifest.inputs["dataset"]
    assert start_of(made).unknown == ()
    shutil.rmtree(store.find(f"dataset/{first.name}@{first.version}", ["dataset"]).path)
    found = finding(audit_model(store=store, model=made.reference, device="cpu").findings)
    assert (found.verdict, first.version in found.measured) == ("cannot be told", True)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("model.weights=nobody", "no model"),
        ("model.backbone=test_resnet", "is a test_efficientnet, not a test_resnet"),
    ],
)
def test_what_cannot_be_begun_with_is_refused(begun: tuple[Store, Artifact], change: str, what: str) -> None:
    store, model = begun
    with pytest.raises(FerError, match=what):
        trained(store, "toy", f"model.weights={model.reference}", change)


def test_a_study_is_no_single_network(begun: tuple[Store, Artifact]) -> None:
    store, _ = begun
    study = trained(store, "toy", "model.weights=none", seeds=(0, 1))
    with pytest.raises(FerError, match="holds several networks") as refused:
        trained(store, "toy", f"model.weights={study.reference}")
    assert "name one of its models, such as model/" in refused.value.hint
    assert np.unique([one.version for one in study.manifest.inputs.values()]).size == 2


def test_classes_are_left_out_and_said(begun: tuple[Store, Artifact]) -> None:
    store, _ = begun
    parent = open_dataset(store.find("toy", ["dataset"]))
    six = [name for name in CLASSES if name != "neutral"]
    made = split(store=store, dataset="toy", classes=list(reversed(six))).artifact
    opened, protocol = open_dataset(made), DatasetProtocol.of(made)
    rows = np.flatnonzero(parent.labels != parent.classes.index("neutral"))
    assert made.name == "toy-without-neutral"
    assert opened.classes == protocol.classes == tuple(six)
    assert protocol.classes_left_out == {"neutral": 15}
    assert protocol.n == {"train": 54, "validation": 18, "test": 18}
    assert opened.ids.tolist() == parent.ids[rows].tolist()
    assert np.array_equal(opened.images[:], parent.images[rows])
    assert [opened.classes[label] for label in opened.labels] == [
        parent.classes[label] for label in parent.labels[rows]
    ]
    assert opened.pixels.tolist() == parent.pixels[rows].tolist()
    with pytest.raises(FerError, match="has no class 'joy'"):
        split(store=store, dataset="toy", classes=["joy", "sad"])
