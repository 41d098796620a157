"""Parsing a data set in blocks that can be stopped, resumed, shared among processes and taken from earlier masks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.atomic_io import write_file
from fer_cli.artifacts.journal import process_blocks
from fer_cli.artifacts.payload import ArrayWriter, read_table, table_bytes
from fer_cli.core.distributed import Ranks
from fer_cli.faces.mask_codec import pack
from fer_cli.faces.masks import DOUBTFUL, MAPS, SCORES, SPANS
from fer_cli.faces.parsers import Parsed, ParseRows
from fer_cli.faces.quality import QualityThresholds, score

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 512
"""Images between two points from which interrupted parsing resumes; tests make it small."""

_MAP = "map"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a data set: their ids and the hashes of their pixels."""

    ids: NDArray[np.str_]
    pixels: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.ids)


class Known:
    """Region maps that earlier masks of the same parser and settings hold, by the hash of the image's pixels."""

    def __init__(self, earlier: Sequence[Artifact]) -> None:
        self.references = [masks.reference for masks in earlier]
        self._sources = [
            (masks.array(MAPS), np.asarray(masks.array(SPANS)), read_table(masks.file(SCORES))) for masks in earlier
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


def block_name(block: int) -> str:
    """Return the name of a block's file."""
    return f"block-{block:06}.parquet"


def parse_dataset(
    parse: ParseRows,
    rows: Rows,
    known: Known,
    directory: Path,
    *,
    thresholds: QualityThresholds,
    batch: int,
    ranks: Ranks,
    run: str,
    title: str,
) -> float | None:
    """Write the maps and scores of a data set in blocks; return the images a second that this process parsed.

    Args:
        parse: returns the regions of some rows.
        rows: all of the data set.
        known: maps that need not be computed again.
        directory: where the blocks' files go, and what an earlier call left of them is.
        thresholds: what a map must reach.
        batch: images at once.
        ranks: the processes that share the work.
        run: what the masks are of: what another run left is not taken up.
        title: of the progress.

    Raises:
        PreemptedError: a signal came; what was finished is kept.
    """
    from fer_cli.models.batches import batches

    parsed = 0

    def compute(block: NDArray[np.int64]) -> _Block:
        nonlocal parsed
        is_known = np.array([str(rows.pixels[row]) in known for row in block])
        fresh = block[~is_known]
        parsed += len(fresh)
        return _Block(fresh, block[is_known], [part for _, part in batches(parse, fresh, batch)])

    def is_sound(block: int, checksums: Mapping[str, int]) -> bool:
        path = directory / block_name(block)
        return path.is_file() and zlib.crc32(path.read_bytes()) == checksums.get("file")

    _, seconds = process_blocks(
        directory,
        len(rows),
        BLOCK,
        run=run,
        title=title,
        ranks=ranks,
        compute=compute,
        save=lambda block, result: _save(block, result, rows, known, directory, thresholds),
        is_sound=is_sound,
    )
    return round(parsed / seconds, 1) if parsed else None


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows that were parsed, those whose maps are known, and the regions of the former by batch."""

    fresh: NDArray[np.int64]
    known: NDArray[np.int64]
    parts: list[Parsed]


def _save(
    number: int, block: _Block, rows: Rows, known: Known, directory: Path, thresholds: QualityThresholds
) -> dict[str, int]:
    import pyarrow as pa

    tables = []
    if len(block.fresh):
        maps = np.concatenate([part.maps for part in block.parts])
        agreement = np.concatenate([part.agreement for part in block.parts])
        confidence = np.concatenate([part.confidence for part in block.parts])
        columns = {
            "id": pa.array(rows.ids[block.fresh].tolist(), pa.string()),
            "pixels": pa.array(rows.pixels[block.fresh].tolist(), pa.string()),
            **score(maps, agreement, confidence, thresholds).columns(),
            _MAP: pa.array(pack(maps), pa.binary()),
        }
        tables.append(pa.table(columns))
    if len(block.known):
        tables.append(known.table(rows, block.known))
    order = np.argsort(np.concatenate([block.fresh, block.known]), kind="stable")
    data = _bytes(pa.concat_tables(tables).take(pa.array(order)))
    write_file(directory / block_name(number), data)
    return {"file": zlib.crc32(data)}


def assemble(directory: Path, rows: int) -> pa.Table:
    """Put the blocks of ``rows`` rows together into the files of a masks artifact, and return the table of scores.

    Equal maps are kept once.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    tables = [read_table(directory / block_name(block)) for block in range(math.ceil(rows / BLOCK))]
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
    doubtful = scores.filter(pc.greater(pc.list_value_length(scores["reasons"]), 0))
    write_file(directory / DOUBTFUL, _bytes(doubtful.sort_by([("doubt", "descending"), ("id", "ascending")])))
    return scores


def _bytes(table: pa.Table) -> bytes:
    return table_bytes({name: table[name] for name in table.column_names})
