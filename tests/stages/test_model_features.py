"""Features of a trained model, its own classifier beside AHM, and AHM under fewer images of a class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fer_cli as fer_package
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.protocol import TrainingProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import AhmConfig, AhmSummary, EvaluationSummary, FeaturesSummary
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.findings import Check
from fer_cli.datasets.dataset import open_dataset
from fer_cli.evaluation.metrics_file import read_metrics
from fer_cli.models.features import open_features
from fer_cli.plots.scarcity import draw
from fer_cli.stages.audit_model import audit_model
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from fer_cli.stages.train import train
from tests.kits.toy import CLASSES, toy_dataset

SMALL = ("model.backbone=test_resnet", "model.weights=none", "data.size=32", "train.batch=20", "train.epochs=1")
LAMBDAS = [0.1, 1.0, 10.0]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact, Artifact]:
    """A store with a data set, a model with attention of it, and the model's features."""
    store = Store(tmp_path_factory.mktemp("taught"))
    toy_dataset(store, images=210)
    model = trained(store, "model.attention=se")
    return store, model, extract(store=store, dataset=model.reference, device="cpu").artifact


def trained(store: Store, *changes: str, system: str = "baseline", **options: Any) -> Artifact:
    result = train(store=store, system=system, changes=(*SMALL, *changes), device="cpu", name="own", **options)
    return result.whole.artifact


def fitted(store: Store, features: Artifact, **options: Any) -> Artifact:
    return fit_ahm(store=store, features=features.reference, lambdas=LAMBDAS, **options).artifact


def test_features_and_logits_are_the_models(taught: tuple[Store, Artifact, Artifact]) -> None:
    store, model, features = taught
    dataset = open_dataset(store.find("toy", ["dataset"]))
    opened = open_features(features, dataset.artifact)
    own = fer_package.load_model(model.reference, store=store, device="cpu")
    rows = dataset.rows("test")
    kept = opened.probabilities("original", rows, CLASSES)
    evaluation = evaluate_model(store=store, model=model.reference, resamples=100, device="cpu").artifact
    table = evaluation.to_arrow()
    scored = np.column_stack([table[f"score_{name}"].to_numpy() for name in CLASSES])
    assert np.allclose(kept, scored, atol=1e-5)
    assert own.classes == FeaturesSummary.of(features).classes == CLASSES
    six = opened.probabilities("original", rows, CLASSES[:6])
    assert np.allclose(six, scored[:, :6] / scored[:, :6].sum(1, keepdims=True), atol=1e-5)
    assert features.manifest.inputs["model"].version == model.version
    assert features.name == "toy-of-own-seed0"


def test_a_level_has_the_same_logits_and_a_map(taught: tuple[Store, Artifact, Artifact]) -> None:
    store, model, features = taught
    cut = extract(store=store, dataset=model.reference, level="stage2", device="cpu").artifact
    toy = store.find("toy", ["dataset"])
    one, other = open_features(features, toy), open_features(cut, toy)
    assert len(FeaturesSummary.of(cut).shape) == 3
    assert np.allclose(one.logits["original"][:], other.logits["original"][:], atol=1e-4)
    assert FeaturesSummary.of(cut).parameters < FeaturesSummary.of(features).parameters


def test_the_models_own_classifier_is_the_reference(taught: tuple[Store, Artifact, Artifact]) -> None:
    store, model, features = taught
    ahm = fitted(store, features)
    evaluation = evaluate_model(store=store, model=ahm.reference, resamples=100, report=True).artifact
    alone = evaluate_model(store=store, model=model.reference, resamples=100, device="cpu").artifact
    summary, metrics = EvaluationSummary.of(evaluation), read_metrics(evaluation)
    assert list(summary.outputs) == ["softmax", "nearest-mean", "logistic", "ahm-semantic", "ahm-visual"]
    assert summary.accuracy["softmax"] == EvaluationSummary.of(alone).accuracy["network"]
    assert metrics.reference == "softmax"
    gain = metrics.gains[summary.chosen]["accuracy"].value
    assert gain == pytest.approx(summary.accuracy[summary.chosen] - summary.accuracy["softmax"])
    assert AhmSummary.of(ahm).validation["softmax"].accuracy > 0
    page = evaluation.file("report.html").read_text(encoding="utf-8")
    assert f"fer extract {model.reference} --data toy@" in page


