"""Augmentation moves a picture and its truth alike, and each kind does what it is named after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from numpy.typing import NDArray

from tools.train_parser.augmentation import Augmentation, augment

NONE: dict[str, Any] = {
    **dict.fromkeys(("flip", "rotation", "shift", "tight", "wide", "grey", "colour", "small", "bicubic"), 0.0),
    **dict.fromkeys(("jpeg", "blur", "noise", "hidden"), 0.0),
    "smallest": 8,
}
ALL: dict[str, Any] = {
    **{"flip": 0.5, "rotation": 15.0, "shift": 0.05, "tight": 0.3, "wide": 0.3, "grey": 0.5, "colour": 0.5},
    **{"small": 0.6, "smallest": 12, "bicubic": 0.3, "jpeg": 0.5, "blur": 0.5, "noise": 0.5, "hidden": 0.5},
}


def how(**changes: float) -> Augmentation:
    return Augmentation(**{**NONE, **changes})


def noise(n: int = 8, side: int = 64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noisy pictures, and truths whose classes come in blocks of 4 px."""
    rng = default_rng(seed)
    images = rng.integers(40, 216, (n, 3, side, side)).astype(np.uint8)
    parts = rng.integers(1, 15, (n, side // 4, side // 4)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    return torch.from_numpy(images), torch.from_numpy(parts)


def taken(images: torch.Tensor, parts: torch.Tensor, size: int, seed: int = 0, **changes: Any) -> tuple[Any, Any]:
    x, y = augment(images, parts, size, how(**changes), default_rng(seed))
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert x.shape == (len(images), 3, size, size)
    assert y.shape == (len(images), size // 2, size // 2)
    return x.numpy(), y.numpy()


def detail(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.abs(np.diff(x, axis=-1)).mean((1, 2, 3)))


def test_nothing_is_a_plain_reduction() -> None:
    images, parts = noise()
    x, y = taken(images, parts, 32)
    means = images.numpy().reshape(8, 3, 32, 2, 32, 2).mean((3, 5))
    np.testing.assert_allclose(x, means, atol=1e-2)
    np.testing.assert_array_equal(y, parts.numpy()[:, 1::4, 1::4])


def test_all_randomness_comes_from_the_generator() -> None:
    images, parts = noise()
    before = images.clone(), parts.clone()
    x, y = taken(images, parts, 32, 5, **ALL)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - it must not matter
    again = taken(images, parts, 32, 5, **ALL)
    np.testing.assert_array_equal(x, again[0])
    np.testing.assert_array_equal(y, again[1])
    other = taken(images, parts, 32, 6, **ALL)
    assert (x != other[0]).any(axis=(1, 2, 3)).all()
    assert torch.equal(images, before[0])
    assert torch.equal(parts, before[1])


@pytest.mark.parametrize("seed", range(3))
def test_everything_at_once_stays_in_bounds(seed: int) -> None:
    images, parts = noise(16, seed=seed)
    parts = torch.where(parts > 6, 3, parts).to(torch.uint8)
    x, y = taken(images, parts, 64, seed, **ALL)
    assert np.isfinite(x).all()
    assert x.min() >= 0
    assert x.max() <= 255
    assert set(np.unique(y)) <= {0, *np.unique(parts.numpy()).tolist()}


def test_mirroring_turns_picture_and_truth() -> None:
    images, parts = noise()
    plain, mirrored = taken(images, parts, 32), taken(images, parts, 32, flip=1.0)
    np.testing.assert_allclose(mirrored[0], plain[0][..., ::-1], atol=1e-2)
    np.testing.assert_array_equal(mirrored[1], plain[1][..., ::-1])
    some, _ = taken(*noise(200, 32), 32, flip=0.5)
    straight, _ = taken(*noise(200, 32), 32)
    assert 70 < np.isclose(some, straight, atol=1e-2).all((1, 2, 3)).sum() < 130


def blobs(n: int = 40, side: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    """Return grey pictures with one red disc each, and truths that hold 7 there."""
    rows, columns = np.mgrid[:side, :side]
    rng = default_rng(3)
    images, parts = np.full((n, 3, side, side), 100, np.uint8), np.ones((n, side, side), np.uint8)
    for index in range(n):
        row, column = rng.uniform(0.3 * side, 0.7 * side, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < (0.1 * side) ** 2
        images[index, 0, disc], parts[index, disc] = 220, 7
    return torch.from_numpy(images), torch.from_numpy(parts)


def centre(weight: NDArray[Any], step: float) -> NDArray[Any]:
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([((axis + 0.5) * step * weight).sum() / weight.sum() for axis in (rows, columns)])


@pytest.mark.parametrize(
    "changes",
    [
        {"rotation": 20.0},
        {"shift": 0.08},
        {"tight": 1.0},
        {"wide": 1.0},
        {"rotation": 15.0, "shift": 0.03, "flip": 0.5, "tight": 0.3, "wide": 0.3},
    ],
    ids="+".join,
)
def test_a_disc_moves_alike_in_picture_and_truth(changes: dict[str, Any]) -> None:
    images, parts = blobs()
    x, y = taken(images, parts, 64, 2, **changes)
    still, _ = taken(images, parts, 64)
    seen = moved = 0
    for index in range(len(x)):
        found = y[index] == 7
        if found[[0, -1]].any() or found[:, [0, -1]].any() or not found.any():
            continue  # cut by the border
        place = centre(np.clip(x[index, 0] - x[index, 1], 0, None), 1)
        assert np.abs(place - centre(found, 2)).max() < 1
        seen += 1
        moved += np.abs(place - centre(still[index, 0] - still[index, 1], 1)).max() > 2
    assert seen > 25
    assert moved > 10


def test_tight_enlarges_and_wide_reduces() -> None:
    images, parts = blobs()
    plain, tight, wide = (
        (taken(images, parts, 64, 1, **changes)[1] == 7).sum((1, 2)) for changes in ({}, {"tight": 1.0}, {"wide": 1.0})
    )
    ratio = tight[tight > 20] / np.median(plain)
    assert 1.1 < np.median(ratio) < 4
    assert ratio.max() < 4.6
    ratio = wide / np.median(plain)
    assert ratio.min() > 0.3
    assert ratio.max() < 0.95


@pytest.mark.parametrize("changes", [{}, {"colour": 1.0, "jpeg": 1.0, "noise": 1.0, "hidden": 1.0, "small": 1.0}])
def test_grey_is_grey(changes: dict[str, Any]) -> None:
    images, parts = noise()
    x, _ = taken(images, parts, 32, grey=1.0, **changes)
    assert (x == x[:, :1]).all()
    colour, _ = taken(images, parts, 32, **changes)
    assert (colour == colour[:, :1]).all((1, 2, 3)).sum() < 2  # a poor JPEG may lose a tint
    if not changes:
        np.testing.assert_allclose(x[:, 0], np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], colour), atol=0.05)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("small", 0.05, 0.8), ("blur", 0.05, 0.9), ("jpeg", 0.3, 0.99), ("noise", 1.01, 3)]
)
@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_degrading_changes_the_detail_and_not_the_truth(name: str, least: float, most: float, grey: float) -> None:
    images, parts = noise(16)
    plain, truth = taken(images, parts, 64, grey=grey)
    poor, same = taken(images, parts, 64, grey=grey, **dict[str, Any]({name: 1.0}))
    assert least < detail(poor).mean() / detail(plain).mean() < most
    np.testing.assert_array_equal(truth, same)
    assert np.abs(poor.mean((1, 2, 3)) - plain.mean((1, 2, 3))).max() < 4


def test_colour_changes_the_light_and_not_the_truth() -> None:
    images, parts = noise()
    plain, truth = taken(images, parts, 32)
    lit, same = taken(images, parts, 32, colour=0.4)
    assert np.abs(lit.mean((1, 2, 3)) - plain.mean((1, 2, 3))).max() > 10
    assert (lit != plain).any((1, 2, 3)).all()
    np.testing.assert_array_equal(truth, same)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_what_is_hidden_is_background(size: int, grey: float) -> None:
    images, parts = noise(30)
    plain, truth = taken(images, parts, size, grey=grey)
    hidden, left = taken(images, parts, size, grey=grey, hidden=1.0)
    covered = (np.abs(hidden - plain) > 1e-3).any(1).reshape(30, size // 2, 2, size // 2, 2)
    np.testing.assert_array_equal(left == 0, covered.any((2, 4)))
    np.testing.assert_array_equal(left[left > 0], truth[left > 0])
    share = (left == 0).mean((1, 2))
    assert share.min() > 0
    assert share.max() < 0.2
    assert len({tuple(np.argwhere(one == 0)[0]) for one in left}) > 10


def test_hiding_happens_to_some() -> None:
    _, truth = taken(*noise(200, 32), 32, hidden=0.3)
    assert 30 < (truth == 0).any((1, 2)).sum() < 90


@pytest.mark.parametrize("changes", [{"flip": 1.5}, {"rotation": -1}, {"smallest": 7}, {"colour": "1"}, {"tilt": 0}])
def test_what_no_picture_can_be_put_through(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        how(**changes)


def test_a_turned_disc_stays_round() -> None:
    x, _ = taken(*blobs(), 64, rotation=25.0)
    ratios = []
    for picture in x:
        weight = np.clip(picture[0] - picture[1], 0, None)
        rows, columns = np.mgrid[:64, :64]
        spread = np.linalg.eigvalsh(np.cov(np.stack([rows.ravel(), columns.ravel()]), aweights=weight.ravel()))
        ratios.append(np.sqrt(spread[1] / spread[0]))
    assert np.median(ratios) < 1.12
    assert max(ratios) < 1.3
