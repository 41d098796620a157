"""Region maps as a few hundred bytes each: deflated one by one, so that any can be read alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

_LEVEL: Final = 6


def pack(maps: NDArray[np.uint8]) -> list[bytes]:
    """Return each map of (n, H, W) as bytes: zlib's deflate of its pixels, row by row, one byte a pixel."""
    return [zlib.compress(np.ascontiguousarray(pixels).tobytes(), _LEVEL) for pixels in maps]


def unpack(packed: Iterable[bytes], height: int, width: int) -> NDArray[np.uint8]:
    """Return the maps (n, height, width) that :func:`pack` packed.

    Raises:
        ValueError: the bytes are not those of a map of this size.
    """
    maps = []
    for data in packed:
        inflater = zlib.decompressobj()
        try:
            pixels = inflater.decompress(data, height * width + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if len(pixels) != height * width or not inflater.eof or inflater.unused_data:
            raise ValueError(f"{len(pixels)} bytes and {len(inflater.unused_data)} behind, expected {height * width}")
        maps.append(np.frombuffer(pixels, np.uint8).reshape(height, width))
    return np.stack(maps) if maps else np.empty((0, height, width), np.uint8)
