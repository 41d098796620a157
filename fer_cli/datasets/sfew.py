"""SFEW 2.0 (Dhall et al. 2015): aligned faces or raw frames in folders of splits and classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Final

from fer_cli.artifacts.sections import SplitName
from fer_cli.core.citations import Citation
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note
from fer_cli.datasets.access import Access
from fer_cli.datasets.class_counts import check_classes
from fer_cli.datasets.image_dataset import (
    INCOMPLETE,
    ImageDatasetLoader,
    ParsedSource,
    check_jobs,
    class_folders,
    count_table,
    first_inside,
    inside,
    refuse_all,
)
from fer_cli.datasets.image_list import ImageEntry
from fer_cli.datasets.records import Block, Loader, Pictured
from fer_cli.datasets.registry import AllowIncomplete, DatasetDefinition, Jobs, Labels, Option, Size, Source
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.splits import count_differences
from fer_cli.faces.aligned import DEFAULT_DETECTION, RULE, FaceDetection

ACCESS: Final = Access(
    title="SFEW 2.0",
    home="https://users.cecs.anu.edu.au/~few_group/AFEW.html",
    how="a member of a university or institute signs the agreement of AFEW and SFEW",
    licence="non-commercial academic research only",
    marks="Train_Aligned_Faces/ and Val_Aligned_Faces/, or Train/ and Val/",
    layouts=(
        "Train_Aligned_Faces/Angry ... Surprise, Val_Aligned_Faces (also in Train/, Val/)",
        "Train/Angry ... Surprise, Val",
    ),
    notes="the aligned faces if there are any, else raw frames, whose faces are found and aligned where a detector's "
    "weights are here ('fer weights ls'); without them, whole frames are used as face crops. "
    "The labels of Test are withheld: Val is the test split, and validation is held out from Train, clips kept whole. "
    "Counts that differ are a warning, because published counts differ too; a missing split is an error.",
)
EMOTIONS: Final = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The expressions in the order of the folders."""
_COUNTS: Final = {
    "raw": {"Train": (178, 66, 98, 198, 150, 172, 96), "Val": (77, 23, 47, 73, 86, 73, 57)},
    "aligned": {"Train": (178, 52, 78, 184, 144, 161, 94), "Val": (77, 23, 46, 72, 84, 73, 56)},
}
COUNTS: Final = {
    layout: {part: dict(zip(EMOTIONS, counts, strict=True)) for part, counts in parts.items()}
    for layout, parts in _COUNTS.items()
}
"""Layout -> part -> expression -> pictures, as commonly told; no list of the authors' was at hand."""
PARTS: Final[dict[str, SplitName]] = {"Train": "train", "Val": "validation"}

_PLACES: Final[Mapping[str, Mapping[str, tuple[tuple[str, ...], ...]]]] = {
    "aligned": {
        "Train": (("Train_Aligned_Faces",), ("Train", "Train_Aligned_Faces")),
        "Val": (
            ("Val_Aligned_Faces_new", "Val_Aligned_Faces"),
            ("Val_Aligned_Faces_new",),
            ("Val_Aligned_Faces",),
            ("Val", "Val_Aligned_Faces"),
            ("Val", "Val_Aligned_Faces_new"),
        ),
    },
    "raw": {"Train": (("Train",),), "Val": (("Val",),)},
}
_FACES: Final = {
    "aligned": "aligned by the authors",
    "raw": "raw frames taken whole, as if they were face crops: no alignment",
}
_CLASSES: Final = f"{', '.join(EMOTIONS)}; other names: --labels"
_CLIP: Final = re.compile(r"(.+)_\d+")
_TEST: Final = ("Test", "Test_Aligned_Faces")


