"""Augmentation in training: a function of seed, epoch and image alone, and each kind does what it is named after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import stats

from fer_cli.core.errors import FerError
from fer_cli.core.recipes import load_recipe
from fer_cli.models.backbones import Preprocessing
from fer_cli.training import counter_rng
from fer_cli.training.augmentation import ERASED, apply
from fer_cli.training.counter_rng import Stream
from fer_cli.training.recipe import Augmentation

ALL: dict[str, Any] = {
    **{"flip": 0.5, "rotation": 15.0, "scale": 0.15, "shift": 0.08},
    **{"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "erase": 0.5},
}
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def prepared(size: int = 48, interpolation: str = "bilinear") -> Preprocessing:
    return Preprocessing(size=size, interpolation=interpolation, **IMAGENET)


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return noise from 40 to 215: what is black or white was made so."""
    return torch.from_numpy(np.random.default_rng(seed).integers(40, 216, shape).astype(np.uint8))


def taken(images: torch.Tensor, size: int = 48, mode: str = "bilinear", seed: int = 0, **how: Any) -> torch.Tensor:
    """Return the augmented pixels (n, 3, size, size) in [0, 255]."""
    plain = Preprocessing(size=size, mean=(0, 0, 0), std=(1 / 255,) * 3, interpolation=mode)
    before = images.clone()
    x = apply(images, torch.arange(len(images)), seed=seed, epoch=0, settings=Augmentation(**how), preprocessing=plain)
    assert torch.equal(images, before)
    assert x.dtype == torch.float32
    assert x.shape == (len(images), 3, size, size)
    assert x.is_contiguous(memory_format=torch.channels_last)
    return x


def plant(monkeypatch: pytest.MonkeyPatch, planted: Mapping[Stream, float]) -> None:
    """Give every image the planted number of a stream, and a half of the others: the middle."""

    def uniform(seed: int, epoch: int, index: torch.Tensor, stream: Stream) -> torch.Tensor:
        return torch.full(index.shape, planted.get(stream, 0.5))

    monkeypatch.setattr(counter_rng, "uniform", uniform)


# ---- augmentation: what it depends on

