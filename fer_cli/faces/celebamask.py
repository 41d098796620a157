"""CelebAMask-HQ (Lee et al. 2020): pictures of faces with a class a pixel, as a tar of ``images/`` and ``masks/``."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fer_cli.errors import FerError
from fer_cli.faces.regions import CELEBAMASK_ORDER, PARTS, part_of

MAX_BYTES: Final = 32 << 20  # of one member: a 512 px picture takes a tenth of a megabyte
_TO_PARTS: Final = np.array([PARTS.index(part_of(name)) for name in CELEBAMASK_ORDER], dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Face:
    """One picture and its truth."""

    id: str
    image: NDArray[np.uint8]  # (H, W, 3)
    parts: NDArray[np.uint8]  # (H, W), indices into PARTS


def read_faces(source: Path, wanted: Sequence[str] | None = None) -> Iterator[Face]:
    """Yield the faces of an archive in the order of their ids.

    Args:
        source: a tar with ``images/<id>.jpg`` and ``masks/<id>.png``; a mask's pixels are CelebAMask-HQ's
            own class ids.
        wanted: ids to read; all of them where it is None.

    Raises:
        FerError: not such an archive, a picture without its mask, or a mask that is not one.
    """
    try:
        archive = tarfile.open(source)  # noqa: SIM115 - closed below, with the generator
    except (OSError, tarfile.TarError) as error:
        raise FerError(f"not a tar archive ({error})", hint="give celebamask-800.tar", path=source) from error
    with archive:
        members = _members(archive, source)
        for face_id in sorted(members) if wanted is None else wanted:
            if face_id not in members:
                raise FerError(f"holds no face {face_id}", hint="is it the archive of these ids?", path=source)
            picture, mask = members[face_id]
            image = _decode(archive, picture, source, "RGB")
            classes = _decode(archive, mask, source, None)
            yield Face(face_id, image, _checked(classes, image, source, mask.name))


def ids_of(source: Path) -> list[str]:
    """Return the ids of an archive, sorted.

    Raises:
        FerError: as :func:`read_faces`.
    """
    try:
        with tarfile.open(source) as archive:
            return sorted(_members(archive, source))
    except (OSError, tarfile.TarError) as error:
        raise FerError(f"not a tar archive ({error})", hint="give celebamask-800.tar", path=source) from error


Member = tarfile.TarInfo


def _members(archive: tarfile.TarFile, source: Path) -> dict[str, tuple[Member, Member]]:
    found: dict[str, dict[str, Member]] = {"images": {}, "masks": {}}
    for member in archive:
        path = Path(member.name)
        folder = path.parent.name
        if member.isfile() and folder in found and not path.name.startswith("."):
            if member.size > MAX_BYTES:
                raise FerError(
                    f"{member.name} takes {member.size:,} bytes", hint="that is no face of 512 px", path=source
                )
            found[folder][path.stem] = member
    alone = sorted(found["images"].keys() ^ found["masks"].keys())
    if alone or not found["images"]:
        what = f"{alone[0]} has a picture or a mask, not both" if alone else "holds no images/ID.jpg with masks/ID.png"
        raise FerError(what, hint="give an archive with images/ and masks/ of the same ids", path=source)
    return {face_id: (member, found["masks"][face_id]) for face_id, member in found["images"].items()}


def _decode(archive: tarfile.TarFile, member: Member, source: Path, mode: str | None) -> NDArray[np.uint8]:
    file = archive.extractfile(member)
    assert file is not None, "a regular file"
    try:
        picture = Image.open(io.BytesIO(file.read()), formats=("JPEG", "PNG"))
        return np.asarray(picture.convert(mode) if mode else picture)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise FerError(f"{member.name} is not a sound picture ({error})", hint="fetch it again", path=source) from error


def _checked(classes: NDArray[np.uint8], image: NDArray[np.uint8], source: Path, name: str) -> NDArray[np.uint8]:
    if classes.shape != image.shape[:2] or classes.dtype != np.uint8:
        raise FerError(
            f"{name} is {classes.shape} of {classes.dtype}, its picture {image.shape}",
            hint="a mask is one byte a pixel, of its picture's size",
            path=source,
        )
    if classes.max() >= len(CELEBAMASK_ORDER):
        raise FerError(
            f"{name} holds class {classes.max()}, CelebAMask-HQ's last is {len(CELEBAMASK_ORDER) - 1}",
            hint="are the masks in that data set's own order?",
            path=source,
        )
    return _TO_PARTS[classes]