class Sfew(ImageDatasetLoader):
    """SFEW 2.0 with its own labels; Val is reported on, because the labels of Test were never released.

    Args:
        source: the folder that holds Train and Val, or Train_Aligned_Faces and Val_Aligned_Faces.
        raw: take the raw frames also where aligned faces lie beside them.
        allow_incomplete: take a source that lacks Train or Val.
        labels: what the numbers or names of classes mean, where they are not the official ones.
        size: resize every picture to a square of this side in pixels; by default their own size, if they have one.
        jobs: threads that decode.

    Raises:
        FerError: the source is not there or lacks a split, or a file or a name in it is at fault.
    """

    def __init__(
        self,
        *,
        source: Path,
        raw: bool = False,
        allow_incomplete: bool = False,
        labels: str | None = None,
        size: int | None = None,
        jobs: int | None = None,
    ) -> None:
        check_jobs(jobs)
        meanings = SourceLabels("SFEW 2.0", {}, labels, EMOTIONS)
        found = read_folders(source, meanings, raw=raw)
        expected = COUNTS[found.layout]
        missing = [f"{part} is missing" for part in PARTS if part not in found.counts]
        if missing and not allow_incomplete:
            raise FerError(f"not the complete SFEW 2.0: {', '.join(missing)}", hint=INCOMPLETE, path=source)
        check_classes("SFEW 2.0", source, found.counts, expected, meanings, certain=False)
        there = {part: counts for part, counts in expected.items() if part in found.counts}
        if differences := count_differences(found.counts, there):
            for line in count_table("SFEW 2.0", found.counts, there):
                note(line)
            found.warnings.append(f"not the usual counts of SFEW 2.0: {', '.join(differences)}")
        self.raw: Final = found.layout == "raw"
        super().__init__(
            "sfew",
            EMOTIONS,
            found,
            family="sfew",
            official_counts=False,
            missing=missing,
            size=size,
            jobs=jobs,
            labels=meanings,
        )

    def blocks(self) -> Iterator[Block]:
        """Yield the pictures as they are, in the order of their paths, after a look at the headers of all."""
        if self.raw:
            self._found.warnings.append("raw frames are used whole, as face crops: Train_Aligned_Faces is better")
        return super().blocks()

    def pictures(self) -> list[Pictured]:
        """Return the pictures in the order of their paths, after a look at the headers of all."""
        return self._pictures.pictures()


def read_folders(source: Path, meanings: SourceLabels, *, raw: bool = False) -> ParsedSource:
    """List the aligned faces, or the raw frames where there are none.

    Args:
        source: the folder that holds those of the splits.
        meanings: what the folders' names mean.
        raw: list the raw frames in any case.

    Raises:
        FerError: there is neither, one split is aligned and the other is not, or files and folders are at fault.
    """
    places = {
        layout: {part: first_inside(source, *choices) for part, choices in parts.items()}
        for layout, parts in _PLACES.items()
    }
    aligned, frames = places["aligned"], _with_classes(places["raw"], meanings)
    layout = "raw" if raw or not any(aligned.values()) else "aligned"
    chosen, others = (frames, aligned) if layout == "raw" else (aligned, frames)
    if not any(chosen.values()):
        if not any(others.values()):
            raise ACCESS.absent(source)
        raise FerError("no raw frames are here", hint="unpack Train and Val, or omit --align", path=source)
    for part in PARTS:
        if chosen[part] is None and frames[part] is not None:
            other = next(place for place in chosen.values() if place is not None)
            raise FerError(
                f"{part} is raw while {other.name} is aligned", hint=f"unpack {part}_Aligned_Faces too", path=source
            )
    items: list[ImageEntry] = []
    faults: list[FerError] = []
    for part, folder in chosen.items():
        if folder is None:
            continue
        prefix = f"{folder.relative_to(source).as_posix()}/"
        for path, label in class_folders(folder, prefix, meanings.meaning, faults, _CLASSES):
            stem = PurePosixPath(path).stem
            clip = _CLIP.fullmatch(stem)
            items.append(
                ImageEntry(path, part, label, sequence=clip[1] if clip else None, id=f"{part.lower()}/{label}/{stem}")
            )
    refuse_all(faults)
    found = ParsedSource(
        root=source,
        layout=layout,
        items=sorted(items, key=lambda item: item.path),
        parts=PARTS,
        label_rule=f"SFEW 2.0 labels, {layout}",
        faces=_FACES[layout],
    )
    if any(others.values()):
        what = "aligned faces next to the raw frames" if layout == "raw" else "raw frames next to the aligned faces"
        found.warnings.append(f"the {what} were not read")
    found.never_read = tuple(place.relative_to(source).as_posix() for place in others.values() if place is not None)
    tests = [place for name in _TEST if (place := inside(source, name)) is not None and place.is_dir()]
    for place in tests:
        if any(map(meanings.meaning, _folders(place))):
            raise FerError(
                "holds class folders, but the labels of SFEW's Test were never released",
                hint="move it out of the source, or read it by itself with fer prepare folder",
                path=place,
            )
        found.never_read += (place.name,)
    found.unread += ["Test"] if tests else []
    return found


