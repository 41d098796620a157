"""Sums over the training set that the projection and the nearest mean need, gathered in one pass over blocks.

Memory is O(d^2 + C d) whatever the number of samples; two halves that were gathered apart, in two processes say,
merge into what one pass over all samples gives.

With X the features as columns (d, N), Q the targets (C, N) and S = P Q the semantic vectors, the projection asks for
X X', S X' = P (Q X') and S S' = P (Q Q') P': no semantic vector of a sample is ever formed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.errors import FerError

Array = NDArray[np.float64]

# Rows that are taken to float64 at a time: 32 MiB of them.
_CHUNK_NUMBERS = 2**22

DEAD_SPREAD = 1e-6
DEAD_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Standardised:
    """What the projection needs of features z = (x - mean) * scale.

    ``scale`` (d,) is 1 / standard deviation, and 0 for a dead feature; ``gram`` (d, d) is ZZ'; ``cross`` (C, d) is
    QZ', so ``cross / class_counts[:, None]`` holds the class means; ``target_second`` (C, C) is QQ'.
    """

    mean: Array
    scale: Array
    gram: Array
    cross: Array
    target_second: Array
    class_counts: Array

    def with_constant(self) -> Standardised:
        """Return the sums of features with a constant 1 behind them, which neither mean nor scale changes."""
        last = np.array([[self.class_counts.sum()]])
        side = self.cross.sum(axis=0, keepdims=True)  # a sample's targets sum to 1
        return replace(
            self,
            gram=np.block([[self.gram, side.T], [side, last]]),
            cross=np.concatenate([self.cross, self.class_counts[:, None]], axis=1),
        )

    @property
    def class_means(self) -> Array:
        """The mean standardised feature of each class, (C, d). Every class must have been seen."""
        return self.cross / self.class_counts[:, None]


class Moments:
    """Streaming first and second moments of features and targets, in float64.

    Both ``scatter`` and ``cross`` are kept about the current mean and corrected as it moves (Chan, Golub & LeVeque,
    1983): sums of raw squares would lose all digits of features whose mean is far larger than their spread.

    Attributes:
        count: samples seen.
        mean: (d,) mean feature.
        scatter: (d, d) sum of (x - mean)(x - mean)'.
        class_counts: (C,) sum of the targets.
        target_second: (C, C) sum of q q'.
        cross: (C, d) sum of q (x - mean)'.
    """

    def __init__(self, features: int, classes: int) -> None:
        self.count = 0
        self.mean: Array = np.zeros(features)
        self.scatter: Array = np.zeros((features, features))
        self.class_counts: Array = np.zeros(classes)
        self.target_second: Array = np.zeros((classes, classes))
        self.cross: Array = np.zeros((classes, features))

    def update(self, X: NDArray[np.floating[Any]], Q: NDArray[np.floating[Any]]) -> None:
        """Take in a block of samples.

        Args:
            X: (n, d) features of any float type; one row per sample.
            Q: (n, C) targets: one-hot, or soft labels.

        Raises:
            FerError: a feature or a target is not finite.
        """
        assert X.ndim == 2, "features are a matrix"
        assert X.shape[1] == len(self.mean), "as many features as before"
        assert Q.shape == (len(X), len(self.class_counts)), "one target per sample and class"
        step = max(1, _CHUNK_NUMBERS // max(1, len(self.mean)))
        for start in range(0, len(X), step):
            self._update(
                np.asarray(X[start : start + step], dtype=np.float64),
                np.asarray(Q[start : start + step], dtype=np.float64),
                start,
            )

    def _update(self, X: Array, Q: Array, start: int) -> None:
        finite = np.isfinite(X).all(axis=1) & np.isfinite(Q).all(axis=1)
        if not finite.all():
            raise FerError(
                f"sample {start + int(np.argmin(finite))} of a block (counted from 0) holds NaN or infinity",
                hint="extract the features again, in fp32 if they were fp16",
            )
        mean = X.mean(axis=0)
        X = X - mean
        part = Moments.__new__(Moments)
        part.count = len(X)
        part.mean = mean
        part.scatter = X.T @ X
        part.class_counts = Q.sum(axis=0)
        part.target_second = Q.T @ Q
        part.cross = Q.T @ X
        self.merge(part)

    def merge(self, other: Moments) -> None:
        """Take in what ``other`` has seen, as if its samples had come here. ``other`` is left as it is."""
        assert other.cross.shape == self.cross.shape, "the same features and classes"
        if other.count == 0:
            return
        total = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / total)
        self.scatter += other.scatter
        if self.count:
            # One (d, d) temporary, and the order of factors keeps the product finite for large counts.
            self.scatter += np.outer(shift * (self.count * (other.count / total)), shift)
        self.cross += other.cross
        self.cross += np.outer(self.class_counts, self.mean - mean)
        self.cross += np.outer(other.class_counts, other.mean - mean)
        self.mean = mean
        self.class_counts = self.class_counts + other.class_counts
        self.target_second = self.target_second + other.target_second
        self.count = total

    def standardised(self) -> Standardised:
        """Return the sums of the standardised features, from the sums of the raw ones.

        The standard deviation is the population's (divided by the number of samples), so ZZ' has the number of
        samples on its diagonal. A feature is *dead*, and gets scale 0 instead of 1 / std, where its deviation is

        - at most 1e-6 of the features' root mean square deviation: below the resolution of half-precision features, so
          that dividing by it would blow rounding up to the size of a feature; or
        - at most 1e-12 of its own mean, which is what a constant leaves behind in float64 sums.

        Raises:
            FerError: fewer than two samples, or nothing but dead features.
        """
        if self.count < 2:
            raise FerError(
                f"{self.count} training samples cannot be standardised", hint="give a training split with images"
            )
        variance = np.diag(self.scatter) / self.count
        deviation = np.sqrt(variance)
        floor = np.maximum(DEAD_SPREAD * np.sqrt(variance.mean()), DEAD_ROUNDING * np.abs(self.mean))
        alive = deviation > floor
        if not alive.any():
            raise FerError("no feature varies over the training set", hint="extract the features again")
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=alive)
        gram = self.scatter * scale
        gram *= scale[:, None]
        return Standardised(
            mean=self.mean.copy(),
            scale=scale,
            gram=gram,
            cross=self.cross * scale,
            target_second=self.target_second.copy(),
            class_counts=self.class_counts.copy(),
        )

    def raw(self) -> Standardised:
        """Return the sums of the features as they are, neither centred nor scaled."""
        return Standardised(
            mean=np.zeros_like(self.mean),
            scale=np.ones_like(self.mean),
            gram=self.scatter + self.count * np.outer(self.mean, self.mean),
            cross=self.cross + np.outer(self.class_counts, self.mean),
            target_second=self.target_second.copy(),
            class_counts=self.class_counts.copy(),
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as plain arrays, to be sent to another process or saved."""
        return {
            "count": np.asarray(self.count, dtype=np.int64),
            "mean": self.mean,
            "scatter": self.scatter,
            "class_counts": self.class_counts,
            "target_second": self.target_second,
            "cross": self.cross,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Moments:
        """Return the moments that :meth:`to_arrays` gave, on copies of the arrays."""
        moments = cls.__new__(cls)
        moments.count = int(arrays["count"])
        for name in ("mean", "scatter", "class_counts", "target_second", "cross"):
            setattr(moments, name, np.array(arrays[name], dtype=np.float64))
        return moments
