"""Fits the four predictors of an AHM model: moments of the training set, then what validation chooses.

Nothing here reads or writes files; the training set comes in blocks and may be larger than memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.systems.ahm.moments import Moments, Standardised
from fer_cli.systems.ahm.plain import LogisticFit, logistic_path, nearest_mean_scores
from fer_cli.systems.ahm.predictors import PREDICTORS, PredictorName, Predictors, fit_temperature
from fer_cli.systems.ahm.projection import RIDGE, PathEvaluation, ProjectionPath

Array = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]
TrainBlocks = Callable[[], Iterable[tuple[NDArray[np.floating[Any]], NDArray[Any]]]]
Metric = Literal["accuracy", "balanced"]
Centring = Literal["features", "none", "both", "intercept"]
"""What is done to X and S before the projection: X standardised; nothing, as the paper has it; X standardised and S
less its mean over the training images; X standardised with a constant 1 behind it."""
CENTRINGS: Final[tuple[Centring, ...]] = get_args(Centring)

RELATIVE_LAMBDAS: Final = tuple(float(f"{value:.4g}") for value in np.logspace(-4, 4, 20))
"""Default lambdas, as multiples of :attr:`ProjectionPath.balance`, mean(diag SS') / mean(diag XX').

W depends on lambda only through a_i + lambda b_j, so what counts is lambda against the ratio of the two matrices'
sizes, and that ratio depends on the hierarchy, the classes and their counts. On FER2013 with EfficientNet-Lite0
features W's direction changes by under 0.7% below the first value and under 0.4% above the last: at the ends the path
has reached its two limits (a projection of the class means; ridge regression of S on X). Published values, 0.2 to
500,000, are of features that were not standardised."""

CS: Final = tuple(float(f"{value:.4g}") for value in np.logspace(-5, -1, 9))
"""Default C of the logistic regression. On FER2013 the best is 1e-3, and accuracy falls on both sides."""

WORST_RESIDUAL: Final = 1e-10

_CACHE_BYTES = 2**31
_DIRECTIONS: Final[tuple[PredictorName, PredictorName]] = ("ahm-semantic", "ahm-visual")


@dataclass(frozen=True, slots=True)
class PathPoint:
    """The validation scores of one value of a predictor's setting.

    ``relative`` is lambda / balance. ``residual`` is of the projection, ``iterations`` and ``converged`` of the
    logistic regression; ``seconds`` is the time for fitting and validating (shared by the two directions of AHM).
    """

    predictor: PredictorName
    setting: Literal["lambda", "C"]
    value: float
    relative: float | None
    accuracy: float
    balanced_accuracy: float
    residual: float | None
    iterations: int | None
    converged: bool | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Validated:
    """A predictor's chosen setting (None: it has none), and its accuracies on the validation split."""

    setting: PathPoint | None
    accuracy: float
    balanced_accuracy: float


@dataclass(frozen=True, slots=True)
class FitResult:
    """The fitted predictors, every point of their paths, what was chosen, and what a reader should know."""

    predictors: Predictors
    path: tuple[PathPoint, ...]
    chosen: dict[PredictorName, Validated]
    balance: float
    training_samples: int
    dead_features: int
    notes: tuple[str, ...]


