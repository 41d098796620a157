"""The audit of a model: each planted defect is found by its check and by no other, a clean model has none."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.payload import read_json, read_table
from fer_cli.artifacts.store import Store
from fer_cli.cli.audit import model_audit_output
from fer_cli.cli.common import emit
from fer_cli.cli.evaluate import evaluation_output
from fer_cli.core.errors import CheckFailedError, ExitCode
from fer_cli.core.findings import Finding
from fer_cli.datasets.dataset import open_dataset
from fer_cli.datasets.overlap import overlap
from fer_cli.evaluation import sanity_checks
from fer_cli.evaluation.label_permutation import swapped_names
from fer_cli.evaluation.subsets import UNSEEN
from fer_cli.models.trained import TrainedModel
from fer_cli.stages.audit_model import ModelAudit, audit_model
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from fer_cli.stages.train import train
from fer_cli.systems import trained
from tests.kits.planted import Tensors, planted_dataset, planted_model
from tests.kits.toy import CLASSES, toy_dataset

SMALL = (
    *("model.backbone=test_convnext", "model.weights=none", "model.cut=stage2.block0", "data.size=64"),
    *("model.detail=1", "train.batch=20", "train.epochs=2"),
)
EVERY = {
    *("class names", "recorded score", "preprocessing", "training ids", "training images", "selection"),
    *("batch invariance", "repeatability"),
}


def model(store: Store, *changes: str, **options: Any) -> Artifact:
    found = train(store=store, system="conv-cut", changes=[*SMALL, *changes], device="cpu", **options)
    return found.whole.artifact


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("audit"))
    toy_dataset(store, images=420)
    return store


@pytest.fixture(scope="module")
def clean(place: Store) -> Artifact:
    return model(place, "train.epochs=6", "optim.lr=3e-3", "model.attention_after=last")


def audited(store: Store, artifact: Artifact, **options: Any) -> ModelAudit:
    return audit_model(store=store, model=artifact.reference, device="cpu", **options)


def failing(audit: ModelAudit) -> set[str]:
    return {one.check for one in audit.findings if one.verdict == "fail"}


def said(audit: ModelAudit, check: str) -> str:
    return next(one.measured for one in audit.findings if one.check == check)


def eval_of(store: Store, artifact: Artifact, **options: Any) -> Artifact:
    return evaluate_model(store=store, model=artifact.reference, resamples=100, device="cpu", **options).artifact


def test_a_clean_model_has_no_finding(place: Store, clean: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    audit = audited(place, clean)
    assert {one.check for one in audit.findings} == EVERY
    assert {one.verdict for one in audit.findings} == {"pass"}
    assert audit.is_sound
    assert (audit.split, audit.images, audit.run) == ("test", 84, 84)
    capsys.readouterr()
    emit("audit", model_audit_output(audit), as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["schema"], shown["command"], shown["sound"]) == (1, "audit", True)
    assert {one["check"] for one in shown["findings"]} == EVERY
    evaluation = eval_of(place, clean, report=True)
    found = evaluation.manifest.protocol["checks"]
    assert {one["check"] for one in found} == EVERY - {"recorded score"}
    assert {one["verdict"] for one in found} == {"pass"}
    page = evaluation.file("report.html").read_text()
    assert page.count("check: ") == len(found)
    assert evaluation.manifest.summary["unsound"] == []


def test_studies_and_ahm_have_none_either(place: Store) -> None:
    study = audited(place, model(place, seeds=(0, 1)))
    assert {one.verdict for one in study.findings} == {"pass"}
    extract(store=place, backbone="test_efficientnet", size=32, weights="none")
    ahm = audited(place, fit_ahm(store=place, lambdas=[1.0]).artifact)
    assert {one.check for one in ahm.findings} == EVERY
    assert {one.verdict for one in ahm.findings} == {"pass"}
    assert ahm.run == 84


def swap(classes: tuple[str, ...], one: str, other: str) -> list[str]:
    return [{one: other, other: one}.get(name, name) for name in classes]


def test_swapped_class_names_are_found(place: Store, clean: Artifact) -> None:
    named = planted_model(place, clean, "names", config={"classes": tuple(swap(CLASSES, "happy", "disgust"))})
    audit = audited(place, named)
    assert failing(audit) == {"class names", "recorded score"}
    assert "network names its outputs neutral, disgust, sad, surprise, fear, happy, anger" in said(audit, "class names")
    assert any("class names" in text for text in eval_of(place, named).manifest.summary["unsound"])

    def exchanged(tensors: Tensors) -> None:
        for key in ("head.classifier.weight", "head.classifier.bias"):
            tensors[key] = tensors[key][[0, 5, 2, 3, 4, 1, 6]]

    weights = planted_model(place, clean, "weights", tensors=exchanged)
    audit = audited(place, weights)
    assert failing(audit) == {"class names", "recorded score"}
    assert "happy is predicted as disgust, disgust is predicted as happy" in said(audit, "class names")


def test_other_preprocessing_than_recorded_is_found(place: Store, clean: Artifact) -> None:
    record = {**clean.manifest.summary["preprocessing"], "mean": [0.1, 0.1, 0.1]}
    audit = audited(place, planted_model(place, clean, "other-mean", summary={"preprocessing": record}))
    assert failing(audit) == {"preprocessing"}
    assert "was trained with mean [0.1, 0.1, 0.1], and is run with" in said(audit, "preprocessing")


def test_attention_over_the_batch_is_found(place: Store, capsys: pytest.CaptureFixture[str]) -> None:
    mixing = model(place, "model.attention=batch")
    audit = audited(place, mixing)
    assert failing(audit) == {"batch invariance"}
    capsys.readouterr()
    with pytest.raises(
        CheckFailedError, match=r"is not sound: batch invariance: \d+ of 84 predictions change .*; predictions dep"
    ) as e:
        emit("audit", model_audit_output(audit), as_json=False)
    assert e.value.exit_code == ExitCode.CHECK_FAILED
    assert "fail            batch invariance" in capsys.readouterr().out
    undeclared = planted_model(place, mixing, "undeclared", summary={"mixes_batch": False})
    evaluation = eval_of(place, undeclared)
    assert evaluation.manifest.protocol["batching"] == "stored"
    assert evaluation.manifest.summary["unsound"] == ["predictions depend on the other images in the batch (stored)"], (
        "what a model declares is not believed but measured"
    )
    alone = eval_of(place, mixing, report=True)
    assert alone.manifest.summary["unsound"] == [], "alone it is sound"
    assert any(text.startswith("Batch invariance: ") for text in alone.manifest.summary["cautions"])
    assert "(unsound)" not in alone.file("report.html").read_text()


class Noisy(nn.Module):
    """Dropout that evaluation mode does not reach."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(functional.dropout(x, 0.3, training=True))
        return logits


