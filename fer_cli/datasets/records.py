"""What every loader yields, and what the prepare stage writes: rows of the index, in blocks with their pixels.

A new data set is a module of this package with one class that has the shape of :class:`Loader`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.protocol import Alignment, ClassNumbers, Leftover, OddImages, PartRole, VotesAgreement
from fer_cli.artifacts.sections import SPLIT_NAMES

SPLITS = SPLIT_NAMES


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a data set. ``label`` is a canonical name; ``source`` is relative to the data set's root.

    ``split`` is one of ``SPLITS``, or the source's own name of the part (``PublicTest``) that
    ``LoadReport.split_of`` translates once all rows were read.
    """

    id: str
    split: str
    label: str
    source: str
    line: int | None = None  # of the source file, counted from 1, where the source is a table
    width: int = 0  # of the picture as it was found, in pixels
    height: int = 0
    subject: str | None = None
    sequence: str | None = None
    votes: tuple[int, ...] | None = None  # raw counts, in the order of ``LoadReport.vote_columns``
    target: tuple[float, ...] | None = None  # a soft label, in the order of ``LoadReport.classes``
    flags: tuple[str, ...] = ()
    is_cut_out: bool = False  # a part of its file, which may hold other faces
    source_hash: str | None = None  # of the file's bytes, which prepare hashes, or of what a picture is drawn from
    decoded_hash: str | None = None  # before resizing and alignment; None where the block holds the image as it was


@dataclass(frozen=True, slots=True)
class Block:
    """Rows with their pixels; all blocks of one data set have images of the same shape.

    ``images``: (n, H, W) grey or (n, H, W, 3) RGB, uint8. ``masks``: (n, H, W) uint8 indices into
    ``labels.REGIONS``. ``aus``: (n, len(LoadReport.au_columns)) float32 intensities in [0, 1].
    """

    rows: tuple[Row, ...]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None = None
    aus: NDArray[np.float32] | None = None


@dataclass(slots=True)
class LoadReport:
    """What a loader knows once all blocks are read."""

    classes: tuple[str, ...]
    label_rule: str  # one phrase for the protocol: "FER2013 labels", "FER+ official majority" ...
    family: str = "other"  # what it is of, such as "fer2013": official figures and accuracies are known by this
    synthetic: bool = False  # the faces are rendered: no claim about real ones can be made
    official_counts: bool = False  # the counts were compared with published ones
    parts: list[PartRole] = field(default_factory=list)  # what the source's parts are used for
    faces: str | None = None  # how an image was made of what the authors took, one phrase
    subjects_remark: str | None = None  # what a reader should know of its subjects, one phrase
    split_of: dict[str, str] = field(default_factory=dict)  # Row.split -> split, where it is known only at the end
    missing: list[str] = field(default_factory=list)  # what --allow-incomplete let pass
    leftovers: list[Leftover] = field(default_factory=list)  # what the source holds and was not read
    odd_images: list[OddImages] = field(default_factory=list)  # by their size; blank ones are found by prepare
    warnings: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> rows
    vote_columns: tuple[str, ...] = ()
    numbering: ClassNumbers | None = None  # where the source has numbers for expressions
    votes_agreement: VotesAgreement | None = None  # where votes were joined to images by row order
    au_columns: tuple[str, ...] = ()
    carve_validation: bool = False  # the source has no validation split: carve one from train
    carve_test: bool = False  # the source has no split at all: carve a test split too
    alignment: Alignment | None = None  # where faces were to be aligned
    alignment_record: dict[str, Any] = field(default_factory=dict)  # detector, weights, template, counts: the summary


class Loader(Protocol):
    """A data set's source, opened. Construction finds the files and fails early; ``blocks`` is read once."""

    @property
    def name(self) -> str:
        """The artifact's name; it carries what tells artifacts apart (``ferplus``, ``ferplus-votes``)."""

    @property
    def files(self) -> dict[str, Path]:
        """Every file whose bytes decide the result: their hashes make the artifact's version.

        Each stands under what the result depends on beside the bytes: its role (``table``, ``votes``), or, where
        folders are labels, its path below the source.
        """

    @property
    def config(self) -> dict[str, Any]:
        """Every setting that changes the result, as plain JSON values."""

    @property
    def expected_rows(self) -> int | None:
        """How many rows will come, where that is known beforehand: for the progress bar and the disk check."""

    def blocks(self) -> Iterator[Block]:
        """Yield the data set in a fixed order. Raises FerError with file and line on the first fault."""

    def report(self) -> LoadReport:
        """Check totals against the official ones and tell what was found; called after the last block."""


@dataclass(frozen=True, slots=True)
class Pictured:
    """A row whose pixels are a picture file; ``grey`` where that has no colour."""

    row: Row
    path: Path
    grey: bool


class PictureLoader(Loader, Protocol):
    """A loader of picture files, which can be read by others: to align their faces."""

    def pictures(self) -> Sequence[Pictured]:
        """Return the rows of all blocks in their order, with the size of each picture; it is not decoded yet."""
