"""The projection: SciPy's Sylvester solver as the reference, the objective it minimises, and its scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS
from fer_cli.systems.ahm.fit import RELATIVE_LAMBDAS
from fer_cli.systems.ahm.hierarchy import default_hierarchy, semantic_prototypes
from fer_cli.systems.ahm.projection import ProjectionPath, cosine_scores_semantic, cosine_scores_visual

Array = NDArray[np.float64]

P, _ = semantic_prototypes(default_hierarchy(), EXPRESSIONS)


def training(d: int, n: int, condition: float = 1e2, dead: int = 0, seed: int = 0) -> tuple[Array, Array]:
    """Return features X (d, n), whose Gram matrix has this condition number, and semantic vectors S (k, n)."""
    rng = np.random.default_rng(seed)
    spectrum = np.geomspace(1.0, condition**-0.5, d)
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    noise = np.linalg.qr(rng.standard_normal((n, d)))[0].T  # orthonormal rows: the spectrum is exact
    X = basis @ (spectrum[:, None] * noise)
    X[:dead] = 0.0
    share = np.geomspace(1.0, 0.02, P.shape[1])
    y = rng.choice(P.shape[1], n, p=share / share.sum())
    return X, P[:, y]


def path_of(X: Array, S: Array, ridge: float = 1e-6) -> ProjectionPath:
    return ProjectionPath(S @ S.T, X @ X.T, S @ X.T, ridge=ridge)


def scipy_solution(A: Array, B: Array, C: Array) -> Array:
    return np.asarray(scipy.linalg.solve_sylvester(A, B, C), dtype=np.float64)


def relative_difference(ours: Array, reference: Array) -> float:
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


@pytest.mark.parametrize("condition", [1e1, 1e7, 1e14])
@pytest.mark.parametrize("dead", [0, 5])
def test_equals_scipy_on_the_same_regularised_matrices(condition: float, dead: int) -> None:
    X, S = training(96, 400, condition, dead)
    gram = X @ X.T
    if not dead:
        assert np.linalg.cond(gram) == pytest.approx(condition, rel=0.5)
    path = path_of(X, S)
    # The regularised matrices are what the module says they are: the ridge comes before lambda.
    assert np.allclose(path.A, S @ S.T + 1e-6 * np.diag(S @ S.T).mean() * np.eye(len(S)), rtol=0, atol=1e-15 * 400)
    assert np.allclose(path.B, gram + 1e-6 * np.diag(gram).mean() * np.eye(96), rtol=0, atol=1e-15)
    for relative in RELATIVE_LAMBDAS[::3]:
        lam = relative * path.balance
        W = path.solve(lam)
        reference = scipy_solution(path.A, lam * path.B, (1 + lam) * (S @ X.T))
        assert relative_difference(W, reference) < 1e-9, relative
        assert path.residual(lam, W) < 1e-12
        assert path.residual(lam, reference) < 1e-12


def test_residual_is_the_relative_one_and_sees_errors() -> None:
    X, S = training(30, 200)
    path = path_of(X, S)
    lam = 0.7 * path.balance
    W = path.solve(lam)
    wrong = W + 0.01 * np.random.default_rng(1).standard_normal(W.shape)
    A, B, C = path.A, lam * path.B, (1 + lam) * path.C
    norm = np.linalg.norm
    expected = norm(A @ wrong + wrong @ B - C) / (norm(A) * norm(wrong) + norm(wrong) * norm(B) + norm(C))
    assert path.residual(lam, wrong) == pytest.approx(expected, rel=1e-9)
    assert expected > 1e-6


def objective(W: Array, X: Array, S: Array, lam: float, path: ProjectionPath) -> float:
    """Eq. 6 plus the penalty that the ridge amounts to."""
    penalty = path.ridge * (np.diag(S @ S.T).mean() + lam * np.diag(X @ X.T).mean())
    fit = np.square(X - W.T @ S).sum() + lam * np.square(W @ X - S).sum()
    return float(fit + penalty * np.square(W).sum())


@pytest.mark.parametrize("ridge", [1e-6, 1e-2])
def test_the_solution_minimises_the_papers_objective(ridge: float) -> None:
    X, S = training(12, 150)
    path = path_of(X, S, ridge)
    rng = np.random.default_rng(1)
    for relative in (0.01, 1.0, 100.0):
        lam = relative * path.balance
        W = path.solve(lam)
        least = objective(W, X, S, lam, path)
        for _ in range(20):
            step = rng.standard_normal(W.shape)
            for size in (1e-1, -1e-1):
                assert objective(W + size * step, X, S, lam, path) > least
            slope = (objective(W + step, X, S, lam, path) - objective(W - step, X, S, lam, path)) / 2
            # A quadratic's central difference is exact: at the minimum nothing but rounding is left.
            assert abs(slope) < 1e-9 * objective(W + step, X, S, lam, path)


def test_without_a_ridge_it_is_solved_where_unique_and_refused_where_not() -> None:
    rng = np.random.default_rng(0)
    X, _ = training(20, 300)
    S = rng.standard_normal((5, 300))  # full rank: unique whatever X does
    X[:3] = 0.0
    path = path_of(X, S, ridge=0.0)
    W = path.solve(0.3)
    reference = scipy_solution(S @ S.T, 0.3 * X @ X.T, 1.3 * S @ X.T)
    assert relative_difference(W, reference) < 1e-10
    # Sixteen paths, eight classes: A is singular; with dead features B is too.
    X, S = training(20, 300, dead=3)
    with pytest.raises(FerError, match="not unique at lambda 0.3.*set a ridge above 0"):
        path_of(X, S, ridge=0.0).solve(0.3)
    with pytest.raises(FerError, match="not unique"):
        path_of(X, S, ridge=0.0).evaluate(X.T).scores(0.3, P)
    assert path_of(X, S).residual(0.3, path_of(X, S).solve(0.3)) < 1e-12


def test_dead_features_get_no_weight() -> None:
    X, S = training(40, 300, dead=4)
    W = path_of(X, S).solve(0.1)
    assert np.abs(W[:, :4]).max() < 1e-12 * np.abs(W).max()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_sums_that_are_not_finite(bad: float) -> None:
    B = np.eye(3)
    B[1, 1] = bad
    with pytest.raises(FerError, match="not finite"):
        ProjectionPath(np.eye(2), B, np.ones((2, 3)))


def test_balance_is_the_ratio_of_the_mean_diagonals() -> None:
    path = ProjectionPath(np.diag([1.0, 3.0]), np.diag([4.0, 4.0, 16.0]), np.ones((2, 3)), ridge=0.0)
    assert path.balance == pytest.approx(2.0 / 8.0)


def test_scores_along_the_path_equal_those_of_w() -> None:
    X, S = training(50, 300)
    Z = np.random.default_rng(3).standard_normal((70, 50))
    Z[11] = 0.0
    path = path_of(X, S)
    evaluation = path.evaluate(Z)
    for relative in (1e-3, 1.0, 1e3):
        lam = relative * path.balance
        W = path.solve(lam)
        semantic, visual = evaluation.scores(lam, P)
        assert np.abs(semantic - cosine_scores_semantic(Z @ W.T, P)).max() < 1e-9
        assert np.abs(visual - cosine_scores_visual(Z, W, P)).max() < 1e-9
        assert not semantic[11].any()
        assert not visual[11].any()


def test_cosines_by_hand() -> None:
    prototypes = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])  # columns (1,0), (1,1), (0,0)
    projected = np.array([[2.0, 0.0], [0.0, -3.0], [0.0, 0.0]])
    half = math.sqrt(0.5)
    assert np.allclose(
        cosine_scores_semantic(projected, prototypes), [[1.0, half, 0.0], [0.0, -half, 0.0], [0.0, 0.0, 0.0]]
    )
    W = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])  # W'p: (1,0,0), (1,2,0), 0
    features = np.array([[0.0, 5.0, 0.0], [1.0, 0.0, 1.0]])
    assert np.allclose(
        cosine_scores_visual(features, W, prototypes), [[0.0, 2 / math.sqrt(5), 0.0], [half, 1 / math.sqrt(10), 0.0]]
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_cosines_of_vectors_beyond_the_range_of_squares(size: float) -> None:
    assert np.allclose(cosine_scores_semantic(np.array([[3.0, 4.0]]) * size, np.eye(2)), [[0.6, 0.8]])


def test_scores_of_a_sample_do_not_depend_on_its_neighbours() -> None:
    X, S = training(50, 300)
    W = path_of(X, S).solve(0.1)
    Z = np.random.default_rng(3).standard_normal((40, 50))
    together = cosine_scores_visual(Z, W, P)
    alone = np.concatenate([cosine_scores_visual(row[None], W, P) for row in Z])
    assert np.abs(together - alone).max() < 1e-13


def test_default_lambdas_are_twenty_from_one_limit_to_the_other() -> None:
    assert len(RELATIVE_LAMBDAS) == 20
    assert (RELATIVE_LAMBDAS[0], RELATIVE_LAMBDAS[-1]) == (1e-4, 1e4)
    assert list(RELATIVE_LAMBDAS) == sorted(RELATIVE_LAMBDAS)
