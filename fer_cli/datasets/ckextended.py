"""``ckextended.csv``: one frame of each sequence of CK+ in the form of FER2013's table, without subjects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fer_cli.core.labels import in_order
from fer_cli.datasets.image_dataset import check_counts, inside
from fer_cli.datasets.image_list import WHOLE
from fer_cli.datasets.leftovers import find_unread
from fer_cli.datasets.pixel_table import PARTS, SIDE, Form, ids, table_blocks
from fer_cli.datasets.records import Block, LoadReport, Row
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.splits import assign_roles

EMOTIONS: Final = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
"""The expressions by the ids of the source: those of FER2013, and contempt."""
OFFICIAL: Final = dict(zip(EMOTIONS, (45, 59, 25, 69, 28, 83, 593, 18), strict=True))
"""Expression -> rows: a peak frame of each labelled sequence, and the first frame of every sequence."""

_NAMES: Final = ("ckextended.csv", "ckextended.csv.zip", "ckextended.zip", "ckextended.csv.gz", "ckextended.csv.xz")
_FORM: Final = Form("ckextended.csv", EMOTIONS, {}, ("ckextended.csv",))


class CkExtended:
    """CK+ as one table of pixels, with the split that is written in it.

    Args:
        table: the csv, plain or packed.
        folder: the folder that the user gave, if it was one.
        name: the artifact's name.
        neutral: take the rows of neutral.
        contempt: take the rows of contempt.
        allow_incomplete: take a table that lacks rows.
        labels: what the numbers mean, where they are not the official ones.
    """

    def __init__(
        self,
        *,
        table: Path,
        folder: Path | None,
        name: str,
        neutral: bool,
        contempt: bool,
        allow_incomplete: bool,
        labels: str | None,
    ) -> None:
        self._table = table
        self._name = name
        out = {"neutral" * (not neutral), "contempt" * (not contempt)}
        self._classes = tuple(label for label in EMOTIONS if label not in out)
        self._allow_incomplete = allow_incomplete
        self._labels = SourceLabels("ckextended.csv", ids(EMOTIONS), labels)
        self._leftovers = find_unread(folder, [table]).leftovers() if folder is not None else []
        self._found: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """The artifact's name."""
        return self._name

    @property
    def files(self) -> dict[str, Path]:
        """The table."""
        return {"table": self._table}

    @property
    def config(self) -> dict[str, Any]:
        """The layout, and the classes that are taken."""
        return {"layout": "ckextended.csv", "classes": list(in_order(self._classes)), **self._labels.config}

    @property
    def expected_rows(self) -> int | None:
        """The rows of the complete table; None where rows may be lacking."""
        return None if self._allow_incomplete else sum(OFFICIAL[name] for name in self._classes)

    def blocks(self) -> Iterator[Block]:
        """Yield the images as (n, 48, 48) uint8, in the order of the table."""
        for block in table_blocks(self._table, _FORM, self._labels, self._leftovers):
            keep = [index for index, label in enumerate(block.labels) if label in self._classes]
            self._found.update(block.labels)
            self._kept.update(block.parts[index] for index in keep)
            rows = [
                Row(
                    id=block.id(index),
                    split=block.parts[index],
                    label=block.labels[index],
                    source=self._table.name,
                    line=block.lines[index],
                    width=SIDE,
                    height=SIDE,
                )
                for index in keep
            ]
            if rows:
                yield Block(tuple(rows), block.images[keep])

    def report(self) -> LoadReport:
        """Check the counts against those of CK+.

        Raises:
            FerError: rows are lacking, and that was not allowed.
        """
        missing = check_counts(
            "ckextended.csv",
            self._table,
            {WHOLE: self._found},
            {WHOLE: OFFICIAL},
            allow=self._allow_incomplete,
            labels=self._labels,
        )
        roles = assign_roles({part: split for part, split in PARTS.items() if self._kept[part]})
        number = " + ".join(f"{self._kept[part]:,} {part}" for part in PARTS if self._kept[part])
        return LoadReport(
            classes=in_order(self._classes),
            label_rule=f"CK+ labels of sequences, one frame of each, N = {number}",
            family="ckplus",
            official_counts=True,
            parts=roles.parts,
            subjects_remark="not named here: a subject may be in several splits",
            split_of=roles.split_of,
            missing=missing,
            leftovers=self._leftovers,
            numbering=self._labels.numbering,
            warnings=[
                "ckextended.csv names no subjects: one may be in several splits, so scores are optimistic",
                *self._labels.check_used(),
            ],
            dropped={f"{label}": self._found[label] for label in EMOTIONS if label not in self._classes},
            carve_validation=roles.carve_validation,
            carve_test=roles.carve_test,
        )


def find_table(source: Path) -> Path | None:
    """Return ``ckextended.csv`` in a folder, plain or packed, or None."""
    return next((place for name in _NAMES if (place := inside(source, name)) is not None), None)
