"""Ensembles: what members are refused, what they answer together, and what a reader is told of them."""

from __future__ import annotations

import numpy as np
import pytest

import fer_cli as fer_package
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.dependents import dependents
from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.protocol import TrainingProtocol
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import EnsembleSummary, EvaluationSummary
from fer_cli.cli.app import run
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import open_dataset
from fer_cli.stages.ensemble import ensemble
from fer_cli.stages.evaluate import evaluate_model
from fer_cli.stages.train import train
from fer_cli.training.ensemble import fitted_weights, mixed, read_ensemble
from tests.kits.toy import toy_dataset

SMALL = (
    *("model.backbone=test_efficientnet", "model.weights=none", "model.drop_path=0.0"),
    *("data.size=32", "train.batch=20", "train.epochs=1"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact, Artifact]:
    """A store with a data set, a model and a study of two seeds."""
    store = Store(tmp_path_factory.mktemp("trained"))
    toy_dataset(store, images=105)
    model = train(store=store, system="baseline", changes=(*SMALL, "optim.lr=3e-3"), device="cpu", name="a").whole
    study = train(store=store, system="baseline", changes=SMALL, device="cpu", name="b", seeds=[1, 2]).whole
    return store, model.artifact, study.artifact


def test_an_evaluation_and_a_prediction_are_the_mean_of_calibrated_members(
    trained: tuple[Store, Artifact, Artifact],
) -> None:
    store, model, study = trained
    made = ensemble(store=store, members=[model.reference, study.reference], device="cpu").artifact
    scored = evaluate_model(store=store, model=made.reference, device="cpu", resamples=100).artifact
    assert EvaluationSummary.of(scored).chosen == "ensemble"
    dataset = open_dataset(store.find("toy", ["dataset"]))
    images = dataset.images[dataset.rows("test")]
    parts = [
        fer_package.load_model(one.reference, store=store, device="cpu").predict(images).probabilities
        for one in (model, study)
    ]
    raised = ((parts[0] + parts[1]) / 2) ** (1 / read_ensemble(made).temperature)
    expected = raised / raised.sum(1, keepdims=True)
    together = fer_package.load_model(made.reference, store=store, device="cpu").predict(images).probabilities
    np.testing.assert_allclose(together, expected, atol=1e-6)
    table = read_table(scored.file("predictions.parquet"))
    written = np.stack([table[f"score_{name}"].to_numpy() for name in dataset.classes], axis=1)
    np.testing.assert_allclose(written, expected, atol=1e-5)


def test_members_are_referred_to_and_fitted_weights_are_a_selection(trained: tuple[Store, Artifact, Artifact]) -> None:
    store, model, _ = trained
    made = ensemble(store=store, members=["a-seed0", "b"], weights="fitted", device="cpu").artifact
    assert [entry.path for entry in made.manifest.files] == ["ensemble.json"]
    assert made.path in dependents(store, {("model", model.version)})
    selection = TrainingProtocol.of(made).selection
    assert selection is not None
    assert (selection.split, selection.tried) == ("validation", 3 + 2)


def test_the_command_says_what_each_member_has_alone(
    trained: tuple[Store, Artifact, Artifact], capsys: pytest.CaptureFixture[str]
) -> None:
    store, _, _ = trained
    made = ensemble(store=store, members=["a-seed0", "b"], device="cpu").artifact
    assert run(["ensemble", "a-seed0", "b", "--store", str(store.root)]) == 0
    printed = capsys.readouterr().out
    accuracies = EnsembleSummary.of(made).member_accuracy
    lines = {line.split()[0]: line.partition("  ")[2].strip() for line in printed.splitlines() if "weight 0.5" in line}
    assert lines["a-seed0"].endswith(f"weight 0.500, validation accuracy {accuracies[0]:.1%}")
    assert lines["b"].endswith(f"validation accuracy {accuracies[1]:.1%}, by the mean of its probabilities")


def test_a_member_that_was_selected_on_test_makes_the_ensemble_so(trained: tuple[Store, Artifact, Artifact]) -> None:
    store, _, study = trained
    other = train(
        store=store, system="baseline", changes=SMALL, device="cpu", name="c", select_on="test"
    ).whole.artifact
    made = ensemble(store=store, members=[other.reference, study.reference], device="cpu").artifact
    scored = evaluate_model(store=store, model=made.reference, device="cpu", resamples=100).artifact
    assert "scored on the selection split: optimistic" in EvaluationSummary.of(scored).unsound


def test_members_that_do_not_fit_together_are_refused(trained: tuple[Store, Artifact, Artifact]) -> None:
    store, model, study = trained
    inner = study.manifest.inputs["seed1"]
    with pytest.raises(FerError, match="two members or more"):
        ensemble(store=store, members=["a-seed0"])
    with pytest.raises(FerError, match="is given twice"):
        ensemble(store=store, members=[model.reference, model.reference])
    with pytest.raises(FerError, match="is in study/b@"):
        ensemble(store=store, members=[study.reference, f"model/{inner.name}@{inner.version}"])
    toy = toy_dataset(store, images=105, seed=1)
    other = train(store=store, system="baseline", dataset=toy.reference, changes=SMALL, device="cpu", name="d").whole
    with pytest.raises(FerError, match="other images have the same ids"):
        ensemble(store=store, members=[model.reference, other.artifact.reference])


def test_fitted_weights_have_the_least_cross_entropy() -> None:
    generator = np.random.default_rng(0)
    tables = [generator.dirichlet(np.ones(3), 200) for _ in range(2)]
    true = np.array([generator.choice(3, p=row) for row in 0.3 * tables[0] + 0.7 * tables[1]])
    likelihood = [table[np.arange(200), true] for table in tables]
    grid = np.linspace(0, 1, 1001)
    losses = [-np.log(share * likelihood[0] + (1 - share) * likelihood[1]).mean() for share in grid]
    assert fitted_weights(tables, true)[0] == pytest.approx(grid[int(np.argmin(losses))], abs=1e-3)


def test_the_mean_keeps_the_order_of_the_classes() -> None:
    mean = mixed([np.array([[0.6, 0.3, 0.1]]), np.array([[0.2, 0.7, 0.1]])], [0.5, 0.5], 0.5)
    np.testing.assert_allclose(mean, np.array([[0.16, 0.25, 0.01]]) / 0.42)
