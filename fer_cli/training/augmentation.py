"""Augmentation of whole batches as tensors, on their device. What happens to an image depends on seed, epoch and image.

On the CPU an image comes out the same to the bit whatever stands beside it: per-image numbers are made by operations
that IEEE 754 rounds exactly (torch's own sin and exp may differ by a bit with the place in the tensor), sums are sums
of integers, and all else is by pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch.nn import functional

from fer_cli.models.backbones import Preprocessing
from fer_cli.training import counter_rng
from fer_cli.training.counter_rng import Stream
from fer_cli.training.recipe import Augmentation

ERASED: Final = (0.02, 0.2)
"""The least and the most that is erased, as a share of the image's area."""

Draw = Callable[[Stream], torch.Tensor]  # float64 (n,) in [0, 1)


def apply(
    images: torch.Tensor,
    index: torch.Tensor,
    *,
    seed: int,
    epoch: int,
    settings: Augmentation,
    preprocessing: Preprocessing,
) -> torch.Tensor:
    """Turn a batch of images into a network's input, augmented.

    Mirrored, moved (turned, scaled about the centre, then shifted, and cropped anywhere where the preprocessing crops;
    edges are repeated), a rectangle erased, colours paled or deepened, brightness and contrast changed, standardised.
    An image smaller than the input is moved and enlarged in one resampling; a larger one is reduced first as
    :meth:`Preprocessing.apply` does, with antialiasing. Without any movement pixels are exactly those of
    ``Preprocessing.apply``.

    Args:
        images: uint8 (n, H, W) or (n, H, W, 3); not changed.
        index: int64 (n,), of the images in the data set. Best kept on the CPU: only what is drawn is sent on.
        seed: of the run.
        epoch: its number.
        settings: what may happen.
        preprocessing: of the network.

    Returns:
        float32 (n, 3, size, size) on the device of ``images``, channels last.
    """
    assert images.dtype == torch.uint8
    assert index.shape == images.shape[:1]

    def draw(stream: Stream) -> torch.Tensor:
        return counter_rng.uniform(seed, epoch, index, stream).to(torch.float64)

    device = images.device
    images = _flipped(images, draw, settings)
    moved = _moves(settings, preprocessing)
    toned = bool(settings.brightness or settings.contrast)
    coloured = bool(settings.saturation) and images.ndim == 4
    if not (moved or toned or coloured or settings.erase):
        return preprocessing.apply(images)
    pixels = images.permute(0, 3, 1, 2) if images.ndim == 4 else images[:, None]
    if moved:
        most = preprocessing.uncropped  # what is larger is reduced first, with antialiasing
        x = preprocessing.resized(pixels, *(min(side, most) for side in pixels.shape[-2:]))
        x = _sampled(
            x, _movement(draw, settings, preprocessing.crop).to(device), preprocessing.size, preprocessing.interpolation
        )
        x = x.clamp_(0, 255)
    else:
        x = preprocessing.resized(pixels, preprocessing.size, preprocessing.size)
    if settings.erase:
        fill = pixels.sum((2, 3), dtype=torch.int64) / math.prod(pixels.shape[2:])
        x = _erased(x, fill[:, :, None, None], _rectangles(draw, settings, preprocessing.size).to(device))
    if coloured:
        x = _saturated(x, (_either_way(draw, Stream.SATURATION, settings.saturation) + 1).to(device, torch.float32))
    if toned:
        gain, share = (number.to(device).view(-1, 1, 1, 1) for number in _tone(draw, settings))
        mean = pixels.sum((1, 2, 3), dtype=torch.int64) / math.prod(pixels.shape[1:])
        x = (x * gain + share * mean.view(-1, 1, 1, 1)).clamp_(0, 255)
    return preprocessing.standardised(x)


def apply_to_maps(
    maps: torch.Tensor,
    index: torch.Tensor,
    *,
    seed: int,
    epoch: int,
    settings: Augmentation,
    preprocessing: Preprocessing,
) -> torch.Tensor:
    """Move region maps as :func:`apply` moves their images; each pixel takes the region that is nearest.

    The regions know no left and right, so mirroring a map changes no number in it. What is erased from an image stays
    in its map.

    Args:
        maps: uint8 (n, H, W), of the images' size.
        index: int64 (n,), of the images in the data set.
        seed: of the run.
        epoch: its number.
        settings: what may happen.
        preprocessing: of the network.

    Returns:
        uint8 (n, size, size) on the device of ``maps``.
    """

    def draw(stream: Stream) -> torch.Tensor:
        return counter_rng.uniform(seed, epoch, index, stream).to(torch.float64)

    maps = _flipped(maps, draw, settings)
    if _moves(settings, preprocessing):
        movement = _movement(draw, settings, preprocessing.crop).to(maps.device)
    else:
        movement = torch.eye(2, 3, device=maps.device).expand(len(maps), 2, 3)
    return _sampled(maps[:, None].float(), movement, preprocessing.size, "nearest")[:, 0].to(torch.uint8)


