"""What the search for near copies finds of copies that were changed, by the change.

``python -m benchmarks.near_copies [--source fer2013.csv] [--coloured celebamask-800.tar] [--copies 100] [--among 2000]
[--seed 0] [--write]``

Copies of pictures, each changed in one way, are put among the pictures, those of all changes at once; the search runs
as ``fer audit`` runs it. A copy is found where it and its picture are named as a pair. A pair of two pictures, copies
or not, is wrong unless both are of one picture, or of two that the search names as copies of one another themselves.
The pictures are synthetic faces in colour; with ``--source`` those of FER2013's PublicTest too (its ``fer2013.csv``,
or that as ``.xz``), which are grey; and with ``--coloured`` faces of CelebAMask-HQ, of which copies are made grey.
``--write`` puts the figures where ``fer audit`` reads them.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from fer_cli.audit import reach
from fer_cli.audit.near_duplicates import near_copies
from fer_cli.datasets.synth.loader import Synth
from tools.train_parser.celebamask import read_faces

Picture = NDArray[np.uint8]
Change = Callable[[Picture], Picture]


def main() -> None:
    """Print a line for each change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--coloured", type=Path)
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--among", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = measured("synthetic faces", drawn(options.among, options.seed), CHANGES, options.copies)
    if options.source is not None:
        rows += measured("FER2013", fer2013(options.source, options.among, options.seed), OF_GREY, options.copies)
    if options.coloured is not None:
        rows += measured("CelebAMask-HQ", celebamask(options.coloured), TO_GREY, options.copies)
    if options.write:
        reach.FILE.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n", encoding="utf-8")


def drawn(count: int, seed: int) -> Picture:
    """Return synthetic faces, each of another person, 48 px, in colour."""
    loader = Synth(
        images=2 * count, subjects=count, size=48, imbalance=1.0, contempt=False, grey=False, jobs=1, seed=seed
    )
    first: dict[str | None, Picture] = {}
    for block in loader.blocks():
        for row, image in zip(block.rows, block.images, strict=True):
            first.setdefault(row.subject, image)
    return np.stack(list(first.values()))


def fer2013(path: Path, count: int, seed: int) -> Picture:
    """Return pictures of FER2013's PublicTest chosen at random, each of other pixels: nothing was trained on these."""
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as lines:
        rows = (line.rstrip().split(",") for line in lines)
        pixels = sorted({row[1] for row in rows if row[2] == "PublicTest"})
    chosen = np.random.default_rng(seed).choice(len(pixels), min(count, len(pixels)), replace=False)
    return np.stack([np.array(pixels[k].split(), dtype=np.uint8).reshape(48, 48) for k in chosen])


def celebamask(path: Path) -> Picture:
    """Return the inner parts of the faces, 48 px, in colour."""
    found = []
    for face in read_faces(path):
        height, width = face.image.shape[:2]
        box = (0.15 * width, 0.22 * height, 0.85 * width, 0.92 * height)
        found.append(np.asarray(Image.fromarray(face.image).resize((48, 48), Image.Resampling.BICUBIC, box=box)))
    return np.stack(found)


def measured(name: str, pictures: Picture, changes: Mapping[str, Change], copies: int) -> list[reach.Reach]:
    """Return what is found of each change's copies, which are of the pictures in their order, round and round."""
    count = len(pictures)
    origin = np.concatenate([np.arange(count), np.arange(copies * len(changes)) % count])
    parts = [
        [changed(pictures[k]) for k in origin[count + number * copies :][:copies]]
        for number, changed in enumerate(changes.values())
    ]
    everything = np.concatenate([pictures, *parts])
    near = near_copies(everything, np.array([picture.tobytes().hex() for picture in everything]))
    first, second = origin[near.first], origin[near.second]
    of_copies = near.second >= count
    alike = set(zip(near.first[~of_copies].tolist(), near.second[~of_copies].tolist(), strict=True))
    change = (near.second - count) // copies
    found = of_copies & (near.first == second)
    wrong = of_copies & [
        a != b and (min(a, b), max(a, b)) not in alike for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ]
    rows = [
        reach.Reach(
            *(name, called, 1 if called in _SINGLE else 2, int((found & (change == number)).sum()), copies),
            wrong=int((wrong & (change == number)).sum()),
        )
        for number, called in enumerate(changes)
    ]
    for row in rows:
        low, high = row.interval
        print(f"{name:<16} {row.change:<32} {row.recall:6.1%} ({low:.1%} to {high:.1%})  {row.wrong} wrong", flush=True)
    right, others = int((of_copies & ~wrong).sum()), int(wrong.sum())
    print(f"{name}: {right:,} pairs with copies are of one picture, {others:,} are not: {right / (right + others):.2%}")
    return rows