def fit(
    train: TrainBlocks,
    validation: tuple[NDArray[np.floating[Any]], Labels],
    *,
    classes: Sequence[str],
    prototypes: Array,
    relative_lambdas: Sequence[float] = RELATIVE_LAMBDAS,
    Cs: Sequence[float] = CS,
    ridge: float = RIDGE,
    metric: Metric = "accuracy",
    centring: Centring = "features",
    moments: Moments | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> FitResult:
    """Fit nearest mean, logistic regression and both directions of AHM on the same features.

    Memory: O(d^2) and the validation features; the logistic regression reads the standardised training features once
    for every step, so they are kept (float32) where they take at most 2 GiB and read again from ``train`` otherwise.

    Args:
        train: returns the training set, at each call from its start, in blocks of features (n, d) and labels: indices
            (n,) or soft labels (n, C) that sum to 1.
        validation: features (n, d) and labels (n,). Every choice is made here.
        classes: C names, at least two.
        prototypes: (k, C) semantic vectors.
        relative_lambdas: positive, times the balance of the two matrices.
        Cs: positive.
        ridge: see :mod:`fer_cli.systems.ahm.projection`.
        metric: what chooses lambda and C: accuracy or balanced accuracy. Among equals the first in ascending order.
        centring: of X and S in the projection alone; the plain classifiers always have standardised features.
        moments: those of the training set where they were gathered elsewhere (several processes).
        progress: called with the name of each step as it starts.

    Raises:
        FerError: a class without training samples, an empty validation split, features that are not finite or of
            another size, a projection that is not unique or not accurate.
    """
    C = len(classes)
    assert C >= 2, "at least two classes"
    assert prototypes.shape[1] == C, "one prototype per class"
    assert relative_lambdas, "at least one lambda"
    features, labels = validation
    if len(labels) == 0:
        raise FerError("the validation split is empty", hint="prepare the data set with a validation split")
    if moments is None:
        progress("moments")
        moments = gather(train, features.shape[1], C)
    sums = moments.standardised()
    for name, count in zip(classes, sums.class_counts, strict=True):
        if not count > 0:
            raise FerError(f"class {name!r} has no training image", hint="leave the class out or add images")

    progress("eigendecomposition")
    of_ahm = {"none": moments.raw, "intercept": sums.with_constant}.get(centring, lambda: sums)()
    if centring == "both":
        prototypes = prototypes - (prototypes @ sums.class_counts / sums.class_counts.sum())[:, None]
    path = ProjectionPath(
        prototypes @ of_ahm.target_second @ prototypes.T, of_ahm.gram, prototypes @ of_ahm.cross, ridge=ridge
    )
    means = sums.class_means
    blank = Predictors(
        classes=tuple(classes),
        mean=sums.mean,
        scale=sums.scale,
        class_means=means,
        coef=np.zeros_like(means),
        intercept=np.zeros(C),
        prototypes=prototypes,
        semantic_projection=np.zeros_like(path.C),
        visual_projection=np.zeros_like(path.C),
        temperatures=np.ones(len(PREDICTORS)),
        ahm_mean=of_ahm.mean,
        ahm_scale=of_ahm.scale,
    )
    Z = blank.standardise(features)

    progress("lambdas")
    evaluation = path.evaluate(blank.projected_features(features))
    points, best = _lambdas(evaluation, prototypes, relative_lambdas, labels, metric)
    progress("logistic regression")
    plain = path if of_ahm is sums else ProjectionPath(prototypes @ prototypes.T, sums.gram, prototypes @ sums.cross)
    logistic_points, logistic, logistic_point = _logistic(train, sums, plain, Cs, Z, labels, metric)
    points += logistic_points

    nearest_scores = nearest_mean_scores(Z, means)
    semantic, visual = best["ahm-semantic"], best["ahm-visual"]
    predictors = Predictors(
        classes=blank.classes,
        mean=blank.mean,
        scale=blank.scale,
        class_means=means,
        coef=logistic.coef,
        intercept=logistic.intercept,
        prototypes=prototypes,
        semantic_projection=path.solve(semantic.value),
        visual_projection=path.solve(visual.value),
        temperatures=np.array(
            [
                fit_temperature(nearest_scores, labels),
                1.0,
                fit_temperature(evaluation.scores(semantic.value, prototypes)[0], labels),
                fit_temperature(evaluation.scores(visual.value, prototypes)[1], labels),
            ]
        ),
        ahm_mean=blank.ahm_mean,
        ahm_scale=blank.ahm_scale,
    )
    chosen: dict[PredictorName, Validated] = {"nearest-mean": Validated(None, *accuracies(nearest_scores, labels))}
    for point in (logistic_point, semantic, visual):
        chosen[point.predictor] = Validated(point, point.accuracy, point.balanced_accuracy)
    return FitResult(
        predictors=predictors,
        path=tuple(points),
        chosen=chosen,
        balance=path.balance,
        training_samples=moments.count,
        dead_features=int((sums.scale == 0).sum()),
        notes=tuple(_notes(points, (logistic_point, semantic, visual), sums)),
    )


def gather(train: TrainBlocks, features: int, classes: int) -> Moments:
    """Return the moments of a training set in one pass over its blocks (n, ``features``).

    Raises:
        FerError: a block has another number of features, or values that are not finite.
    """
    moments = Moments(features, classes)
    for X, y in train():
        if X.shape[1] != features:
            raise FerError(
                f"training features of size {X.shape[1]} and validation features of size {features}",
                hint="extract both splits with one backbone",
            )
        moments.update(X, targets(y, classes))
    return moments


def targets(y: NDArray[Any], classes: int) -> Array:
    """Return targets (n, classes) float64: soft labels as they are, indices (n,) as one-hot rows."""
    if y.ndim == 2:
        assert y.shape[1] == classes, "one column per class"
        return np.asarray(y, dtype=np.float64)
    assert y.size == 0 or (y.min() >= 0 and y.max() < classes), "labels are indices of the classes"
    one_hot = np.zeros((len(y), classes))
    one_hot[np.arange(len(y)), y] = 1.0
    return one_hot


def accuracies(scores: Array, labels: Labels) -> tuple[float, float]:
    """Return accuracy, and balanced accuracy: the mean over the classes among ``labels`` of each one's accuracy.

    Args:
        scores: (n, C); among equal scores the first class is the answer.
        labels: (n,) indices of the classes, n > 0.
    """
    right = scores.argmax(axis=1) == labels
    counts = np.bincount(labels, minlength=scores.shape[1])
    hits = np.bincount(labels, weights=right, minlength=scores.shape[1])
    return float(right.mean()), float((hits[counts > 0] / counts[counts > 0]).mean())


def _of(point: PathPoint, metric: Metric) -> float:
    return point.accuracy if metric == "accuracy" else point.balanced_accuracy


def _lambdas(
    evaluation: PathEvaluation,
    prototypes: Array,
    relative_lambdas: Sequence[float],
    labels: Labels,
    metric: Metric,
) -> tuple[list[PathPoint], dict[PredictorName, PathPoint]]:
    points: list[PathPoint] = []
    best: dict[PredictorName, PathPoint] = {}
    path = evaluation.path
    for relative in sorted(relative_lambdas):
        started = time.perf_counter()
        lam = relative * path.balance
        residual = path.residual(lam, path.solve(lam))
        if not residual <= WORST_RESIDUAL:
            raise FerError(
                f"the projection at lambda {lam:.4g} is not accurate: residual {residual:.1e}",
                hint="raise the ridge or leave this lambda out",
            )
        both = evaluation.scores(lam, prototypes)
        seconds = time.perf_counter() - started
        for name, scores in zip(_DIRECTIONS, both, strict=True):
            accuracy, balanced = accuracies(scores, labels)
            point = PathPoint(name, "lambda", lam, relative, accuracy, balanced, residual, None, None, seconds)
            points.append(point)
            if name not in best or _of(point, metric) > _of(best[name], metric):
                best[name] = point
    return points, best


def _logistic(
    train: TrainBlocks,
    sums: Standardised,
    path: ProjectionPath,
    Cs: Sequence[float],
    Z: Array,
    labels: Labels,
    metric: Metric,
) -> tuple[list[PathPoint], LogisticFit, PathPoint]:
    def standardised() -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        for X, y in train():
            yield (
                ((np.asarray(X, dtype=np.float64) - sums.mean) * sums.scale).astype(np.float32),
                targets(y, len(sums.class_counts)).astype(np.float32),
            )

    fits = sums.class_counts.sum() * len(sums.mean) * 4 <= _CACHE_BYTES
    kept = tuple(standardised()) if fits else None

    def blocks() -> Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        return standardised() if kept is None else kept

    points: list[PathPoint] = []
    best: tuple[LogisticFit, PathPoint] | None = None
    for fitted in logistic_path(blocks, sums.class_counts, path.b, path.V, Cs):
        accuracy, balanced = accuracies(Z @ fitted.coef.T + fitted.intercept, labels)
        point = PathPoint(
            "logistic",
            "C",
            fitted.C,
            None,
            accuracy,
            balanced,
            None,
            fitted.iterations,
            fitted.converged,
            fitted.seconds,
        )
        points.append(point)
        if best is None or _of(point, metric) > _of(best[1], metric):
            best = (fitted, point)
    assert best is not None, "at least one C"
    return points, *best


def _notes(points: Sequence[PathPoint], chosen: Sequence[PathPoint], sums: Standardised) -> Iterator[str]:
    for point in chosen:
        values = sorted(other.value for other in points if other.predictor == point.predictor)
        if len(values) > 1 and point.value in (values[0], values[-1]):
            end = "smallest" if point.value == values[0] else "largest"
            yield f"{point.predictor}: validation chose the {end} {point.setting} of the path, {point.value:.4g}"
        if point.converged is False:
            yield f"{point.predictor}: not converged at {point.setting} {point.value:.4g}"
    if dead := int((sums.scale == 0).sum()):
        yield f"{dead} of {len(sums.scale)} features do not vary over the training set and count as zero"
