"""Packed region maps come back whole or not at all."""

from __future__ import annotations

import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fer_cli.faces.mask_codec import pack, unpack

MAP = np.arange(48, dtype=np.uint8).reshape(1, 6, 8)
PACKED = pack(MAP)[0]


@settings(max_examples=60, deadline=None)
@given(
    maps=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=9)),
    step=st.sampled_from([1, -1]),
)
def test_every_map_comes_back(maps: NDArray[Any], step: int) -> None:
    maps = maps[:, :, ::step].transpose(0, 2, 1)
    packed = pack(maps)
    back = unpack(packed, *maps.shape[1:])
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, maps)
    for one, data in zip(maps, packed, strict=True):
        np.testing.assert_array_equal(unpack([data], *maps.shape[1:])[0], one)


@pytest.mark.parametrize(
    "data",
    [
        *(PACKED[:length] for length in range(len(PACKED))),
        zlib.compress(bytes(47)),
        zlib.compress(bytes(49)),
        zlib.compress(bytes(48 * 7)),
        PACKED[:-1] + bytes([PACKED[-1] ^ 1]),
        MAP.tobytes(),
        b"\x00" * 48,
    ],
)
def test_bytes_that_are_no_such_map_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        unpack([PACKED, data], 6, 8)


@pytest.mark.parametrize("tail", [b"x", PACKED], ids=["byte", "map"])
def test_bytes_behind_a_map_are_refused(tail: bytes) -> None:
    with pytest.raises(ValueError):
        unpack([PACKED + tail], 6, 8)


def test_a_bomb_does_not_go_off() -> None:
    bomb = zlib.compress(bytes(16 << 20), 1)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="expected 48"):
            unpack([bomb], 6, 8)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
