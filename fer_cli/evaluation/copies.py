"""Which scored images a model was trained on or selected by: their hashes tell, and near copies where these do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_cli.audit.near_duplicates import near_copies
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import Dataset
from fer_cli.datasets.overlap import CrossCopies, is_hashed, overlap, same_images
from fer_cli.evaluation.predictor import Predictor, Rows, TrainingRecord

MOST: Final = 40_000
"""Images, scored ones and others together, among which near copies are looked for: minutes, and half a gigabyte."""
SMALLEST: Final = 24
"""Side in pixels of images from which near copies are told."""
_NONE: Final = np.zeros(0, dtype=np.int64)
_SIDE: Final = 96
"""Longest side in pixels at which the images of two data sets are compared."""


@dataclass(frozen=True, slots=True)
class Copies:
    """Scored images among others: positions, each list sorted; no position is in two of them.

    ``same`` are the same image under the same id, ``equal`` under another id or in another data set, ``near`` are near
    copies. ``sought`` counts those of unknown origin that were looked for as near copies, ``untold`` those of which
    nobody can tell whether they are among the others, and ``reason`` is why.
    """

    same: Rows
    equal: Rows
    near: Rows
    sought: int
    untold: int
    reason: str

    @property
    def all(self) -> Rows:
        """All that are among the others, sorted."""
        return np.sort(np.concatenate([self.same, self.equal, self.near]))


def trained_on(predictor: Predictor, rows: Rows) -> Copies:
    """Return which rows (positions among them) the models that score them were trained on."""
    return _copies(predictor, rows, lambda record: record.rows)


def selected_by(predictor: Predictor, rows: Rows) -> Copies:
    """Return which rows (positions among them) the models that score them were selected by."""
    return _copies(predictor, rows, lambda record: record.dataset.rows(record.select_on))


def trained_on_before(predictor: Predictor, rows: Rows, record: TrainingRecord) -> Copies:
    """Return which rows (positions among them) a model was trained on whose weights these networks began with."""
    return _before(predictor, rows, record, record.rows, trained_on(predictor, rows).all)


def selected_by_before(predictor: Predictor, rows: Rows, record: TrainingRecord) -> Copies:
    """Return which rows (positions among them) selected a model whose weights these networks began with."""
    own = np.union1d(trained_on(predictor, rows).all, selected_by(predictor, rows).all)
    return _before(predictor, rows, record, record.dataset.rows(record.select_on), own)


def held_out_no_more(dataset: Dataset, rows: Rows, own: Rows, other: Dataset, others: Rows) -> NDArray[np.bool_]:
    """Tell which images of a data set are among those of another one, and do not only look so.

    A data set may hold an image in several splits as it is distributed. Such a copy says nothing of the weights: that
    ``own`` training images have it is told of these, and where the other data set has one among the images that are
    not ``others`` too it is not known to be the same.

    Args:
        dataset: whose images are looked at.
        rows: (n,) of it.
        own: (k,) of it, that are trained on anyway.
        other: where they are looked for.
        others: (m,) of that.
    """
    found = np.zeros(len(rows), dtype=np.bool_)
    hashed = overlap(dataset, rows, other, others)
    found[hashed.same] = found[hashed.equal] = True
    rest = np.setdiff1d(np.arange(len(other.ids)), others)
    return found & ~same_images(dataset, rows, dataset, own) & ~same_images(dataset, rows, other, rest)


def _before(predictor: Predictor, rows: Rows, record: TrainingRecord, others: Rows, own: Rows) -> Copies:
    dataset, other = predictor.dataset, record.dataset
    found = held_out_no_more(dataset, rows, rows[own], other, others)
    unknown = overlap(dataset, rows, other, others).unknown
    # Those that the scored dataset holds as well would show a near copy within it, of which its own audit tells.
    strangers = others[~same_images(other, others, dataset, np.arange(len(dataset.ids)))]
    near, sought, untold, reason = _NONE, 0, 0, ""
    if len(unknown) and len(strangers):
        cross = _near(predictor, rows[unknown], other, strangers)
        near = np.setdiff1d(unknown[np.isin(dataset.pixels[rows[unknown]], cross.ours)], own)
        if cross.unsought:
            untold, reason = len(unknown), cross.unsought
        else:
            sought = len(unknown)
    return Copies(_NONE, np.flatnonzero(found), near, sought, untold, reason)


def scorers(predictor: Predictor, rows: Rows) -> list[tuple[Predictor, TrainingRecord, NDArray[np.intp]]]:
    """Return who scores which of the rows (positions among them), and what that was trained on."""
    return [
        (part, part.training_record, places)
        for part, places in predictor.by_part(rows)
        if part.training_record is not None
    ]


def _copies(predictor: Predictor, rows: Rows, wanted: Callable[[TrainingRecord], Rows]) -> Copies:
    same, equal, near = [_NONE], [_NONE], [_NONE]
    sought, untold, reason = 0, 0, ""
    for part, record, places in scorers(predictor, rows):
        mine, others = rows[places], wanted(record)
        hashed = overlap(part.dataset, mine, record.dataset, others)
        same.append(places[hashed.same])
        equal.append(places[hashed.equal])
        if not len(hashed.unknown):
            continue
        unknown = mine[hashed.unknown]
        cross = _cross_copies(part, record, unknown)
        pairs = np.isin(cross.theirs, record.dataset.pixels[others])
        is_near = np.isin(part.dataset.pixels[unknown], cross.ours[pairs])
        near.append(places[hashed.unknown[is_near]])
        if cross.unsought:
            untold, reason = untold + len(unknown), cross.unsought
        else:
            sought += len(unknown)
            if not (is_hashed(part.dataset, unknown) and is_hashed(record.dataset, others)):
                untold += int((~is_near).sum())
                reason = "a dataset keeps no hashes of its source, and a copy need not look like one"
    found = [np.sort(np.concatenate(places)) for places in (same, equal, near)]
    return Copies(found[0], found[1], found[2], sought, untold, reason)


def _cross_copies(part: Predictor, record: TrainingRecord, unknown: Rows) -> CrossCopies:
    """Return the near copies of rows of a dataset among the images that a model was trained on or selected by."""
    others = np.union1d(record.rows, record.dataset.rows(record.select_on))
    return _near(part, unknown, record.dataset, others)


def _near(part: Predictor, unknown: Rows, other: Dataset, others: Rows) -> CrossCopies:
    key = b"".join([other.artifact.manifest.content.encode(), unknown.tobytes(), others.tobytes()])
    if key not in part.cross_copies:
        part.cross_copies[key] = near_copies_across(part.dataset, unknown, other, others)
    return part.cross_copies[key]


def near_copies_across(dataset: Dataset, rows: Rows, other: Dataset, others: Rows) -> CrossCopies:
    """Find near copies of images of one data set among those of another, each made grey and of the smaller's size.

    Args:
        dataset: whose images are looked for.
        rows: (n,) of it.
        other: where they are looked for.
        others: (m,) of that.
    """
    nothing = np.zeros(0, dtype=np.str_)
    height, width = (min(sides) for sides in zip(dataset.images.shape[1:3], other.images.shape[1:3], strict=True))
    if len(rows) + len(others) > MOST:
        return CrossCopies(
            nothing, nothing, f"near copies are looked for among {MOST:,} images, not {len(rows) + len(others):,}"
        )
    if min(height, width) < SMALLEST:
        return CrossCopies(nothing, nothing, f"images of {width}x{height} px are too small to tell near copies")
    note(f"looking for near copies of {len(rows):,} scored images among {len(others):,} that it was trained on")
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    images = np.empty((len(rows) + len(others), size[1], size[0]), dtype=np.uint8)
    for at, image in enumerate([(dataset, row) for row in rows] + [(other, row) for row in others]):
        source, row = image
        picture = Image.fromarray(np.asarray(source.images[row])).convert("L")
        images[at] = picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)
    # Copies within either data set are none across them: a mark keeps equal hashes of the two apart.
    ours, theirs = np.char.add("<", dataset.pixels[rows]), np.char.add(">", other.pixels[others])
    sides = np.repeat(np.array([0, 1]), [len(rows), len(others)])
    pairs = near_copies(images, np.concatenate([ours, theirs]), groups=sides)
    return CrossCopies(dataset.pixels[rows][pairs.first], other.pixels[others][pairs.second - len(rows)])
