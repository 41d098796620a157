"""ROC curves against scikit-learn and against counting pairs, and the picture of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as reference

from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.metrics.roc import area, roc_curve
from fer_cli.plots.roc import draw, roc_figure
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.extract import extract
from fer_cli.stages.fit_ahm import fit_ahm
from tests.kits.toy import toy_dataset


def texts(figure: Figure) -> list[str]:
    return [one.get_text() for one in figure.findobj(Text) if isinstance(one, Text) and one.get_text()]


@pytest.mark.parametrize("levels", [3, 10, 10_000])
def test_the_curve_and_its_area_are_scikit_learns(levels: int) -> None:
    rng = np.random.default_rng(levels)
    positive = rng.random(200) < 0.3
    scores = rng.integers(0, levels, 200) / levels + 0.2 * positive
    false_rates, true_rates = roc_curve(scores, positive)
    expected = reference(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(false_rates, expected[0])
    np.testing.assert_allclose(true_rates, expected[1])
    assert area(false_rates, true_rates) == pytest.approx(roc_auc_score(positive, scores))
    above = scores[positive][:, None] - scores[~positive]
    assert area(false_rates, true_rates) == pytest.approx(float(np.mean((np.sign(above) + 1) / 2)))


@pytest.mark.parametrize("positive", [True, False])
def test_one_kind_alone_has_no_curve(positive: bool) -> None:
    with pytest.raises(ValueError, match="of the class and items of others"):
        roc_curve(np.arange(3.0), np.full(3, positive))


def test_the_picture_says_every_area_and_their_mean() -> None:
    curves = {
        "happy": (roc_curve(np.array([0.9, 0.8, 0.1]), np.array([True, False, False])),),
        "$\\frac{": (roc_curve(np.array([0.9, 0.8, 0.1]), np.array([False, True, False])),),
        "fear": (),
    }
    figure = roc_figure(curves, "ROC $\\frac{", "of what")
    said = texts(figure)
    for text in ("happy   1.000", "$\\frac{   0.500", "fear   no items", "AUC; macro 0.750", "ROC $\\frac{", "of what"):
        assert text in said, text
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    x, y = (np.asarray(part, dtype=np.float64) for part in lines["happy   1.000"].get_data())
    np.testing.assert_allclose((x, y), curves["happy"][0])
    assert "AUC" in texts(roc_figure({"happy": ()}))


def test_of_an_evaluation(store: Store, tmp_path: Path) -> None:
    toy_dataset(store, images=210)
    extract(store=store, backbone="test_efficientnet", size=32, weights="none", device="cpu")
    artifact = evaluate_model(store=store, model=fit_ahm(store=store).artifact.reference, resamples=100).artifact
    picture = draw(store, predictor="logistic")
    assert picture.name == artifact.name
    table = read_table(artifact.file("all-predictors.parquet")).to_pylist()
    rows = [row for row in table if row["predictor"] == "logistic"]
    for name in sorted({row["label"] for row in rows}):
        auc = roc_auc_score([row["label"] == name for row in rows], [row[f"score_{name}"] for row in rows])
        assert f"{name}   {auc:.3f}" in texts(picture.figure)
    where = f"(logistic) on {artifact.manifest.protocol['data']['dataset']} test, 42 images"
    assert any(text.endswith(where) for text in texts(picture.figure))
    file = tmp_path / "labels.csv"
    file.write_text("id,predicted\n" + "".join(f"{row['id']},{row['predicted']}\n" for row in rows))
    labels = evaluate_model(store=store, predictions=file, data="dataset/toy", resamples=100).artifact
    with pytest.raises(FerError, match="labels without scores"):
        draw(store, labels.reference)
