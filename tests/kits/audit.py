"""Drawn faces of several persons as a source whose rows a test changes: clean as it comes, with one defect planted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_cli.core.labels import in_order
from fer_cli.datasets.records import Block, LoadReport, Row
from fer_cli.datasets.synth.loader import Synth

Picture = NDArray[np.uint8]


@dataclass
class Faces:
    """A source in memory. ``nf`` holds votes for "no face" of ten, where there are any."""

    rows: list[Row]
    images: list[Picture]
    report_with: dict[str, Any] = field(default_factory=dict)
    name: str = "faces"
    files: dict[str, Path] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def expected_rows(self) -> int | None:
        return len(self.rows)

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.rows), 10):
            yield Block(tuple(self.rows[start : start + 10]), np.stack(self.images[start : start + 10]))

    def report(self) -> LoadReport:
        return LoadReport(in_order(row.label for row in self.rows), "drawn", **self.report_with)

    def first(self, split: str) -> int:
        return next(at for at, row in enumerate(self.rows) if row.split == split)

    def add(self, of: int, picture: Picture | None = None, **other: Any) -> Row:
        """Add a copy of a row, with another picture or other fields, and return it."""
        row = replace(self.rows[of], id=f"copy-{len(self.rows)}", **other)
        self.rows.append(row)
        self.images.append(self.images[of].copy() if picture is None else picture)
        return row


@cache
def _drawn() -> tuple[tuple[Row, ...], Picture]:
    loader = Synth(images=98, subjects=14, size=48, imbalance=1.0, contempt=False, grey=True, jobs=1, seed=0)
    blocks = list(loader.blocks())
    return tuple(row for block in blocks for row in block.rows), np.concatenate([block.images for block in blocks])


def faces(**report_with: Any) -> Faces:
    """Return 98 faces of fourteen persons, each person in one split."""
    rows, images = _drawn()
    return Faces(list(rows), [image.copy() for image in images], report_with)


def flipped(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[:, ::-1])


def rescaled(picture: Picture) -> Picture:
    """To 64% and back, and through a JPEG."""
    side = len(picture)
    small = Image.fromarray(picture).resize((round(0.64 * side),) * 2, Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    small.resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=70)
    return np.asarray(Image.open(stream))


def brighter(picture: Picture) -> Picture:
    return np.clip(1.25 * picture.astype(float) + 12, 0, 255).astype(np.uint8)


def shifted(picture: Picture) -> Picture:
    return np.pad(picture, ((1, 0), (1, 0)), mode="edge")[:-1, :-1]


def cropped(picture: Picture) -> Picture:
    """Two pixels taken off each side, and back to size."""
    side = len(picture)
    box = (2, 2, side - 2, side - 2)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC, box=box))
