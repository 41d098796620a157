"""The semantic autoencoder: a projection between features and semantic vectors in closed form, for every lambda.

Source: Zhang & Dong, Eq. 6-10. With X (d, N) features and S (k, N) semantic vectors as columns,

    min_W  |X - W'S|^2 + lambda |WX - S|^2      <=>      A W + W B = C
    A = SS',   B = lambda XX',   C = (1 + lambda) SX'.

A = U diag(a) U' and XX' = V diag(b) V' are symmetric and do not depend on lambda, so one eigendecomposition of each
solves the equation for every lambda: W = U [ (U'CV)_ij / (a_i + lambda b_j) ] V'.

*The ridge.* rank(A) is at most the number of classes, and dead or collinear features make XX' singular; then W is not
unique. A ridge r adds r * mean(diag(A)) to A's diagonal and r * mean(diag(XX')) to that of XX', **before** lambda
multiplies it; C stays. That is Tikhonov's penalty (e_A + lambda e_B) |W|^2 on Eq. 6. Every residual and every
comparison with another solver is on these regularised A and B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from fer_cli.core.errors import FerError

Array = NDArray[np.float64]

RIDGE: Final = 1e-6
"""Default ridge on A and on XX', as a part of the mean of their diagonals."""


class ProjectionPath:
    """The solutions W of A W + W B = C for every lambda, from one eigendecomposition of A and one of XX'.

    Args:
        A: (k, k) SS', symmetric positive semi-definite.
        B: (d, d) XX', without lambda, symmetric positive semi-definite.
        C: (k, d) SX', without (1 + lambda).
        ridge: see the module; 0 turns it off.

    Attributes:
        a: (k,) eigenvalues of the regularised A, ascending.
        U: (k, k) its eigenvectors, one per column.
        b: (d,) eigenvalues of the regularised XX', ascending.
        V: (d, d) its eigenvectors.
        A: (k, k) regularised.
        B: (d, d) XX', regularised, without lambda.
        C: (k, d) SX'.

    Raises:
        FerError: the sums are not finite, or an eigendecomposition fails.
    """

    def __init__(self, A: Array, B: Array, C: Array, ridge: float = RIDGE) -> None:
        assert A.shape == (len(A), len(A)), "A is square"
        assert B.shape == (len(B), len(B)), "B is square"
        assert C.shape == (len(A), len(B)), "C is k x d"
        assert ridge >= 0, "a ridge is not negative"
        if not (np.isfinite(A).all() and np.isfinite(B).all() and np.isfinite(C).all()):
            raise FerError(
                "the sums over the training features are not finite", hint="extract the features again, in fp32"
            )
        self.ridge = ridge
        self.a, self.U = _eigh(A)
        self.b, self.V = _eigh(B)
        self._rotated = self.U.T @ C @ self.V
        self.A, shift = _regularised(A, ridge)
        self.a = self.a + shift
        self.B, shift = _regularised(B, ridge)
        self.b = self.b + shift
        self.C = C
        self._norms = (float(np.linalg.norm(self.A)), float(np.linalg.norm(self.B)), float(np.linalg.norm(C)))

    @property
    def balance(self) -> float:
        """mean(diag A) / mean(diag XX'), both regularised: the lambda at which A and B weigh the same."""
        return float(np.diag(self.A).mean() / np.diag(self.B).mean())

    def solve(self, lam: float) -> Array:
        """Return W (k, d) for one lambda > 0, in O(k d^2).

        Raises:
            FerError: the equation has no unique solution, which only happens without a ridge.
        """
        W: Array = self.U @ self._inner(lam) @ self.V.T
        return W

    def residual(self, lam: float, W: Array) -> float:
        """Return the relative residual of W (k, d), on the regularised A and B = lambda XX'.

        It is |AW + WB - C| / (|A| |W| + |W| |B| + |C|) in Frobenius norms; rounding alone leaves some 1e-16.
        """
        a, b, c = self._norms
        size = float(np.linalg.norm(W))
        left = self.A @ W + lam * (W @ self.B) - (1 + lam) * self.C
        return float(np.linalg.norm(left)) / (a * size + lam * b * size + (1 + lam) * c)

    def evaluate(self, Z: Array) -> PathEvaluation:
        """Turn features Z (n, d) into the eigenbasis of XX' once, so that each lambda's scores cost O(n d k)."""
        return PathEvaluation(self, _unit_rows(Z @ self.V))

    def _inner(self, lam: float) -> Array:
        """Return U'WV (k, d)."""
        assert lam > 0, "lambda is positive"
        sums = self.a[:, None] + lam * self.b
        # An eigenvalue is known to about eps times the largest; a sum below that may as well be zero.
        largest = abs(self.a[-1]) + lam * abs(self.b[-1])
        if not sums.min() > len(self.b) * np.finfo(np.float64).eps * largest:
            raise FerError(
                f"the projection is not unique at lambda {lam:.4g}: more paths than classes, or dead features",
                hint=f"set a ridge above 0; the default is {RIDGE:g}",
            )
        inner: Array = (1 + lam) * self._rotated / sums
        return inner


