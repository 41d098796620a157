"""Distillation: a teacher's answers in the targets, made once, of a teacher that saw no other images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fer_cli as fer_package
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import TrainingProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelConfig
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.stages.train import train
from fer_cli.systems.classifier import ClassifierSystem
from fer_cli.systems.registry import read_recipe
from tests.kits.toy import toy_dataset
from tests.kits.train import Fer

SMALL = (
    *("model.backbone=test_efficientnet", "model.weights=none", "model.drop_path=0.0"),
    *("data.size=32", "train.batch=20", "train.epochs=1", "optim.lr=3e-3"),
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact]:
    """A store with a data set and a teacher."""
    store = Store(tmp_path_factory.mktemp("taught"))
    toy_dataset(store, images=105)
    return store, train(store=store, system="baseline", changes=SMALL, device="cpu").whole.artifact


def student(store: Store, teacher: str, *changes: str, **options: Any) -> Artifact:
    changes = (*SMALL, f"distill.teacher={teacher}", *changes)
    return train(store=store, system="baseline", changes=changes, device="cpu", **options).models[0].artifact


def targets_of(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note what data set a system is given."""
    seen: list[Any] = []
    build = ClassifierSystem.build

    def noting(self: Any, recipe: Any, inputs: Any) -> Any:
        seen.append(inputs)
        return build(self, recipe, inputs)

    monkeypatch.setattr(ClassifierSystem, "build", noting)
    return seen


def test_targets_are_the_labels_and_the_teachers_softened_answers(
    taught: tuple[Store, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, teacher = taught
    seen = targets_of(monkeypatch)
    made = student(store, teacher.reference, "distill.weight=0.25", "distill.temperature=2.0")
    dataset = open_dataset(store.find("toy", ["dataset"]))
    rows = dataset.rows("train")
    model = fer_package.load_model(teacher.reference, store=store, device="cpu")
    images = dataset.images[rows]
    answers = (model.predict(images).probabilities + model.predict(images[:, :, ::-1]).probabilities) / 2
    softened = np.sqrt(answers)
    softened /= softened.sum(1, keepdims=True)
    expected = 0.75 * np.eye(7)[dataset.labels[rows]] + 0.25 * softened
    assert np.allclose(seen[0].dataset.targets[rows], expected, atol=1e-6)
    others = np.setdiff1d(np.arange(len(dataset.labels)), rows)
    assert np.array_equal(seen[0].dataset.targets[others], np.eye(7)[dataset.labels[others]])
    told = TrainingProtocol.of(made).teacher
    assert told is not None
    assert str(told) == f"{teacher.reference}: 25% of each target, softened by 2"
    assert made.name != teacher.name


def test_answers_are_made_once_and_decide_the_students_version(taught: tuple[Store, Artifact]) -> None:
    store, teacher = taught
    before = student(store, teacher.reference, "distill.weight=0.5")
    again = student(store, teacher.name, "distill.weight=0.5")  # another way to name the same teacher
    assert again.version == before.version
    student(store, teacher.reference, "distill.weight=0.5", seeds=[1])
    assert len(list((store.root / "soft-targets").glob("*/*/manifest.json"))) == 1
    answers = store.find(before.manifest.inputs["soft_targets"].name, ["soft-targets"])
    assert ModelConfig.of(before).recipe["distill"]["teacher"] == answers.version
    assert answers.manifest.inputs["teacher"].version == teacher.version


def test_the_store_knows_what_a_teacher_said(taught: tuple[Store, Artifact], fer: Fer) -> None:
    store, teacher = taught
    student(store, teacher.reference)
    answers = store.artifacts("soft-targets")[0]
    for command in (["ls"], ["ls", "--kind", "soft-targets"], ["show", answers.reference], ["verify"], ["gc"]):
        fer(*command, "--store", store.root, code=0)


def test_a_teacher_of_other_images_is_refused(taught: tuple[Store, Artifact]) -> None:
    store, teacher = taught
    other = toy_dataset(store, images=106)
    with pytest.raises(FerError, match=r"was trained on toy@\w+, not on dataset/toy@\w+: it may have seen its test"):
        student(store, teacher.reference, dataset=other.reference)


def test_a_teacher_and_hard_labels_are_refused() -> None:
    with pytest.raises(FerError, match=r"loss.soft = false leaves no room for distill.teacher's answers"):
        read_recipe("baseline", None, ["distill.teacher=a", "loss.soft=false"])


def test_without_a_teacher_a_recipe_stays_what_it_was() -> None:
    assert "distill" not in read_recipe("baseline", None, ["distill.weight=0.3"]).record()
    assert read_recipe("baseline", None, ["distill.teacher=a"]).record()["distill"]["weight"] == 0.7
