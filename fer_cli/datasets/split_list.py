"""A split as a file: a csv of ids with their splits and folds, so that it can be published and taken up again."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.atomic_io import write_atomic
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.folds import validation_of
from fer_cli.datasets.records import SPLITS
from fer_cli.datasets.tables import open_table

MOST_FOLDS: Final = 1000
_ROW: Final = re.compile(r"row-\d+")


@dataclass(frozen=True, slots=True)
class SplitList:
    """What a list says of a data set's images, in the data set's order; None where it does not say it.

    ``splits`` (N,); ``folds`` (N,) the fold that tests each image; ``chosen_on`` (N, K) which folds' models are chosen
    on it. ``warnings`` say where nothing shows that the list was made of these images.
    """

    splits: list[str] | None
    folds: NDArray[np.int64] | None
    chosen_on: NDArray[np.bool_] | None
    warnings: list[str]


def write_list(path: Path, dataset: Dataset) -> None:
    """Write the columns ``id``, ``split``, where there are folds ``fold`` and ``validation_of``, and ``pixels``.

    The hash of an image's pixels, as decoded where that is known, shows a reader whether the id is still that image's.

    Raises:
        FerError: an id could not be read back, because of blanks around it or a control character in it.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    folds, chosen_on = dataset.folds, dataset.chosen_on
    writer.writerow(["id", "split", *(["fold", "validation_of"] if folds is not None else []), "pixels"])
    hashes = np.where(dataset.decoded_hashes == "", dataset.pixels, dataset.decoded_hashes).tolist()
    images = zip(dataset.ids.tolist(), dataset.splits.tolist(), hashes, strict=True)
    for row, (name, split, pixels) in enumerate(images):
        if name != name.strip() or not name.isprintable():
            raise FerError(f"id {name!r} cannot be written to a list", hint="rename the image", path=path)
        more = [] if folds is None or chosen_on is None else [str(folds[row]), validation_of(chosen_on[row])]
        writer.writerow([name, split, *more, pixels])
    write_atomic(path, stream.getvalue().encode())


def read_list(path: Path, dataset: Dataset) -> SplitList:
    """Read a csv with a column ``id``, and ``split``, ``fold`` or both; ``validation_of`` may stand beside ``fold``.

    Where it has the column ``pixels``, ids must still be those of the same images.

    Raises:
        FerError: an id is not of the data set, comes twice, is missing or is another image's; a split or a fold is not
            one. All but the missing ones are named with their line.
    """
    names = {name: (name,) for name in ("split", "fold", "validation_of", "pixels")}
    table = open_table(path, {"id": ("id",)}, names)
    columns = [name for name in names if name in table.columns]
    if "split" not in columns and "fold" not in columns:
        raise FerError("no column 'split' or 'fold'", hint="add one", path=path, line=1)
    if "validation_of" in columns and "fold" not in columns:
        raise FerError("a column 'validation_of' but none 'fold'", hint="add one", path=path, line=1)
    row_of = {name: row for row, name in enumerate(dataset.ids.tolist())}
    lines: dict[int, int] = {}
    cells: dict[str, list[str]] = {name: [""] * len(row_of) for name in columns}
    for line, row in table.rows:
        name = row[table.columns["id"]]
        at = row_of.get(name)
        if at is None:
            what, hint = f"id {name!r} is not in {dataset.artifact.reference}", "use a list of this data set"
            raise FerError(what, hint=hint, path=path, line=line)
        if at in lines:
            what = f"id {name!r} is duplicated, first in line {lines[at]}"
            raise FerError(what, hint="give each image one line", path=path, line=line)
        lines[at] = line
        for column in columns:
            cells[column][at] = row[table.columns[column]]
    if missing := [name for name, row in row_of.items() if row not in lines]:
        what = f"{len(missing):,} images of {dataset.artifact.reference} are missing, the first is {missing[0]!r}"
        raise FerError(what, hint="give each image a line", path=path)
    folds = _folds(path, lines, cells["fold"]) if "fold" in cells else None
    return SplitList(
        _splits(path, lines, cells["split"]) if "split" in cells else None,
        folds,
        None if folds is None or "validation_of" not in cells else _chosen(path, lines, folds, cells["validation_of"]),
        _check_images(path, lines, cells.get("pixels"), dataset),
    )


