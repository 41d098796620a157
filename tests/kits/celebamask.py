"""Archives of CelebAMask-HQ's layout, written from drawn faces, and by hand for what is wrong with them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray
from PIL import Image

from fer_cli.datasets.synth.faces import render_face
from fer_cli.datasets.synth.parameters import FaceParameters, sample_aus, sample_identity, sample_scene

Pixels = NDArray[Any]

# For each of labels.REGIONS an id of CelebAMask-HQ's own order, in the picture's left half and in its right half.
IDS: Final = np.array([[0, 18], [1, 1], [4, 7], [8, 15], [2, 2], [11, 12], [17, 16], [13, 13]], dtype=np.uint8)


def drawn_face(seed: int, size: int) -> tuple[Pixels, Pixels]:
    """Return a picture (size, size, 3) and the true region of each of its pixels."""
    rng = default_rng(seed)
    who, aus = sample_identity(rng), sample_aus(("happy", "anger", "surprise")[seed % 3], rng)
    return render_face(FaceParameters(who, aus, 1, sample_scene(rng)), size)


def as_celebamask(regions: Pixels) -> Pixels:
    """Return a mask in CelebAMask-HQ's ids that groups to these regions."""
    right = np.broadcast_to(np.arange(regions.shape[1]) >= regions.shape[1] // 2, regions.shape).astype(int)
    mask: Pixels = IDS[regions, right]
    return mask


def encoded(pixels: Pixels, kind: str = "PNG", mode: str | None = None) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    if mode == "P":
        picture = Image.fromarray(pixels, "L")
        picture.putpalette([value for index in range(256) for value in (255 - index, index, 7)])
    elif mode is not None:
        picture = picture.convert(mode)
    picture.save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return file.getvalue()


def write_tar(
    path: Path, members: Mapping[str, bytes], mode: Any = "w", extra: tuple[tarfile.TarInfo, ...] = ()
) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return path


def drawn_members(count: int, size: int, prefix: str = "") -> dict[str, bytes]:
    members = {}
    for seed in range(count):
        picture, regions = drawn_face(seed, size)
        members[f"{prefix}images/{seed:05}.jpg"] = encoded(picture, "JPEG")
        members[f"{prefix}masks/{seed:05}.png"] = encoded(as_celebamask(regions))
    return members


def write_archive(path: Path, count: int, size: int, prefix: str = "") -> Path:
    """Write ``count`` drawn faces as a tar with ``images/ID.jpg`` and ``masks/ID.png``."""
    return write_tar(path, drawn_members(count, size, prefix))
