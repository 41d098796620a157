"""Parsing a data set in blocks that can be stopped, resumed, shared among processes and taken from earlier masks."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.atomic_io import write_file
from fer_cli.artifacts.journal import Journal
from fer_cli.artifacts.payload import ArrayWriter, read_array, read_table, table_bytes
from fer_cli.artifacts.store import Artifact
from fer_cli.faces.mask_codec import pack
from fer_cli.faces.masks import DOUBTFUL, MAPS, SCORES, SPANS
from fer_cli.faces.parsers import Parsed
from fer_cli.faces.quality import QualityThresholds, score

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 512
"""Pictures between two points from which interrupted parsing goes on; tests make it small."""

_MAP = "map"

ParseRows = Callable[[NDArray[np.int64]], Parsed]
"""Returns the regions of some rows of a data set."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a data set: their ids and the hashes of their pixels."""

    ids: NDArray[np.str_]
    pixels: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.ids)


class Known:
    """Region maps that earlier masks of the same parser and settings hold, by the hash of the picture's pixels."""

    def __init__(self, earlier: Sequence[Artifact]) -> None:
        self._sources = [
            (read_array(artifact.file(MAPS)), read_array(artifact.file(SPANS)), read_table(artifact.file(SCORES)))
            for artifact in earlier
        ]
        self._places: dict[str, tuple[int, int]] = {}
        for number, (_, _, table) in enumerate(self._sources):
            for row, pixels in enumerate(table["pixels"].to_pylist()):
                self._places.setdefault(pixels, (number, row))

    def __contains__(self, pixels: str) -> bool:
        return pixels in self._places

    def table(self, rows: Rows, chosen: NDArray[np.int64]) -> pa.Table:
        """Return the block's columns for rows whose pixels are known."""
        import pyarrow as pa

        maps, scores = [], []
        for row in chosen:
            number, row_there = self._places[str(rows.pixels[row])]
            blob, spans, table = self._sources[number]
            maps.append(blob[spans[row_there, 0] : spans[row_there, 1]].tobytes())
            scores.append(table.slice(row_there, 1))
        block = pa.concat_tables(scores)
        ids = pa.array(rows.ids[chosen].tolist(), pa.string())
        return block.set_column(block.schema.get_field_index("id"), "id", ids).append_column(
            _MAP, pa.array(maps, pa.binary())
        )


BLOCKS = "block-*.parquet"


def block_name(block: int) -> str:
    """Return the name of a block's file."""
    return f"block-{block:06}.parquet"


def sound_blocks(directory: Path) -> set[int]:
    """Return the blocks whose files hold the bytes that the journals name."""
    sound = set()
    for block, checksums in Journal.read(directory).items():
        path = directory / block_name(block)
        if path.is_file() and zlib.crc32(path.read_bytes()) == checksums.get("file"):
            sound.add(block)
    return sound


def parse_blocks(
    parse_rows: ParseRows,
    rows: Rows,
    blocks: Sequence[int],
    known: Known,
    directory: Path,
    journal: Journal,
    *,
    thresholds: QualityThresholds,
    batch: int,
    finished: Callable[[int], None],
) -> tuple[int, float]:
    """Write the maps and scores of the given blocks; return how many pictures were parsed, and in how many seconds.

    Args:
        parse_rows: returns the regions of some rows.
        rows: all of the data set.
        blocks: numbers of blocks of :data:`BLOCK` pictures.
        known: maps that need not be computed again.
        directory: where the blocks' files go.
        journal: where finished blocks are noted.
        thresholds: what a map must reach.
        batch: pictures at once.
        finished: told after each block how many pictures it had; may raise to stop the work there.
    """
    begun, parsed = time.perf_counter(), 0
    with ThreadPoolExecutor(1) as background:
        saving = None
        for block in blocks:
            block_rows = np.arange(block * BLOCK, min(len(rows), (block + 1) * BLOCK))
            reused = np.array([str(rows.pixels[row]) in known for row in block_rows])
            fresh = block_rows[~reused]
            parsed += len(fresh)
            parts = [parse_rows(fresh[start : start + batch]) for start in range(0, len(fresh), batch)]
            # Scores are computed and written while the next block is parsed; errors come out at that block's end.
            if saving is not None:
                finished(saving.result())
            saving = background.submit(
                _save, block, rows, fresh, block_rows[reused], parts, known, directory, journal, thresholds
            )
        if saving is not None:
            finished(saving.result())
    return parsed, time.perf_counter() - begun


def _save(
    block: int,
    rows: Rows,
    fresh: NDArray[np.int64],
    old: NDArray[np.int64],
    parts: Sequence[Parsed],
    known: Known,
    directory: Path,
    journal: Journal,
    thresholds: QualityThresholds,
) -> int:
    import pyarrow as pa

    tables = []
    if len(fresh):
        maps = np.concatenate([part.maps for part in parts])
        agreement = np.concatenate([part.agreement for part in parts])
        confidence = np.concatenate([part.confidence for part in parts])
        columns = {
            "id": pa.array(rows.ids[fresh].tolist(), pa.string()),
            "pixels": pa.array(rows.pixels[fresh].tolist(), pa.string()),
            **score(maps, agreement, confidence, thresholds).columns(),
            _MAP: pa.array(pack(maps), pa.binary()),
        }
        tables.append(pa.table(columns))
    if len(old):
        tables.append(known.table(rows, old))
    order = np.argsort(np.concatenate([fresh, old]), kind="stable")
    data = _bytes(pa.concat_tables(tables).take(pa.array(order)))
    write_file(directory / block_name(block), data)
    journal.note(block, {"file": zlib.crc32(data)})
    return len(fresh) + len(old)


def assemble(directory: Path, blocks: Iterable[int]) -> pa.Table:
    """Put finished blocks together into the files of a masks artifact, and return the table of scores.

    Equal maps are kept once.
    """
    import pyarrow as pa

    numbers = list(blocks)
    tables = [read_table(directory / block_name(block)) for block in numbers]
    whole = pa.concat_tables(tables)
    span_of: dict[bytes, tuple[int, int]] = {}
    spans = np.empty((len(whole), 2), np.int64)
    end = 0
    for row, packed in enumerate(whole[_MAP].to_pylist()):
        if packed not in span_of:
            span_of[packed] = (end, end + len(packed))
            end += len(packed)
        spans[row] = span_of[packed]
    blob = np.frombuffer(b"".join(span_of), np.uint8)
    for name, array in ((MAPS, blob), (SPANS, spans)):
        with ArrayWriter(directory / name, array.shape[1:], array.dtype, len(array), reserve=True) as writer:
            writer.write(0, array)
            writer.finish(len(array))
    scores = whole.drop_columns([_MAP])
    write_file(directory / SCORES, _bytes(scores))
    doubtful = scores.filter(pa.compute.greater(pa.compute.list_value_length(scores["reasons"]), 0))
    write_file(directory / DOUBTFUL, _bytes(doubtful.sort_by([("doubt", "descending"), ("id", "ascending")])))
    return scores


def _bytes(table: pa.Table) -> bytes:
    return table_bytes({name: table[name] for name in table.column_names})
