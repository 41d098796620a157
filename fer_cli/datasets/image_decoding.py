"""Opening a picture under limits: its pixels, its bytes, how finely it is cut up, and how often it is drawn over.

Pillow's parsers walk through a file piece by piece in Python, and its decoders draw a picture as often as the file
says. A file made for it, of a few kilobytes, could keep them busy for hours.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from PIL import Image

from fer_cli.core.errors import FerError
from fer_cli.core.user_files import open_file

MAX_PIXELS: Final = 64_000_000
"""Pixels of one picture: above any camera's face crop, and 192 MB once decoded."""
MAX_BYTES: Final = 512_000_000
"""Bytes of its file: above MAX_PIXELS of 8 bits in four channels, uncompressed, with another picture behind them."""
MAX_DRAWN: Final = 16 * MAX_PIXELS
"""Pixels that the scans of a JPEG draw together; a progressive one has about ten scans."""

FORMATS: Final = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""The formats that are read, as Pillow names them."""
_READS: Final = 20_000
_BYTES_A_READ: Final = 64  # on average, beyond the first reads; the blocks of a GIF have 255
_START_OF_SCAN: Final = b"\xff\xda"
_MARKER: Final = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)  # all but stuffed bytes and restarts
_END_OF_IMAGE: Final = 0xD9
_WEBP_HEAD: Final = 30


class _Counted(io.BufferedReader):
    """A file that may be read in so many pieces, in relation to its length."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        super().__init__(io.FileIO(file.fileno(), closefd=False))
        self._left = _READS + length // _BYTES_A_READ

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes.

        Raises:
            ValueError: the file was read in too many pieces.
        """
        self._left -= 1
        if self._left < 0:
            raise ValueError("it consists of too many small pieces")
        return super().read(size)


@contextmanager
def opened(path: Path, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """Open a picture of one of the formats; its pixels are not decoded yet.

    Raises:
        FerError: it is a pipe, is empty, or has more bytes or pixels than are read.
        Exception: whatever Pillow raises over a file that it cannot read.
    """
    with open_file(path) as file:
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        if length == 0:
            raise FerError("the file is empty (0 bytes)", hint="copy it again or remove it", path=path)
        if length > MAX_BYTES:
            raise FerError(f"the file has more than {MAX_BYTES // 10**6} million bytes", hint="resize it", path=path)
        if _webp_pixels(file.read(_WEBP_HEAD)) > MAX_PIXELS:  # Pillow takes memory for them as it opens the file
            raise too_large(path)
        file.seek(0)
        with _Counted(file, length) as counted, Image.open(counted, formats=formats) as image:
            yield image


def check_scans(image: Image.Image, path: Path) -> None:
    """Refuse a JPEG whose scans draw more than :data:`MAX_DRAWN` pixels in all; the file is read once for it.

    Raises:
        FerError: it has too many.
    """
    if image.format not in {"JPEG", "MPO"}:
        return
    most = MAX_DRAWN // (image.width * image.height)
    with open_file(path) as file:
        data = file.read(MAX_BYTES)
    if data.count(_START_OF_SCAN) > most and (scans := _scans(data)) > most:  # those in a thumbnail are none of it
        raise FerError(f"the JPEG has {scans:,} scans", hint="save it again as PNG", path=path)


def too_large(path: Path) -> FerError:
    """Return the fault of a picture with too many pixels."""
    return FerError(f"the image has more than {MAX_PIXELS // 10**6} million pixels", hint="resize it", path=path)


def has_next_page(image: Image.Image) -> bool:
    """Tell whether a TIFF has a second page, without a walk through all of them."""
    pages: object = getattr(image, "tag_v2", None)
    return getattr(pages, "next", 0) != 0


def _scans(data: bytes) -> int:
    """Return how many scans the first picture of a JPEG file has."""
    scans, position = 0, 2
    while (marker := _MARKER.search(data, position)) is not None and marker[1][0] != _END_OF_IMAGE:
        scans += marker[1] == _START_OF_SCAN[1:]
        position = marker.end()
        if position + 2 > len(data):
            break
        position += max(2, struct.unpack_from(">H", data, position)[0])
    return scans


def _webp_pixels(head: bytes) -> int:
    """Return the pixels that the header of a WebP file says; 0 where it is none."""
    if len(head) < _WEBP_HEAD or not head.startswith(b"RIFF") or head[8:12] != b"WEBP":
        return 0
    match head[12:16]:
        case b"VP8X":
            return (1 + int.from_bytes(head[24:27], "little")) * (1 + int.from_bytes(head[27:30], "little"))
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (1 + (bits & 0x3FFF)) * (1 + (bits >> 14 & 0x3FFF))
        case _:
            width, height = struct.unpack_from("<HH", head, 26)
            return int(width & 0x3FFF) * int(height & 0x3FFF)
