"""Checksums of large arrays by block: damage is found when a block is first read, and costs no second reading.

The checksum is CRC-32 from zlib, which takes 4 GB/s where SHA-256 takes 2: it finds damage, not forgery. The whole
file's SHA-256 stands next to it in the manifest, for ``fer verify``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from fer_cli.artifacts.atomic_io import BLOCK_BYTES
from fer_cli.artifacts.payload import read_array
from fer_cli.core.errors import FerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class StoredArray(NDArrayOperatorsMixin):
    """An ``.npy`` file of an artifact as a memory map; each block is checked before its first bytes are given out.

    An index reads, and checks, the rows that it names. Whatever else an array can do is done with the whole of it,
    checked: there is no way to the bytes past the check.

    Args:
        path: of the file, in C order.
        checksums: of its blocks, as :func:`fer_cli.artifacts.atomic_io.hash_blocks` returns them.
        damaged: returns the error of a block's number.

    Raises:
        FerError: a block is damaged; also from every reading of it.
    """

    def __init__(self, path: Path, checksums: str, damaged: Callable[[int, str], FerError]) -> None:
        self._bytes: NDArray[np.uint8] = np.asarray(np.memmap(path, np.uint8, "r"))
        self._checksums = checksums
        self._damaged = damaged
        self._checked = np.zeros(-(-len(self._bytes) // BLOCK_BYTES), np.bool_)
        self._check([0])  # before the header is believed
        self._array: NDArray[Any] = np.asarray(read_array(path))
        self._start = len(self._bytes) - self._array.nbytes
        self._row_bytes = self._array.nbytes // len(self._array) if self._array.ndim and len(self._array) else 0

    shape = property(lambda self: self._array.shape, doc="As of an array.")
    dtype = property(lambda self: self._array.dtype, doc="As of an array.")
    ndim = property(lambda self: self._array.ndim, doc="As of an array.")
    size = property(lambda self: self._array.size, doc="As of an array.")
    nbytes = property(lambda self: self._array.nbytes, doc="As of an array.")

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Any]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - whatever indexes an array
        if not self._checked.all():
            self._check(self._blocks_of(key))
        return self._array[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: ANN401 - numpy's own
        self._check(range(len(self._checked)))
        return np.array(self._array, dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:  # noqa: ANN401
        return getattr(ufunc, method)(*(np.asarray(one) if one is self else one for one in inputs), **options)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else an array has
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def _blocks_of(self, key: Any) -> Iterable[int]:  # noqa: ANN401 - as __getitem__
        """Return the blocks of the rows that an index names: all where it names none."""
        first, rows = key[0] if isinstance(key, tuple) and key else key, len(self) if self.ndim else 0
        if rows and isinstance(first, int | np.integer | slice):
            part = range(rows)[first] if isinstance(first, slice) else range(rows)[int(first) :][:1]
            if not part:
                return ()  # an index that is at fault raises what numpy raises
            low, high = sorted((part[0], part[-1]))
            return range(self._block(low), self._block(high + 1, -1) + 1)
        if rows and isinstance(first, list | np.ndarray) and np.ndim(first) == 1:
            named = np.flatnonzero(first) if np.asarray(first).dtype == np.bool_ else np.asarray(first, np.int64)
            named = np.clip(np.where(named < 0, named + rows, named), 0, rows - 1)
            begin, end = self._block(named), self._block(named + 1, -1)
            steps = range(int((end - begin).max(initial=-1)) + 1)
            blocks: list[int] = np.unique([np.minimum(begin + step, end) for step in steps]).astype(np.int64).tolist()
            return blocks
        return range(len(self._checked))

    def _block(self, row: Any, shift: int = 0) -> Any:  # noqa: ANN401 - a number, or an array of numbers
        """Return the block of the first byte of a row, or of one near it."""
        return (self._start + row * self._row_bytes + shift) // BLOCK_BYTES

    def _check(self, blocks: Iterable[int]) -> None:
        for block in blocks:
            if self._checked[block]:
                continue
            found = f"{zlib.crc32(self._bytes[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES].data):08x}"
            if found != self._checksums[8 * block : 8 * block + 8]:
                raise self._damaged(int(block), found)
            self._checked[block] = True


AnyArray = NDArray[Any] | StoredArray
"""An array in memory, or one of an artifact's."""
