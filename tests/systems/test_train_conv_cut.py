"""Conv-cut on the engine: kept feature maps give what pictures give, and attention over the batch is found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import ModelSummary
from fer_cli.core.errors import FerError, UsageError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.evaluation.predictors.model import read_history
from fer_cli.inference.predict import ModelPredictions, predict
from fer_cli.models.trained import WEIGHTS, TrainedModel
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.train import train
from fer_cli.systems import registry
from fer_cli.systems.conv_cut.network import ConvCut
from fer_cli.systems.conv_cut.summary import AttentionMeasure
from fer_cli.systems.naming import recipe_variant
from fer_cli.systems.trained import open_trained
from tests.kits.toy import toy_dataset

SMALL = (
    *("model.backbone=test_convnext", "model.weights=none", "model.cut=stage2.block0", "data.size=64"),
    *("model.detail=1", "train.batch=20", "train.epochs=3", "train.early_stopping=9"),
)


def model(store: Store, *changes: str, **options: Any) -> Artifact:
    trained = train(store=store, system="conv-cut", changes=[*SMALL, *changes], device="cpu", **options)
    return trained.whole.artifact


@pytest.fixture
def toys(store: Store) -> Store:
    toy_dataset(store, images=210)
    return store


def test_kept_maps_give_what_pictures_give(toys: Store) -> None:
    kept, pictures, rough = (
        model(toys, "model.attention=tokens", f"model.feature_cache={kept}") for kept in ("float32", "none", "float16")
    )
    assert len({kept.version, pictures.version, rough.version}) == 3
    found = [load_file(one.path / WEIGHTS) for one in (kept, pictures, rough)]
    assert found[0].keys() == found[1].keys() == found[2].keys()
    for name, value in found[1].items():
        np.testing.assert_allclose(found[0][name], value, rtol=1e-4, atol=1e-5, err_msg=name)
        if name.startswith("backbone."):
            np.testing.assert_array_equal(found[0][name], value)
    histories = [read_history(one) for one in (kept, pictures, rough)]
    for ours, theirs, roughly in zip(*histories, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)
        assert roughly["train_loss"] == pytest.approx(theirs["train_loss"], rel=2e-2)
    scores = []
    for one in (kept, pictures):
        evaluation = evaluate_model(store=toys, model=one.reference, resamples=100).artifact
        scores.append(json.loads((evaluation.path / "metrics.json").read_text())["predictors"]["network"]["accuracy"])
    assert scores[0]["value"] == scores[1]["value"]


def test_maps_are_kept_once_for_all_heads_and_seeds(toys: Store, capsys: pytest.CaptureFixture[str]) -> None:
    model(toys, seeds=(0, 1))
    model(toys, "model.attention=channels")
    assert len(toys.directories(["features"])) == 1
    assert capsys.readouterr().err.count("writing 210 images x 2 views") == 1
    features = toys.find(None, ["features"])
    assert features.manifest.config["level"] == "stage2.block0"
    assert features.manifest.summary["dtype"] == "float16"


def test_attention_over_the_batch_is_marked_wherever_it_is_not_scored_alone(toys: Store) -> None:
    batch, tokens = model(toys, "model.attention=batch"), model(toys, "model.attention=tokens")

    def scored(one: Artifact, batching: str | None) -> tuple[dict[str, Any], list[str]]:
        evaluation = evaluate_model(
            store=toys, model=one.reference, batching=batching, resamples=100, report=True
        ).artifact
        return evaluation.manifest.protocol, evaluation.manifest.summary["unsound"]

    protocol, unsound = scored(batch, None)
    assert (protocol["batching"], unsound) == ("alone", [])
    for batching in ("stored", "shuffled", "sorted"):
        assert scored(batch, batching)[1] == [f"predictions depend on the other images in the batch ({batching})"]
        assert scored(tokens, batching)[1] == []
    assert scored(tokens, None)[0]["batching"] == "stored"
    alone = evaluate_model(store=toys, model=batch.reference, split="validation", resamples=100).artifact
    found = json.loads((alone.path / "metrics.json").read_text())["predictors"]["network"]["accuracy"]["value"]
    assert found == batch.manifest.summary["selected"]["accuracy"], "an epoch is chosen by each image alone"


def test_only_attention_over_the_batch_moves_with_the_neighbours(toys: Store) -> None:
    def probabilities(one: Artifact, batching: str) -> np.ndarray[Any, Any]:
        from fer_cli.artifacts.payload import read_table

        evaluation = evaluate_model(store=toys, model=one.reference, batching=batching, resamples=100).artifact
        table = read_table(evaluation.path / "predictions.parquet")
        return np.array([table[name] for name in table.column_names if name.startswith("score_")])

    for attention, moves in (("batch", True), ("tokens", False), ("channels", False)):
        one = model(toys, f"model.attention={attention}", "train.epochs=1")
        alone = probabilities(one, "alone")
        for batching in ("stored", "shuffled", "sorted"):
            difference = np.abs(probabilities(one, batching) - alone).max()
            assert (difference > 1e-3) if moves else (difference < 1e-5), (attention, batching, difference)


def test_what_its_attention_does_is_in_the_summary_and_the_report(toys: Store) -> None:
    tokens = model(toys, "model.attention=tokens", "train.epochs=1")
    plain = model(toys, "model.attention=none", "train.epochs=1")
    assert ModelSummary.of(plain).details["attention"] is None
    measure = AttentionMeasure.model_validate(ModelSummary.of(tokens).details["attention"])
    assert (measure.images, measure.rows) == (len(open_dataset(toys.find("toy", ["dataset"])).rows("validation")), 4)
    assert 0 < measure.self_weight <= 1
    evaluation = evaluate_model(store=toys, model=tokens.reference, resamples=100, report=True).artifact
    page = (evaluation.path / "report.html").read_text(encoding="utf-8")
    assert f"self-weight {measure.self_weight:.3f} among 4 " in page


def test_where_its_weights_cannot_be_had_a_recipe_is_named_that_has_some(
    toys: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FER_OFFLINE", "1")
    monkeypatch.setenv("FER_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    advice = "or take --recipe conv-cut/laptop: tf_efficientnet_lite0, whose weights come in a package"
    with pytest.raises(FerError, match=f"convnext_base.* not on this machine.*{advice}"):
        train(store=toys, system="conv-cut", device="cpu")
    with pytest.raises(FerError, match="resnet18.* not on this machine") as caught:
        train(store=toys, system="conv-cut", changes=["model.backbone=resnet18.a1_in1k"], device="cpu")
    assert "--recipe" not in str(caught.value)


def test_names_tell_the_arms_of_its_tables_apart(toys: Store) -> None:
    arms = {
        "": (),
        "-cut-stage1": ("model.cut=stage1",),
        "-plain-detail0": ("model.detail=0", "model.attention=none"),
        "-learned-attention_after-last": ("model.attention=learned", "model.attention_after=last"),
        "-detail_stride1": ("model.detail_stride=1",),
    }
    system = registry.load("conv-cut")
    names = {"".join(f"-{word}" for word in words_of(system, changes)) for changes in arms.values()}
    assert names == set(arms)


def words_of(system: Any, changes: tuple[str, ...]) -> tuple[str, ...]:
    return recipe_variant(system, registry.read_recipe("conv-cut", None, changes)).name_words


def test_what_conv_cut_cannot_do_is_said_in_one_line(toys: Store) -> None:
    cases: list[tuple[tuple[str, ...], type[FerError], str]] = [
        (
            ("augmentation.rotation=5.0",),
            FerError,
            "augmentation.rotation changes the feature maps .* model.feature_cache",
        ),
        (("model.cut=stage9",), FerError, "test_convnext has no cut 'stage9'; take auto"),
        (("model.cut=stage3",), FerError, r"attention over positions \(tokens\) needs 4 of them or more"),
        (("model.attention=self",), UsageError, "model.attention: input should be 'learned'"),
        (("model.detail=4",), UsageError, "model.detail"),
    ]
    for changes, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            model(toys, *changes)
        assert "\n" not in str(caught.value)
    assert not toys.directories(["model"])


def test_a_frozen_part_that_models_share_runs_once_for_all(toys: Store) -> None:
    study = train(store=toys, system="conv-cut", changes=[*SMALL, "train.epochs=1"], seeds=(0, 1, 2), device="cpu")
    dataset = open_dataset(toys.find("toy", ["dataset"]))
    models = {str(seed): open_trained(one.artifact, "cpu") for seed, one in enumerate(study.models)}
    first = models["0"].network
    assert isinstance(first, ConvCut)
    rows = dataset.rows("train")
    runs: list[int] = []
    first.backbone.register_forward_hook(lambda _module, inputs, _output: runs.append(len(inputs[0])))

    def said(some: dict[str, TrainedModel], batching: str = "shuffled") -> dict[str, ModelPredictions]:
        return predict(
            some,
            dataset.images,
            dataset.labels,
            rows,
            tta="flip",
            batching=batching,
            kept=rows[:3],
            advance=lambda _done=1, _status=None: None,
        )

    together = said(models)
    assert sum(runs) == 2 * len(rows), "both views, once"
    for name, model in models.items():
        alone = said({name: model})[name]
        np.testing.assert_allclose(together[name].probabilities, alone.probabilities, rtol=1e-5)
        np.testing.assert_allclose(together[name].features, alone.features, rtol=1e-4, atol=1e-5)
    assert np.abs(together["0"].probabilities - together["1"].probabilities).max() > 1e-3
    other = open_trained(study.models[1].artifact, "cpu")
    next(other.network.parameters()).add_(1e-3)
    runs.clear()
    said({"0": models["0"], "1": other})
    assert sum(runs) == 2 * len(rows), "another backbone runs for itself"
