"""Tables of text (csv) from a plain file, a compressed one or an archive, row by row with line numbers.

Cells are separated by commas, semicolons, tabs or bars, as the header is; rows without any text are passed over.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fer_cli.core.errors import FerError
from fer_cli.datasets.table_bytes import DAMAGE, unpacked

MAX_LINE: Final = 1 << 16
"""Characters in one line: five times what 48x48 pixels need, and small enough that no file can fill the memory."""
MAX_BYTES: Final = 1 << 30
"""Bytes of a table after decompression, three times the largest table known here."""
MAX_LINES: Final = 10_000_000
"""Lines of a table, blank ones too: ten times AffectNet's."""
SEPARATORS: Final = (",", ";", "\t", "|")
"""What may separate the cells of a table."""
_BLANKS: Final = {separator: f" \t\r{separator}" for separator in SEPARATORS}


@dataclass(frozen=True, slots=True)
class Table:
    """An open table: where each wanted column stands, and an iterator over the rows that can be run through once.

    ``rows`` yields ``(line, cells)``: the line in the file counted from 1, and its cells without blanks around them.
    ``passed``: the other files of the archive that holds the table; all of them when the rows have ended.
    """

    path: Path
    columns: dict[str, int]
    header: tuple[str, ...]  # every column's name, in lower case
    rows: Iterator[tuple[int, list[str]]] = field(repr=False)
    passed: list[str]


def open_table(
    path: Path,
    required: Mapping[str, Sequence[str]],
    optional: Mapping[str, Sequence[str]] | None = None,
    members: Sequence[str] = (),
) -> Table:
    """Open a csv table and find its columns by the names in its header, whatever their order, case and blanks.

    Args:
        path: a csv file, plain or .gz, .xz, .bz2, or a .zip, .tar, .tar.gz, .tar.xz that holds one.
        required: our name of a column -> the names it may have in the header, in lower case.
        optional: the same for columns that may be absent.
        members: file names to look for in an archive, in lower case; else its only ``.csv`` is taken.

    Raises:
        FerError: the file cannot be read, is damaged or empty, or its header lacks or repeats a column. Iterating
            raises it too, with the line at fault.
    """
    passed: list[str] = []
    lines = _lines(path, members, passed)
    try:
        wanted = {alias for names in ({**required, **(optional or {})}).values() for alias in names}
        first, header, separator = _header(path, lines, wanted.__contains__)
        columns = _columns(path, header, first, required, optional or {})
    except FerError:
        lines.close()
        raise
    return Table(path, columns, header, _rows(path, lines, len(header), separator), passed)


