"""The file formats of payloads: ``.npy``, Parquet, safetensors, JSON. No pickle, in no direction."""

from __future__ import annotations

import io
import json
import os
import tokenize
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import DTypeLike, NDArray

from fer_cli.artifacts import atomic_io
from fer_cli.core.errors import FerError

if TYPE_CHECKING:
    import pyarrow as pa

_HEADER = 128  # bytes reserved for the .npy header: room for any shape of four dimensions


class ArrayWriter:
    """Writes an ``.npy`` file of known row shape in pieces, at any row and in any order, from several processes too.

    ``rows`` may be an upper bound; ``close`` takes the true number. The space is reserved at once: a full disk is an
    error at the start. Rows go through ``pwrite`` rather than a memory map, where a full disk would be a crash.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: DTypeLike, rows: int, *, reserve: bool) -> None:
        self.path = path
        self.row_shape = row_shape
        self.dtype = np.dtype(dtype)
        self.rows = rows
        self._row_bytes = int(np.prod(row_shape, dtype=np.int64)) * self.dtype.itemsize
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if reserve:
            try:
                with atomic_io.naming(path):
                    atomic_io.reserve(self._descriptor, _HEADER + rows * self._row_bytes)
            except OSError:
                os.close(self._descriptor)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def write(self, start: int, block: NDArray[Any]) -> None:
        """Write ``block`` (n, *row_shape) as rows ``start`` to ``start + n``."""
        assert block.dtype == self.dtype
        assert block.shape[1:] == self.row_shape
        data = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
        with atomic_io.naming(self.path):
            atomic_io.write_at(self._descriptor, data, self._at(start))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop`` as they are in the file."""
        data = os.pread(self._descriptor, (stop - start) * self._row_bytes, self._at(start))
        return np.frombuffer(data, self.dtype).reshape(-1, *self.row_shape)

    def sync(self) -> None:
        """Force the rows written so far to the disk."""
        with atomic_io.naming(self.path):
            os.fsync(self._descriptor)

    def finish(self, rows: int) -> None:
        """Write the header for ``rows`` rows and cut the file to its length."""
        header = io.BytesIO()
        shape = (rows, *self.row_shape)
        npy_format.write_array_header_1_0(
            header, {"descr": npy_format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        )
        text = header.getvalue()
        assert len(text) == _HEADER, f"header of {len(text)} bytes"
        with atomic_io.naming(self.path):
            atomic_io.write_at(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, self._at(rows))
        self.sync()

    def _at(self, row: int) -> int:
        return _HEADER + row * self._row_bytes


def read_array(path: Path) -> NDArray[Any]:
    """Return a read-only memory map of an ``.npy`` file; one that holds objects is refused."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, TypeError, OverflowError, tokenize.TokenError) as error:
        raise FerError(f"not a readable .npy file ({error})", hint="check it with 'fer verify'", path=path) from error
    return array


def table_bytes(columns: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return columns (sequences or Arrow arrays of equal length) as the bytes of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(dict(columns))
    if metadata:
        table = table.replace_schema_metadata(dict(metadata))
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a Parquet file as an Arrow table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:  # pq.read_table imports pyarrow.dataset first: 70 ms
            table = file.read()
            return table if columns is None else table.select(list(columns))
    except (pa.ArrowException, ValueError, OSError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # Arrow's own have none: they speak of the content
            raise
        raise FerError(
            f"not a readable Parquet table ({error})", hint="check it with 'fer verify'", path=path
        ) from error


def json_bytes(value: object) -> bytes:
    """Return a JSON value as the bytes of a file; NaN is refused, it is not JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """Return the value of a JSON file."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FerError(f"not valid JSON ({error})", hint="check it with 'fer verify'", path=path) from error


def tensors_bytes(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Return named arrays as the bytes of a safetensors file."""
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file by name."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(path.read_bytes()))
    except (SafetensorError, ValueError) as error:
        raise FerError(
            f"not a readable safetensors file ({error})", hint="check it with 'fer verify'", path=path
        ) from error