def turned(picture: Picture, degrees: float) -> Picture:
    """Turned about the middle; what comes in is black."""
    return np.asarray(Image.fromarray(picture).rotate(degrees, Image.Resampling.BICUBIC))


def shifted(picture: Picture, part: float) -> Picture:
    """Moved down and to the right by a part of the side; the edge is repeated."""
    by = round(part * len(picture))
    return np.pad(picture, ((by, 0), (by, 0), (0, 0))[: picture.ndim], mode="edge")[:-by, :-by]


def scaled(picture: Picture, scale: float) -> Picture:
    """Larger or smaller about the middle; what comes in is black."""
    side = len(picture)
    middle, half = side / 2, side / 2 / scale
    corners = (half / (side / 2), 0, middle - half, 0, half / (side / 2), middle - half)
    image = Image.fromarray(picture)
    return np.asarray(image.transform((side, side), Image.Transform.AFFINE, corners, Image.Resampling.BICUBIC))


def cropped(picture: Picture, part: float) -> Picture:
    """A part of each side's length taken off at every border, and back to size."""
    side = len(picture)
    box = (part * side, part * side, side - part * side, side - part * side)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC, box=box))


def flipped(picture: Picture) -> Picture:
    """The mirror image."""
    return np.ascontiguousarray(picture[:, ::-1])


def as_jpeg(picture: Picture, quality: int) -> Picture:
    """Through a JPEG."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def grey(picture: Picture) -> Picture:
    """Without colour (ITU-R 601)."""
    return np.repeat(np.asarray(Image.fromarray(picture).convert("L"))[..., None], 3, axis=2)


def blurred(picture: Picture, width: float) -> Picture:
    """Blurred by a Gaussian of this standard deviation in pixels."""
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(width)))


def gamma(picture: Picture, power: float) -> Picture:
    """Of another gamma."""
    return np.round(255 * (picture / 255) ** power).astype(np.uint8)


def dimmed(picture: Picture) -> Picture:
    """Of less contrast and darker."""
    return np.round(0.7 * picture.astype(np.float64)).astype(np.uint8)


def both(picture: Picture, first: Change, second: Change) -> Picture:
    """Changed in two ways."""
    return second(first(picture))


_SINGLE: Final[dict[str, Change]] = {
    "flipped": flipped,
    "less contrast": dimmed,
    "gamma 0.6": partial(gamma, power=0.6),
    "gamma 1.6": partial(gamma, power=1.6),
    "JPEG quality 30": partial(as_jpeg, quality=30),
    "grey": grey,
    "blurred by 1 px": partial(blurred, width=1.0),
    "turned 5 degrees": partial(turned, degrees=5),
    "turned 10 degrees": partial(turned, degrees=-10),
    "turned 15 degrees": partial(turned, degrees=15),
    "turned 20 degrees": partial(turned, degrees=-20),
    "shifted 4%": partial(shifted, part=0.04),
    "shifted 8%": partial(shifted, part=0.08),
    "shifted 15%": partial(shifted, part=0.15),
    "scaled 0.8": partial(scaled, scale=0.8),
    "scaled 1.25": partial(scaled, scale=1.25),
    "cropped 5%": partial(cropped, part=0.05),
    "cropped 10%": partial(cropped, part=0.10),
}
_IN_PAIRS: Final = (
    *("flipped", "gamma 1.6", "grey", "JPEG quality 30", "blurred by 1 px", "turned 10 degrees"),
    *("shifted 8%", "scaled 0.8", "scaled 1.25", "cropped 10%"),
)
_FURTHEST: Final = (("turned 20 degrees", "shifted 15%"), ("turned 20 degrees", "scaled 1.25"))
_PAIRS: Final = [pair for pair in combinations(_IN_PAIRS, 2) if pair != ("scaled 0.8", "scaled 1.25")]
CHANGES: Final = _SINGLE | {
    f"{first}, {second}": partial(both, first=_SINGLE[first], second=_SINGLE[second])
    for first, second in (*_PAIRS, *_FURTHEST)
}
"""What is done to copies, by its name."""
TO_GREY: Final = {name: change for name, change in CHANGES.items() if "grey" in name}
"""Those after which a picture is grey: of one that was so before, the rest is another change."""
OF_GREY: Final = {name: change for name, change in CHANGES.items() if name not in TO_GREY}

if __name__ == "__main__":
    main()