def _check_images(path: Path, lines: Mapping[int, int], pixels: list[str] | None, dataset: Dataset) -> list[str]:
    """Refuse ids of other images than the list was made of; return a warning where that cannot be told.

    Numbers of rows name other images where the rows stand in another order. Hashes are all new where images were
    prepared at another size and the list holds those of the images as they were kept.
    """
    if pixels is None:
        if all(_ROW.fullmatch(name) for name in dataset.ids.tolist()):
            return [
                f"{path.name} names images by the numbers of their rows, without the hashes of 'fer split --export': "
                "whether it was made of this table cannot be told"
            ]
        return []
    kept, decoded = dataset.pixels.tolist(), dataset.decoded_hashes.tolist()
    row_of = {name: row for hashes in (kept, decoded) for row, name in reversed(list(enumerate(hashes)))}
    differ = {row for row, cell in enumerate(pixels) if cell not in {kept[row], decoded[row]}}
    for row, line, cell in _in_file(lines, pixels):
        if row in differ and cell in row_of:
            raise FerError(
                f"id {str(dataset.ids[row])!r} is not the image that the list was made of, which is "
                f"{str(dataset.ids[row_of[cell]])!r} now ({len(differ):,} ids differ)",
                hint="prepare the data set from the source that the list was made of, in the same order",
                path=path,
                line=line,
            )
    if not differ:
        return []
    what = f"{len(differ):,} of its {len(kept):,} images have other pixels now"
    return [f"{path.name}: {what}: whether they are the images that it was made of cannot be told"]


def _in_file(lines: Mapping[int, int], cells: list[str]) -> Iterator[tuple[int, int, str]]:
    """Yield row, line and cell in the file's order, so that the first fault in it is the one that is named."""
    for row, line in lines.items():
        yield row, line, cells[row]


def _splits(path: Path, lines: Mapping[int, int], cells: list[str]) -> list[str]:
    for _, line, cell in _in_file(lines, cells):
        if cell not in SPLITS:
            raise FerError(f"unknown split {cell!r}", hint=f"write {', '.join(SPLITS)}", path=path, line=line)
    return cells


def _folds(path: Path, lines: Mapping[int, int], cells: list[str]) -> NDArray[np.int64]:
    for _, line, cell in _in_file(lines, cells):
        _number(path, line, cell)
    folds = np.array([int(cell) for cell in cells], dtype=np.int64)
    used = set(folds.tolist())
    if len(used) < 2:
        raise FerError("all images are in one fold", hint="give at least two", path=path)
    if empty := set(range(max(used))) - used:
        raise FerError(
            f"no image is in fold {min(empty)}, but one in {max(used)}", hint="number the folds from 0", path=path
        )
    return folds


def _chosen(path: Path, lines: Mapping[int, int], folds: NDArray[np.int64], cells: list[str]) -> NDArray[np.bool_]:
    number = int(folds.max()) + 1
    chosen_on = np.zeros((len(folds), number), dtype=np.bool_)
    for row, line, cell in _in_file(lines, cells):
        for word in cell.split():
            fold = _number(path, line, word)
            if fold >= number or fold == folds[row]:
                what = f"validation_of names fold {fold}"
                hint = f"there are 0 to {number - 1}" if fold >= number else "that is the fold that tests this image"
                raise FerError(what, hint=hint, path=path, line=line)
            chosen_on[row, fold] = True
    return chosen_on


def _number(path: Path, line: int, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and int(text) < MOST_FOLDS):
        raise FerError(
            f"fold {text[:40]!r} is not a number from 0 to {MOST_FOLDS - 1}",
            hint="correct the line",
            path=path,
            line=line,
        )
    return int(text)
