"""Tables that unfold to far more than their file are refused while they are read; honest ones pass."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_cli.core.errors import FerError
from fer_cli.datasets import table_bytes, tables
from fer_cli.datasets.tables import open_table
from fer_cli.evaluation import prediction_tables
from fer_cli.evaluation.external_predictions import read_predictions


def in_zip(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", data)
    return stream.getvalue()


def in_tar(data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zip": in_zip,
    "tar.gz": in_tar,
}


@pytest.mark.parametrize("name", list(PACKERS))
def test_what_unfolds_beyond_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / f"a.{name}"
    path.write_bytes(PACKERS[name](b"id,label\n" + b"one,happy\n" * 400_000))
    assert sum(1 for _ in open_table(path, {"id": ("id",)}).rows) == 400_000, "small ones may"
    monkeypatch.setattr(table_bytes, "_FREE_BYTES", 1 << 20)
    with pytest.raises(FerError, match="unpacks to more than"):
        list(open_table(path, {"id": ("id",)}).rows)


def test_more_lines_than_a_table_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,label\n" + b"\n" * 3_000_000 + b"one,happy\n")
    assert [cells for _, cells in open_table(path, {"id": ("id",)}).rows] == [["one", "happy"]]
    monkeypatch.setattr(tables, "MAX_LINES", 1_000_000)
    with pytest.raises(FerError, match="has more than 1,000,000 lines"):
        list(open_table(path, {"id": ("id",)}).rows)


def predictions(path: Path, ids: list[str], word: str = "happy") -> Path:
    once = pa.DictionaryArray.from_arrays(pa.array([0] * len(ids), pa.int32()), pa.array([word]))
    pq.write_table(pa.table({"id": ids, "predicted": once}), path)
    return path


def test_a_parquet_that_unfolds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = predictions(tmp_path / "a.parquet", [f"{number:06}" for number in range(5000)])
    assert read_predictions(path).predicted == ("happy",) * 5000, "a text that comes often is kept once"
    monkeypatch.setattr(prediction_tables, "MAX_BYTES", 50_000)
    with pytest.raises(FerError, match="the columns to read hold more than"):
        read_predictions(path)


def test_a_cell_that_is_a_book(tmp_path: Path) -> None:
    path = predictions(tmp_path / "a.parquet", [f"{number:06}" for number in range(5000)], "happy" * 20_000)
    with pytest.raises(FerError, match="a cell is longer than"):
        read_predictions(path)
