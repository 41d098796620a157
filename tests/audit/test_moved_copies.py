"""Copies that were turned, shifted, scaled or cropped: found by the pair, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.near_copies import CHANGES
from fer_cli.audit import moved_copies, near_duplicates
from fer_cli.audit.moved_copies import most_hopeful, moves, registered
from fer_cli.audit.near_duplicates import MOVED_LIKENESS, groups_of, near_copies
from tests.audit.test_near_duplicates import names, textures
from tests.kits.audit import Picture

NO_MOVE = len(moves()) // 2


@pytest.mark.parametrize(
    "changes",
    [
        ("turned 20 degrees", "shifted 15%", "scaled 0.8", "scaled 1.25", "cropped 10%"),
        ("flipped, turned 10 degrees", "turned 10 degrees, shifted 8%", "JPEG quality 30, cropped 10%"),
        ("scaled 1.25, cropped 10%", "flipped, scaled 0.8", "shifted 8%, scaled 0.8"),
    ],
)
def test_moved_copies_are_found_and_nothing_else(changes: tuple[str, ...]) -> None:
    images = textures(60).astype(np.uint8)
    copies: list[Picture] = [CHANGES[name](images[k]) for k in range(20) for name in changes[k % len(changes) :][:1]]
    everything = np.concatenate([images, copies])
    found = near_copies(everything, names(everything))
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(k, 60 + k) for k in range(20)]
    assert found.mirrored.tolist() == ["flipped" in changes[k % len(changes)] for k in range(20)]
    assert found.likeness.min() >= MOVED_LIKENESS


def test_a_registered_copy_agrees_whatever_its_border_and_blur_and_another_picture_does_not() -> None:
    pictures = textures(12)
    other = 0.6 * pictures + 30
    other[:4, -7:, :] = 255.0  # a caption
    other[4:8, :, :6] = 0.0  # what a shift brings in
    other[8:] = torch.nn.functional.avg_pool2d(torch.from_numpy(other[8:]), 3, 1, 1, count_include_pad=False).numpy()
    fixed, moving = torch.from_numpy(pictures), torch.from_numpy(other)
    start = moves()[[NO_MOVE] * 12]
    assert registered(fixed, moving, start).min() > 0.97
    assert registered(fixed, moving.roll(1, dims=0), start).max() < 0.5
    other[:, 12:36, 12:36] = textures(12, seed=3)[:, 12:36, 12:36]  # half of both sides in the middle
    assert registered(fixed, torch.from_numpy(other), start).max() < MOVED_LIKENESS


def test_copies_within_a_group_are_not_looked_for() -> None:
    images = textures(30).astype(np.uint8)
    copies = [CHANGES["turned 15 degrees"](image) for image in images[:6]]
    everything = np.concatenate([images, copies])
    groups = np.full(36, -1)
    groups[[0, 30]] = 5
    groups[[1, 31]] = [5, 6]
    groups[2] = 5
    found = near_copies(everything, names(everything), groups=groups)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(k, 30 + k) for k in range(1, 6)]


def test_groups_are_of_known_persons_between_borders() -> None:
    groups = groups_of(["a", None, "a", "b", "a"], ["train", "train", "test", "train", "train"])
    assert groups.tolist() == [0, -1, 1, 2, 0]


def test_a_grey_copy_of_a_colour_picture_is_found() -> None:
    rgb = np.stack([textures(30, seed=seed) for seed in range(3)], axis=-1).astype(np.uint8)
    grey = np.round(rgb[:8] @ [0.299, 0.587, 0.114]).astype(np.uint8)
    copies = [CHANGES["turned 10 degrees"](picture) for picture in grey]
    everything = np.concatenate([rgb, np.repeat(np.stack(copies)[..., None], 3, axis=-1)])
    found = near_copies(everything, names(everything))
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(k, 30 + k) for k in range(8)]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (6, 9), (16, 40), (90, 33)])
def test_any_size_of_pictures(height: int, width: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, height, width), dtype=np.uint8)
    assert len(near_copies(images, names(images))) == 0


def test_only_so_many_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most hopeful pairs come first."""
    images = textures(30).astype(np.uint8)
    copies = [CHANGES["turned 15 degrees"](image) for image in images[:6]]
    everything = np.concatenate([images, copies])
    monkeypatch.setattr(near_duplicates, "PROPOSED", 2.0)
    monkeypatch.setattr(moved_copies, "HOPEFUL", 0.0)
    monkeypatch.setattr(moved_copies, "REGISTERED", 1)
    assert len(near_copies(everything, names(everything))) == 6


def test_the_best_pairs_of_each_picture_are_registered_and_those_that_are_nearly_certain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moved_copies, "REGISTERED", 1)
    first, second = np.array([0, 0, 1, 3]), np.array([1, 2, 2, 4])
    moved = np.array([0.99, 0.98, 0.97, 0.79], dtype=np.float32)  # the last one is below the bar
    for of_third, chosen in ((0.7, [0, 1]), (0.8, [0, 1, 2])):  # it is the best of neither of its pictures
        alike = np.array([0.9, 0.9, of_third, 0.99], dtype=np.float32)
        assert most_hopeful(first, second, alike, moved).tolist() == chosen
