"""Writes sources that look like FER2013 and FER+, whole and broken, for the tests of the loaders."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.datasets.records import Loader, LoadReport, Row

HEADER = "emotion,pixels,Usage"
VOTES_HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"  # the official one
)


def random_images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return (count, 48, 48) noise that holds every value from 0 to 255."""
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 48), dtype=np.uint8)


def pixel_text(image: NDArray[np.uint8]) -> str:
    return " ".join(map(str, image.ravel().tolist()))


def table_lines(parts: Sequence[str], emotions: Sequence[int], images: NDArray[np.uint8]) -> list[str]:
    """Return the lines of fer2013.csv, header first."""
    rows = zip(emotions, images, parts, strict=True)
    return [HEADER, *(f"{emotion},{pixel_text(image)},{part}" for emotion, image, part in rows)]


def votes_lines(parts: Sequence[str], votes: Sequence[Sequence[int]]) -> list[str]:
    """Return the lines of fer2013new.csv; a row that is all NF has no image name, as in the official file."""
    lines = [VOTES_HEADER]
    for index, (part, counts) in enumerate(zip(parts, votes, strict=True)):
        name = "" if counts[9] == 10 else f"fer{index:07d}.png"
        lines.append(",".join([part, name, *map(str, counts)]))
    return lines


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.write_bytes(("\n".join(lines) + "\n").encode())
    return path


def drain(loader: Loader) -> tuple[list[Row], NDArray[np.uint8], LoadReport]:
    """Read all blocks and then the report, as the prepare stage does."""
    rows: list[Row] = []
    images = []
    for block in loader.blocks():
        assert len(block.rows) == len(block.images) > 0
        assert block.images.dtype == np.uint8
        rows += block.rows
        images.append(block.images)
    return rows, np.concatenate(images) if images else np.empty((0, 48, 48), dtype=np.uint8), loader.report()


def fault(action: Callable[[], object], *words: str, at: str = "") -> FerError:
    """Run ``action`` and return its FerError, which is one line that begins with ``at`` and holds all ``words``."""
    with pytest.raises(FerError) as caught:
        action()
    message = str(caught.value)
    assert message.isprintable(), message
    assert message.startswith(at), message
    assert caught.value.hint, f"no hint: {message}"
    for word in words:
        assert word in message, f"{word!r} not in {message!r}"
    return caught.value


def tar(path: Path, members: dict[str, bytes], mode: str) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


PARTS = ["Training"] * 5 + ["PublicTest"] * 2 + ["PrivateTest"] * 2
IDS = [0, 6, 3, 3, 1, 2, 4, 5, 3]
IMAGES = random_images(len(PARTS))
LINES = table_lines(PARTS, IDS, IMAGES)
TEXT = ("\n".join(LINES) + "\n").encode()
"""Nine rows as a whole file: all seven expressions, all three parts."""
