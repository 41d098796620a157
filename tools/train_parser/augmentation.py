"""Augmentation that brings studio portraits to the pictures that FER has: small, grey, cropped tight, compressed."""

from __future__ import annotations

import io
import math
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch.nn import functional

from fer_cli.core.recipes import Section

_LUMA = (0.299, 0.587, 0.114)


Probability = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(ge=0)]


class Augmentation(Section):
    """What may happen to a picture. Each number is the probability for one picture unless it says otherwise."""

    flip: Probability
    rotation: Spread  # standard deviation, in degrees
    shift: Spread  # standard deviation, as a part of the picture's side
    tight: Probability  # cropped to half to nine tenths of the side
    wide: Probability  # zoomed out, so that the face fills less of the picture
    grey: Probability
    colour: Spread  # strength of brightness, contrast, gamma and tint; of all pictures
    small: Probability  # reduced to fewer pixels and enlarged again
    smallest: Annotated[int, Field(ge=8, le=1024)]  # px, the fewest
    bicubic: Probability  # enlarged again bicubically, else bilinearly; of those that were reduced
    jpeg: Probability
    blur: Probability
    noise: Probability
    hidden: Probability  # a block hides a part of the face


def augment(
    images: torch.Tensor, parts: torch.Tensor, size: int, how: Augmentation, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch of training pictures and their truth.

    Args:
        images: uint8 (n, 3, H, H).
        parts: uint8 (n, H, H), a class a pixel. Classes without sides: a mirrored face needs no renaming.
        size: side of what comes out.
        how: what may happen.
        rng: all randomness comes from here.

    Returns:
        float32 (n, 3, size, size) in [0, 255], and int64 (n, size / 2, size / 2): the parser's logits are half as fine.
    """
    images, parts = _move(images, parts, size, how, rng)
    for index in range(len(images)):
        images[index] = _degrade(images[index], how, rng)
    if how.hidden:
        _hide(images, parts, how.hidden, rng)
    return images, parts


def _move(
    images: torch.Tensor, parts: torch.Tensor, size: int, how: Augmentation, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    n = len(images)
    kind = rng.random(n)
    zoom = np.exp(rng.normal(0, 0.06, n))
    if how.tight or how.wide:
        zoom = np.where(kind < how.tight, rng.uniform(0.5, 0.9, n), zoom)
        zoom = np.where(kind > 1 - how.wide, rng.uniform(1.1, 1.6, n), zoom)
    else:
        zoom[:] = 1
    angle = np.radians(rng.normal(0, how.rotation, n)) if how.rotation else np.zeros(n)
    stretch = np.exp(rng.normal(0, 0.05, n)) if how.rotation else np.ones(n)
    mirror = np.where(rng.random(n) < how.flip, -1.0, 1.0)
    shift = rng.normal(0, how.shift, (n, 2)) if how.shift else np.zeros((n, 2))
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    theta = np.empty((n, 2, 3), dtype=np.float32)
    theta[:, 0] = np.stack([cos * mirror * stretch, -sin, 2 * shift[:, 0]], 1)
    theta[:, 1] = np.stack([sin * mirror * stretch, cos, 2 * shift[:, 1] + np.where(kind < how.tight, 0.1, 0)], 1)
    fine = functional.affine_grid(torch.from_numpy(theta), [n, 1, 2 * size, 2 * size], align_corners=False)
    # Sampled twice as finely and averaged: a plain sample of a large picture would alias. (Where a picture is enlarged
    # its outermost half pixel fades into the fill.)
    fill = torch.from_numpy(rng.choice([0.0, 0.0, 255.0, 128.0], (n, 1, 1, 1)).astype(np.float32))
    moved = functional.grid_sample(images - fill, fine, mode="bilinear", align_corners=False) + fill
    grid = functional.affine_grid(torch.from_numpy(theta), [n, 1, size // 2, size // 2], align_corners=False)
    truth = functional.grid_sample(parts[:, None].float(), grid, mode="nearest", align_corners=False)
    return functional.avg_pool2d(moved, 2), truth[:, 0].long()


def _degrade(image: torch.Tensor, how: Augmentation, rng: np.random.Generator) -> torch.Tensor:
    """Take one picture (3, S, S) in [0, 255] through a poor camera, a small file and a resize."""
    size = image.shape[-1]
    grey = rng.random() < how.grey
    if grey:
        image = torch.einsum("c,chw->hw", torch.tensor(_LUMA), image)[None]
    if how.colour:
        image = _light(image, how.colour, rng)
    if rng.random() < how.blur:
        image = _blurred(image, rng.uniform(0.3, 1.6) * size / 128)
    side = size
    if rng.random() < how.small:
        side = round(math.exp(rng.uniform(math.log(how.smallest), math.log(size))))
        image = _resized(image, side, "bilinear")
    if rng.random() < how.noise:
        noise = rng.normal(0, rng.uniform(1, 14), image.shape).astype(np.float32)
        image = image + torch.from_numpy(noise)
    if rng.random() < how.jpeg:
        image = _compressed(image, int(rng.integers(25, 96)))
    if side != size:
        image = _resized(image, size, "bicubic" if rng.random() < how.bicubic else "bilinear")
    return image.clamp(0, 255).expand(3, -1, -1)


def _light(image: torch.Tensor, strength: float, rng: np.random.Generator) -> torch.Tensor:
    x = (image / 255).clamp(1e-3, 1) ** math.exp(rng.normal(0, 0.6 * strength))
    x = (x - 0.5) * math.exp(rng.normal(0, 0.5 * strength)) + 0.5 + rng.normal(0, 0.2 * strength)
    if len(image) == 3:
        tint = np.exp(rng.normal(0, 0.2 * strength, (3, 1, 1))).astype(np.float32)
        x = x * torch.from_numpy(tint)
        x = torch.lerp(x.mean(0, keepdim=True), x, float(rng.uniform(1 - strength, 1 + strength)))
    return (x * 255).clamp(0, 255)


def _blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = max(1, math.ceil(2 * sigma))
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(len(image), 1, 1, -1)
    x = functional.pad(image[None], (reach,) * 4, mode="replicate")
    x = functional.conv2d(x, kernel, groups=len(image))
    return functional.conv2d(x, kernel.transpose(2, 3), groups=len(image))[0]


def _resized(image: torch.Tensor, side: int, mode: str) -> torch.Tensor:
    return functional.interpolate(image[None], (side, side), mode=mode, antialias=True, align_corners=False)[0]


def _compressed(image: torch.Tensor, quality: int) -> torch.Tensor:
    pixels = image.clamp(0, 255).round().to(torch.uint8)
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=quality)
    back: Any = np.array(Image.open(file))
    return torch.from_numpy(back if back.ndim == 3 else back[..., None]).permute(2, 0, 1).float()


def _hide(images: torch.Tensor, parts: torch.Tensor, probability: float, rng: np.random.Generator) -> None:
    """Lay a plain block over some pictures; what it hides is background, as a hand's is in the truth."""
    size = images.shape[-1]
    for index in np.flatnonzero(rng.random(len(images)) < probability):
        height, width = rng.integers(size // 20, size // 6, 2)
        top, left = rng.integers(0, size // 2 - height), rng.integers(0, size // 2 - width)
        colour = torch.from_numpy(rng.uniform(0, 255, (3, 1, 1)).astype(np.float32))
        if bool((images[index, 0] == images[index, 1]).all()):
            colour = colour[:1]
        images[index, :, 2 * top : 2 * (top + height), 2 * left : 2 * (left + width)] = colour
        parts[index, top : top + height, left : left + width] = 0
