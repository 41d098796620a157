"""The four predictors: the plain ones against scikit-learn and by hand, and what validation chooses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.systems.ahm.fit import FitResult, accuracies, fit, gather, targets
from fer_cli.systems.ahm.hierarchy import default_hierarchy, semantic_prototypes
from fer_cli.systems.ahm.plain import LogisticFit, logistic_path, nearest_mean_scores
from fer_cli.systems.ahm.predictors import PREDICTORS, Predictors, fit_temperature, softmax

Array = NDArray[np.float64]
CLASSES = ("happy", "sad", "surprise", "fear")
P, _ = semantic_prototypes(default_hierarchy(), CLASSES)


def sample(n: int, d: int = 12, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features with overlapping classes of unequal size, far from standardised, and labels."""
    rng = np.random.default_rng(seed)
    y = rng.choice(4, n, p=[0.5, 0.25, 0.15, 0.1])
    centres = np.random.default_rng(99).standard_normal((4, d))
    X = centres[y] * 0.7 + rng.standard_normal((n, d))
    return (X * np.geomspace(0.1, 10, d) + 3.0).astype(np.float32), y


def blocks(
    X: NDArray[np.float32], y: NDArray[np.int64], size: int = 64
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    for start in range(0, len(X), size):
        yield X[start : start + size], y[start : start + size]


@pytest.fixture(scope="module")
def result() -> FitResult:
    X, y = sample(600)
    return fit(lambda: blocks(X, y), sample(300, seed=1), classes=CLASSES, prototypes=P)


def logistic(Z: Array, Q: Array, Cs: list[float], tolerance: float = 1e-5, steps: int = 500) -> list[LogisticFit]:
    values, vectors = np.linalg.eigh(Z.T @ Z)
    data = [(Z.astype(np.float32), Q.astype(np.float32))]
    return list(
        logistic_path(lambda: data, Q.sum(axis=0), values, vectors, Cs, tolerance=tolerance, max_iterations=steps)
    )


def standard(n: int = 500) -> tuple[Array, NDArray[np.int64]]:
    X, y = sample(n)
    return ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float64), y


def test_logistic_regression_is_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression

    Z, y = standard()
    Z[:, 3] = 0.0  # a dead feature
    for fitted in logistic(Z, np.eye(4)[y], [1.0, 1e-3, 0.03]):
        reference = LogisticRegression(C=fitted.C, tol=1e-10, max_iter=5000).fit(Z, y)
        assert fitted.converged
        assert np.abs(fitted.coef - (reference.coef_ - reference.coef_.mean(axis=0))).max() < 5e-4, fitted.C
        assert np.abs(fitted.intercept - (reference.intercept_ - reference.intercept_.mean())).max() < 5e-4
        assert np.abs(fitted.coef[:, 3]).max() < 1e-9
        logits = Z @ reference.coef_.T + reference.intercept_
        loss = -np.log(softmax(logits)[np.arange(len(y)), y]).mean()
        loss += np.square(reference.coef_).sum() / (2 * fitted.C * len(y))
        assert fitted.objective == pytest.approx(loss, abs=1e-6)


def test_logistic_path_ascends_and_says_where_it_did_not_converge() -> None:
    Z, y = standard()
    path = logistic(Z, np.eye(4)[y], [1.0, 1e-3], tolerance=1e-4)
    assert [fitted.C for fitted in path] == [1e-3, 1.0]
    short = logistic(Z, np.eye(4)[y], [1.0], tolerance=1e-4, steps=2)[0]
    assert not short.converged
    assert short.iterations == 2
    assert short.gradient > 1e-4


def test_soft_labels_are_weighted_copies() -> None:
    Z, _ = standard(200)
    Q = np.random.default_rng(5).dirichlet(np.ones(4), 200)
    soft = logistic(Z, Q, [0.1])[0]
    from sklearn.linear_model import LogisticRegression

    copies = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000)
    copies.fit(np.repeat(Z, 4, axis=0), np.tile(np.arange(4), 200), sample_weight=Q.ravel())
    assert np.abs(soft.coef - (copies.coef_ - copies.coef_.mean(axis=0))).max() < 5e-4


