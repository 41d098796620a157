"""What a trained model looks at and how it separates the classes, in plots and in the report of what was scored."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.store import Store
from fer_cli.core.format import whole_percent
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.evaluation import explain
from fer_cli.evaluation.explain import examples, predict_with_features
from fer_cli.evaluation.predictors.opening import open_predictor
from fer_cli.inference.embedding import last_linear, logits_and_features
from fer_cli.models.backbones import Preprocessing
from fer_cli.models.classifier import open_classifier
from fer_cli.models.gradcam import gradcam
from fer_cli.models.trained import TrainedModel
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from fer_cli.stages.plot import plot
from fer_cli.stages.train import train
from fer_cli.systems.conv_cut.network import Attention, ConvCutHead
from fer_cli.systems.trained import map_layer, map_side, open_trained
from tests.kits.toy import CLASSES, toy_dataset

SMALL = ("model.weights=none", "train.batch=20", "train.epochs=1")
BASELINE = (*SMALL, "model.backbone=test_efficientnet", "data.size=64", "model.attention=se")
CONV_CUT = (*SMALL, "model.backbone=test_convnext", "model.cut=stage2.block0", "data.size=64", "model.detail=1")
HOSTILE = "<script>alert(1)</script>"


def trained(store: Store, *changes: str, system: str = "baseline", **options: Any) -> Artifact:
    return train(store=store, system=system, changes=changes, device="cpu", **options).whole.artifact


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact]:
    store = Store(tmp_path_factory.mktemp("study"))
    toy_dataset(store, images=210, classes=(*CLASSES[:6], HOSTILE))
    return store, trained(store, *BASELINE, "train.epochs=2", "optim.lr=1e-2", seeds=(0, 1))


def page_of(store: Store, reference: str, **options: Any) -> tuple[str, Artifact]:
    artifact = evaluate_model(
        store=store, model=reference, report=True, resamples=100, device="cpu", **options
    ).artifact
    return artifact.file("report.html").read_text(), artifact


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.S)
    return found.group() if found else ""


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind.startswith("timm"):
        name, attention = kind.split()[1:]
        return open_classifier(
            name, classes=3, size=64 if "vit" not in name else None, weights=None, attention=attention, dropout=0.5
        ).network
    head = ConvCutHead(3, 8, 4, detail=1, attention=cast(Attention, kind.split()[1]), form="code")
    return head.eval()


@pytest.mark.parametrize(
    "kind", ["timm test_efficientnet se", "timm test_convnext none", "timm test_vit none", "head tokens", "head batch"]
)
def test_the_features_are_what_the_last_layer_takes(kind: str) -> None:
    built = network(kind)
    layer = last_linear(built)
    x = torch.randn(3, 3, *(2 * (8 if "head" in kind else 160 if "vit" in kind else 64,)))
    with torch.no_grad():
        logits, features = logits_and_features(built, layer, x)
        assert features.shape == (3, layer.in_features)
        assert torch.equal(logits, built(x))
        torch.testing.assert_close(layer(features), logits)
    assert float(features.std(dim=0).max()) > 0
    with pytest.raises(RuntimeError):
        logits_and_features(built, layer, x[:, :2])
    assert not any(module._forward_pre_hooks for module in built.modules())


class Spot(nn.Module):
    """Logits are the mean brightness of three places; mixes the batch where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 3, 1, groups=3, bias=False)
        self.classifier = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.maps.weight.fill_(1)
            self.classifier.weight.copy_(torch.eye(3))
        self.mix = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.maps(x).mean(dim=(2, 3))
        logits: torch.Tensor = self.classifier(pooled - pooled.mean(0) if self.mix else pooled)
        return logits


def spots(count: int = 40) -> tuple[TrainedModel, Dataset]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(count) % 3
    dataset = SimpleNamespace(images=images, labels=labels, classes=("happy", "sad", "fear"))
    preprocessing = Preprocessing(8, (0.0, 0.0, 0.0), (0.1, 0.1, 0.1), "bilinear")
    return TrainedModel(Spot().eval(), preprocessing, dataset.classes, False), cast(Dataset, dataset)


