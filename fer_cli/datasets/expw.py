"""ExpW, Expression in-the-Wild (Zhang, Luo, Loy and Tang 2018): faces by their boxes in images from the web."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fer_cli.core.citations import Citation
from fer_cli.core.errors import FerError
from fer_cli.core.progress import track
from fer_cli.datasets.access import Access
from fer_cli.datasets.image_dataset import (
    ImageDatasetLoader,
    ParsedSource,
    check_counts,
    check_jobs,
    first_inside,
    refuse_all,
)
from fer_cli.datasets.image_files import native, portable
from fer_cli.datasets.image_list import WHOLE, ImageEntry, path_fault
from fer_cli.datasets.registry import AllowIncomplete, DatasetDefinition, Jobs, Labels, Size, Source
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.tables import text_lines

ACCESS: Final = Access(
    title="ExpW",
    home="http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html",
    how="a direct download of label.lst and of the parts of an archive, origin.7z",
    licence="non-commercial research only",
    marks="label/label.lst and image/origin/, also in data/",
    layouts=("label/label.lst, image/origin (also in data/)",),
    notes="91,793 labelled faces, several in some images, each cut out by its box in label.lst. There is no official "
    "split: test (20%) and validation are held out from all faces, and the faces of one image stay in one split. "
    "The detector's confidence in each box becomes a flag in bands of 20 points, so that reports have a row for each; "
    "no face is left out by it. The subjects are unknown, so nothing shows whether one is in two splits.",
)
EMOTIONS: Final = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The expressions by the ids of the source."""
OFFICIAL: Final = {WHOLE: dict(zip(EMOTIONS, (3671, 3995, 1088, 30537, 10559, 7060, 34883), strict=True))}
"""Expression -> faces in the complete ``label.lst``: 91,793."""

_BANDS: Final = (0, 20, 40, 60, 80, 100)
_FIELDS: Final = 8  # name, face, top, left, right, bottom, confidence, expression
_FORM: Final = "lines read 'image_name face_id top left right bottom confidence expression'"


class ExpW(ImageDatasetLoader):
    """ExpW's labelled faces, seven expressions.

    Args:
        source: the folder that holds ``label/`` and ``image/``, or ``data/`` with them.
        allow_incomplete: accept a list that lacks faces.
        labels: what the numbers of expressions mean, where they are not the official ones.
        size: resize every face to a square of this side in pixels; by default 112.
        jobs: threads that decode.

    Raises:
        FerError: the source is not there or not complete, or a line of the list is at fault.
    """

    def __init__(
        self,
        *,
        source: Source,
        allow_incomplete: AllowIncomplete = False,
        labels: Labels = None,
        size: Size = None,
        jobs: Jobs = None,
    ) -> None:
        check_jobs(jobs)
        meanings = SourceLabels("ExpW", dict(zip(map(str, range(len(EMOTIONS))), EMOTIONS, strict=True)), labels)
        table = first_inside(source, ("label", "label.lst"), ("data", "label", "label.lst"))
        if table is None:
            raise ACCESS.absent(source)
        images = first_inside(table.parent.parent, ("image", "origin"))
        if images is None:
            missing = table.parent.parent / "image" / "origin"
            raise FerError("this folder is missing", hint="unpack origin.7z", path=missing)
        parsed = read_labels(table, images, meanings)
        parsed.source = source
        differences = check_counts("ExpW", source, parsed.counts, OFFICIAL, allow=allow_incomplete, labels=meanings)
        super().__init__(
            "expw", EMOTIONS, parsed, family="expw", missing=differences, size=size, jobs=jobs, labels=meanings
        )


def read_labels(table: Path, images: Path, meanings: SourceLabels) -> ParsedSource:
    """Read ``label.lst``: a face a line.

    Raises:
        FerError: the first line at fault, with the number of the others.
    """
    faces: list[ImageEntry] = []
    faults: list[FerError] = []
    first_line: dict[str, int] = {}
    with track("read expw", None, "faces") as advance:
        for line, text in text_lines(table):
            advance()
            fields = text.rsplit(maxsplit=_FIELDS - 1)
            path = native(images, fields[0]) if fields else ""
            fault = _fault(fields, images, path)
            label = meanings.meaning(fields[-1], names=False)
            if fault is None and label is None:
                what = f"unknown expression id {fields[-1][:40]!r}"
                fault = what, "ExpW has 0 to 6: use the original list, or give --labels"
            if fault is None and label is not None:
                name, face = portable(path), fields[1]
                identity = f"{name}#{face}"
                if first_line.setdefault(identity, line) == line:
                    top, left, right, bottom = map(int, fields[2:6])
                    box = left, top, right, bottom
                    flags = (f"box confidence={_band(float(fields[6]))}",)
                    faces.append(
                        ImageEntry(path, None, label, line, sequence=name, id=portable(identity), flags=flags, box=box)
                    )
                    continue
                fault = f"{identity} is already in line {first_line[identity]}", "keep one line per face"
            assert fault is not None
            faults.append(FerError(fault[0], hint=fault[1], path=table, line=line))
    refuse_all(faults)
    return ParsedSource(
        root=images,
        layout="label.lst",
        items=sorted(faces, key=lambda entry: entry.id or ""),
        parts={WHOLE: "train"},
        label_rule="ExpW labels",
        faces="cropped by the boxes of label.lst: not aligned",
        labels={"labels": table},
        tables={WHOLE: table},
    )


def _band(confidence: float) -> str:
    """Return the band of 20 points that a confidence lies in, which is a subgroup of the faces."""
    if confidence >= _BANDS[-1]:
        return f"{_BANDS[-1]}+"
    index = max(bisect.bisect_right(_BANDS, confidence) - 1, 0)
    return f"{_BANDS[index]}-{_BANDS[index + 1]}"


def _fault(fields: Sequence[str], images: Path, path: str) -> tuple[str, str] | None:
    """Return what is wrong with the fields of a line and what to do about it, or None."""
    if len(fields) != _FIELDS:
        return f"expected {_FIELDS} fields, got {len(fields)}", _FORM
    name, face, *box, confidence, _ = fields
    if "/" in name:
        return f"{name[:80]!r} is not a file name", "names are those of the images in image/origin"
    if fault := path_fault(images, path):
        return fault
    if not face.isdecimal():
        return f"{face[:40]!r} is not a face id", _FORM
    try:
        top, left, right, bottom = map(int, box)
        if not 0 <= float(confidence) <= 1e6:
            raise ValueError
    except ValueError:
        return f"{' '.join([*box, confidence])[:60]!r} is not a box and its confidence", _FORM
    if right <= left or bottom <= top:
        return f"the box from {left},{top} to {right},{bottom} is empty", _FORM
    return None


ZHANG_2018: Final = Citation(
    "zhang-2018-expw", "misc", "ExpW, Expression in-the-Wild", ("Zhang", "Luo", "Loy", "Tang"), 2018
)
DATASET: Final = DatasetDefinition(
    summary="ExpW: faces in images from the web, label/label.lst.",
    help=ACCESS.help(),
    open=ExpW,
    citations=(ZHANG_2018,),
)
