"""The four ways to centre X and S, against the definition with scipy's solver; the default is as before."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from fer_cli.systems.ahm.fit import CENTRINGS, Centring, FitResult, fit
from fer_cli.systems.ahm.predictors import Predictors
from tests.systems.test_ahm_fit import CLASSES, P, blocks, sample

Array = NDArray[np.float64]


def fitted(centring: Centring, ridge: float = 1e-6) -> FitResult:
    X, y = sample(600)
    return fit(
        lambda: blocks(X, y),
        sample(300, seed=1),
        classes=CLASSES,
        prototypes=P,
        centring=centring,
        relative_lambdas=[1.0],
        ridge=ridge,
    )


def by_definition(centring: Centring, lam: float, ridge: float) -> tuple[Array, Array]:
    """Return W of the Sylvester equation, from every sample's feature and semantic vector; and the prototypes."""
    X, y = sample(600)
    columns, S, prototypes = X.astype(np.float64).T, P[:, y], P
    if centring != "none":
        columns = (columns - columns.mean(1, keepdims=True)) / columns.std(1, keepdims=True)
    if centring == "both":
        prototypes = P - S.mean(1, keepdims=True)
        S = S - S.mean(1, keepdims=True)
    if centring == "intercept":
        columns = np.vstack([columns, np.ones(columns.shape[1])])
    A, B = S @ S.T, columns @ columns.T
    A += ridge * np.diag(A).mean() * np.eye(len(A))
    B += ridge * np.diag(B).mean() * np.eye(len(B))
    W: Array = np.asarray(scipy.linalg.solve_sylvester(A, lam * B, (1 + lam) * S @ columns.T), dtype=np.float64)
    return W, prototypes


@pytest.mark.parametrize("centring", CENTRINGS)
def test_the_projection_is_that_of_the_definition(centring: Centring) -> None:
    result = fitted(centring, ridge=1e-3)
    point = result.chosen["ahm-semantic"].setting
    assert point is not None
    W, prototypes = by_definition(centring, point.value, 1e-3)
    assert np.abs(result.predictors.semantic_projection - W).max() < 1e-7 * np.abs(W).max()
    assert np.allclose(result.predictors.prototypes, prototypes)
    X, _ = sample(50, seed=7)
    scores = result.predictors.scores(X, "ahm-semantic")
    Z = X.astype(np.float64)
    if centring != "none":
        train = sample(600)[0].astype(np.float64)
        Z = (Z - train.mean(0)) / train.std(0)
    if centring == "intercept":
        Z = np.hstack([Z, np.ones((len(Z), 1))])
    projected = Z @ W.T
    expected = projected @ prototypes / np.linalg.norm(projected, axis=1)[:, None] / np.linalg.norm(prototypes, axis=0)
    assert np.allclose(scores, expected, atol=1e-6)


def test_the_plain_classifiers_are_the_same_whatever_the_centring() -> None:
    X, _ = sample(50, seed=7)
    usual, raw = fitted("features"), fitted("none")
    for name in ("nearest-mean", "logistic"):
        assert np.allclose(usual.predictors.scores(X, name), raw.predictors.scores(X, name), atol=1e-5)
    assert not np.allclose(usual.predictors.scores(X, "ahm-visual"), raw.predictors.scores(X, "ahm-visual"), atol=1e-2)


@pytest.mark.parametrize("centring", ["none", "intercept"])
def test_tensors_come_back_and_those_of_before_are_read(centring: Centring) -> None:
    X, _ = sample(50, seed=7)
    own = fitted(centring).predictors
    again = Predictors.from_tensors(own.to_tensors(), CLASSES)
    assert np.array_equal(own.scores(X, "ahm-visual"), again.scores(X, "ahm-visual"))
    usual = fitted("features").predictors
    before = {name: one for name, one in usual.to_tensors().items() if not name.startswith("ahm_")}
    old = Predictors.from_tensors(before, CLASSES)
    assert np.array_equal(usual.scores(X, "ahm-semantic"), old.scores(X, "ahm-semantic"))
