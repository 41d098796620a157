"""What is looked at: photos, folders and lists of them, videos and cameras, one frame after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.errors import FerError, one_line
from fer_cli.core.progress import warn
from fer_cli.datasets.image_files import JUNK, SUFFIXES
from fer_cli.datasets.leftovers import TABLES
from fer_cli.datasets.table_columns import IMAGE_NAMES, box_columns, plain
from fer_cli.datasets.tables import open_table, read_header
from fer_cli.prediction.photos import read_photo
from fer_cli.prediction.video import read_video

PHOTOS: Final = SUFFIXES | {".heic", ".heif", ".avif", ".jp2", ".mpo"}
VIDEOS: Final = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ts", ".3gp"})
LISTS: Final = frozenset(TABLES)
CAMERA: Final = "camera"
_COLUMNS: Final = ("path", "file", "filename", "image", "img", "image_path", "filepath")


@dataclass(frozen=True, slots=True)
class Frame:
    """One image.

    Args:
        file: where it is from, as it was given.
        pixels: uint8 (H, W, 3); None where it could not be read.
        number: of a video's frame, from 0.
        time: of a video's frame, s.
        flags: what is to be said of it.
        error: why it could not be read, and what to do.
    """

    file: str
    pixels: NDArray[np.uint8] | None
    number: int | None = None
    time: float | None = None
    flags: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A photo, a video or a camera."""

    name: str  # as it was given
    path: Path
    kind: str  # photo, video or camera


@dataclass(frozen=True, slots=True)
class Sources:
    """What was found, and the files of folders that are neither photos nor videos."""

    found: tuple[Source, ...]
    left_out: tuple[str, ...]


def find_sources(given: Sequence[str]) -> Sources:
    """Return what is to be looked at.

    Args:
        given: photos, videos, folders (with all below them), csv lists with a column of paths, ``camera`` or
            ``camera:N``.

    Raises:
        FerError: there is no such file, a list has no column of paths, or nothing at all is found.
    """
    found: list[Source] = []
    left_out: list[str] = []
    for name in given:
        path = Path(name)
        if name == CAMERA or name.startswith(f"{CAMERA}:"):
            found.append(Source(name, _camera(name), "camera"))
        elif path.is_dir():
            for below in _below(path):
                kind = _kind(below)
                if kind is None:
                    left_out.append(str(below))
                else:
                    found.append(Source(str(below), below, kind))
        elif not path.exists():
            raise FerError("there is no such file or folder", hint="check the path", path=path)
        elif path.suffix.lower() in LISTS:
            found += _listed(path)
        else:
            found.append(Source(name, path, _kind(path) or "photo"))
    if not found:
        raise FerError(
            f"no photo or video in {', '.join(given)}", hint="give a photo, a video, a folder or a csv list of photos"
        )
    return Sources(tuple(found), tuple(left_out))


def frames(source: Source, every: float | None) -> Iterator[Frame]:
    """Yield the frames of a source; of a photo one. What cannot be read is a frame with an error.

    Args:
        source: what to look at.
        every: seconds between two frames of a video; all of them where it is None.
    """
    try:
        if source.kind == "photo":
            photo = read_photo(source.path)
            yield Frame(source.name, photo.pixels, flags=photo.flags)
            return
        for number, time, pixels in read_video(source.path, every, camera=source.kind == "camera"):
            yield Frame(source.name, pixels, number, time)
    except FerError as error:
        yield Frame(source.name, None, error=one_line(f"{error.what}; {error.hint}" if error.hint else error.what))


def _kind(path: Path) -> str | None:
    suffix = path.suffix.lower()
    return "photo" if suffix in PHOTOS else "video" if suffix in VIDEOS else None


def _below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder in order of their paths; hidden ones and links to folders are left out."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        yield from (Path(here) / name for name in sorted(files) if not _hidden(name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def _listed(path: Path) -> list[Source]:
    """Return the photos of a list in csv form; relative paths begin at the list's folder.

    Its boxes of faces are not read, which is said.
    """
    header = read_header(path, _names_image)
    column = next((name for usual in _COLUMNS for name in header if name == usual), None)
    column = column or next((name for name in header if _names_image(name)), None)
    if column is None:
        raise FerError(
            f"has no column of paths; it has {', '.join(header) or 'none'}",
            hint=f"name it {_COLUMNS[0]}",
            path=path,
            line=1,
        )
    unread = "are not read: faces are found in the whole image, or with --faces whole it is taken for one"
    try:
        _, sides = box_columns(path, header, {column})
        if sides:
            warn(f"{one_line(path.name)}: the boxes of faces ({', '.join(sorted(sides))}) {unread}")
    except FerError as error:
        warn(f"{one_line(path.name)}: the boxes of faces ({error.what}) {unread}")
    sources = []
    table = open_table(path, {"path": (column,)})
    for line, row in table.rows:
        name = row[table.columns["path"]]
        if not name:
            raise FerError("has no path", hint="give one, or remove the row", path=path, line=line)
        place = path.parent / name
        if "\\" in name and not place.exists():  # a path of Windows
            place = path.parent / name.replace("\\", "/")
        sources.append(Source(name, place, _kind(place) or "photo"))
    return sources


def _names_image(name: str) -> bool:
    return name in _COLUMNS or plain(name) in IMAGE_NAMES


def _camera(name: str) -> Path:
    number = name.partition(":")[2] or "0"
    if not number.isdecimal():
        raise FerError(f"{name!r} is no camera", hint="write camera, or camera:1 for the second")
    return Path(f"/dev/video{int(number)}")