def _flipped(images: torch.Tensor, draw: Draw, settings: Augmentation) -> torch.Tensor:
    if not settings.flip:
        return images
    mirrored = (draw(Stream.FLIP) < settings.flip).to(images.device)
    return torch.where(mirrored.view(-1, *[1] * (images.ndim - 1)), images.flip(2), images)


def _moves(settings: Augmentation, preprocessing: Preprocessing) -> bool:
    return bool(settings.rotation or settings.scale or settings.shift or preprocessing.crop)


def _either_way(draw: Draw, stream: Stream, most: float) -> torch.Tensor:
    return (draw(stream) * 2 - 1) * most


def _movement(draw: Draw, settings: Augmentation, crop: float) -> torch.Tensor:
    """Return float32 (n, 2, 3): from places in the output to places in the image, both from -1 to 1."""
    # A crop shows 1 - crop of either side, anywhere.
    right, below = (_either_way(draw, stream, crop) for stream in (Stream.CROP_ACROSS, Stream.CROP_DOWN))
    angle = _either_way(draw, Stream.ROTATION, math.radians(settings.rotation))
    least, most = math.log(1 - settings.scale), math.log(1 + settings.scale)
    shrink = _exp(-(draw(Stream.SCALE) * (most - least) + least))
    across, down = (_either_way(draw, stream, 2 * settings.shift) for stream in (Stream.ACROSS, Stream.DOWN))
    cos, sin = _cos(angle) * shrink, _sin(angle) * shrink
    rows = [cos, -sin, sin * down - cos * across, sin, cos, -(sin * across) - cos * down]
    if crop:
        rows = [part * (1 - crop) for part in rows]
        rows[2], rows[5] = rows[2] + right, rows[5] + below
    return torch.stack(rows, 1).view(-1, 2, 3).to(torch.float32)


def _sampled(x: torch.Tensor, movement: torch.Tensor, size: int, mode: str) -> torch.Tensor:
    """Return (n, c, size, size): x (n, c, h, w) at the places that its movement leads to."""
    centres = (torch.arange(1, 2 * size, 2, dtype=torch.float32, device=x.device) - size) / size
    by_column, by_row, constant = movement[..., None, None].unbind(2)
    # Not affine_grid: its matrix product rounds by the size of the batch.
    places = (by_column * centres + (by_row * centres[:, None] + constant)).permute(0, 2, 3, 1)
    return functional.grid_sample(x, places, mode=mode, padding_mode="border", align_corners=False)


def _rectangles(draw: Draw, settings: Augmentation, size: int) -> torch.Tensor:
    """Return float32 (n, 4): top, bottom, left, right in pixels; empty where nothing is erased, else at most 1 : 2."""
    least, most = ERASED
    area = draw(Stream.AREA) * (most - least) + least
    ratio = _exp(_either_way(draw, Stream.SHAPE, math.log(2)))
    erased = draw(Stream.ERASE) < settings.erase
    height, width = ((size * side).round() * erased for side in ((area * ratio).sqrt(), (area / ratio).sqrt()))
    top = (draw(Stream.TOP) * (size + 1 - height)).floor()
    left = (draw(Stream.LEFT) * (size + 1 - width)).floor()
    return torch.stack([top, top + height, left, left + width], 1).to(torch.float32)


def _erased(x: torch.Tensor, fill: torch.Tensor, rectangles: torch.Tensor) -> torch.Tensor:
    place = torch.arange(x.shape[-1], device=x.device)
    top, bottom, left, right = rectangles[:, :, None].unbind(1)
    rows, columns = (place >= top) & (place < bottom), (place >= left) & (place < right)
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], fill, x)


def _saturated(x: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return x (n, 3, h, w) with each pixel at a share (n,) of its distance from its own grey (ITU-R 601)."""
    red, green, blue = x.unbind(1)
    grey = (red * 0.299 + green * 0.587 + blue * 0.114)[:, None]
    return (grey + share.view(-1, 1, 1, 1) * (x - grey)).clamp_(0, 255)


def _tone(draw: Draw, settings: Augmentation) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what to multiply by, and which share of the image's mean to add then; float32 (n,) both."""
    bright = _either_way(draw, Stream.BRIGHTNESS, settings.brightness) + 1
    contrast = _either_way(draw, Stream.CONTRAST, settings.contrast)
    return (bright * (contrast + 1)).to(torch.float32), (-bright * contrast).to(torch.float32)


def _exp(x: torch.Tensor) -> torch.Tensor:
    """For up to 1.1 either way, as all below to float64's precision."""
    return _series(x, range(1, 22))


def _cos(x: torch.Tensor) -> torch.Tensor:
    """For up to pi either way."""
    return _series(-x * x, ((k - 1) * k for k in range(2, 34, 2)))


def _sin(x: torch.Tensor) -> torch.Tensor:
    """For up to pi either way."""
    return x * _series(-x * x, (k * (k + 1) for k in range(2, 34, 2)))


def _series(x: torch.Tensor, divisors: Iterable[int]) -> torch.Tensor:
    """Return 1 + x/d1 + x^2/(d1 d2) + ..."""
    total = torch.ones_like(x)
    for divisor in reversed(list(divisors)):
        total = total * x / divisor + 1
    return total
