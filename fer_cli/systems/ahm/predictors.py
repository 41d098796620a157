"""The four predictors of an AHM model: what they hold and how they score features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.systems.ahm.plain import nearest_mean_scores
from fer_cli.systems.ahm.projection import cosine_scores_semantic, cosine_scores_visual

Array = NDArray[np.float64]

PredictorName = Literal["nearest-mean", "logistic", "ahm-semantic", "ahm-visual"]
SOFTMAX: Final = "softmax"
"""The classifier of the trained model that the features are of: it is not fitted here, and stands beside the four."""
PREDICTORS: Final[tuple[PredictorName, ...]] = get_args(PredictorName)

# Rows of features that are standardised at a time: 32 MiB of float64.
_CHUNK_NUMBERS = 2**22


@dataclass(frozen=True, slots=True, eq=False)
class Predictors:
    """All that is needed to score raw features (n, d) against C classes with each of the four predictors.

    Attributes:
        classes: C canonical names, the order of every class axis.
        mean: (d,) of the training features.
        scale: (d,) 1 / standard deviation, 0 for dead features.
        class_means: (C, d) standardised.
        coef: (C, d) of the logistic regression.
        intercept: (C,).
        prototypes: (k, C) semantic vectors.
        semantic_projection: (k, d) W, of the lambda that was best for feature -> semantic; (k, d + 1) with an
            intercept, where a constant 1 stands behind the features.
        visual_projection: (k, d) or (k, d + 1) W, of the lambda that was best for semantic -> feature.
        ahm_mean: (d,) what is subtracted from a feature before it is projected; the mean, unless X is raw.
        ahm_scale: (d,) what it is multiplied by then; the scale, unless X is raw.
        temperatures: (4,) what scores are divided by before the softmax, in the order of ``PREDICTORS``.
    """

    classes: tuple[str, ...]
    mean: Array
    scale: Array
    class_means: Array
    coef: Array
    intercept: Array
    prototypes: Array
    semantic_projection: Array
    visual_projection: Array
    temperatures: Array
    ahm_mean: Array
    ahm_scale: Array

    def standardise(self, features: NDArray[np.floating[Any]]) -> Array:
        """Return z = (x - mean) * scale, (n, d) float64, with the training set's statistics.

        Raises:
            FerError: the features are not of this model's size, or hold NaN or infinity.
        """
        return (self._checked(features) - self.mean) * self.scale

    def projected_features(self, features: NDArray[np.floating[Any]]) -> Array:
        """Return what W is applied to, (n, d) or, with an intercept, (n, d + 1), float64.

        Raises:
            FerError: as :meth:`standardise`.
        """
        Z = (self._checked(features) - self.ahm_mean) * self.ahm_scale
        return with_constant(Z) if self.semantic_projection.shape[1] > len(self.mean) else Z

    def _checked(self, features: NDArray[np.floating[Any]]) -> Array:
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise FerError(
                f"features of shape {features.shape} do not fit a model of {len(self.mean)} features",
                hint="extract them with the backbone, level and size that the model was fitted on",
            )
        Z = np.asarray(features, dtype=np.float64)
        finite = np.isfinite(Z).all(axis=1)
        if not finite.all():
            raise FerError(
                f"the features of sample {int(np.argmin(finite))} (counted from 0) hold NaN or infinity",
                hint="extract the features again, in fp32 if they were fp16",
            )
        return Z

    def scores(self, features: NDArray[np.floating[Any]], predictor: PredictorName) -> Array:
        """Return the scores (n, C) float64 of raw features (n, d); the largest decides.

        nearest-mean: minus the squared Euclidean distance to each class mean. logistic: logits. ahm-semantic: cosine
        between the projected feature and each prototype. ahm-visual: cosine between the feature and each prototype's
        feature. Each sample's scores depend on that sample alone.

        Raises:
            FerError: as :meth:`standardise`.
        """
        out = np.empty((len(features), len(self.classes)))
        step = max(1, _CHUNK_NUMBERS // len(self.mean))
        for start in range(0, len(features), step):
            part = features[start : start + step]
            if predictor == "nearest-mean":
                block = nearest_mean_scores(self.standardise(part), self.class_means)
            elif predictor == "logistic":
                block = self.standardise(part) @ self.coef.T + self.intercept
            elif predictor == "ahm-semantic":
                WZ = self.projected_features(part) @ self.semantic_projection.T
                block = cosine_scores_semantic(WZ, self.prototypes)
            else:
                block = cosine_scores_visual(self.projected_features(part), self.visual_projection, self.prototypes)
            out[start : start + step] = block
        return out

    def probabilities(self, scores: Array, predictor: PredictorName) -> Array:
        """Return softmax(scores / temperature), (n, C) float64.

        The logistic regression's temperature is 1. The others score on scales that mean nothing as logits: their
        temperature is the one with the least negative log likelihood on the validation split.
        """
        return softmax(scores / self.temperatures[PREDICTORS.index(predictor)])

    def to_tensors(self) -> dict[str, Array]:
        """Return every array under its attribute's name; ``classes`` is for the caller to keep."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> Predictors:
        """Return the predictors that :meth:`to_tensors` wrote.

        Raises:
            FerError: an array is missing, unknown, not finite, or of the wrong shape or type.
        """
        hint = "the artifact is damaged or of another version: run `fer fit-ahm --force`"
        one_pair = {"mean", "scale"} <= tensors.keys() and not {"ahm_mean", "ahm_scale"} & tensors.keys()
        if one_pair:  # for all predictors, as in fits of before there was a choice
            tensors = {"ahm_mean": tensors["mean"], "ahm_scale": tensors["scale"], **tensors}
        if odd := set(tensors) ^ set(_ARRAYS):
            raise FerError(f"the model's arrays lack or do not know {sorted(odd)[0]!r}", hint=hint)
        d, k, c = tensors["mean"].shape[-1:], tensors["prototypes"].shape[:1], (len(classes),)
        projected = d if tensors["semantic_projection"].shape[1:] == d else (d[0] + 1,)
        shapes = {
            "mean": d,
            "scale": d,
            "class_means": c + d,
            "coef": c + d,
            "intercept": c,
            "prototypes": k + c,
            "semantic_projection": k + projected,
            "visual_projection": k + projected,
            "ahm_mean": d,
            "ahm_scale": d,
            "temperatures": (len(PREDICTORS),),
        }
        for name in _ARRAYS:
            array = tensors[name]
            if array.dtype != np.float64 or array.shape != shapes[name] or not np.isfinite(array).all():
                raise FerError(
                    f"the model's {name!r} is {array.dtype} {array.shape}, not finite float64 {shapes[name]}", hint=hint
                )
        return cls(classes=tuple(classes), **{name: tensors[name] for name in _ARRAYS})


