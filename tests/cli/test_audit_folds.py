"""Audit and comparison over folds: what a model learned from is its fold's, and what stands in two folds is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import CheckFailedError, FerError
from fer_cli.core.findings import Finding
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.stages.audit_dataset import audit_dataset
from fer_cli.stages.audit_model import ModelAudit, audit_model
from fer_cli.stages.compare import compare
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.split import split
from fer_cli.stages.train import TrainedResult, train
from fer_cli.training.study import study_of
from tests.kits.films import film_dataset
from tests.kits.planted import Tensors, planted_dataset, planted_model
from tests.training.test_training import SMALL

LEAK_CHECKS = ("training ids", "training images", "selection")


def run(store: Store, *changes: str, **options: Any) -> TrainedResult:
    how = {"dataset": "films-folds3", "fold": "all"} | options
    return train(store=store, system="baseline", changes=[*SMALL, *changes], device="cpu", **how)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, TrainedResult]:
    store = Store(tmp_path_factory.mktemp("folds"))
    film_dataset(store, subjects=20, sequences=60)
    split(store=store, folds=3)
    return store, run(store)


@pytest.fixture(scope="module")
def folded(trained: tuple[Store, TrainedResult]) -> Dataset:
    return open_dataset(trained[0].find("films-folds3", ["dataset"]))


def audited(store: Store, artifact: Artifact, **options: Any) -> ModelAudit:
    return audit_model(store=store, model=artifact.reference, device="cpu", **options)


def found(audit: ModelAudit) -> dict[str, Finding]:
    return {one.check: one for one in audit.findings}


def eval_of(store: Store, artifact: Artifact, **options: Any) -> Artifact:
    return evaluate_model(store=store, model=artifact.reference, resamples=100, device="cpu", **options).artifact


def test_a_model_of_a_fold_learned_from_the_others(trained: tuple[Store, TrainedResult], folded: Dataset) -> None:
    store, result = trained
    model = result.models[1].artifact
    assert folded.folds is not None
    of_fold = set(folded.ids[folded.folds == 1].tolist())
    own_split = set(folded.ids[folded.rows("train")].tolist())
    assert of_fold & own_split, "the data set's own splits would say that it was trained on its test"
    audit = audited(store, model)
    assert (audit.split, audit.images) == ("test", len(of_fold))
    assert {found(audit)[check].verdict for check in LEAK_CHECKS} == {"pass"}
    assert audit.is_sound
    train = model.manifest.protocol["data"]["n"]["train"]
    assert f"among the {train:,} training images" in found(audit)["training ids"].measured
    checks = {one["check"]: one["verdict"] for one in eval_of(store, model).manifest.protocol["checks"]}
    assert {checks[check] for check in LEAK_CHECKS} == {"pass"}


def test_what_it_learned_from_is_found_in_the_data_set_that_was_split(
    trained: tuple[Store, TrainedResult], folded: Dataset
) -> None:
    store, result = trained
    model = result.models[0].artifact
    assert folded.folds is not None
    assert folded.chosen_on is not None
    tested = folded.rows("train")
    learned = int(((folded.folds[tested] != 0) & ~folded.chosen_on[tested, 0]).sum())
    assert 0 < learned < len(tested)
    audit = audited(store, model, data="films", split="train")
    ids = found(audit)["training ids"]
    assert (ids.verdict, ids.measured.split(" were")[0]) == ("fail", f"{learned} of {len(tested)} scored images")
    with pytest.raises(CheckFailedError, match="training ids"):
        audit.check()
    scored = eval_of(store, model, data="films", split="train")
    assert any(text.startswith("training ids: ") for text in scored.manifest.summary["unsound"])
    protocol = scored.manifest.protocol
    assert protocol["training"]["data"]["fold"] == 0
    assert "fold" not in protocol["data"]


def test_seeds_of_one_fold_are_scored_on_that_fold(trained: tuple[Store, TrainedResult], folded: Dataset) -> None:
    store, _ = trained
    assert folded.folds is not None
    study = run(store, "train.epochs=1", fold=1, seeds=(0, 1)).whole.artifact
    assert study.kind == "study"
    scored = eval_of(store, study)
    assert scored.manifest.summary["images"] == (folded.folds == 1).sum()
    assert {found(audited(store, study))[check].verdict for check in LEAK_CHECKS} == {"pass"}


def test_all_folds_are_audited_each_on_its_own(trained: tuple[Store, TrainedResult]) -> None:
    store, result = trained
    audit = audited(store, result.whole.artifact)
    assert (audit.split, audit.images, audit.run) == ("test", 180, 180)
    assert {one.check: one.verdict for one in audit.findings if one.verdict != "pass"} == {}
    assert found(audit)["recorded score"].measured.startswith("all 3 folds alike; fold 0: seed 0: accuracy")
    with pytest.raises(FerError, match=r"is over folds, and no image of dataset/films@\w+ is in one of them"):
        audited(store, result.whole.artifact, data="films")


def test_a_fault_of_one_fold_is_found_and_named(trained: tuple[Store, TrainedResult]) -> None:
    store, result = trained
    models = [one.artifact for one in result.models]
    classes = models[2].manifest.config["classes"]

    def nudged(tensors: Tensors) -> None:  # a study is known by its models' weights
        tensors["classifier.bias"] += 1e-7

    swapped = {"classes": tuple(classes[::-1])}
    models[2] = planted_model(store, models[2], "swapped-fold2-seed0", config=swapped, tensors=nudged)
    study = study_of(store, "baseline", models, [0], [0, 1, 2]).artifact
    audit = audited(store, study)
    assert found(audit)["class names"].verdict == "fail"
    assert found(audit)["class names"].measured.startswith("1 of 3 folds, the first is 2: ")
    assert {one.verdict for one in audit.findings if one.check in LEAK_CHECKS} == {"pass"}


def test_what_stands_in_two_folds_is_found(trained: tuple[Store, TrainedResult], folded: Dataset) -> None:
    store, _ = trained
    assert folded.folds is not None
    one, other = (int(np.flatnonzero(folded.folds == fold)[0]) for fold in (0, 2))

    def leaking(rows: list[dict[str, Any]]) -> None:
        rows[other] |= {"pixels": rows[one]["pixels"], "subject": rows[one]["subject"]}

    planted = planted_dataset(store, folded.artifact, "leaking-folds3", leaking)
    states = {finding.check: finding.verdict for finding in audit_dataset(dataset=planted).findings}
    assert states["exact copies across folds"] == states["subjects across folds"] == "fail"
    assert states["sequences across folds"] == "pass"
    clean = {finding.check: finding.verdict for finding in audit_dataset(dataset=folded.artifact).findings}
    assert {check for check, state in clean.items() if state == "fail"} == set()
    study = run(store, "train.epochs=1", dataset=planted.reference).whole.artifact
    assert study.manifest.protocol["data"]["subjects_across_splits"] == 1
    audit = found(audited(store, study))
    assert audit["training images"].verdict == "fail"
    assert audit["training images"].measured.startswith(
        "2 of 180 scored images equal a training image by file or by pixels"
    )


def test_studies_over_folds_and_models_of_a_fold_are_compared(trained: tuple[Store, TrainedResult]) -> None:
    store, result = trained
    other = run(store, "train.epochs=1")
    for one in (result, other):
        for part in (one.whole, one.models[0], one.models[1]):
            eval_of(store, part.artifact)

    def references(*parts: Any) -> list[str]:
        return [part.artifact.reference for part in parts]

    studies = compare(store=store, references=references(result.whole, other.whole), resamples=100).comparison
    assert sum(studies.support) == 180
    assert studies.unit == "subject"
    assert studies.units == 20
    traits = {one.name: one.values for one in studies.config_diff}
    assert traits["train.epochs"] == ("3", "1")
    assert "fold" not in traits
    assert "seeds" not in traits
    assert not [name for name in traits if name.startswith("check")], "all passed the same"
    assert {one.decides for one in studies.systems} == {"seed 0"}
    models = compare(store=store, references=references(result.models[0], other.models[0]), resamples=100).comparison
    assert sum(models.support) == 63
    assert "fold" not in {one.name for one in models.config_diff}
    with pytest.raises(CheckFailedError, match="63 and 63, 0 of them the same"):
        compare(store=store, references=references(result.models[0], result.models[1]), resamples=100)
    with pytest.raises(CheckFailedError, match="180 and 63, 63 of them the same"):
        compare(store=store, references=references(result.whole, result.models[0]), resamples=100)
