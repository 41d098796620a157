"""Rows of somebody's predictions: a csv, a Parquet file or JSON, read under limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from fer_cli.core.errors import FerError
from fer_cli.core.user_files import open_file
from fer_cli.datasets.tables import MAX_BYTES, MAX_LINE, open_table
from fer_cli.evaluation.prediction_columns import Columns, columns_of
from fer_cli.evaluation.prediction_json import looks_like_json, read_records

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH: Final = 4096  # rows at a time
MAX_ROWS: Final = 10_000_000
"""Rows of a Parquet file; the largest dataset of faces here has 290,000."""
_PARQUET: Final = b"PAR1"
_HEAD: Final = 512  # bytes that tell what a file is

Rows = Iterator[tuple[int, Sequence[object]]]
"""Line and cells of each row."""


def open_rows(
    path: Path, answer: str | None, classes: Sequence[str] = ()
) -> tuple[Columns, Rows, Literal["line", "row"]]:
    """Open a file of predictions.

    Args:
        path: a csv (plain, compressed or in an archive), a Parquet file, JSON or JSON Lines.
        answer: the column of the answers, if its name is given.
        classes: of the data set, whose names columns may have.

    Returns:
        Its columns, its rows, and what the number of a row counts.

    Raises:
        FerError: it cannot be read, or its columns are at fault.
    """
    with open_file(path) as file:
        head = file.read(_HEAD)
    if head.startswith(_PARQUET):
        return *_parquet(path, answer, classes), "row"
    if looks_like_json(head):
        records = read_records(path)
        header = list(dict.fromkeys(name for _, record in records for name in record))
        return columns_of(path, header, answer, classes), _cells(records, header), "row"
    return *_csv(path, answer, classes), "line"


def _cells(records: Sequence[tuple[int, dict[str, object]]], header: Sequence[str]) -> Rows:
    return ((number, [record.get(name) for name in header]) for number, record in records)


def _csv(path: Path, answer: str | None, classes: Sequence[str] = ()) -> tuple[Columns, Rows]:
    table = open_table(path, {})
    return columns_of(path, table.header, answer, classes), iter(table.rows)


def _parquet(path: Path, answer: str | None, classes: Sequence[str] = ()) -> tuple[Columns, Rows]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        texts = [of.name for of in schema if pa.types.is_string(of.type) or pa.types.is_binary(of.type)]
        file = pq.ParquetFile(path, read_dictionary=texts)  # a text that comes often is kept once
        names, count = list(file.schema_arrow.names), int(file.metadata.num_rows)
        nested = {index for index, of in enumerate(file.schema_arrow.types) if pa.types.is_nested(of)}
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _unreadable(path, error) from error
    if count > MAX_ROWS:
        raise FerError(
            f"{count:,} rows", hint=f"no dataset has more than {MAX_ROWS:,} images: check the file", path=path
        )
    columns = columns_of(path, [name.strip().lower() for name in names], answer, classes)
    lists = sorted(nested & {*columns.truths, *columns.either, *columns.unknown, *columns.others})
    plain = [index for index in columns.wanted if index not in lists]
    wanted = plain + [index for index in lists if index in columns.wanted]
    places = {place: index for index, place in enumerate(wanted)}
    narrow = Columns(
        tuple(columns.header[place] for place in wanted),
        places[columns.id],
        None if columns.answer is None else places[columns.answer],
        {name: places[place] for name, place in columns.scores.items()},
        columns.declared,
        *(
            tuple(places[place] for place in of if place in places)
            for of in (
                [place for place in columns.truths if place not in lists],
                [place for place in columns.either if place not in lists],
                [place for place in columns.wanted if place in {*columns.unknown, *lists}],
                columns.aliases,
                [place for place in columns.others if place not in lists],
            )
        ),
    )
    chosen = {names[place] for place in plain}
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    try:
        said = sum(one.total_uncompressed_size for one in chunks if one.path_in_schema.partition(".")[0] in chosen)
    except ValueError as error:  # a name that is not UTF-8
        raise _unreadable(path, error) from error
    if said > MAX_BYTES:
        raise _too_much(path)
    return narrow, _parquet_rows(path, file, [names[place] for place in plain], len(wanted) - len(plain))


def _parquet_rows(path: Path, file: pa.parquet.ParquetFile, names: list[str], lists: int) -> Rows:
    """Yield the cells of the columns of these names, then a text for each column of lists, which is not read."""
    import pyarrow as pa

    line = total = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH, columns=names):
            columns = [_decoded(path, batch[name]) for name in names]
            total += sum(column.nbytes for column in columns)
            if total > MAX_BYTES:
                raise _too_much(path)
            for cells in zip(*(column.to_pylist() for column in columns), strict=True):
                line += 1
                yield line, (*cells, *["[several values]"] * lists)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise _unreadable(path, error) from error


def _decoded(path: Path, column: pa.Array) -> pa.Array:
    """Return a column with its texts in place of their numbers, once it is known that none of them is too long."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return column
    texts = column.dictionary
    is_text = pa.types.is_string(texts.type) or pa.types.is_binary(texts.type)
    if is_text and (pc.max(pc.binary_length(texts)).as_py() or 0) > MAX_LINE:
        raise FerError(f"a cell is longer than {MAX_LINE:,} bytes", hint="leave that column out", path=path)
    return column.dictionary_decode()


def _too_much(path: Path) -> FerError:
    what = f"the columns to read hold more than {MAX_BYTES >> 20:,} MiB"
    return FerError(what, hint="no table of predictions does: check the file", path=path)


def _unreadable(path: Path, error: Exception) -> FerError:
    reason = str(error).partition("\n")[0][:120]
    return FerError(f"not a readable Parquet table ({reason})", hint="write it again, or give a csv", path=path)