_ARRAYS: Final = tuple(field.name for field in fields(Predictors) if field.name != "classes")


def with_constant(Z: Array) -> Array:
    """Return features (n, d + 1): those (n, d) with a constant 1 behind them."""
    return np.concatenate([Z, np.ones((len(Z), 1))], axis=1)


def softmax(logits: Array) -> Array:
    """Return the softmax over the last axis, in float64."""
    return np.asarray(scipy.special.softmax(logits, axis=-1), dtype=np.float64)


def fit_temperature(scores: Array, labels: NDArray[np.integer[Any]]) -> float:
    """Return the temperature T > 0 that minimises the mean negative log likelihood of softmax(scores / T).

    The likelihood is convex in 1 / T, so the search over log T has one minimum; T is kept within a factor 10^4 of
    the scores' spread, which it would leave only if all labels were right by far, or none better than chance.

    Args:
        scores: (n, C).
        labels: (n,) indices of the classes.
    """
    spread = float(scores.std(axis=1).mean())
    if not spread > 0:
        return 1.0
    rows = np.arange(len(scores))

    def loss(log_temperature: float) -> float:
        logits = scores / (spread * np.exp(log_temperature))
        return float(np.mean(scipy.special.logsumexp(logits, axis=1) - logits[rows, labels]))

    limit = float(np.log(1e4))
    minimum = scipy.optimize.minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-5})
    return float(spread * np.exp(minimum.x))
