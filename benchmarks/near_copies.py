"""What the search for near copies finds of copies that were changed, by the change.

``python -m benchmarks.near_copies [--source fer2013.csv] [--copies 300] [--among 2000] [--seed 0] [--write]``

Copies of pictures chosen at random are changed in one way and put among the pictures; the search runs as ``fer audit``
runs it. A copy is found where it and its picture are named as a pair. A pair of a copy and another picture is wrong
unless that picture is a copy of the first itself. The pictures are synthetic faces, and with ``--source`` those of
FER2013's PublicTest (its ``fer2013.csv``, or that as ``.xz``). The search sees grey pictures alone: one made grey is
no change to it. ``--write`` puts the figures where ``fer audit`` reads them.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
from collections.abc import Callable
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

Picture = NDArray[np.uint8]


def main() -> None:
    """Print a line for each change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--copies", type=int, default=300)
    parser.add_argument("--among", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    sets = {"synthetic faces": drawn(options.among, options.seed)}
    if options.source is not None:
        sets["FER2013"] = fer2013(options.source, options.among, options.seed)
    rows = []
    for name, pictures in sets.items():
        for change, changed in CHANGES.items():
            row = measured(name, change, pictures, changed, min(options.copies, len(pictures)))
            low, high = row.interval
            print(f"{name:<12} {change:<32} {row.recall:6.1%} ({low:.1%} to {high:.1%})  {row.wrong} wrong", flush=True)
            rows.append(row)
    if options.write:
        reach.FILE.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n", encoding="utf-8")


def drawn(count: int, seed: int) -> Picture:
    """Return synthetic faces, each of another person, 48 px, grey."""
    loader = Synth(
        images=2 * count, subjects=count, size=48, imbalance=1.0, contempt=False, grey=True, jobs=1, seed=seed
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


def measured(
    name: str, change: str, pictures: Picture, changed: Callable[[Picture], Picture], copies: int
) -> reach.Reach:
    """Return what is found of the first ``copies`` pictures changed so, among all."""
    everything = np.concatenate([pictures, [changed(picture) for picture in pictures[:copies]]])
    hashes = np.array([picture.tobytes().hex() for picture in everything])
    near = near_copies(everything, hashes)
    pairs = list(zip(near.first.tolist(), near.second.tolist(), strict=True))
    alike = {pair for pair in pairs if pair[1] < len(pictures)}
    crossing = [(other, copy - len(pictures)) for other, copy in pairs if other < len(pictures) <= copy]
    found = sum(other == of for other, of in crossing)
    wrong = sum(other != of and (min(other, of), max(other, of)) not in alike for other, of in crossing)
    return reach.Reach(name, change, 1 if change in _SINGLE else 2, found, copies, wrong)


def turned(picture: Picture, degrees: float) -> Picture:
    """Turned about the middle; what comes in is black."""
    return np.asarray(Image.fromarray(picture).rotate(degrees, Image.Resampling.BICUBIC))


def shifted(picture: Picture, part: float) -> Picture:
    """Moved down and to the right by a part of the side; the edge is repeated."""
    by = round(part * len(picture))
    return np.pad(picture, ((by, 0), (by, 0)), mode="edge")[:-by, :-by]


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


def blurred(picture: Picture, width: float) -> Picture:
    """Blurred by a Gaussian of this standard deviation in pixels."""
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(width)))


def gamma(picture: Picture, power: float) -> Picture:
    """Of another gamma."""
    return np.round(255 * (picture / 255) ** power).astype(np.uint8)


def dimmed(picture: Picture) -> Picture:
    """Of less contrast and darker."""
    return np.round(0.7 * picture.astype(np.float64)).astype(np.uint8)


def both(picture: Picture, first: Callable[[Picture], Picture], second: Callable[[Picture], Picture]) -> Picture:
    """Changed in two ways."""
    return second(first(picture))


_SINGLE: Final[dict[str, Callable[[Picture], Picture]]] = {
    "flipped": flipped,
    "less contrast": dimmed,
    "gamma 0.6": partial(gamma, power=0.6),
    "gamma 1.6": partial(gamma, power=1.6),
    "JPEG quality 30": partial(as_jpeg, quality=30),
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
    *("flipped", "gamma 1.6", "JPEG quality 30", "blurred by 1 px", "turned 10 degrees"),
    *("shifted 8%", "scaled 0.8", "scaled 1.25", "cropped 10%"),
)
_FURTHEST: Final = (("turned 20 degrees", "shifted 15%"), ("turned 20 degrees", "scaled 1.25"))
_PAIRS: Final = [pair for pair in combinations(_IN_PAIRS, 2) if pair != ("scaled 0.8", "scaled 1.25")]
CHANGES: Final = _SINGLE | {
    f"{first}, {second}": partial(both, first=_SINGLE[first], second=_SINGLE[second])
    for first, second in (*_PAIRS, *_FURTHEST)
}
"""What is done to copies, by its name."""

if __name__ == "__main__":
    main()