def test_two_classes() -> None:
    Z, y = standard()
    fitted = logistic(Z, np.eye(2)[y % 2], [0.1])[0]
    assert fitted.coef.shape == (2, 12)
    assert np.allclose(fitted.coef[0], -fitted.coef[1], atol=1e-9)


def test_nearest_mean_by_hand() -> None:
    scores = nearest_mean_scores(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [3.0, 0.0]]))
    assert scores.tolist() == [[-1.0, -9.0], [-18.0, -16.0]]


def test_nearest_mean_is_scikit_learns(result: FitResult) -> None:
    from sklearn.neighbors import NearestCentroid

    X, y = sample(600)
    X2, y2 = sample(200, seed=2)
    mean, std = X.astype(np.float64).mean(axis=0), X.astype(np.float64).std(axis=0)
    reference = NearestCentroid().fit((X - mean) / std, y)
    ours = result.predictors.scores(X2, "nearest-mean").argmax(axis=1)
    assert np.array_equal(ours, reference.predict((X2 - mean) / std))
    assert 0.4 < (ours == y2).mean() < 1.0, "neither trivial nor blind"


def test_accuracies_by_hand() -> None:
    scores = np.eye(3)[[0, 0, 0, 1, 0]]
    assert accuracies(scores, np.array([0, 0, 0, 1, 1])) == (0.8, 0.75)
    assert accuracies(np.zeros((2, 3)), np.array([0, 1])) == (0.5, 0.5)


def test_chosen_is_the_best_on_validation_and_is_what_the_predictors_do(result: FitResult) -> None:
    X, y = sample(300, seed=1)
    for predictor in PREDICTORS:
        validated = result.chosen[predictor]
        scores = result.predictors.scores(X, predictor)
        assert scores.shape == (300, 4)
        assert scores.dtype == np.float64
        assert accuracies(scores, y) == (validated.accuracy, validated.balanced_accuracy), predictor
        points = [point for point in result.path if point.predictor == predictor]
        if predictor == "nearest-mean":
            assert not points
            continue
        assert validated.accuracy == max(point.accuracy for point in points)
        # The first of the best: points come in ascending order.
        assert validated.setting == next(p for p in points if p.accuracy == validated.accuracy)
    assert len([p for p in result.path if p.predictor == "ahm-visual"]) == 20
    assert all(p.residual is not None and p.residual < 1e-12 for p in result.path if p.setting == "lambda")
    assert all(p.value == pytest.approx((p.relative or 0) * result.balance) for p in result.path if p.relative)
    assert result.training_samples == 600
    assert result.dead_features == 0


def test_each_direction_has_its_own_lambda_and_balanced_chooses_on_balanced() -> None:
    X, y = sample(600)
    got = fit(lambda: blocks(X, y), sample(300, seed=1), classes=CLASSES, prototypes=P, metric="balanced")
    for predictor in ("logistic", "ahm-semantic", "ahm-visual"):
        best = max(p.balanced_accuracy for p in got.path if p.predictor == predictor)
        assert got.chosen[predictor].balanced_accuracy == best
    plain = fit(lambda: blocks(X, y), sample(300, seed=1), classes=CLASSES, prototypes=P)
    assert plain.chosen["logistic"].setting != got.chosen["logistic"].setting


