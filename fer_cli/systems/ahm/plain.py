"""The two plain classifiers that AHM is compared with, on the same standardised features.

Nearest class mean needs the class means alone. Multinomial logistic regression is the textbook's: mean cross-entropy
over N samples plus |W|^2 / (2 C N), intercepts free, which is the objective and the C of scikit-learn. The solver is
SciPy's L-BFGS in the eigenbasis of the features' Gram matrix, which the projection has computed anyway: there the
Hessian is close to diagonal and scaling by it saves most of the iterations: on 25,839 x 1,280 features of FER2013 and
nine values of C, warm started, 172 in all, against 835 of scikit-learn's LogisticRegression at its default tolerance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

Array = NDArray[np.float64]
Blocks = Callable[[], Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]]

# Rows at a time: forward and backward product of a block share it while it is in the processor's cache.
_ROWS = 1024


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """One regularisation's logistic regression: scores are ``Z @ coef.T + intercept``.

    ``coef`` is (C, d), ``intercept`` (C,), both with mean zero over the classes. ``gradient`` is the largest entry
    of the preconditioned gradient at the end; where ``converged`` is false the iterations ran out before it fell
    below the tolerance.
    """

    C: float
    coef: Array
    intercept: Array
    objective: float
    gradient: float
    iterations: int
    converged: bool
    seconds: float


def nearest_mean_scores(Z: Array, means: Array) -> Array:
    """Return minus the squared Euclidean distance (n, C) of features Z (n, d) to the class means (C, d)."""
    squares = np.einsum("nd,nd->n", Z, Z)[:, None] + np.einsum("cd,cd->c", means, means)
    return np.asarray(2.0 * (Z @ means.T) - squares, dtype=np.float64)


def logistic_path(
    blocks: Blocks,
    class_counts: Array,
    eigenvalues: Array,
    eigenvectors: Array,
    Cs: Sequence[float],
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 500,
) -> Iterator[LogisticFit]:
    """Yield one fit per C, in ascending order, each started from the one before.

    Args:
        blocks: returns the training set, at each call from its start, as standardised features (n, d) and targets
            (n, classes), float32; targets are one-hot or soft labels that sum to 1.
        class_counts: (classes,) sum of the targets, all positive.
        eigenvalues: (d,) of ZZ', ascending; what is below zero by rounding counts as zero.
        eigenvectors: (d, d), one per column.
        Cs: positive; scikit-learn's C.
        tolerance: for the largest entry of the gradient in the preconditioned variables, where half its squared
            norm is about the distance of the objective from its minimum.
        max_iterations: per C. Running out of them is reported, not raised.
    """
    assert len(Cs) > 0, "at least one C"
    assert min(Cs) > 0, "C is positive"
    samples = float(class_counts.sum())
    share = class_counts / samples
    curvature = share * (1.0 - share)  # of the loss in a class's score, at the priors
    classes, features = len(class_counts), len(eigenvalues)
    spectrum = np.maximum(eigenvalues, 0.0) / samples
    basis = np.ascontiguousarray(eigenvectors)
    coef = np.zeros((classes, features))
    intercept = np.log(share)
    bias_scale = 1.0 / np.sqrt(curvature)

    def loss_and_gradient(weights: Array, bias: Array) -> tuple[float, Array, Array]:
        """Return the mean loss and its gradients: the two large products in float32, all else in float64.

        With the loss in float32 too, its rounding would stop the line search before the gradient is small.
        """
        by_column = np.ascontiguousarray(weights.T, dtype=np.float32)
        loss = 0.0
        gradient, bias_gradient = np.zeros((classes, features)), np.zeros(classes)
        for Z, Q in blocks():
            for start in range(0, len(Z), _ROWS):
                rows, targets = Z[start : start + _ROWS], Q[start : start + _ROWS]
                scores = (rows @ by_column) + bias
                scores -= scores.max(axis=1, keepdims=True)
                errors = np.exp(scores)
                sums = errors.sum(axis=1, keepdims=True)
                loss += float(np.log(sums).sum() - np.einsum("nc,nc->", targets, scores))
                errors /= sums
                errors -= targets
                gradient += errors.T.astype(np.float32) @ rows
                bias_gradient += errors.sum(axis=0)
        return loss / samples, gradient / samples, bias_gradient / samples

    for C in sorted(Cs):
        started = time.perf_counter()
        penalty = 1.0 / (C * samples)
        scale = 1.0 / np.sqrt(curvature[:, None] * spectrum + penalty)

        def objective(packed: Array, penalty: float = penalty, scale: Array = scale) -> tuple[float, Array]:
            variables = packed.reshape(classes, features + 1)
            weights = (variables[:, :-1] * scale) @ basis.T
            loss, gradient, bias_gradient = loss_and_gradient(weights, variables[:, -1] * bias_scale)
            gradient += penalty * weights
            out = np.empty_like(variables)
            out[:, :-1] = (gradient @ basis) * scale
            out[:, -1] = bias_gradient * bias_scale
            return loss + 0.5 * penalty * float(np.vdot(weights, weights)), out.ravel()

        start_at = np.column_stack([(coef @ basis) / scale, intercept / bias_scale])
        result = scipy.optimize.minimize(
            objective,
            start_at.ravel(),
            jac=True,
            method="L-BFGS-B",
            # ftol is 0: an objective that has stopped improving while its gradient is large is not convergence.
            options={"maxiter": max_iterations, "gtol": tolerance, "ftol": 0.0, "maxcor": 20},
        )
        solution = np.asarray(result.x, dtype=np.float64).reshape(classes, features + 1)
        coef = (solution[:, :-1] * scale) @ basis.T
        intercept = solution[:, -1] * bias_scale
        # A constant added to all classes changes no probability; without it the numbers are comparable.
        intercept = intercept - intercept.mean()
        gradient = float(np.abs(result.jac).max())
        yield LogisticFit(
            C=float(C),
            coef=coef - coef.mean(axis=0),
            intercept=intercept,
            objective=float(result.fun),
            gradient=gradient,
            iterations=int(result.nit),
            converged=gradient <= tolerance,
            seconds=time.perf_counter() - started,
        )