def _with_classes(places: Mapping[str, Path | None], meanings: SourceLabels) -> dict[str, Path | None]:
    """Leave out a folder without class folders: ``Train/`` may hold ``Train_Aligned_Faces/`` alone."""
    return {
        part: place if place is not None and any(map(meanings.meaning, _folders(place))) else None
        for part, place in places.items()
    }


def _folders(place: Path) -> list[str]:
    try:
        return [path.name for path in place.iterdir() if path.is_dir()]
    except OSError as error:
        raise FerError(f"cannot be read: {error.strerror}", hint="check the folder", path=place) from None


def open_sfew(
    *,
    source: Source,
    align: Annotated[
        bool | None,
        Option(
            "Use the raw frames and align the face in each, or align nothing. [default: align where there are no "
            "aligned faces]",
            "--align/--no-align",
        ),
    ] = None,
    detection: FaceDetection = DEFAULT_DETECTION,
    allow_incomplete: AllowIncomplete = False,
    labels: Labels = None,
    size: Size = None,
    jobs: Jobs = None,
) -> Loader:
    """Open SFEW 2.0, raw frames with their faces aligned unless ``align`` is False.

    Raises:
        FerError: the source is at fault.
    """
    loader = Sfew(
        source=source, raw=bool(align), allow_incomplete=allow_incomplete, labels=labels, size=size, jobs=jobs
    )
    if loader.raw and align is not False:
        return detection.align(loader, size=size, name="sfew-raw-aligned", jobs=jobs, asked=bool(align))
    detection.refuse_unused()
    return loader


DHALL_2011: Final = Citation(
    "dhall-2011-sfew",
    "inproceedings",
    "Static facial expression analysis in tough conditions: Data, evaluation protocol and benchmark",
    ("Dhall, A.", "Goecke, R.", "Lucey, S.", "Gedeon, T."),
    2011,
    {
        "booktitle": "2011 IEEE International Conference on Computer Vision Workshops (ICCV Workshops)",
        "pages": "2106–2112",
        "publisher": "IEEE",
    },
)
DHALL_2015: Final = Citation(
    "dhall-2015-emotiw",
    "inproceedings",
    "Video and image based emotion recognition challenges in the wild: EmotiW 2015",
    ("Dhall, A.", "Ramana Murthy, O.", "Goecke, R.", "Joshi, J.", "Gedeon, T."),
    2015,
    {
        "booktitle": "Proceedings of the 2015 ACM on international conference on multimodal interaction",
        "pages": "423–426",
    },
)
DATASET: Final = DatasetDefinition(
    summary="SFEW 2.0: aligned faces, or raw frames.",
    help=f"{ACCESS.help()}\n\n{RULE}",
    open=open_sfew,
    citations=(DHALL_2011, DHALL_2015),
    loaders=(Sfew,),
)