@dataclass(frozen=True, slots=True)
class PathEvaluation:
    """Features in the eigenbasis of XX', for the scores of many lambdas (:meth:`ProjectionPath.evaluate`).

    ``directions`` (n, d) are the rotated features at length 1: neither direction's cosine depends on the length.
    """

    path: ProjectionPath
    directions: Array

    def scores(self, lam: float, P: Array) -> tuple[Array, Array]:
        """Return both directions' scores (n, C), semantic and visual, for one lambda, in O(n d (k + C)).

        They equal ``cosine_scores_semantic(Z @ W.T, P)`` and ``cosine_scores_visual(Z, W, P)`` up to rounding:
        a rotation changes no angle.

        Args:
            lam: lambda > 0.
            P: (k, C) prototypes.
        """
        inner = self.path._inner(lam)
        rotated = self.path.U.T @ P
        semantic = cosine_scores_semantic(self.directions @ inner.T, rotated)
        return semantic, np.asarray(self.directions @ _unit_rows(rotated.T @ inner).T)


def cosine_scores_semantic(WZ: Array, P: Array) -> Array:
    """Return the cosine (n, C) between projected features and prototypes: feature -> semantic (Eq. 10).

    A vector of norm zero has no direction: its cosine with everything is 0, so a feature that projects to nothing
    ties all classes instead of giving NaN.

    Args:
        WZ: (n, k) projected features W z, one row per sample.
        P: (k, C) prototypes.
    """
    return np.asarray(_unit_rows(WZ) @ _unit_rows(P.T).T, dtype=np.float64)


def cosine_scores_visual(Z: Array, W: Array, P: Array) -> Array:
    """Return the cosine (n, C) between features and the prototypes' features W'p: semantic -> feature.

    Vectors of norm zero are treated as in :func:`cosine_scores_semantic`.

    Args:
        Z: (n, d) standardised features.
        W: (k, d).
        P: (k, C) prototypes.
    """
    return np.asarray(_unit_rows(Z) @ _unit_rows(P.T @ W).T, dtype=np.float64)


def _unit_rows(rows: Array) -> Array:
    # The largest entry is taken out first, so that squares neither overflow nor vanish.
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    rows = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0))


def _eigh(matrix: Array) -> tuple[Array, Array]:
    # Divide and conquer: at d = 1280 and 2048 it took 0.65 and 0.40 of the time of LAPACK's default driver 'evr'.
    try:
        values, vectors = scipy.linalg.eigh(matrix, driver="evd", check_finite=False)
    except np.linalg.LinAlgError as error:
        raise FerError(f"an eigendecomposition failed: {error}", hint="raise the ridge") from None
    return np.asarray(values), np.asarray(vectors)


def _regularised(matrix: Array, ridge: float) -> tuple[Array, float]:
    shift = ridge * float(np.diag(matrix).mean())
    return matrix + shift * np.eye(len(matrix)), shift