@pytest.mark.parametrize("mixes", [False, True])
def test_the_most_confident_answers_are_picked_and_heated(mixes: bool) -> None:
    model, dataset = spots()
    model = TrainedModel(model.network, model.preprocessing, model.classes, mixes)
    rows = np.arange(40)[::-1][:35].copy()
    share = np.random.default_rng(1).dirichlet(np.ones(3) / 2, len(rows))
    share[dataset.labels[rows] == 2] = (0.1, 0.2, 0.7)  # of this class none is wrong, and all are equally sure
    layer = model.network.maps
    assert isinstance(layer, nn.Conv2d)
    shown = examples(model, layer, dataset, rows, share, 2)
    assert [row.name for row in shown] == ["happy", "sad", "fear"]
    found = share.argmax(1)
    for label, row in enumerate(shown):
        for is_right, kept in ((True, row.right), (False, row.wrong)):
            of = [k for k in range(35) if dataset.labels[rows[k]] == label and (found[k] == label) == is_right]
            of = sorted(of, key=lambda k: -share[k, found[k]])[:2]
            assert len(kept) == len(of)
            for k, one in zip(of, kept, strict=True):
                np.testing.assert_array_equal(one.image, dataset.images[rows[k]])
                assert one.predicted == dataset.classes[found[k]]
                assert one.probability == share[k, found[k]]
                x = model.preprocessing.apply(torch.from_numpy(dataset.images[rows[k : k + 1]]))
                heat = gradcam(model.network, layer, x, torch.tensor([int(found[k])]))[0]
                np.testing.assert_allclose(one.heatmap, heat.numpy(), atol=1e-6)
    assert shown[2].wrong == []
    assert len(shown[2].right) == 2


def test_a_model_that_mixes_its_batch_is_fed_one_picture_at_a_time() -> None:
    model, dataset = spots()
    cast(Spot, model.network).mix = True
    rows = np.arange(20)
    together, _ = predict_with_features(model, dataset, rows)
    alone, features = predict_with_features(
        TrainedModel(model.network, model.preprocessing, model.classes, True), dataset, rows
    )
    np.testing.assert_allclose(alone, 1 / 3)
    np.testing.assert_allclose(features, 0)
    assert np.abs(together - alone).max() > 0.01


