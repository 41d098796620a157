"""What a prediction says of each face, as rows of a table that can be written in several forms."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from fer_cli.artifacts.atomic_io import replacing
from fer_cli.artifacts.manifest import in_utf8
from fer_cli.core.errors import UsageError

FORMATS: Final = ("csv", "jsonl", "parquet")
_GROUP: Final = 4096  # rows of a Parquet file's group


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """One face, or an image without a face, or one that could not be read.

    Args:
        file: where the image is from, as it was given.
        frame: number of a video's frame, from 0.
        time: of that frame, s.
        face: number of the face in its image, from 0, from left to right; None where there is none.
        box: left, top, right, bottom in the image's pixels; None where the whole image was taken.
        score: the detector's, of 1.
        expression: the most probable class; None without a face.
        probabilities: by class, calibrated.
        flags: what speaks against trusting it.
        error: why the image could not be read, and what to do.
    """

    file: str
    frame: int | None = None
    time: float | None = None
    face: int | None = None
    box: tuple[float, float, float, float] | None = None
    score: float | None = None
    expression: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    error: str | None = None

    def values(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the row's cells by column."""
        left, top, right, bottom = self.box or (None, None, None, None)
        return {
            "file": self.file,
            "frame": self.frame,
            "time": None if self.time is None else round(self.time, 3),
            "face": self.face,
            "left": _rounded(left, 1),
            "top": _rounded(top, 1),
            "right": _rounded(right, 1),
            "bottom": _rounded(bottom, 1),
            "score": _rounded(self.score, 4),
            "expression": self.expression,
            **{f"p_{name}": _rounded(self.probabilities.get(name), 6) for name in classes},
            "flags": ";".join(self.flags) or None,
            "error": self.error,
        }


class Stream(Protocol):
    """What rows are written to."""

    def write(self, text: str, /) -> object:
        """Write some text."""


class Writer(Protocol):
    """Takes rows one after the other."""

    def add(self, rows: Sequence[PredictionRow]) -> None:
        """Write some rows."""


class CsvWriter:
    """Comma-separated values with a header."""

    def __init__(self, stream: Stream, classes: Sequence[str]) -> None:
        self._classes = classes
        self._writer = csv.DictWriter(stream, list(PredictionRow("").values(classes)), lineterminator="\n")
        self._writer.writeheader()

    def add(self, rows: Sequence[PredictionRow]) -> None:
        """Write some rows."""
        self._writer.writerows(row.values(self._classes) for row in rows)


class JsonLinesWriter:
    """One JSON object a row."""

    def __init__(self, stream: Stream, classes: Sequence[str]) -> None:
        self._stream, self._classes = stream, classes

    def add(self, rows: Sequence[PredictionRow]) -> None:
        """Write some rows."""
        for row in rows:
            values = row.values(self._classes) | {"flags": list(row.flags)}
            self._stream.write(json.dumps(values, ensure_ascii=False) + "\n")


class _ParquetWriter:
    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        numbers = ("time", "left", "top", "right", "bottom", "score", *(f"p_{name}" for name in classes))
        types = {"frame": pa.int64(), "face": pa.int64(), **dict.fromkeys(numbers, pa.float64())}
        columns = PredictionRow("").values(classes)
        self._schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
        self._classes, self._file = classes, pq.ParquetWriter(path, self._schema)
        self._held: list[dict[str, Any]] = []

    def add(self, rows: Sequence[PredictionRow]) -> None:
        self._held += [in_utf8(row.values(self._classes)) for row in rows]
        if len(self._held) >= _GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._held:
            self._file.write_table(pa.Table.from_pylist(self._held, self._schema))
            self._held.clear()


def format_of(path: Path) -> str:
    """Return how a file is written, by its name.

    Raises:
        UsageError: its name says nothing.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UsageError(f"--output {path} has no known ending", hint=f"take .{', .'.join(FORMATS)}")
    return form


@contextmanager
def writing(path: Path, classes: Sequence[str]) -> Iterator[Writer]:
    """Yield a writer of a file that takes its place when all rows were written, and not before."""
    form = format_of(path)
    with replacing(path) as part:
        if form == "parquet":
            table = _ParquetWriter(part, classes)
            yield table
            table.close()
            return
        with part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            yield text_writer(form, stream, classes)


def text_writer(form: str, stream: Stream, classes: Sequence[str]) -> Writer:
    """Return a writer of ``csv`` or ``jsonl`` to an open stream."""
    return CsvWriter(stream, classes) if form == "csv" else JsonLinesWriter(stream, classes)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)
