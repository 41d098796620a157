"""CelebAMask-HQ (Lee et al. 2020): pictures of faces with a class a pixel, as a tar of ``images/`` and ``masks/``."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fer_cli.core.errors import FerError
from fer_cli.faces.regions import CELEBAMASK_ORDER, PARTS, part_of

_LAYOUT: Final = "give a tar of images/ID.jpg and masks/ID.png, a mask's pixels being CelebAMask-HQ's own class ids"
MAX_BYTES: Final = 32 << 20  # of one member: a 512 px picture takes a tenth of a megabyte
_TO_PARTS: Final = np.array([PARTS.index(part_of(name)) for name in CELEBAMASK_ORDER], dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Face:
    """One picture and its truth."""

    id: str
    image: NDArray[np.uint8]  # (H, W, 3)
    parts: NDArray[np.uint8]  # (H, W), indices into PARTS


def read_faces(source: Path, face_ids: Sequence[str] | None = None) -> Iterator[Face]:
    """Yield the faces of an archive in the order of their ids.

    Args:
        source: a tar with ``images/<id>.jpg`` and ``masks/<id>.png``; a mask's pixels are CelebAMask-HQ's
            own class ids.
        face_ids: ids to read; all of them where it is None.

    Raises:
        FerError: not such an archive, a picture without its mask, or a mask that is not one.
    """
    with _reading(source), tarfile.open(source) as archive:
        members = _members(archive, source)
        for face_id in sorted(members) if face_ids is None else face_ids:
            if face_id not in members:
                raise FerError(f"has no face {face_id}", hint="check that it is the archive of these ids", path=source)
            picture, mask = members[face_id]
            image = _decode(_content(archive, picture), picture.name, source, ("JPEG", "PNG")).convert("RGB")
            yield Face(face_id, np.asarray(image), _parts(_content(archive, mask), image.size, source, mask.name))


def ids_of(source: Path) -> list[str]:
    """Return the ids of an archive, sorted.

    Raises:
        FerError: as :func:`read_faces`.
    """
    with _reading(source), tarfile.open(source) as archive:
        return sorted(_members(archive, source))


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Turn what a damaged archive raises, wherever it is read, into one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise FerError("no such file", hint=_LAYOUT, path=source) from error
    except (OSError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FerError(f"not a tar archive that can be read ({reason})", hint=_LAYOUT, path=source) from error


Member = tarfile.TarInfo


def _members(archive: tarfile.TarFile, source: Path) -> dict[str, tuple[Member, Member]]:
    members: dict[str, dict[str, Member]] = {"images": {}, "masks": {}}
    for member in archive:
        path = Path(member.name)
        folder = path.parent.name
        if member.isfile() and folder in members and not path.name.startswith("."):
            if member.size > MAX_BYTES:
                raise FerError(
                    f"{member.name} takes {member.size:,} bytes", hint="that is not a face of 512 px", path=source
                )
            if path.stem in members[folder]:
                raise FerError(f"{member.name} is the second of its id", hint="keep one of them", path=source)
            members[folder][path.stem] = member
    alone = sorted(members["images"].keys() ^ members["masks"].keys())
    if alone or not members["images"]:
        what = f"{alone[0]} has an image or a mask, not both" if alone else "holds no images/ID.jpg with masks/ID.png"
        raise FerError(what, hint="give an archive with images/ and masks/ of the same ids", path=source)
    return {face_id: (member, members["masks"][face_id]) for face_id, member in members["images"].items()}


def _content(archive: tarfile.TarFile, member: Member) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, "a regular file"
    return file.read()


def _decode(data: bytes, name: str, source: Path, formats: tuple[str, ...]) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data), formats=formats)
        picture.load()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = f"no {' or '.join(formats)}" if unknown else str(error).splitlines()[0][:80]
        raise FerError(f"{name} is not an intact image ({reason})", hint="download it again", path=source) from error
    return picture


def _parts(data: bytes, size: tuple[int, int], source: Path, name: str) -> NDArray[np.uint8]:
    """Return the part of each pixel of a mask file."""
    classes = np.asarray(_decode(data, name, source, ("PNG",)))
    bits, colours = data[24:26]  # of PNG's header; Pillow stretches grey values of fewer than 8 bits to 0..255
    if classes.shape != size[::-1] or classes.dtype != np.uint8 or (colours == 0 and bits != 8):
        raise FerError(
            f"{name} is {classes.shape} of {bits}-bit values, its picture {size[::-1]}",
            hint="a mask is one byte a pixel, of its picture's size",
            path=source,
        )
    if classes.max() >= len(CELEBAMASK_ORDER):
        raise FerError(
            f"{name} holds class {classes.max()}, CelebAMask-HQ's last is {len(CELEBAMASK_ORDER) - 1}",
            hint="check that the masks use that data set's own class order",
            path=source,
        )
    parts: NDArray[np.uint8] = _TO_PARTS[classes]
    return parts
