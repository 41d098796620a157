"""Random numbers and order of training: functions of seed, epoch and image alone, and fair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from fer_cli.core.errors import FerError
from fer_cli.models.backbones import Preprocessing
from fer_cli.training import counter_rng
from fer_cli.training.counter_rng import Stream
from fer_cli.training.inputs import ClassTargets, ImageInputs
from fer_cli.training.recipe import Augmentation
from fer_cli.training.sampler import Sampling, batches, epoch_rows, repeated

# ---- draws


def split_mix(state: int, count: int) -> list[int]:
    numbers, every = [], (1 << 64) - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & every
        z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & every
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & every
        numbers.append(z ^ (z >> 31))
    return numbers


def test_draws_are_split_mix() -> None:
    assert split_mix(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    state = 0
    for word in (7, 3, int(Stream.SCALE)):
        state = split_mix(state ^ word, 1)[0]
    expected = split_mix(state, 1000)
    found = counter_rng.bits(7, 3, torch.arange(1000), Stream.SCALE)
    assert found.numpy().astype(np.uint64).tolist() == expected
    shares = counter_rng.uniform(7, 3, torch.arange(1000), Stream.SCALE)
    assert shares.dtype == torch.float32
    assert shares.tolist() == [(number >> 40) / 2**24 for number in expected]


def test_draws_are_uniform() -> None:
    for seed, epoch, stream in [(0, 0, Stream.ORDER), (0, 1, Stream.FLIP), (1, 0, Stream.LEFT), (-5, 10**6, 99)]:
        shares = counter_rng.uniform(seed, epoch, torch.arange(20_000), stream).numpy()
        assert shares.min() >= 0
        assert shares.max() < 1
        assert stats.kstest(shares, "uniform").pvalue > 1e-3
        low = counter_rng.bits(seed, epoch, torch.arange(20_000), stream).numpy() & 0xFFFF
        assert stats.kstest((low + 0.5) / 2**16, "uniform").pvalue > 1e-3


def test_draws_are_independent() -> None:
    n = 20_000
    index = torch.arange(n)
    series = [counter_rng.uniform(0, 0, index, stream) for stream in Stream]
    series += [counter_rng.uniform(0, epoch, index, Stream.FLIP) for epoch in range(1, 6)]
    series += [counter_rng.uniform(seed, 0, index, Stream.FLIP) for seed in range(1, 6)]
    series += [counter_rng.uniform(0, 0, index * step + 1, Stream.FLIP) for step in (1, 2, 64, 1 << 32)]
    correlation = np.corrcoef(torch.stack(series).numpy()) - np.eye(len(series))
    assert np.abs(correlation).max() < 4.5 / np.sqrt(n)
    epochs = [counter_rng.uniform(0, epoch, index[:1], Stream.FLIP).item() for epoch in range(2000)]
    assert stats.kstest(epochs, "uniform").pvalue > 1e-3
    pairs = np.histogram2d(series[2][:-1].numpy(), series[2][1:].numpy(), bins=8)[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3


def test_no_two_draws_coincide() -> None:
    index = torch.arange(400)
    grid = [counter_rng.bits(s, e, index, stream) for s in range(-4, 8) for e in range(8) for stream in Stream]
    numbers = torch.cat(grid).numpy()
    assert len(np.unique(numbers)) == len(numbers) == 12 * 8 * len(Stream) * 400


# ---- order

ROWS = np.random.default_rng(1).permutation(900)[:400].astype(np.int64)
LABELS = np.repeat(np.array([0, 2, 3, 5]), [270, 100, 27, 3]).astype(np.int64)


def order(seed: int = 0, epoch: int = 0, sampling: Sampling = "shuffled") -> NDArray[np.int64]:
    return epoch_rows(ROWS, images=900, seed=seed, epoch=epoch, sampling=sampling, labels=LABELS)


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
def test_the_order_is_a_function_of_seed_and_epoch(sampling: Sampling) -> None:
    first = order(sampling=sampling)
    again = np.random.default_rng(2).permutation(len(ROWS))
    same = epoch_rows(ROWS[again], images=900, seed=0, epoch=0, sampling=sampling, labels=LABELS[again])
    np.testing.assert_array_equal(first, same)
    for other in (order(epoch=1, sampling=sampling), order(seed=1, sampling=sampling)):
        assert (other == first).mean() < 0.05
    assert first.dtype == np.int64


def test_a_shuffle_has_every_row_once_and_anywhere() -> None:
    places = []
    for epoch in range(400):
        shuffled = order(epoch=epoch)
        assert sorted(shuffled) == sorted(ROWS)
        places.append((np.flatnonzero(shuffled == ROWS[0])[0] + 0.5) / len(ROWS))
    assert stats.kstest(places, "uniform").pvalue > 1e-3
    assert len(epoch_rows(ROWS[:0], images=900, seed=0, epoch=0, sampling="shuffled")) == 0


@pytest.mark.parametrize("rows", [400, 399, 398, 397, 41])
def test_a_balanced_epoch_has_classes_and_images_equally_often(rows: int) -> None:
    label_of = dict(zip(ROWS, LABELS, strict=True))
    chosen = np.linspace(0, 399, rows).astype(int)
    counts_of_epochs, extra = np.zeros(4), set()
    for epoch in range(20):
        sample = epoch_rows(ROWS[chosen], images=900, seed=0, epoch=epoch, sampling="balanced", labels=LABELS[chosen])
        assert len(sample) == rows
        assert len(set(sample.tolist())) == rows, "each time has a number of its own"
        sample %= 900
        labels = np.array([label_of[row] for row in sample])
        counts = np.bincount(labels, minlength=6)[[0, 2, 3, 5]]
        assert counts.max() - counts.min() == (rows % 4 > 0)
        for label in (0, 2, 3, 5):
            often = np.bincount(sample[labels == label], minlength=900)[ROWS[chosen][LABELS[chosen] == label]]
            assert often.max() - often.min() <= 1
        counts_of_epochs += counts
        extra.add(tuple(counts))
        assert (labels[1:] != labels[:-1]).mean() > 0.5  # 3/4 where classes are mixed, 0 where they come in blocks
    assert len(extra) > 1 or rows % 4 == 0
    assert np.ptp(counts_of_epochs) <= 20


def test_all_images_of_a_large_class_come_over_the_epochs() -> None:
    seen = np.unique(np.concatenate([order(epoch=epoch, sampling="balanced") for epoch in range(20)]))
    np.testing.assert_array_equal(np.unique(seen % 900), np.sort(ROWS))


def test_images_of_some_classes_come_several_times_each_otherwise() -> None:
    labels = np.array([0, 1, 2, 1, 0], np.int64)
    again = repeated(np.array([0, 1, 3, 4]), labels, {1: 3, 2: 5})
    assert sorted(again.tolist()) == [0, 1, 3, 4, 6, 8, 11, 13]
    images = np.random.default_rng(0).integers(0, 255, (5, 24, 24)).astype(np.uint8)
    preprocessing = Preprocessing(24, (0.0,) * 3, (1.0,) * 3, "bilinear")
    inputs = ImageInputs(images, preprocessing, Augmentation(rotation=30.0), seed=0, device="cpu")
    once, twice, plain, other = inputs(np.array([1, 6, 1, 3]), 0)
    assert torch.equal(once, plain)
    assert not torch.equal(once, twice)
    assert (once - twice).abs().mean() < (once - other).abs().mean()
    assert ClassTargets(labels, None, "cpu")(again, 0).tolist() == labels[again % 5].tolist()


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("n", [240, 241, 251])
def test_ranks_share_the_batches_of_one(n: int, drop_last: bool) -> None:
    alone = batches(np.arange(n), 24, drop_last=drop_last)
    kept = n - n % 24 if drop_last else n
    np.testing.assert_array_equal(np.concatenate(alone), np.arange(kept))
    assert all(len(batch) == 24 for batch in alone[:10])
    assert len(alone) == 10 + (kept > 240)
    for world in (2, 4):
        shares = [
            batches(np.arange(n), 24 // world, rank=rank, world=world, drop_last=drop_last) for rank in range(world)
        ]
        assert {len(share) for share in shares} == {len(alone)}
        for whole, *parts in zip(alone, *shares, strict=True):
            np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.sort(whole))
            np.testing.assert_array_equal(parts[1], whole[1::world])
            assert len(parts[0]) - len(parts[-1]) <= (len(whole) < 24)


def test_too_few_images_for_a_batch_are_refused() -> None:
    with pytest.raises(
        FerError, match="31 training images are fewer than a batch of 32 over 2 processes; take a smaller train.batch"
    ):
        batches(np.arange(31), 16, world=2, drop_last=True)
    assert len(batches(np.arange(31), 16, world=2, drop_last=False)) == 1
    assert batches(np.arange(0), 16, drop_last=False) == []
