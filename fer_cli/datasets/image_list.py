"""Pictures that a source lists: from a checked list to blocks of pixels of one size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from fer_cli.artifacts.protocol import SMALL, OddImages
from fer_cli.core.errors import FerError, one_line
from fer_cli.datasets.image_files import (
    OTHER_FILES,
    SUFFIXES,
    Box,
    Picture,
    decode_blocks,
    name_fault,
    portable,
    probe_all,
    refuse,
)
from fer_cli.datasets.records import Block, Pictured, Row

DEFAULT_SIZE: Final = 112
"""Side in pixels of the square that pictures of different sizes are resized to, where no size is that of most."""
WHOLE: Final = "all"
"""The part's name where the source has no splits."""

_SIZES: Final = (8, 2048)
_USUAL: Final = 0.9  # of all images that have the size of which others are said to be odd
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One picture: its path relative to the root with ``/``, the source's name of its split if any, and its label.

    The path is as this machine writes it; ids are text that is the same on every machine.
    """

    path: str
    split: str | None
    label: str
    line: int | None = None
    subject: str | None = None
    sequence: str | None = None
    id: str | None = None  # by default the path
    flags: tuple[str, ...] = ()
    box: Box | None = None  # the part of the picture to take, by default all of it


class Pictures:
    """Listed pictures on the disk.

    Args:
        root: what the items' paths are relative to.
        items: the pictures, in the order in which they come out.
        size: resize every picture to a square of this side in pixels. By default pictures of one size keep it; where
            nine of ten have one square size the others are resized to it, and else all become squares of 112.
        grey: one channel, or three; by default one if no picture has colour.
        jobs: threads that decode; by default one a core, at most four. The result does not depend on it.
        tables: the name of a split -> the table that ``ImageEntry.line`` counts in, for what is said about boxes.

    Raises:
        FerError: the size is out of range.
    """

    def __init__(
        self,
        root: Path,
        items: Sequence[ImageEntry],
        *,
        size: int | None = None,
        grey: bool | None = None,
        jobs: int | None = None,
        tables: Mapping[str, Path] | None = None,
    ) -> None:
        if size is not None and not _SIZES[0] <= size <= _SIZES[1]:
            raise FerError(f"--size {size} is out of range", hint=f"choose {_SIZES[0]} to {_SIZES[1]} pixels")
        self._root = root
        self._items = items
        self._size = size
        self._grey = grey
        self._jobs = jobs
        self._tables = tables or {}
        self.warnings: list[str] = []
        self.odd_images: list[OddImages] = []

    @property
    def files(self) -> dict[str, Path]:
        """Every picture under its path below the root, as text."""
        return {f"picture {portable(item.path)}": self._root / item.path for item in self._items}

    @property
    def config(self) -> dict[str, Any]:
        """The size and the colours asked for, and how pictures are resized where they have to be."""
        return {
            "size": self._size,
            "size_if_mixed": f"that of {_USUAL:.0%} of the images if it is square, else {DEFAULT_SIZE}",
            "resize": "square, bicubic, antialiased, aspect ratio not kept",
            "grey": self._grey,
        }

    def blocks(self) -> Iterator[Block]:
        """Yield the pictures in the order of the items, after a look at the headers of all.

        Raises:
            FerError: the first picture or box at fault, with the number of the others.
        """
        pictures = self.pictures()
        paths = [picture.path for picture in pictures]
        rows = [picture.row for picture in pictures]
        boxes = self._boxes(rows)
        grey = self._grey if self._grey is not None else all(picture.grey for picture in pictures)
        taken = [
            (row.height, row.width) if box is None else (box[3] - box[1], box[2] - box[0])
            for row, box in zip(rows, boxes, strict=True)
        ]
        sizes = Counter(taken)
        resize = self._size is not None or len(sizes) > 1
        side = self._size or _usual_side(sizes) or DEFAULT_SIZE
        self._tell_sizes(sizes, resize, side)
        self.odd_images = odd_sizes([row.id for row in rows], taken)
        shape = (side, side) if resize else next(iter(sizes), (side, side))
        start = 0
        for images, hashes in decode_blocks(paths, grey=grey, shape=shape, resize=resize, boxes=boxes, jobs=self._jobs):
            some = zip(rows[start : start + len(images)], hashes, strict=True)
            yield Block(tuple(replace(row, decoded_hash=pixels) for row, pixels in some), images)
            start += len(images)

    def pictures(self) -> list[Pictured]:
        """Return whole pictures in the order of the items, after a look at the headers of all; boxes are not cut out.

        Raises:
            FerError: the first picture at fault, with the number of the others.
        """
        paths = [self._root / item.path for item in self._items]
        return [
            Pictured(_row(item, picture), path, picture.grey)
            for item, path, picture in zip(self._items, paths, probe_all(paths, jobs=self._jobs), strict=True)
        ]

    def _boxes(self, rows: Sequence[Row]) -> list[Box | None]:
        """Return the boxes within their pictures; one that lies mostly outside is not of this picture."""
        boxes: list[Box | None] = []
        faults: list[FerError] = []
        clipped = 0
        for item, row in zip(self._items, rows, strict=True):
            if item.box is None:
                boxes.append(None)
                continue
            left, top, right, bottom = item.box
            box = max(left, 0), max(top, 0), min(right, row.width), min(bottom, row.height)
            inside = max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
            if 2 * inside < (right - left) * (bottom - top):
                faults.append(
                    FerError(
                        f"the box from {left},{top} to {right},{bottom} lies outside {item.path!r}, "
                        f"which is {row.width}x{row.height} pixels",
                        hint="correct the row, or get the image that it was made for",
                        path=self._tables.get(item.split or WHOLE, self._root),
                        line=item.line,
                    )
                )
            clipped += box != item.box
            boxes.append(box)
        refuse(faults)
        if clipped:
            boxes_reach = "1 box reaches" if clipped == 1 else f"{clipped:,} boxes reach"
            self.warnings.append(f"{boxes_reach} over the edge of the image, and only what is inside was taken")
        return boxes

    def _tell_sizes(self, sizes: Counter[tuple[int, int]], resize: bool, side: int) -> None:
        if resize and self._size is None:
            kept = sizes[side, side] if _usual_side(sizes) else 0
            rest = f"the {kept:,} of {side}x{side} stay as they are, the others were resized to it"
            text = rest if kept else f"all were resized to {side}x{side}"
            self.warnings.append(f"the images have {len(sizes):,} sizes: {text}")
        if resize and (oblong := sum(count for (height, width), count in sizes.items() if height != width)):
            self.warnings.append(
                f"{oblong:,} {'image is' if oblong == 1 else 'images are'} not square: resizing changed the aspect"
            )


def _usual_side(sizes: Counter[tuple[int, int]]) -> int | None:
    """Return the side in pixels that nine of ten pictures have, if these are square and of a size that is stored."""
    (height, width), most = sizes.most_common(1)[0] if sizes else ((0, 1), 0)
    usual = height == width and most >= _USUAL * sizes.total() and _SIZES[0] <= width <= _SIZES[1]
    return width if usual else None


def _row(item: ImageEntry, picture: Picture) -> Row:
    return Row(
        id=item.id or portable(item.path),
        split=item.split or WHOLE,
        label=item.label,
        source=portable(item.path),
        line=item.line,
        width=picture.width,
        height=picture.height,
        subject=item.subject,
        sequence=item.sequence,
        flags=item.flags,
        is_cut_out=item.box is not None,
    )


def odd_sizes(ids: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[OddImages]:
    """Return the images too small to show an expression, and the few that are not of the size of all others.

    Args:
        ids: (N,) of the images.
        sizes: (N,) their heights and widths as they are found, or of their boxes.
    """
    usual, common = Counter(sizes).most_common(1)[0]
    small = [name for name, size in zip(ids, sizes, strict=True) if min(size) < SMALL]
    odd = [f"{name} ({size[1]}x{size[0]})" for name, size in zip(ids, sizes, strict=True) if size != usual]
    return [
        *odd_images("small", small),
        *(odd_images("odd size", odd, f"{usual[1]}x{usual[0]}") if common >= _USUAL * len(sizes) else []),
    ]


def odd_images(
    kind: Literal["blank", "small", "odd size"], names: Sequence[str], usual: str | None = None
) -> list[OddImages]:
    """Return what is said of odd images of one kind, or nothing where there are none."""
    first = tuple(one_line(name) for name in names[:_NAMED])
    return [OddImages(kind=kind, count=len(names), names=first, usual=usual)] if names else []


def path_fault(root: Path, path: str) -> tuple[str, str] | None:
    """Return what is wrong with a path in a table and what to do about it, or None."""
    if not path:
        return "the row has no path of an image", "fill in its path"
    if name_fault(portable(path)):
        return f"the path {path[:80]!r} holds a control character", "rename the image"
    if path.startswith(("/", "../")) or path == ".." or PurePosixPath(path).suffix.lower() not in SUFFIXES:
        if PurePosixPath(path).suffix.lower() in SUFFIXES:
            return f"{path[:80]!r} is outside the table's folder", "move the table above the images, or give --images"
        hint = OTHER_FILES.get(
            PurePosixPath(path).suffix.lower(), f"it must end in one of {', '.join(sorted(SUFFIXES))}"
        )
        return f"{path[:80]!r} is not an image by its name", hint
    try:
        exists = (root / path).is_file()
    except OSError:
        exists = False
    return None if exists else (f"names {path[:80]!r}, which does not exist", "correct the row or add the image")
