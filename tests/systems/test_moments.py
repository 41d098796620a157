"""Moments gathered in blocks equal those of the whole; large means, dead features and NaN do not spoil them."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.systems.ahm.moments import Moments

Array = NDArray[np.float64]


def sample(n: int, d: int, c: int, seed: int = 0, offset: float = 0.0, soft: bool = False) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + offset
    Q = rng.dirichlet(np.ones(c), n) if soft else np.eye(c)[rng.integers(0, c, n)]
    return X, Q


def whole(X: Array, Q: Array) -> dict[str, Array]:
    """The same sums by their definitions, all samples at once."""
    centred = X - X.mean(axis=0)
    return {
        "count": np.asarray(len(X)),
        "mean": X.mean(axis=0),
        "scatter": centred.T @ centred,
        "class_counts": Q.sum(axis=0),
        "target_second": Q.T @ Q,
        "cross": Q.T @ centred,
    }


def assert_equal(moments: Moments, expected: dict[str, Array], tolerance: float = 1e-11) -> None:
    for name, array in moments.to_arrays().items():
        scale = max(1.0, float(np.abs(expected[name]).max()))
        assert np.abs(array - expected[name]).max() <= tolerance * scale, name


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 40), max_size=6), soft=st.booleans(), seed=st.integers(0, 1000))
def test_any_partition_merged_in_any_order_is_the_whole(cuts: list[int], soft: bool, seed: int) -> None:
    X, Q = sample(40, 5, 3, seed, offset=3.0, soft=soft)
    edges = [0, *sorted(cuts), 40]
    parts = []
    for start, end in itertools.pairwise(edges):
        part = Moments(5, 3)
        part.update(X[start:end], Q[start:end])
        parts.append(part)
    np.random.default_rng(seed).shuffle(parts)
    merged = Moments(5, 3)
    for part in parts:
        merged.merge(Moments.from_arrays(part.to_arrays()))
    assert_equal(merged, whole(X, Q))


def test_a_mean_a_million_times_the_spread_keeps_its_digits() -> None:
    X, Q = sample(3000, 4, 3)
    far = Moments(4, 3)
    for start in range(0, 3000, 100):
        far.update(X[start : start + 100] + 1e6, Q[start : start + 100])
    expected = whole(X, Q)
    expected["mean"] = expected["mean"] + 1e6
    # The offset itself costs 1e6 * 2^-53 of the features' size; sums of squares would leave errors of order 1.
    assert_equal(far, expected, tolerance=1e-9)
    naive = (X + 1e6).T @ (X + 1e6) - 3000 * np.outer(far.mean, far.mean)
    assert np.abs(naive - expected["scatter"]).max() > 1e-6 * np.abs(expected["scatter"]).max()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_type_is_summed_in_float64(dtype: type[np.floating]) -> None:
    X, Q = sample(500, 4, 3)
    rounded = X.astype(dtype)
    moments = Moments(4, 3)
    moments.update(rounded, Q)
    assert moments.scatter.dtype == np.float64
    assert_equal(moments, whole(rounded.astype(np.float64), Q))


def test_large_blocks_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_cli.systems.ahm.moments._CHUNK_NUMBERS", 4 * 7)
    X, Q = sample(100, 4, 3)
    moments = Moments(4, 3)
    moments.update(X, Q)
    assert_equal(moments, whole(X, Q))
    X[93, 1] = np.nan
    with pytest.raises(FerError, match="sample 93 of a block"):
        moments.update(X, Q)


def test_memory_does_not_grow_with_the_samples() -> None:
    d, c, block = 64, 3, 256

    def blocks(count: int) -> Iterator[tuple[Array, Array]]:
        rng = np.random.default_rng(0)
        for _ in range(count):
            yield rng.standard_normal((block, d)), np.eye(c)[rng.integers(0, c, block)]

    def peak(count: int) -> int:
        tracemalloc.start()
        moments = Moments(d, c)
        for X, Q in blocks(count):
            moments.update(X, Q)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert moments.count == count * block
        return top

    peak(2)
    few, many = peak(3), peak(60)
    assert many < few + block * d * 8, "one block's worth at most"


def test_standardised_sums_are_those_of_standardised_features() -> None:
    X, Q = sample(400, 6, 3, offset=5.0, soft=True)
    X[:, 2] = 7.25  # dead
    X[:, 4] = 1e13 / 3  # dead, and large enough to leave rounding behind
    moments = Moments(6, 3)
    for start in range(0, 400, 33):
        moments.update(X[start : start + 33], Q[start : start + 33])
    sums = moments.standardised()
    alive = [0, 1, 3, 5]
    Z = np.zeros_like(X)
    Z[:, alive] = (X[:, alive] - X[:, alive].mean(axis=0)) / X[:, alive].std(axis=0)
    assert np.flatnonzero(sums.scale == 0).tolist() == [2, 4]
    assert np.allclose((X - sums.mean) * sums.scale, Z, atol=1e-9)
    assert np.allclose(sums.gram, Z.T @ Z, atol=1e-8)
    assert np.allclose(np.diag(sums.gram)[alive], 400)
    assert np.array_equal(sums.gram[2], np.zeros(6))
    assert np.allclose(sums.cross, Q.T @ Z, atol=1e-9)
    assert np.allclose(sums.target_second, Q.T @ Q)
    assert np.allclose(sums.class_means, (Q.T @ Z) / Q.sum(axis=0)[:, None], atol=1e-10)


def test_a_feature_below_half_precisions_resolution_is_dead_and_one_above_is_not() -> None:
    X, Q = sample(400, 3, 2)
    X[:, 0] *= 1e-7 / X[:, 0].std()
    X[:, 1] *= 1e-4 / X[:, 1].std()
    X[:, 2] /= X[:, 2].std()
    moments = Moments(3, 2)
    moments.update(X, Q)
    assert (moments.standardised().scale == 0).tolist() == [True, False, False]


def test_merging_leaves_the_other_alone_and_state_travels() -> None:
    X, Q = sample(50, 4, 3)
    one, two = Moments(4, 3), Moments(4, 3)
    one.update(X[:20], Q[:20])
    two.update(X[20:], Q[20:])
    before = {name: array.copy() for name, array in two.to_arrays().items()}
    one.merge(two)
    for name, array in two.to_arrays().items():
        assert np.array_equal(array, before[name])
    copy = Moments.from_arrays(one.to_arrays())
    copy.update(X, Q)
    assert one.count == 50
    assert_equal(one, whole(X, Q))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_and_changes_nothing(bad: float) -> None:
    X, Q = sample(50, 4, 3)
    moments = Moments(4, 3)
    moments.update(X, Q)
    spoilt = X.copy()
    spoilt[17, 2] = bad
    with pytest.raises(FerError, match="sample 17 of a block"):
        moments.update(spoilt, Q)
    assert_equal(moments, whole(X, Q))
    targets = Q.copy()
    targets[3, 0] = bad
    with pytest.raises(FerError, match="sample 3 "):
        moments.update(X, targets)


def test_too_little_to_standardise() -> None:
    moments = Moments(3, 2)
    with pytest.raises(FerError, match="0 training samples"):
        moments.standardised()
    moments.update(np.ones((5, 3)), np.eye(2)[[0, 1, 0, 1, 0]])
    with pytest.raises(FerError, match="no feature varies"):
        moments.standardised()
