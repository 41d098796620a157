"""FER2013's table with everything that can be wrong in it: one line that names file and line, whatever the bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_cli.core.errors import FerError
from fer_cli.core.labels import canonical
from fer_cli.datasets import table_bytes, tables
from fer_cli.datasets.fer2013 import Fer2013
from fer_cli.datasets.pixels import parse_images
from tests.kits.fer2013 import HEADER, IMAGES, LINES, TEXT, drain, fault, pixel_text, tar, write_lines, written, zipped


def _load(source: Path) -> object:
    return drain(Fer2013(source=source, allow_incomplete=True))


def _changed(line: int, old: str, new: str) -> Callable[[Path], Path]:
    """Return a writer of the table with ``old`` replaced once in a line (counted from 1)."""

    def write(folder: Path) -> Path:
        lines = list(LINES)
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new, 1)
        return write_lines(folder / "fer2013.csv", lines)

    return write


def _with(data: bytes, name: str = "fer2013.csv") -> Callable[[Path], Path]:
    return lambda folder: written(folder / name, data)


FOURTH = pixel_text(IMAGES[2])  # line 4
SHORT = " ".join(FOURTH.split()[: 47 * 48])
NOISE = np.random.default_rng(0).bytes(3000)
BOTH = {"fer2013.csv": TEXT, "other/icml_face_data.csv": TEXT}
BAD: dict[str, tuple[Callable[[Path], Path], int | None, Sequence[str]]] = {
    "unknown id": (_changed(4, "3,", "7,"), 4, ["unknown emotion id '7'"]),
    "id with a sign": (_changed(4, "3,", "+3,"), 4, ["unknown emotion id '+3'"]),
    "id in another script": (_changed(4, "3,", "٣,"), 4, ["unknown emotion id '٣'"]),
    "47x48": (_changed(4, FOURTH, SHORT), 4, ["the row has 2,256 pixels, 48x48 are 2,304"]),
    "one pixel more": (_changed(4, FOURTH, FOURTH + " 7"), 4, ["the row has 2,305 pixels"]),
    "no pixels": (_changed(4, FOURTH, ""), 4, ["the row has 0 pixels"]),
    "256": (_changed(4, FOURTH, "256 " + FOURTH.split(" ", 1)[1]), 4, ["pixel 1 is '256', not a whole number"]),
    "999": (_changed(4, FOURTH, "999 " + FOURTH.split(" ", 1)[1]), 4, ["pixel 1 is '999', not a whole number"]),
    "1000": (_changed(4, FOURTH, "1000 " + FOURTH.split(" ", 1)[1]), 4, ["pixel 1 is '1000'"]),
    "negative": (_changed(4, FOURTH, FOURTH.rsplit(" ", 1)[0] + " -1"), 4, ["pixel 2304 is '-1'"]),
    "fraction": (_changed(4, FOURTH, "1.5 " + FOURTH.split(" ", 1)[1]), 4, ["pixel 1 is '1.5'"]),
    "not a number": (_changed(4, FOURTH, "x " + FOURTH.split(" ", 1)[1]), 4, ["pixel 1 is 'x'"]),
    "digits of another script": (_changed(4, FOURTH, "٣ " + FOURTH.split(" ", 1)[1]), 4, ["pixel 1 is '٣'"]),
    "tab": (_changed(4, FOURTH, FOURTH.replace(" ", "\t", 1)), 4, ["pixel 1 is "]),
    "unknown usage": (_changed(4, "Training", "Trainning"), 4, ["unknown Usage 'Trainning'", "PublicTest"]),
    "no usage": (_changed(4, "Training", ""), 4, ["unknown Usage ''"]),
    "a field too many": (_changed(4, "Training", "Training,1"), 4, ["4 fields, the header has 3"]),
    "a field too few": (_changed(4, ",Training", ""), 4, ["2 fields, the header has 3"]),
    "open quote": (_changed(4, "3,", '3,"'), 4, ["quotes do not match"]),
    "missing column": (_changed(1, ",Usage", ""), 1, ["no column 'usage'", "emotion,pixels"]),
    "no header": (_with(TEXT.split(b"\n", 1)[1]), 1, ["no column 'emotion'"]),
    "duplicate column": (_changed(1, "pixels", "pixels,Pixels"), 1, ["more than one pixels column"]),
    "empty": (_with(b""), None, ["the file is empty"]),
    "header only": (_with(HEADER.encode() + b"\r\n"), 1, ["a header and no rows"]),
    "latin-1": (lambda d: written(d / "a.csv", TEXT.replace(b"PublicTest", b"Pub\xe9", 1)), 7, ["0xe9"]),
    "nul": (lambda d: written(d / "a.csv", TEXT.replace(b"PublicTest", b"Public\0Test", 1)), 7, ["NUL byte"]),
    "half a UTF-16": (_with("emotion,pixels,Usage\n".encode("utf-16")[:-1]), None, ["UTF-16"]),
    "long line": (_with(HEADER.encode() + b"\n0," + b"1 " * 40_000 + b",Training\n"), 2, ["longer than 65,536"]),
    "bomb of one line": (_with(gzip.compress(b"1" * 5_000_000)), 1, ["longer than 65,536"]),
    "truncated xz": (_with(lzma.compress(TEXT)[:-20_000]), 0, ["truncated", "download it again"]),
    "truncated gz": (_with(gzip.compress(TEXT)[:-20_000]), 0, ["truncated", "download it again"]),
    "truncated bz2": (_with(bz2.compress(TEXT)[:-9]), 0, ["truncated"]),
    "damaged xz": (_with(lzma.compress(TEXT)[:9000] + NOISE + lzma.compress(TEXT)[12_000:]), 0, ["damaged"]),
    "damaged gz": (_with(gzip.compress(TEXT)[:9000] + NOISE + gzip.compress(TEXT)[12_000:]), 0, ["damaged"]),
    "damaged gz, its sum": (_with(gzip.compress(TEXT)[:-8] + b"abcdefgh"), 0, ["damaged", "CRC"]),
    "rubbish after xz": (_with(lzma.compress(TEXT) + b"rubbish" * 9), 0, ["damaged"]),
    "truncated zip": (lambda d: _cut(zipped(d / "a.zip", {"a.csv": TEXT})), 0, ["damaged or truncated"]),
    "truncated tar.gz": (lambda d: _cut(tar(d / "a.tgz", {"fer2013.csv": TEXT}, "w:gz")), 0, ["truncated"]),
    "truncated tar": (lambda d: _cut(tar(d / "a.tar", {"fer2013.csv": TEXT}, "w")), 0, ["truncated"]),
    "zip with two tables": (lambda d: zipped(d / "a.zip", BOTH), None, ["'fer2013.csv' and 'other/icml_face"]),
    "zip with two others": (
        lambda d: zipped(d / "a.zip", {"a.csv": TEXT, "b.csv": TEXT}),
        None,
        ["'a.csv' and 'b.csv'"],
    ),
    "zip without a table": (lambda d: zipped(d / "a.zip", {"a.txt": TEXT}), None, ["no fer2013.csv or icml_face_data"]),
    "tar with two tables": (lambda d: tar(d / "a.tar.gz", BOTH, "w:gz"), None, ["archive holds 'fer2013.csv' and "]),
    "tar without a table": (lambda d: tar(d / "a.tar", {"a.csv": TEXT}, "w"), None, ["no fer2013.csv or icml"]),
    "tar with a link": (lambda d: tar_link(d / "a.tar"), None, ["is not a regular file"]),
    "pickle": (_with(b"\x80\x04cos\nsystem\n(S'true'\ntR."), 1, ["not UTF-8"]),
    "web page": (_with(b"<!DOCTYPE html>\n<html>\n", "fer2013.csv"), 1, ["no column 'emotion'", "<!DOCTYPE html>"]),
}


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-20_000])
    return path


def tar_link(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("fer2013.csv")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    return path


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    """A line of 0 stands for any line: where a stream breaks off depends on the compressor."""
    write, line, words = BAD[case]
    path = write(tmp_path)
    fault(lambda: _load(path), *words, at=f"{path}: " if line is None else f"{path}:{line}: " if line else f"{path}:")


def test_the_first_fault_in_the_file_is_told(tmp_path: Path) -> None:
    lines = list(LINES)
    lines[5] = "9" + lines[5][1:]
    lines[2] = lines[2].replace(" ", " 256 ", 1)
    path = write_lines(tmp_path / "a.csv", lines)
    fault(lambda: _load(path), "'256'", at=f"{path}:3: ")


def test_a_table_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_BYTES", 1 << 16)
    path = written(tmp_path / "a.csv.xz", lzma.compress(TEXT))
    fault(lambda: _load(path), "holds more than 0 MiB of text", at=f"{path}:")


def test_an_xz_that_asks_for_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_bytes, "MAX_XZ_MEMORY", 1 << 20)
    path = written(tmp_path / "a.csv.xz", lzma.compress(TEXT, preset=6))
    fault(lambda: _load(path), "Memory usage limit", at=f"{path}:1: ")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("0123456789 ", max_size=40) | st.text("0159 -.\t٣", max_size=12), min_size=1, max_size=4))
def test_pixels_parse_as_a_plain_reading_does(texts: list[str]) -> None:
    """Against the definition: split at blanks, each token one to three digits and at most 255, four of them."""

    def plain(text: str) -> list[int] | None:
        tokens = [token for token in text.split(" ") if token]
        good = all(set(token) <= set("0123456789") and len(token) < 4 and int(token) < 256 for token in tokens)
        return [int(token) for token in tokens] if good and len(tokens) == 4 else None

    expected = [plain(text) for text in texts]
    first = next((index for index, row in enumerate(expected) if row is None), None)
    if first is None:
        parsed = parse_images(Path("a.csv"), texts, range(len(texts)), side=2)
        assert parsed.reshape(-1, 4).tolist() == expected
    else:
        fault(lambda: parse_images(Path("a.csv"), texts, range(2, 2 + len(texts)), side=2), at=f"a.csv:{first + 2}: ")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 255), min_size=4, max_size=4), min_size=1, max_size=80), st.integers(1, 3))
def test_well_formed_pixels_parse_exactly(rows: list[list[int]], blanks: int) -> None:
    texts = [(" " * blanks).join(map(str, row)) for row in rows]
    assert parse_images(Path("a.csv"), texts, range(len(rows)), side=2).reshape(-1, 4).tolist() == rows


CHUNKS = st.sampled_from(
    [b"", b"\n", b"\r", b",", b'"', b" ", b"\0", b"\xff", b"\xef\xbb\xbf", b"256", b"-1", b"PublicTest"]
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, len(TEXT)), st.integers(0, 40), CHUNKS), min_size=1, max_size=4),
    st.integers(0, 4),
)
def test_any_mutation_is_read_or_refused(tmp_path: Path, edits: list[tuple[int, int, bytes]], packer: int) -> None:
    text = TEXT
    for at, length, new in edits:
        text = text[:at] + new + text[at + length :]
    pack: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, lzma.compress, bz2.compress, _zip_bytes]
    path = written(tmp_path / "fer2013.csv", pack[packer](text))
    try:
        rows, images, _ = drain(Fer2013(source=path, allow_incomplete=True))
    except FerError as error:
        assert str(error).startswith(str(path))
        return
    assert images.shape == (len(rows), 48, 48)
    assert all(canonical(row.label) == row.label for row in rows)


def _zip_bytes(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("fer2013.csv", data)
    return buffer.getvalue()


ARCHIVES = [gzip.compress(TEXT), lzma.compress(TEXT), bz2.compress(TEXT), _zip_bytes(TEXT)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80), st.integers(0, 40_000), st.integers(0, 5))
def test_any_bytes_are_read_or_refused(tmp_path: Path, patch: bytes, at: int, kind: int) -> None:
    if kind == 5:
        data = tar(tmp_path / "a.tar", {"x.txt": b"?" * 700, "fer2013.csv": TEXT}, "w").read_bytes()
    else:
        data = [*ARCHIVES, b""][kind]
    for spot in (at, at % 1100, max(0, len(data) - at % 200)):  # anywhere, in the headers, in the table at the end
        path = written(tmp_path / "a", data[:spot] + patch + data[spot + len(patch) :])
        try:
            drain(Fer2013(source=path, allow_incomplete=True))
        except FerError as error:
            assert str(error).startswith(str(path))