def test_what_the_model_saw_is_known_of_its_features(taught: tuple[Store, Artifact, Artifact]) -> None:
    store, model, _ = taught
    other = toy_dataset(store, images=210, seed=5)
    own = store.find("toy@" + model.manifest.inputs["dataset"].version, ["dataset"])
    features = extract(store=store, dataset=model.reference, data=other.reference, device="cpu").artifact
    start = TrainingProtocol.of(features).start
    assert start is not None
    assert [one.reference for one in start.models] == [model.reference]
    assert start.trained_on == {"train": 0, "validation": 0, "test": 0}
    assert features.manifest.inputs["dataset"].version == other.version
    findings = audit_model(store=store, model=fitted(store, features).reference, device="cpu").findings
    verdicts = {one.check: one.verdict for one in findings}
    assert verdicts[Check.STARTING_WEIGHTS] == "pass"
    assert verdicts[Check.BATCH_INVARIANCE] == "pass"
    assert own.version != other.version


def test_a_class_keeps_a_share_of_its_training_images(taught: tuple[Store, Artifact, Artifact]) -> None:
    store, _, features = taught
    half, tenth = (fitted(store, features, reduce={"disgust": share}) for share in (0.5, 0.1))
    kept = AhmConfig.of(half).reduced
    assert kept is not None
    assert kept["disgust"].model_dump() == {"share": 0.5, "images": 9, "of": 18}
    assert AhmSummary.of(half).training_samples == 126 - 9
    assert TrainingProtocol.of(half).data.n["train"] == 117
    assert AhmSummary.of(tenth).training_samples == 126 - 16
    assert half.name.endswith("disgust0.5")
    assert half.version != fitted(store, features, reduce={"disgust": 0.5}, seed=1).version
    assert fitted(store, features).version == fitted(store, features, reduce={}).version


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"reduce": {"joy": 0.5}}, UsageError, "names 'joy'"),
        ({"reduce": {"happy": 1.5}}, UsageError, "is no share"),
        ({"centring": "mean"}, UsageError, "is not a choice"),
    ],
)
def test_wrong_options_are_refused(
    taught: tuple[Store, Artifact, Artifact], options: dict[str, Any], error: type[FerError], what: str
) -> None:
    store, _, features = taught
    with pytest.raises(error, match=what):
        fitted(store, features, **options)


def test_what_is_no_single_network_is_refused(taught: tuple[Store, Artifact, Artifact]) -> None:
    store, model, _ = taught
    with pytest.raises(UsageError, match="--backbone is not for the features of a model"):
        extract(store=store, dataset=model.reference, backbone="test_resnet")
    with pytest.raises(UsageError, match="--data is for the features of a model"):
        extract(store=store, dataset="toy", data="toy")
    with pytest.raises(FerError, match="has no cut 'stage9'"):
        extract(store=store, dataset=model.reference, level="stage9")
    with pytest.raises(FerError, match="no dataset artifact 'nobody'"):
        extract(store=store, dataset="nobody")


def test_the_curve_of_scarcity_has_the_recalls_of_the_evaluations(taught: tuple[Store, Artifact, Artifact]) -> None:
    store, _, features = taught
    expected: dict[int, list[float]] = {}
    for options, images in (({}, 18), ({"reduce": {"fear": 0.5}}, 9), ({"reduce": {"fear": 0.5}, "seed": 2}, 9)):
        fit = fitted(store, features, **options)
        metrics = read_metrics(evaluate_model(store=store, model=fit.reference, resamples=100).artifact)
        recall = {one.name: one.recall.value for one in metrics.predictors["logistic"].per_class}["fear"]
        expected.setdefault(images, []).append(100 * recall)
    other = fitted(store, features, reduce={"happy": 0.5})
    evaluate_model(store=store, model=other.reference, resamples=100)
    picture = draw(store, fit=fit.reference)
    [line] = [one for one in picture.figure.axes[0].lines if one.get_label() == "logistic"]
    drawn = dict(zip(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist(), strict=True))
    assert drawn == pytest.approx({images: np.mean(recalls) for images, recalls in expected.items()})
    assert picture.name == "fear-toy-of-own-seed0"
    with pytest.raises(FerError, match="has all images of each class"):
        draw(store, fit=fitted(store, features).reference)
    with pytest.raises(FerError, match="no two evaluations"):
        draw(store, fit=fitted(store, features, reduce={"sad": 0.5}).reference)