def test_what_was_kept_while_scoring_is_what_a_second_pass_gives(
    study: tuple[Store, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, whole = study
    monkeypatch.setattr(explain, "EMBEDDED", 21)
    kept: dict[str, NDArray[np.float32]] = {}
    monkeypatch.setattr(
        "fer_cli.evaluation.predictors.model.explain",
        lambda _models, features, _scored, _which: kept.update(features) or (),
    )
    one = store.find(f"model/{whole.name}-seed1", ["model"])
    dataset = open_dataset(store.find(None, ["dataset"]))
    rows = dataset.rows("test")
    for batching in ("stored", "shuffled"):
        subject = open_predictor(store, whole, "cpu", batching)
        subject.probabilities(rows, "flip")
        subject.explain(cast(Any, None))
        _, features = predict_with_features(open_trained(one, "cpu"), dataset, rows)
        drawn = explain.embedded_items(dataset.labels[rows])
        assert len(drawn) == 21
        np.testing.assert_allclose(kept["seed 1"], features[drawn], rtol=1e-4, atol=1e-5)
        assert np.abs(kept["seed 0"] - kept["seed 1"]).max() > 1e-3


def test_the_report_of_a_study_shows_its_chosen_or_first_model(study: tuple[Store, Artifact]) -> None:
    store, whole = study
    for predictor, shown in (("seed 1", "seed 1"), ("ensemble", "seed 0")):
        page, artifact = page_of(store, whole.reference, predictor=predictor)
        table = read_table(artifact.file("all-predictors.parquet")).to_pylist()
        table = [row for row in table if row["predictor"] == shown]
        grid, points = section(page, "gradcam"), section(page, "separation")
        assert f"{shown.capitalize()}: the most confident right and wrong answers" in grid
        assert "The map has 2 x 2 cells" in grid
        assert f"{shown.capitalize()}: inputs of the last layer for 42 images" in points
        wrong = [row for row in table if row["label"] != row["predicted"]]
        assert f"42 images, {len(wrong)} of them predicted wrongly" in points
        expected = []
        for name in (*CLASSES[:6], HOSTILE):
            of = [row for row in table if row["label"] == name]
            missed = [row for row in of if row["predicted"] != name]
            safe = name.replace("<", "&lt;").replace(">", "&gt;")
            assert re.search(rf">{re.escape(safe)} +{len(of)}, {len(missed)} wrong<", points)
            hits = [row for row in of if row["predicted"] == name]
            for rows in (hits, missed):
                surest = sorted(rows, key=lambda row: -row[f"score_{row['predicted']}"])[:2]
                expected += [(row["predicted"], whole_percent(row[f"score_{row['predicted']}"])) for row in surest]
        captions = [html.unescape(one) for one in re.findall(r">([^<>]+ {2}[&;a-z]*\d+%)<", grid)]
        short = [(name if name != HOSTILE else "", share) for name, share in expected]
        assert [(caption.split("  ")[0], caption.split("  ")[1]) for caption in captions if "alert" not in caption] == [
            one for one in short if one[0]
        ]
        assert len(captions) == len(expected)
        assert "<script" not in page
        pictures = re.findall(r'xlink:href="data:image/png;base64,([\w+/=]+)"', grid)
        assert len(pictures) == len(expected) + 1, "each example and the key"
        assert {Image.open(io.BytesIO(base64.b64decode(one))).size for one in pictures[:-1]} <= {(156, 156), (157, 157)}
        assert len(page) < 1_000_000


def test_only_what_is_a_network_is_looked_at(store: Store) -> None:
    toy_dataset(store, images=210)
    extract(store=store, backbone="test_efficientnet", size=32, weights="none", device="cpu")
    page, _ = page_of(store, fit_ahm(store=store).artifact.reference)
    assert "Worst mistakes" in page
    assert not section(page, "gradcam")
    assert not section(page, "separation")


def test_a_transformer_has_no_map_and_says_so(store: Store) -> None:
    toy_dataset(store, images=70)
    one = trained(store, *SMALL, "model.backbone=test_vit", "data.size=160", "model.drop_path=0.0")
    page, _ = page_of(store, one.reference)
    assert "No picture: Grad-CAM needs a feature map, and VisionTransformer has none at 160 px." in section(
        page, "gradcam"
    )
    assert "<svg" not in section(page, "gradcam")
    assert "t-SNE of 14 images" in section(page, "separation")


def test_conv_cut_is_looked_at_before_its_head(store: Store, tmp_path: Path) -> None:
    toy_dataset(store, images=70)
    one = trained(store, *CONV_CUT, "model.attention=batch", system="conv-cut")
    opened = open_trained(one, "cpu")
    assert map_side(opened, map_layer(one, opened)) == 8
    page, _ = page_of(store, one.reference)
    assert "depend on the other images" not in section(page, "gradcam")
    page, _ = page_of(store, one.reference, batching="sorted", tta="flip")
    grid = section(page, "gradcam")
    assert "The map has 8 x 8 cells" in grid
    assert "depend on the other images of the batch, the map is of each image alone." in grid
    assert "mean of several views, the map is of the view shown." in grid
    assert "Inputs of the last layer for 14 images" in section(page, "separation")
    # The model is newer than the maps that it keeps as features.
    text = plot(store=store, what="tsne", out=tmp_path / "t.svg", perplexity=4, device="cpu").read_text()
    assert f"Features of {one.name}" in text
    assert "input of the last layer; t-SNE, perplexity 4; 14 images of the test split" in text
    assert re.search(r"<!-- ring: wrong answer -->", text)
    features = store.find(None, ["features"])
    text = plot(store=store, what="tsne", source=features.reference, perplexity=4, out=tmp_path / "f.svg").read_text()
    assert f"Features of {features.name}" in text
    assert "wrong" not in text
