"""Pictures made to keep a decoder busy are refused in no time; honest ones of the same formats are read."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_cli.core.errors import FerError
from fer_cli.datasets.image_files import decode, probe

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


def encoded(form: str, pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def refused(path: Path, data: bytes, words: str) -> None:
    path.write_bytes(data)
    with pytest.raises(FerError, match=words):
        decode(path, grey=True)


def with_scans(data: bytes, scans: int) -> bytes:
    """Repeat the last scan of a JPEG."""
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * scans + data[-2:]


@pytest.mark.timeout(20)
def test_a_jpeg_of_thousands_of_scans(tmp_path: Path) -> None:
    large = np.zeros((4000, 4000, 3), dtype=np.uint8)
    refused(
        tmp_path / "a.jpg", with_scans(encoded("JPEG", large, progressive=True), 5000), r"the JPEG has [\d,]+ scans"
    )


def test_a_progressive_jpeg_and_one_with_a_thumbnail_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    expected = np.asarray(Image.open(io.BytesIO(encoded("JPEG", progressive=True))))
    path.write_bytes(encoded("JPEG", progressive=True))
    assert (decode(path, grey=False) == expected).all()
    large = np.zeros((7900, 8000), dtype=np.uint8)  # 16 scans of it are the most
    path.write_bytes(encoded("JPEG", large, comment=b"\xff\xda" * 500))
    assert decode(path, grey=True).shape == (7900, 8000)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("form", ["PPM", "JPEG"])
def test_endless_fill_bytes(tmp_path: Path, form: str) -> None:
    data = encoded(form)
    filled = data[:2] + {"PPM": b"\n", "JPEG": b"\xff"}[form] * 20_000_000 + data[2:]
    refused(tmp_path / "a", filled, "too many small pieces")
    with pytest.raises(FerError, match="too many small pieces"):
        probe(tmp_path / "a")


@pytest.mark.timeout(20)
def test_a_tiff_of_a_million_pages_is_not_walked_through(tmp_path: Path) -> None:
    data = encoded("TIFF")
    first = struct.unpack("<I", data[4:8])[0]
    end = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    base = len(data) + len(data) % 2
    chain = b"".join(struct.pack("<HI", 0, base + 6 * number + 6) for number in range(1_000_000))
    long = data[:end] + struct.pack("<I", base) + data[end + 4 :] + b"\0" * (base - len(data)) + chain
    refused(tmp_path / "a.tif", long, "several frames")
    (tmp_path / "b.tif").write_bytes(data)
    assert (decode(tmp_path / "b.tif", grey=False) == PIXELS).all()


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_says_its_size_before_memory_is_taken(tmp_path: Path, lossless: bool) -> None:
    data = bytearray(encoded("WEBP", lossless=lossless))
    (tmp_path / "a.webp").write_bytes(data)
    assert probe(tmp_path / "a.webp").width == 48
    if lossless:
        data[21:25] = ((int.from_bytes(data[21:25], "little") & 0xF0000000) | 0x0FFFFFFF).to_bytes(4, "little")
    else:
        data[26:30] = b"\xff\x3f\xff\x3f"
    refused(tmp_path / "a.webp", bytes(data), "more than 64 million pixels")