SHAPES = [(48, 48), (48, 48, 3), (90, 70), (90, 70, 3), (64, 64), (40, 80)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", SHAPES)
def test_neighbours_change_nothing(shape: tuple[int, ...], interpolation: str) -> None:
    images, index = pictures(13, *shape), torch.arange(100, 1400, 100)

    def run(chosen: list[int], epoch: int = 3) -> torch.Tensor:
        how, preprocessing = Augmentation(**ALL), prepared(64, interpolation)
        return apply(images[chosen], index[chosen], seed=5, epoch=epoch, settings=how, preprocessing=preprocessing)

    whole = run(list(range(13)))
    for chosen in ([0], [7], [12], [12, 3, 8], list(range(12, -1, -1)), list(range(5, 13)), [4] * 9):
        assert torch.equal(run(chosen), whole[chosen])
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        torch.manual_seed(1)
        state = torch.get_rng_state()
        assert torch.equal(run(list(range(13))), whole)
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(threads)
    assert ((run(list(range(13)), 4) - whole).abs().mean((1, 2, 3)) > 0.1).all()


@pytest.mark.parametrize("name", sorted(ALL))
def test_each_kind_alone_changes_pictures_and_no_two_alike(name: str) -> None:
    images = pictures(1, 48, 48, 3).expand(24, -1, -1, -1).contiguous()
    x = taken(images, **{name: ALL[name]})
    distinct = len({row.numpy().tobytes() for row in x})
    assert distinct == 2 if name == "flip" else distinct > (6 if name == "erase" else 20)
    assert not torch.equal(x, taken(images, seed=1, **{name: ALL[name]}))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", SHAPES)
def test_without_movement_pixels_are_those_of_preprocessing(shape: tuple[int, ...], interpolation: str) -> None:
    images, index, preprocessing = pictures(16, *shape), torch.arange(16), prepared(64, interpolation)

    def run(**how: float) -> torch.Tensor:
        return apply(images, index, seed=0, epoch=0, settings=Augmentation(**how), preprocessing=preprocessing)

    plain = preprocessing.apply(images)
    mirrored = preprocessing.apply(images.flip(2))
    assert torch.equal(run(), plain)
    assert torch.equal(run(flip=1), mirrored)
    some = counter_rng.uniform(0, 0, index, Stream.FLIP) < 0.5
    assert 2 < some.sum() < 14
    assert torch.equal(run(flip=0.5), torch.where(some[:, None, None, None], mirrored, plain))
    erased = run(erase=1)
    outside = (erased == plain).all(1)
    assert (outside.float().mean((1, 2)) > 0.75).all()
    assert torch.equal(run(contrast=1e-12, flip=1), mirrored)


# ---- augmentation: what it does


@pytest.mark.parametrize("size", [48, 96])
@pytest.mark.parametrize("colour", [False, True])
def test_a_quarter_turn_is_anticlockwise(size: int, colour: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(3, 48, 48, 3) if colour else pictures(3, 48, 48)
    plain = taken(images, size)
    plant(monkeypatch, {Stream.ROTATION: 1.0, Stream.FLIP: 0.0})
    torch.testing.assert_close(taken(images, size, rotation=90), plain.rot90(1, (2, 3)), rtol=0, atol=0.01)
    turned = taken(images, size, rotation=90, flip=0.5)  # mirrored first, then turned
    torch.testing.assert_close(turned, plain.flip(3).rot90(1, (2, 3)), rtol=0, atol=0.01)


def places(side: int, size: int, n: int = 1, **how: Any) -> NDArray[Any]:
    """Return which place of the picture each pixel shows, (n, 2, size, size) across and down, in picture's px.

    A ramp's values are places: it is sampled to less than a hundredth of a pixel, but for its flat edges.
    """
    assert side * 3 <= 255
    ramp = (torch.arange(side) * 3).to(torch.uint8).expand(side, side)
    maps = [taken(one.expand(n, -1, -1).contiguous(), size, **how)[:, 0] for one in (ramp, ramp.T)]
    return torch.stack(maps, 1).numpy() / 3


@pytest.mark.parametrize("size", [64, 128])
def test_movements_are_as_large_as_said(size: int) -> None:
    how: dict[str, Any] = {"rotation": 20.0, "scale": 0.2, "shift": 0.1}
    found = places(64, size, 300, **how)
    middle = slice(size * 3 // 8, size * 5 // 8)
    inner = found[:, :, middle, middle]
    assert inner.min() > 0
    assert inner.max() < 63
    step = size / 64
    along = np.diff(inner, axis=3).mean((2, 3)) * step  # (n, 2): how the place changes with a step to the right
    down = np.diff(inner, axis=2).mean((2, 3)) * step
    np.testing.assert_allclose(down[:, 1], along[:, 0], atol=0.01)
    np.testing.assert_allclose(down[:, 0], -along[:, 1], atol=0.01)
    zoom = 1 / np.hypot(along[:, 0], along[:, 1])
    angle = np.degrees(np.arctan2(along[:, 1], along[:, 0]))
    centre = inner.mean((2, 3)) - 31.5
    # In px: the output's centre shows the place that the shift, turned and scaled back, came from.
    across = -(zoom**2) * (along[:, 0] * centre[:, 0] + along[:, 1] * centre[:, 1])
    below = -(zoom**2) * (along[:, 0] * centre[:, 1] - along[:, 1] * centre[:, 0])
    spreads = [(np.log(zoom), np.log(0.8), np.log(1.2)), (angle, -20, 20), (across, -6.4, 6.4), (below, -6.4, 6.4)]
    for values, least, most in spreads:
        shares = (values - least) / (most - least)
        assert shares.min() > -0.005
        assert shares.max() < 1.005
        assert stats.kstest(shares, "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef([values for values, _, _ in spreads]) - np.eye(4)).max() < 0.2


def test_planted_movements(monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"scale": 0.25, "shift": 0.125}
    plant(monkeypatch, {Stream.SCALE: 1.0})
    inner = places(64, 64, **how)[0, :, 20:44, 20:44]
    np.testing.assert_allclose(np.diff(inner[0], axis=1), 0.8, atol=0.01)
    np.testing.assert_allclose(np.diff(inner[1], axis=0), 0.8, atol=0.01)
    plant(monkeypatch, {Stream.ACROSS: 1.0, Stream.DOWN: 0.0})
    found = places(64, 64, shift=0.125)[0]  # 8 px to the right and up
    np.testing.assert_allclose(found[0], np.maximum(np.arange(64) - 8.0, 0) * np.ones((64, 1)), atol=0.01)
    np.testing.assert_allclose(found[1], np.minimum(np.arange(64) + 8.0, 63)[:, None] * np.ones(64), atol=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_movement_of_nothing_is_plain_preprocessing(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A large picture is reduced with antialiasing, moved or not."""
    images = pictures(2, *shape)
    plain = taken(images)
    plant(monkeypatch, {})
    torch.testing.assert_close(taken(images, rotation=30, shift=0.1), plain, rtol=0, atol=0.02)


def test_a_small_picture_is_resampled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value is a bilinear one of the picture's own pixels; enlarged first, it would be blurred twice."""
    picture = pictures(1, 20, 30)
    plant(monkeypatch, {Stream.ROTATION: 1.0})
    found = taken(picture, 64, rotation=30)[0, 0].numpy()
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    for row, column in np.ndindex(64, 64):
        x, y = (column + 0.5) / 32 - 1, (row + 0.5) / 32 - 1
        across = np.clip((cos * x - sin * y + 1) * 15 - 0.5, 0, 29)
        down = np.clip((sin * x + cos * y + 1) * 10 - 0.5, 0, 19)
        left, top = min(int(across), 28), min(int(down), 18)
        corners = picture[0, top : top + 2, left : left + 2].numpy().astype(float)
        value = [1 + top - down, down - top] @ corners @ [1 + left - across, across - left]
        assert found[row, column] == pytest.approx(value, abs=0.02)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [30, 48, 90])
def test_edges_are_repeated(side: int, mode: str) -> None:
    how: dict[str, Any] = {"rotation": 180.0, "scale": 0.5, "shift": 0.5}
    plain = torch.full((40, side, side), 200, dtype=torch.uint8)
    torch.testing.assert_close(taken(plain, mode=mode, **how), torch.full((40, 3, 48, 48), 200.0), rtol=0, atol=1e-3)
    x = taken(pictures(40, side, side), mode=mode, **how)
    least, most = (39.9, 215.1) if mode == "bilinear" else (0, 255)
    assert x.min() >= least
    assert x.max() <= most


@pytest.mark.parametrize("colour", [False, True])
def test_a_rectangle_is_filled_with_the_mean(colour: bool) -> None:
    images = pictures(400, 24, 24, 3) if colour else pictures(400, 24, 24)
    plain, x = taken(images, 96), taken(images, 96, erase=0.5)
    fill = images.double().mean((1, 2)).view(400, -1, 1, 1)
    changed = (x != plain).any(1)
    assert 160 < changed.flatten(1).any(1).sum() < 240
    centres, shares = [], []
    for one, place, mean in zip(x, changed, fill, strict=True):
        if not place.any():
            continue
        rows, columns = place.any(1).nonzero(), place.any(0).nonzero()
        top, bottom, left, right = (int(v) for v in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
        block = one[:, top:bottom, left:right]
        torch.testing.assert_close(block, mean.expand_as(block).float(), rtol=0, atol=1e-3)
        height, width = bottom - top, right - left
        assert (height - 0.5) * (width - 0.5) / 96**2 < ERASED[1]
        assert (height + 0.5) * (width + 0.5) / 96**2 > ERASED[0]
        assert 0.45 < height / width < 2.2
        shares.append(height * width / 96**2)
        centres.append((top / (96 - height), left / (96 - width)))
    for share in np.transpose(centres):
        assert stats.kstest(share, "uniform").pvalue > 1e-3
    assert stats.kstest(shares, stats.uniform(ERASED[0], ERASED[1] - ERASED[0]).cdf).pvalue > 1e-3


def test_brightness_and_contrast(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.cat([torch.full((1, 24, 48), 60), torch.full((1, 24, 48), 100)], 1).to(torch.uint8)  # mean 80

    def both(**planted: float) -> list[float]:
        plant(monkeypatch, {Stream[name]: share for name, share in planted.items()})
        x = taken(image, brightness=0.5, contrast=0.4)
        return [round(float(x[0, 0, row, 0]), 3) for row in (0, 47)]

    assert both() == [60, 100]
    assert both(BRIGHTNESS=1) == [90, 150]
    assert both(BRIGHTNESS=0) == [30, 50]
    assert both(CONTRAST=1) == [52, 108]
    assert both(CONTRAST=0) == [68, 92]
    assert both(CONTRAST=1, BRIGHTNESS=1) == [78, 162]
    bright = torch.full((1, 48, 48), 250, dtype=torch.uint8)
    plant(monkeypatch, {Stream.BRIGHTNESS: 1.0})
    assert float(taken(bright, brightness=1).max()) == pytest.approx(255, abs=1e-3)


def test_the_mean_of_a_coloured_picture_is_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, {Stream.CONTRAST: 1.0})
    image = torch.tensor([30, 60, 120], dtype=torch.uint8).expand(1, 8, 8, 3).contiguous()  # mean 70
    x = taken(image, 8, contrast=0.5)
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([10.0, 55.0, 145.0]), rtol=0, atol=1e-3)


def test_colours_pale_and_deepen_about_their_own_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.tensor([[30, 60, 120], [200, 200, 200]], dtype=torch.uint8).repeat_interleave(32, 0).view(1, 8, 8, 3)
    grey = 0.299 * 30 + 0.587 * 60 + 0.114 * 120
    for planted, share in ((1.0, 1.5), (0.0, 0.5), (0.5, 1.0)):
        plant(monkeypatch, {Stream.SATURATION: planted})
        x = taken(image, 8, saturation=0.5)
        expected = [grey + share * (value - grey) for value in (30, 60, 120)]
        torch.testing.assert_close(x[0, :, 0, 0], torch.tensor(expected), rtol=0, atol=1e-3)
        torch.testing.assert_close(x[0, :, 7, 0], torch.full((3,), 200.0), rtol=0, atol=1e-3)
    monkeypatch.undo()
    noise = pictures(6, 48, 48)
    assert torch.equal(taken(noise, saturation=1.0), taken(noise)), "a grey picture has none"


FAULTS: list[dict[str, Any]] = [
    *({"flip": 1.1}, {"flip": -0.1}, {"rotation": 181.0}, {"rotation": "5"}, {"scale": 0.6}, {"shift": 0.51}),
    *(
        {"brightness": 1.5},
        {"contrast": -0.1},
        {"saturation": 2},
        {"erase": 2.0},
        {"erase": True},
        {"shift": float("nan")},
        {"blur": 0.1},
    ),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_values_are_refused(fault: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        Augmentation.model_validate({**ALL, **fault})
    name, value = next(iter(fault.items()))
    (tmp_path / "recipe.toml").write_text(f"{name} = {str(value).lower() if value != '5' else repr(value)}\n")
    with pytest.raises(FerError, match=rf"recipe.toml:1: {name}"):
        load_recipe(tmp_path / "recipe.toml", Augmentation)