@pytest.mark.parametrize(
    "how", ["a dropout that ignores the mode", "dropout in training mode", "all of it in training mode"]
)
def test_randomness_at_test_time_is_found(
    place: Store, clean: Artifact, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    opens = trained.open_trained

    def planted(artifact: Artifact, device: str) -> TrainedModel:
        found = opens(artifact, device)
        network = found.network
        if how == "a dropout that ignores the mode":
            network = Noisy(network).eval()
        for module in network.modules():
            if how == "all of it in training mode" or (
                how == "dropout in training mode" and "Drop" in str(type(module))
            ):
                module.training = True
        return TrainedModel(network, found.preprocessing, found.classes, found.mixes_batch)

    monkeypatch.setattr(trained, "open_trained", planted)
    audit = audited(place, clean)
    assert "repeatability" in failing(audit)
    words = "when run again" if how == "a dropout that ignores the mode" else "not in evaluation mode: "
    assert words in said(audit, "repeatability")
    if how != "all of it in training mode":
        assert any(
            text.startswith("repeatability: ") for text in eval_of(place, clean, force=True).manifest.summary["unsound"]
        )


def test_training_ids_and_images_in_the_test_are_found(place: Store, clean: Artifact) -> None:
    source = place.find("dataset/toy", ["dataset"])

    def exchanged(rows: list[dict[str, Any]]) -> None:
        for row in rows[:20]:
            row["split"] = "test"

    other = planted_dataset(place, source, "toy", exchanged)
    audit = audited(place, clean, data=other.reference)
    assert failing(audit) == {"training ids"}
    assert said(audit, "training ids") == "20 of 104 scored images were trained on, the first is toy-00000"
    unsound = eval_of(place, clean, data=other.reference).manifest.summary["unsound"]
    assert unsound == [f"training ids: {said(audit, 'training ids')}"]

    def renamed(rows: list[dict[str, Any]]) -> None:
        for row in rows[:9]:
            row |= {"split": "test", "id": f"new {row['id']}"}

    audit = audited(place, clean, data=planted_dataset(place, source, "renamed", renamed).reference)
    assert failing(audit) == {"training images"}
    assert "9 of 93 scored images equal a training image by file or by pixels, the first is new toy-00000" in said(
        audit, "training images"
    )

    def copied(rows: list[dict[str, Any]]) -> None:
        for one, other in zip(rows[21:26], rows[28:33], strict=True):  # validation and test
            one["pixels"] = rows[0]["pixels"]
            other["pixels"] = rows[1]["pixels"]

    copies = planted_dataset(place, source, "copies", copied)
    own = model(place, dataset=copies.reference, seeds=(4,))
    audit = audited(place, own)
    assert failing(audit) == {"training images"}
    assert said(audit, "training images").startswith(
        "5 of 84 scored images equal a training image by file or by pixels"
    )
    evaluation = eval_of(place, own)
    assert evaluation.manifest.summary["unsound"] == [], "the data set's own copies are told in amber"
    assert any(text.startswith("Training images: 5 of 84") for text in evaluation.manifest.summary["cautions"])
    leaked = set(read_table(source.file("index.parquet"))["id"].to_pylist()[28:33])
    answers = read_table(evaluation.file("predictions.parquet")).to_pylist()
    rest = [row["label"] == row["predicted"] for row in answers if row["id"] not in leaked]
    metrics = read_json(evaluation.file("metrics.json"))
    assert {name: part["n"] for name, part in metrics["subsets"].items()} == {UNSEEN: 79} == {UNSEEN: len(rest)}
    assert metrics["subsets"][UNSEEN]["accuracy"]["value"] == pytest.approx(np.mean(rest))
    told = f"Without the 5 images equal to a training image (79 are left): accuracy {100 * np.mean(rest):.1f} ["
    assert any(text.startswith(told) for text in metrics["cautions"])

    def chosen_by(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["split"] = {"validation": "test", "test": "validation"}.get(row["split"], row["split"])

    audit = audited(place, clean, data=planted_dataset(place, source, "turned", chosen_by).reference)
    assert failing(audit) == {"selection"}
    assert "84 of 84 scored images equal one of the validation images that selected it" in said(audit, "selection")


def test_an_id_alone_is_no_image(place: Store, clean: Artifact) -> None:
    """Another data set of the same name with the same ids and other pictures has no image of the first."""
    other = toy_dataset(place, images=420, seed=5)
    ours, theirs = (
        open_dataset(place.find(f"toy@{clean.manifest.inputs['dataset'].version}", ["dataset"])),
        open_dataset(other),
    )
    rows = np.arange(420)
    found = overlap(theirs, rows, ours, rows)
    assert (len(found.same), len(found.equal)) == (0, 0)
    assert len(overlap(ours, rows, ours, rows[::2]).same) == 210
    assert audited(place, clean, data=other.reference).is_sound


def test_what_cannot_be_told_is_shown_as_such(
    place: Store, clean: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    other = toy_dataset(place, images=420, seed=6)

    def unhashed(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row |= {"source_hash": "", "decoded_hash": ""}

    old = planted_dataset(place, other, "unhashed", unhashed)
    audit = audited(place, clean, data=old.reference)
    untold = {one.check for one in audit.findings if one.verdict == "cannot be told"}
    assert untold == {"training ids", "training images", "selection"}
    emit("audit", model_audit_output(audit), as_json=False)
    assert "cannot be told  training images" in capsys.readouterr().out
    result = evaluate_model(
        store=place, model=clean.reference, data=old.reference, resamples=100, device="cpu", report=True
    )
    evaluation = result.artifact
    assert evaluation.manifest.summary["unsound"] == []
    told = "Training images: cannot be told whether 84 of 84 scored images were trained on: "
    assert any(text.startswith(told) for text in evaluation.manifest.summary["cautions"])
    assert untold == {one["check"] for one in evaluation.manifest.protocol["checks"] if one["verdict"] != "pass"}
    assert "cannot be told; whether 84 of 84" in evaluation.file("report.html").read_text()
    emit("eval", evaluation_output(result), as_json=False)
    shown = capsys.readouterr().out
    assert "cannot be told  training ids, training images, selection" in shown


def test_a_model_selected_on_test_is_found(place: Store, clean: Artifact) -> None:
    audit = audited(place, model(place, select_on="test", seeds=(3,)))
    assert failing(audit) == {"selection"}
    audit = audited(place, clean, split="validation")
    assert failing(audit) == {"selection"}
    assert said(audit, "selection") == "it was selected on the validation split, which is scored"


def table(rates: NDArray[np.float64], counts: list[int]) -> NDArray[np.int64]:
    rng = np.random.default_rng(0)
    return np.array([rng.multinomial(n, rate) for n, rate in zip(counts, rates, strict=True)])


def test_only_names_that_were_exchanged_are_suspected() -> None:
    seven = 7
    good = np.full((seven, seven), 0.4 / 6) + np.eye(seven) * (0.6 - 0.4 / 6)
    assert swapped_names(table(good, [300, 250, 200, 150, 100, 50, 20])) is None
    ring = good[[0, 2, 3, 1, 4, 5, 6]]
    found = swapped_names(table(ring, [100] * seven))
    assert found is not None
    assert dict(found.pairs) == {1: 2, 2: 3, 3: 1}
    assert found.if_renamed > found.balanced_accuracy + 0.2
    always = np.zeros((seven, seven))
    always[:, 1] = 1
    assert swapped_names(table(always, [500, 20, 20, 20, 20, 20, 20])) is None, "one answer to all"
    taken = good.copy()
    taken[5] = 0.05
    taken[5, 6] = 0.7
    assert swapped_names(table(taken, [200] * seven)) is None, "one class taken for another, not both"
    for seed in range(200):
        rng = np.random.default_rng(seed)
        guess = np.array([rng.multinomial(int(n), np.full(seven, 1 / seven)) for n in rng.integers(1, 60, seven)])
        assert swapped_names(guess) is None, "chance"
    few = good[[1, 0, 2, 3, 4, 5, 6]]
    assert swapped_names(table(few, [3] * seven)) is None, "three images of a class are no evidence"
    absent = table(good, [100] * seven)
    absent[4] = 0
    assert swapped_names(absent) is None


def test_the_first_network_that_fails_speaks_for_all() -> None:
    fine = (Finding("a", "pass", "1"), Finding("b", "pass", "1"))
    bad = (Finding("a", "pass", "2"), Finding("b", "fail", "2"))
    assert [one.measured for one in sanity_checks.worst_of([fine, bad])] == ["1", "2"]