def test_blocks_and_moments_from_elsewhere_change_nothing(result: FitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = sample(600)
    halves = gather(lambda: blocks(X[:250], y[:250]), 12, 4)
    halves.merge(gather(lambda: blocks(X[250:], y[250:], 7), 12, 4))
    monkeypatch.setattr("fer_cli.systems.ahm.fit._CACHE_BYTES", 0)  # the training set is read again at every step
    again = fit(lambda: blocks(X, y, 100), sample(300, seed=1), classes=CLASSES, prototypes=P, moments=halves)
    for name, tensor in again.predictors.to_tensors().items():
        other = result.predictors.to_tensors()[name]
        assert np.abs(tensor - other).max() <= 2e-4 * np.abs(other).max(), name
    assert [p.accuracy for p in again.path if p.setting == "lambda"] == [
        p.accuracy for p in result.path if p.setting == "lambda"
    ]


def test_soft_training_labels_that_are_one_hot_are_the_labels(result: FitResult) -> None:
    X, y = sample(600)
    soft = fit(lambda: [(X, np.eye(4)[y])], sample(300, seed=1), classes=CLASSES, prototypes=P)
    assert [p.accuracy for p in soft.path] == [p.accuracy for p in result.path]


def test_dead_features_are_noted_and_ignored() -> None:
    X, y = sample(600)
    V, v = sample(300, seed=1)
    X[:, 5] = 2.0
    V = V.copy()
    V[:, 5] = 2.0
    got = fit(lambda: blocks(X, y), (V, v), classes=CLASSES, prototypes=P)
    assert got.dead_features == 1
    assert any("1 of 12 features do not vary" in note for note in got.notes)
    moved = V.copy()
    moved[:, 5] = 1e5
    for predictor in PREDICTORS:
        assert np.array_equal(got.predictors.scores(V, predictor), got.predictors.scores(moved, predictor))


def test_an_end_of_the_path_is_noted() -> None:
    X, y = sample(600)
    got = fit(
        lambda: blocks(X, y),
        sample(300, seed=1),
        classes=CLASSES,
        prototypes=P,
        relative_lambdas=(1e-4, 1.0),
        Cs=(1.0,),
    )
    assert any(note.startswith("ahm-visual: validation chose the largest lambda") for note in got.notes)
    assert not any("logistic" in note for note in got.notes)


def test_what_cannot_be_fitted() -> None:
    X, y = sample(100)
    with pytest.raises(FerError, match="the validation split is empty"):
        fit(lambda: blocks(X, y), (X[:0], y[:0]), classes=CLASSES, prototypes=P)
    some = y != 2
    with pytest.raises(FerError, match="class 'surprise' has no training image"):
        fit(lambda: blocks(X[some], y[some]), (X, y), classes=CLASSES, prototypes=P)
    with pytest.raises(FerError, match="training features of size 12 and validation features of size 11"):
        fit(lambda: blocks(X, y), (X[:, 1:], y), classes=CLASSES, prototypes=P)
    bad = X.copy()
    bad[7, 0] = np.inf
    with pytest.raises(FerError, match="sample 7 "):
        fit(lambda: blocks(X, y), (bad, y), classes=CLASSES, prototypes=P)
    dead = X.copy()
    dead[:, 2] = 1.0
    with pytest.raises(FerError, match="not unique"):
        fit(lambda: blocks(dead, y), (dead, y), classes=CLASSES, prototypes=P, ridge=0.0)


def test_targets() -> None:
    assert targets(np.array([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    soft = np.array([[0.5, 0.5, 0.0]])
    assert targets(soft, 3).tolist() == soft.tolist()


def test_temperature_has_the_least_loss() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4000, 3)) * 2
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from softmax(logits)
    for factor in (0.01, 1.0, 50.0):
        found = fit_temperature(logits * factor, labels)
        assert found == pytest.approx(factor, rel=0.06)

        def loss(temperature: float, factor: float = factor) -> float:
            return float(-np.log(softmax(logits * factor / temperature)[np.arange(4000), labels]).mean())

        assert loss(found) < min(loss(found * 1.01), loss(found / 1.01))
    assert fit_temperature(np.zeros((5, 3)), np.zeros(5, dtype=int)) == 1.0


def test_probabilities(result: FitResult) -> None:
    X, y = sample(300, seed=1)
    rows = np.arange(len(y))
    for index, predictor in enumerate(PREDICTORS):
        scores = result.predictors.scores(X, predictor)
        found = result.predictors.probabilities(scores, predictor)
        assert np.allclose(found.sum(axis=1), 1.0)
        assert np.array_equal(found.argmax(axis=1), scores.argmax(axis=1))
        temperature = result.predictors.temperatures[index]
        assert np.allclose(found, softmax(scores / temperature))
        if predictor == "logistic":
            assert temperature == 1.0
        else:
            loss = [
                -np.log(softmax(scores / t)[rows, y]).mean()
                for t in (temperature * 0.97, temperature, temperature * 1.03)
            ]
            assert loss[1] < min(loss[0], loss[2]), predictor


def test_scores_do_not_depend_on_the_batch(result: FitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    X, _ = sample(50, seed=4)
    for predictor in PREDICTORS:
        together = result.predictors.scores(X, predictor)
        alone = np.concatenate([result.predictors.scores(row[None], predictor) for row in X])
        assert np.abs(together - alone).max() <= 1e-12 * np.abs(together).max()
    monkeypatch.setattr("fer_cli.systems.ahm.predictors._CHUNK_NUMBERS", 12 * 7)
    assert np.allclose(result.predictors.scores(X, "ahm-visual"), together, rtol=0, atol=1e-12)
    assert result.predictors.scores(X[:0], "logistic").shape == (0, 4)


def test_features_that_do_not_fit(result: FitResult) -> None:
    X, _ = sample(5)
    with pytest.raises(FerError, match="do not fit a model of 12 features"):
        result.predictors.scores(X[:, :11], "logistic")
    X[3, 3] = np.nan
    with pytest.raises(FerError, match="sample 3 "), warnings.catch_warnings():
        warnings.simplefilter("error")
        result.predictors.scores(X, "logistic")


def test_tensors_round_trip_and_damage_is_refused(result: FitResult) -> None:
    tensors = result.predictors.to_tensors()
    assert all(array.dtype == np.float64 and array.flags.c_contiguous for array in tensors.values())
    again = Predictors.from_tensors(tensors, CLASSES)
    X, _ = sample(20, seed=6)
    for predictor in PREDICTORS:
        assert np.array_equal(again.scores(X, predictor), result.predictors.scores(X, predictor))
    for name in tensors:
        with pytest.raises(FerError, match=f"'{name}'"):
            Predictors.from_tensors({k: v for k, v in tensors.items() if k != name}, CLASSES)
        spoilt: dict[str, NDArray[Any]] = {**tensors, name: tensors[name].astype(np.float32)}
        with pytest.raises(FerError, match=f"'{name}' is float32"):
            Predictors.from_tensors(spoilt, CLASSES)
        spoilt = {**tensors, name: np.full_like(tensors[name], np.nan)}
        with pytest.raises(FerError, match=f"'{name}'"):
            Predictors.from_tensors(spoilt, CLASSES)
        cut = {**tensors, name: tensors[name][..., :-1]}
        with pytest.raises(FerError, match="the model's"):
            Predictors.from_tensors(cut, CLASSES)
    with pytest.raises(FerError, match="the model's"):
        Predictors.from_tensors(tensors, CLASSES[:3])
    with pytest.raises(FerError, match="'extra'"):
        Predictors.from_tensors({**tensors, "extra": np.zeros(1)}, CLASSES)


def test_each_predictor_uses_its_own_arrays(result: FitResult) -> None:
    X, _ = sample(20, seed=6)
    uses = {
        "nearest-mean": {"class_means"},
        "logistic": {"coef", "intercept"},
        "ahm-semantic": {"semantic_projection", "prototypes"},
        "ahm-visual": {"visual_projection", "prototypes"},
    }
    for name in ("class_means", "coef", "intercept", "prototypes", "semantic_projection", "visual_projection"):
        array = getattr(result.predictors, name)
        changed = replace(result.predictors, **{name: array + np.random.default_rng(0).random(array.shape)})
        for predictor in PREDICTORS:
            same = np.array_equal(changed.scores(X, predictor), result.predictors.scores(X, predictor))
            assert same == (name not in uses[predictor]), (name, predictor)
