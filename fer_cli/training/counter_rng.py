"""Random numbers that are a function of where they are used: of seed, epoch, image and purpose, and of nothing else.

No generator is carried along, so there is no state that workers, batches, ranks or a resume could shift.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import torch

_GOLDEN: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB
_ALL: Final = (1 << 64) - 1


class Stream(IntEnum):
    """What a number is drawn for. Numbers of different streams are independent; a value never changes its meaning."""

    ORDER = 0
    CLASS = 1
    REPEAT = 2
    FLIP = 3
    ROTATION = 4
    SCALE = 5
    ACROSS = 6
    DOWN = 7
    BRIGHTNESS = 8
    CONTRAST = 9
    ERASE = 10
    AREA = 11
    SHAPE = 12
    TOP = 13
    LEFT = 14
    CROP_ACROSS = 15
    CROP_DOWN = 16
    SATURATION = 17
    MIX = 18
    MIXTURE = 19
    MIX_SHARE = 20
    MIX_TOP = 21
    MIX_LEFT = 22


def bits(seed: int, epoch: int, index: torch.Tensor, stream: int) -> torch.Tensor:
    """Return 64 random bits for each image: number ``index`` of SplitMix64 (Steele, Lea & Flood 2014).

    The generator starts at a hash of seed, epoch and stream. Integers alone: the same on every device.

    Args:
        seed: of the run.
        epoch: counted from any number.
        index: int64 (n,), of the images in the data set.
        stream: what the number is for.

    Returns:
        int64 (n,), over the whole range, negative ones too.
    """
    assert index.dtype == torch.int64
    start = 0
    for word in (seed, epoch, stream):
        start = _mixed(((start ^ word) + _GOLDEN) & _ALL)
    z = (index + 1) * _signed(_GOLDEN) + _signed(start)
    z = (z ^ _shifted(z, 30)) * _signed(_FIRST)
    z = (z ^ _shifted(z, 27)) * _signed(_SECOND)
    return z ^ _shifted(z, 31)


def uniform(seed: int, epoch: int, index: torch.Tensor, stream: int) -> torch.Tensor:
    """Return float32 (n,) in [0, 1), multiples of 2^-24, of int64 ``index`` (n,); see :func:`bits`."""
    return _shifted(bits(seed, epoch, index, stream), 40).to(torch.float32) * 2.0**-24


def _mixed(z: int) -> int:
    z = (z ^ (z >> 30)) * _FIRST & _ALL
    z = (z ^ (z >> 27)) * _SECOND & _ALL
    return z ^ (z >> 31)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _shifted(z: torch.Tensor, by: int) -> torch.Tensor:
    """Shift right and fill with zeros: torch's own shift repeats the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)
