"""Fingerprints, alignment and near copies: against references, under known changes, and independent of tiles."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.ndimage import affine_transform, gaussian_filter

from fer_cli.audit import moved_copies, near_duplicates
from fer_cli.audit.fingerprints import COMMON, FREQUENCIES, SIDE, fingerprints, odd, small_grey
from fer_cli.audit.near_duplicates import LIKENESS, near_copies
from fer_cli.audit.registration import aligned_correlation
from tests.kits.audit import Picture, brighter, cropped, faces, flipped, rescaled, shifted


def textures(count: int, side: int = 48, seed: int = 0) -> NDArray[np.float32]:
    """Return pictures with detail of every size, 0 to 255."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(count, side, side))
    layers = [width * gaussian_filter(noise, (0, width, width), mode="wrap") for width in (1.2, 2.5, 5, 9)]
    mixed: NDArray[np.float64] = np.sum(layers, axis=0)
    pictures: NDArray[np.float32] = np.clip(128 + 45 * mixed / np.std(mixed), 0, 255).astype(np.float32)
    return pictures


def names(images: NDArray[np.uint8]) -> NDArray[np.str_]:
    return np.array([image.tobytes().hex() for image in images])


@pytest.mark.parametrize(("height", "width"), [(160, 100), (100, 100), (97, 112)])
def test_large_pictures_become_means(height: int, width: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    small = small_grey(images)
    assert max(small.shape[1:]) == SIDE
    down, across = small.shape[1:]
    repeated = images.repeat(down, axis=1).repeat(across, axis=2)  # now each mean is one of whole pixels
    np.testing.assert_allclose(small, repeated.reshape(3, down, height, across, width).mean(axis=(2, 4)), atol=0.01)


def test_colour_becomes_luma_and_small_pictures_stay() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 30, 20, 3), dtype=np.uint8)
    np.testing.assert_allclose(small_grey(images), images @ [0.299, 0.587, 0.114], atol=0.01)
    grey = images[..., 0]
    np.testing.assert_array_equal(small_grey(grey), grey)


def test_fingerprints_are_the_lowest_of_the_dct() -> None:
    pictures = textures(4)
    lowest = dctn(pictures, axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES]
    expected = (lowest / COMMON).reshape(4, -1)[:, 1:]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(fingerprints(pictures), expected, atol=1e-4)
    tiny = textures(3)[:, :5, :6]  # fewer pixels than frequencies
    np.testing.assert_allclose(np.linalg.norm(fingerprints(tiny), axis=1), 1, atol=1e-5)


def test_fingerprints_of_mirror_images_and_of_other_light() -> None:
    pictures = textures(20)
    found = fingerprints(pictures)
    np.testing.assert_allclose(fingerprints(pictures[:, :, ::-1]), np.where(odd(), -1, 1) * found, atol=1e-4)
    np.testing.assert_allclose(fingerprints(0.5 * pictures + 9), found, atol=1e-4)
    assert not fingerprints(np.full((1, 48, 48), 77, np.float32)).any()


@pytest.mark.parametrize(
    ("shift", "scale", "turn"),
    [((0, 0), 1, 0), ((3, -2), 1, 0), ((0.5, 0.5), 1, 0), ((1, 2), 1.08, 0), ((-2, 1), 0.94, 4)],
)
def test_copies_are_found_wherever_they_lie(shift: tuple[float, float], scale: float, turn: float) -> None:
    """A larger picture is sampled twice, so that nothing is made up at the borders."""
    large = textures(12, 80)
    angle = np.deg2rad(turn)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([39.5, 39.5])
    moved = [affine_transform(x, matrix, centre - matrix @ centre + shift, order=1) for x in large]
    other = np.stack(moved)[:, 16:64, 16:64].astype(np.float32)
    alike = aligned_correlation(large[:, 16:64, 16:64], 0.7 * other + 20)
    assert alike.min() > 0.92
    assert alike.max() <= 1 + 1e-5
    assert np.abs(aligned_correlation(large[:, 16:64, 16:64], np.roll(other, 1, axis=0))).max() < 0.6


def test_a_picture_of_one_grey_is_like_none() -> None:
    blank = np.full((2, 48, 48), 90, np.float32)
    assert not aligned_correlation(blank, textures(2)).any()
    assert not aligned_correlation(textures(2), blank).any()
    assert not aligned_correlation(blank, blank).any()


