"""Descriptors of pictures that stay alike when a picture is turned, shifted, scaled, cropped, lit or compressed anew.

A small network gives them. It was trained to tell each of 33,000 pictures (faces of FER2013's training split, of
CelebAMask-HQ, synthetic faces, textures) by changed copies of it: two copies of one picture are to be more alike than
those of any two (van den Oord et al. 2018). ``python -m tools.train_descriptor`` trains it. It only proposes pairs to
be registered; what is a copy is decided by the pixels.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from fer_cli.artifacts.atomic_io import sha256_file
from fer_cli.core.assets import asset
from fer_cli.core.errors import FerError

FILE: Final = "descriptor/descriptor.safetensors"
SHA256: Final = "e0f2bc0f59bee9c20bdd92a9c6e99b7a4409b2a9248c365a0352199ce84356ce"
"""Of the file that comes with fer."""
SIDE: Final = 32
"""Side in pixels of what the network sees."""
STRIDES: Final = (2, 2, 1, 2, 1, 1)
"""Of the network's convolutions; the first five are followed by a ReLU, the last by a linear layer."""


def descriptors(pictures: Tensor) -> Tensor:
    """Return the descriptor of each picture, of length 1.

    Args:
        pictures: (n, h, w) grey, 0 to 255.

    Returns:
        (n, 96).

    Raises:
        FerError: the weights that come with fer are damaged.
    """
    values = prepared(pictures)
    *convolutions, (weight, bias) = _layers()
    for number, (kernel, offset) in enumerate(convolutions):
        values = functional.conv2d(values, kernel, offset, STRIDES[number], kernel.shape[-1] // 2)
        if number < len(convolutions) - 1:
            values = values.relu()
    return functional.normalize(functional.linear(values.flatten(1), weight, bias), dim=1)


def prepared(pictures: Tensor) -> Tensor:
    """Return what the network sees of pictures (n, h, w): (n, 1, SIDE, SIDE), of mean 0 and of equal contrast."""
    small = resized(pictures, SIDE)
    small = small - small.mean(dim=(1, 2), keepdim=True)
    return (small / small.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(0.255))[:, None]


def resized(pictures: Tensor, side: int) -> Tensor:
    """Return pictures (n, side, side): each pixel is the mean of those it covers, parts of pixels counted."""
    down, across = (_means(length, side) for length in pictures.shape[1:])
    return down @ pictures @ across.T


@cache
def _layers() -> list[tuple[Tensor, Tensor]]:
    path = asset(FILE)
    if not path.is_file():
        raise FerError("no such file", hint="reinstall fer", path=path)
    if (found := sha256_file(path)) != SHA256:
        raise FerError(
            f"sha256 {found[:16]}, expected {SHA256[:16]}", hint="the file is damaged: reinstall fer", path=path
        )
    arrays = {name: values.float() for name, values in load_file(path).items()}
    return [(arrays[f"weight{k}"], arrays[f"bias{k}"]) for k in range(len(arrays) // 2)]


@cache
def _means(length: int, wanted: int) -> Tensor:
    edges, places = np.linspace(0, length, wanted + 1), np.arange(length)
    covered = np.clip(np.minimum(edges[1:, None], places + 1) - np.maximum(edges[:-1, None], places), 0, None)
    return torch.from_numpy((covered / covered.sum(axis=1, keepdims=True)).astype(np.float32))