def read_header(path: Path, is_known: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the names of a table's columns, in lower case.

    Args:
        path: as of :func:`open_table`.
        is_known: whether a name in lower case is one that a column may have: what separates such names separates cells.

    Raises:
        FerError: as :func:`open_table`.
    """
    lines = _lines(path, (), [])
    with closing(lines):
        return _header(path, lines, is_known)[1]


def text_lines(path: Path) -> Generator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers, without line breaks; blank ones are passed over.

    Raises:
        FerError: it cannot be read, or a line is not UTF-8 text of a sane length.
    """
    for number, text in _lines(path, (), []):
        if text.strip():
            yield number, text.rstrip("\r")


def _header(
    path: Path, lines: Iterator[tuple[int, str]], is_known: Callable[[str], bool]
) -> tuple[tuple[int, str], tuple[str, ...], str]:
    """Return the header's number and text, its names in lower case, and what separates cells."""
    first = next((line for line in lines if line[1].strip() and not _names_separator(line[1])), None)
    if first is None:
        raise FerError("the file is empty", hint="give a csv file with a header line", path=path)
    separator = _separator(path, *first, is_known)
    return first, tuple(name.lower() for name in _cells(path, *first, separator)), separator


def _names_separator(text: str) -> bool:
    """Tell whether a line is ``sep=;``, as spreadsheets write it above the header."""
    return text.strip().lower() in {f"sep={separator.strip()}" for separator in SEPARATORS}


def _separator(path: Path, number: int, text: str, is_known: Callable[[str], bool]) -> str:
    """Return what separates the cells of a header: what finds most of the known columns, then what finds most cells.

    A bar that finds no more of them than another separator is a letter of a name.

    Raises:
        FerError: its quotes do not match, whatever separates its cells.
    """
    best, most, first_fault = "", (-1, False, -1), None
    for separator in SEPARATORS:
        try:
            cells = [cell.lower() for cell in _cells(path, number, text, separator)]
        except FerError as fault:
            first_fault = first_fault or fault
            continue
        separates = separator != "|" and len(cells) > 1
        if (found := (sum(map(is_known, {*cells})), separates, len(cells))) > most:
            best, most = separator, found
    if first_fault is not None and not best:
        raise first_fault
    return best


def _columns(
    path: Path,
    header: Sequence[str],
    first: tuple[int, str],
    required: Mapping[str, Sequence[str]],
    optional: Mapping[str, Sequence[str]],
) -> dict[str, int]:
    columns: dict[str, int] = {}
    wanted = {**required, **optional}
    for name, aliases in wanted.items():
        matches = [index for index, title in enumerate(header) if title in aliases]
        if len(matches) > 1:
            titles = " and ".join(repr(header[index]) for index in matches)
            what = f"the header has more than one {name} column: {titles}"
            raise FerError(what, hint="keep one", path=path, line=first[0])
        if matches:
            columns[name] = matches[0]
    if missing := [name for name in required if name not in columns]:
        raise FerError(
            f"the header has no column {required[missing[0]][0]!r}; it is {first[1][:80].strip()!r}",
            hint=f"a csv with the columns {', '.join(required[name][0] for name in required)} is expected",
            path=path,
            line=first[0],
        )
    return columns


def _rows(path: Path, lines: Generator[tuple[int, str]], width: int, separator: str) -> Iterator[tuple[int, list[str]]]:
    with closing(lines):
        empty: int | None = None  # the first row of separators alone, which spreadsheets leave at the end
        for number, text in lines:
            if not text.strip(_BLANKS[separator]):
                if separator in text:
                    empty = empty or number
                continue
            if empty is not None:
                raise FerError("the row is empty", hint="correct or remove it", path=path, line=empty)
            cells = _cells(path, number, text, separator)
            if len(cells) != width:
                raise FerError(
                    f"the row has {len(cells)} fields, the header has {width}",
                    hint="correct or remove the row",
                    path=path,
                    line=number,
                )
            yield number, cells


def _cells(path: Path, number: int, text: str, separator: str) -> list[str]:
    if '"' not in text:
        return [cell.strip() for cell in text.split(separator)]
    # The reader wants a separator right after a quote; it passes over blanks before one.
    blanks = " \r" if separator == "\t" else " \t\r"
    closed = re.sub(rf'"[{blanks}]+(?={re.escape(separator)}|$)', '"', text)
    fault: csv.Error | None = None
    for line in (text, closed):
        try:
            return [
                cell.strip()
                for cell in next(csv.reader([line], delimiter=separator, strict=True, skipinitialspace=True))
            ]
        except csv.Error as error:
            fault = fault or error
    raise FerError(f"the quotes do not match ({fault})", hint="correct or remove the row", path=path, line=number)


def _lines(path: Path, members: Sequence[str], passed: list[str]) -> Generator[tuple[int, str]]:
    """Yield every line with its number, decoded; any failure below becomes one FerError that names the line."""
    number = 0
    try:
        with closing(unpacked(path, members, passed)) as chunks:
            for raw in _split(path, _utf8(path, chunks)):
                number += 1
                yield number, _text(path, number, raw)
    except FerError:
        raise
    except EOFError:
        raise FerError(
            f"the file is truncated: its compressed data ends after line {number}",
            hint="copy or download it again",
            path=path,
            line=number + 1,
        ) from None
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise FerError(f"cannot be read: {error.strerror}", hint="check the file", path=path) from None
        raise FerError(
            f"the file is damaged or truncated after line {number} ({str(error) or type(error).__name__})",
            hint="copy or download it again",
            path=path,
            line=number + 1,
        ) from None


def _split(path: Path, chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest, total, number = b"", 0, 0
    for chunk in chunks:
        total += len(chunk)
        if total > MAX_BYTES:
            raise FerError(
                f"holds more than {MAX_BYTES >> 20:,} MiB of text",
                hint="no table of faces is that large: check the file",
                path=path,
                line=number + 1,
            )
        *whole, rest = (rest + chunk).split(b"\n")
        for raw in [*whole, rest]:
            if len(raw) > MAX_LINE:
                raise FerError(
                    f"the line is longer than {MAX_LINE:,} characters",
                    hint="check that the file is a csv table",
                    path=path,
                    line=number + 1,
                )
            number += 1
        if number > MAX_LINES:
            what = f"has more than {MAX_LINES:,} lines"
            raise FerError(what, hint="no table of faces does: check the file", path=path)
        number -= 1  # the rest is not a line yet
        yield from whole
    if rest:
        yield rest


def _utf8(path: Path, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield UTF-16 text with a byte order mark, as spreadsheets save it, in UTF-8, and anything else as it is."""
    first = b""
    while len(first) < 2 and (chunk := next(chunks, b"")):
        first += chunk
    whole = itertools.chain((first,), chunks)
    if not first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield from whole
        return
    decoder = codecs.getincrementaldecoder("utf-16")()
    try:
        for chunk in whole:
            yield decoder.decode(chunk).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise FerError(f"the text is no UTF-16 ({error})", hint="save the file as UTF-8", path=path) from None


def _text(path: Path, number: int, raw: bytes) -> str:
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
        if b"\r" in raw.rstrip(b"\r"):
            raise FerError("lines end with CR alone", hint="save it with LF or CR LF line ends", path=path, line=1)
    if b"\0" in raw:
        raise FerError("the line holds a NUL byte", hint="the file is not text: check it", path=path, line=number)
    try:
        return raw.decode()  # a carriage return at the end goes with the blanks around the last cell
    except UnicodeDecodeError as error:
        raise FerError(
            f"the line is not UTF-8: byte 0x{raw[error.start]:02x} at column {error.start + 1}",
            hint="save the file as UTF-8",
            path=path,
            line=number,
        ) from None