CHANGES = {"flip": flipped, "rescale": rescaled, "brightness": brighter, "shift": shifted, "crop": cropped}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_pictures_are_found_and_nothing_else(change: str) -> None:
    images = textures(150).astype(np.uint8)
    changed = [CHANGES[change](image) for image in images[:40]]
    everything = np.concatenate([images, changed])
    found = near_copies(everything, names(everything))
    pairs = dict(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == {row: 150 + row for row in range(40)}
    assert found.mirrored.all() == (change == "flip")
    assert found.likeness.min() >= LIKENESS


def test_drawn_faces_of_different_persons_are_no_copies() -> None:
    clean = faces()
    images = np.stack(clean.images)
    found = near_copies(images, names(images))
    persons = [row.subject for row in clean.rows]
    assert [(a, b) for a, b in zip(found.first, found.second, strict=True) if persons[a] != persons[b]] == []
    several = found.of_several(persons, [row.split for row in clean.rows])
    assert len(several) == 0
    changed: list[Picture] = [change(image) for change in CHANGES.values() for image in clean.images[:6]]
    everything = np.concatenate([images, changed])
    again = near_copies(everything, names(everything))
    pairs = set(zip(again.first.tolist(), again.second.tolist(), strict=True))
    assert {(k % 6, len(images) + k) for k in range(30)} <= pairs


def test_equal_pictures_stand_in_one_place_and_tiles_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    images = textures(80).astype(np.uint8)
    images[7] = images[3]
    images[20:30] = [flipped(image) for image in images[:10]]
    images[33] = 12
    one = near_copies(images, names(images))
    assert one.first.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert one.second.tolist() == [20, 21, 22, 23, 24, 25, 26, 28, 29]
    assert one.blank.tolist() == [33]
    for name, value in (("_ROWS", 17), ("_COLUMNS", 13), ("_READ", 11), ("_PAIRS", 2)):
        monkeypatch.setattr(near_duplicates, name, value)
    for name, value in (("_ROWS", 17), ("_READ", 11), ("_PAIRS", 5)):
        monkeypatch.setattr(moved_copies, name, value)
    other = near_copies(images, names(images))
    assert (other.first.tolist(), other.second.tolist()) == (one.first.tolist(), one.second.tolist())
    np.testing.assert_allclose(other.likeness, one.likeness, atol=1e-3)


def test_a_symmetric_picture_is_one_pair() -> None:
    images = textures(40).astype(np.uint8)
    images[0] = np.maximum(images[0], flipped(images[0]))
    images[1] = np.clip(images[0].astype(int) + 3, 0, 255)
    found = near_copies(images, names(images))
    assert (found.first.tolist(), found.second.tolist()) == ([0], [1])


@pytest.mark.parametrize("count", [1, 2])
def test_few_pictures(count: int) -> None:
    images = textures(count).astype(np.uint8)
    assert len(near_copies(images, names(images))) == 0
    images[-1] = shifted(images[0])
    assert len(near_copies(images, names(images))) == count - 1


def test_neighbours_by_embeddings_are_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    images = textures(60).astype(np.uint8)
    images[40:50] = [shifted(image) for image in images[:10]]
    images[50:60] = [flipped(image) for image in images[10:20]]
    generator = np.random.default_rng(0)
    of = generator.normal(size=(40, 12))
    embeddings = 100 + np.concatenate([of, of[:20] + 0.01 * generator.normal(size=(20, 12))])  # a mean that all share
    monkeypatch.setattr(near_duplicates, "PROPOSED", 2.0)  # no fingerprint is as alike
    monkeypatch.setattr(moved_copies, "ALIKE", 2.0)  # and no descriptor
    assert len(near_copies(images, names(images))) == 0
    for rows in (near_duplicates._ROWS, 7):
        monkeypatch.setattr(near_duplicates, "_ROWS", rows)
        found = near_copies(images, names(images), embeddings.astype(np.float16))
        assert found.first.tolist() == list(range(20))
        assert found.second.tolist() == list(range(40, 60))
        assert found.mirrored.tolist() == [False] * 10 + [True] * 10
    assert len(near_copies(images, names(images), np.zeros((60, 3, 2, 2)))) <= 20, "any shape, even of nothing"
    assert len(near_copies(images[:1], names(images[:1]), embeddings[:1])) == 0
