"""CK+ (Lucey et al. 2010): the official layout of sequences, and the common one of 48x48 pictures in class folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

from fer_cli.core.citations import Citation
from fer_cli.core.errors import FerError, UsageError
from fer_cli.datasets.access import Access
from fer_cli.datasets.ck_sequences import (
    EMOTIONS,
    FRAME,
    LAST,
    SEQUENCE_LAYOUT,
    SEQUENCES,
    frame_entry,
    parsed,
    read_sequences,
)
from fer_cli.datasets.ckextended import CkExtended, find_table
from fer_cli.datasets.image_dataset import (
    ImageDatasetLoader,
    ParsedSource,
    check_counts,
    check_jobs,
    class_folders,
    first_inside,
    one_layout,
    refuse_all,
)
from fer_cli.datasets.image_files import SUFFIXES
from fer_cli.datasets.image_list import WHOLE, ImageEntry
from fer_cli.datasets.records import Block, Loader, Pictured
from fer_cli.datasets.registry import AllowIncomplete, DatasetDefinition, Jobs, Labels, Option, Size, Source
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.faces.aligned import DEFAULT_DETECTION, RULE, FaceDetection

ACCESS: Final = Access(
    title="CK+",
    home="http://www.jeffcohn.net/Resources/",
    how="a member of a university or institute signs the agreement and sends it in",
    licence="non-commercial research only, only the subjects that gave consent may be printed",
    marks="cohn-kanade-images/ with Emotion/, CK+48/ or its class folders, ckextended.csv",
    layouts=(
        "cohn-kanade-images/S005/001, Emotion/S005/001",
        "anger/S010_004_00000017.png ... surprise/ (also in CK+48/)",
        "ckextended.csv",
    ),
    notes="the last three frames of the 327 labelled sequences, seven classes without neutral. Test (20%) and "
    "validation are held out by subject, so nobody is in two splits; ckextended.csv names no subjects: its own split "
    "is kept, with a warning. The official frames are taken whole: faces are not cut out.",
)
_CLASSES: Final = f"{', '.join(EMOTIONS.values())}; other names or numbers: --labels"
MOST_RANDOM: Final = 100
"""The most frames of a sequence that are drawn at random."""
_NEVER_READ: Final = ("FACS", "FACS_labels", "Landmarks")


def open_ckplus(
    *,
    source: Source,
    neutral: Annotated[bool, Option("Add the first frame of each labelled sequence as neutral.")] = False,
    contempt: Annotated[bool, Option("With or without contempt.", "--contempt/--no-contempt")] = True,
    random_frames: Annotated[
        int | None,
        Option(
            "So many random frames of each sequence in place of the last three: only to reproduce a paper, since many "
            "are near neutral."
        ),
    ] = None,
    align: Annotated[
        bool, Option("Align the face in each frame of the official layout.", "--align/--no-align")
    ] = False,
    detection: FaceDetection = DEFAULT_DETECTION,
    allow_incomplete: AllowIncomplete = False,
    labels: Labels = None,
    size: Size = None,
    jobs: Jobs = None,
) -> Loader:
    """Open CK+ in whichever layout it is.

    Args:
        source: the folder that holds a layout, or ``ckextended.csv``.
        neutral: take the first frame of each sequence as neutral.
        contempt: take the sequences of contempt.
        random_frames: take so many frames of each sequence at random, whatever they show, in place of the last three.
        align: align the face in each raw frame.
        detection: how faces are found.
        allow_incomplete: take a source that lacks sequences or frames.
        labels: what the numbers or names of classes mean, where they are not the official ones.
        size: resize every picture to a square of this side in pixels; ``ckextended.csv`` stays as it is.
        jobs: threads that decode.

    Raises:
        FerError: the source is not there or not complete, there are several, or a file or a name is at fault.
    """
    loader = _open(
        source,
        neutral=neutral,
        contempt=contempt,
        random_frames=random_frames,
        allow_incomplete=allow_incomplete,
        labels=labels,
        size=size,
        jobs=jobs,
    )
    if not align:
        detection.refuse_unused()
        return loader
    if isinstance(loader, CkPlus) and loader.raw:
        return detection.align(loader, size=size, jobs=jobs)
    raise FerError("no raw frames are here", hint="give the official layout, or omit --align", path=source)


def _open(
    source: Path,
    *,
    neutral: bool,
    contempt: bool,
    random_frames: int | None,
    allow_incomplete: bool,
    labels: str | None,
    size: int | None,
    jobs: int | None,
) -> Loader:
    check_jobs(jobs)
    if random_frames is not None and not 1 <= random_frames <= MOST_RANDOM:
        raise UsageError(f"--random-frames {random_frames} is out of range", hint=f"take 1 to {MOST_RANDOM}")
    if random_frames is not None and neutral:
        raise UsageError("--random-frames and --neutral exclude each other", hint="omit one")
    meanings = SourceLabels("CK+", EMOTIONS, labels)
    if source.is_file():
        layout, table, pictures = "ckextended.csv", source, None
    else:
        images = first_inside(source, ("cohn-kanade-images",), ("extended-cohn-kanade-images", "cohn-kanade-images"))
        emotions = first_inside(source, ("Emotion",), ("Emotion_labels", "Emotion"))
        pictures = first_inside(source, ("CK+48",)) or (source if _has_classes(source, meanings) else None)
        found_table = find_table(source)
        layouts = {
            "Emotion/": emotions or images,
            "class folders of 48x48 pictures": pictures,
            "ckextended.csv": found_table,
        }
        layout = one_layout(source, layouts, ACCESS)
        table = found_table or source
    if random_frames is not None and layout != "Emotion/":
        raise FerError(
            "this layout has the last frames alone, so none can be drawn at random",
            hint="omit --random-frames, or give the official layout",
            path=source,
        )
    if layout == "ckextended.csv":
        if size is not None:
            raise FerError("ckextended.csv is not resized", hint="omit --size", path=table)
        name = artifact_name(neutral=neutral, contempt=contempt)
        return CkExtended(
            table=table,
            folder=source if source.is_dir() else None,
            name=name,
            neutral=neutral,
            contempt=contempt,
            allow_incomplete=allow_incomplete,
            labels=labels,
        )
    expected = {
        name: (random_frames or LAST) * number for name, number in SEQUENCES.items() if contempt or name != "contempt"
    }
    if layout == "Emotion/":
        found = read_sequences(source, meanings, neutral=neutral, contempt=contempt, random_frames=random_frames)
        if neutral:
            expected["neutral"] = sum(expected.values()) // LAST
    else:
        if neutral:
            raise FerError(
                "this layout has no first frames, so none is neutral",
                hint="omit --neutral, or give the official layout",
                path=source,
            )
        found = read_folders(pictures or source, meanings, contempt=contempt)
    found.source, found.never_read = source, _NEVER_READ
    missing = check_counts("CK+", source, found.counts, {WHOLE: expected}, allow=allow_incomplete, labels=meanings)
    return CkPlus(
        found,
        missing=missing,
        size=size,
        jobs=jobs,
        neutral=neutral,
        contempt=contempt,
        labels=meanings,
        random_frames=random_frames,
    )


def artifact_name(*, neutral: bool, contempt: bool, random_frames: int | None = None) -> str:
    """Return ``ckplus``, with what tells other sets of classes and frames apart behind it."""
    drawn = "" if random_frames is None else f"-random{random_frames}"
    return "ckplus" + drawn + "-neutral" * neutral + "-no-contempt" * (not contempt)


class CkPlus(ImageDatasetLoader):
    """CK+ as pictures; test and validation are carved by person.

    Args:
        found: the source, read and checked.
        missing: what it lacks, in words, where that was allowed.
        size: resize every picture to a square of this side in pixels.
        jobs: threads that decode.
        neutral: first frames are in it.
        contempt: contempt is in it.
        labels: what the source's labels were taken for.
        random_frames: so many of each sequence were drawn at random; None: the last ones.
    """

    def __init__(
        self,
        found: ParsedSource,
        *,
        missing: list[str],
        size: int | None,
        jobs: int | None,
        neutral: bool,
        contempt: bool,
        labels: SourceLabels,
        random_frames: int | None = None,
    ) -> None:
        self._random_frames = random_frames
        self.raw: Final = found.layout == SEQUENCE_LAYOUT
        classes = [name for name in EMOTIONS.values() if contempt or name != "contempt"]
        name = artifact_name(neutral=neutral, contempt=contempt, random_frames=random_frames)
        super().__init__(
            name,
            [*classes, *["neutral"] * neutral],
            found,
            family="ckplus",
            missing=missing,
            size=size,
            jobs=jobs,
            labels=labels,
        )

    @property
    def config(self) -> dict[str, Any]:
        """What decides the pictures: of frames at random how many, too."""
        drawn = {} if self._random_frames is None else {"random_frames": self._random_frames}
        return {**super().config, **drawn}

    def blocks(self) -> Iterator[Block]:
        """Yield the pictures as they are, in the order of their paths, after a look at the headers of all."""
        if self.raw:
            self._found.warnings.append("frames are used whole, as face crops: align them with --align")
        return super().blocks()

    def pictures(self) -> list[Pictured]:
        """Return the frames in the order of their paths, after a look at the headers of all."""
        return self._pictures.pictures()


def read_folders(root: Path, meanings: SourceLabels, *, contempt: bool) -> ParsedSource:
    """List ``anger/S010_004_00000017.png`` and the like.

    Raises:
        FerError: the first fault in the order of files, with the number of the others.
    """
    faults: list[FerError] = []
    items: list[ImageEntry] = []
    dropped: list[Path] = []
    first: dict[str, tuple[str, str]] = {}
    for path, label in class_folders(root, "", meanings.meaning, faults, _CLASSES):
        name = FRAME.fullmatch(PurePosixPath(path).name)
        if name is None:
            hint = "the names are S010_004_00000017.png; others: fer prepare folder"
            faults.append(FerError("is not a file name of CK+", hint=hint, path=root / path))
        elif (other := first.setdefault(name[1], (label, path)))[0] != label:
            what = f"sequence {name[1]} is {label} here and {other[0]} in {other[1]}"
            faults.append(FerError(what, hint="get the data set again", path=root / path))
        elif contempt or label != "contempt":
            items.append(frame_entry(path, label, name[1]))
        else:
            dropped.append(root / path)
    refuse_all(faults)
    found = parsed(root, "class folders", items, f"CK+ labels of sequences, the last {LAST} frames of each")
    found.dropped = {"contempt": len(dropped)} if dropped else {}
    found.known = dropped
    return found


def _has_classes(source: Path, meanings: SourceLabels) -> bool:
    """Tell whether a folder holds class folders with pictures."""
    try:
        folders = [path for path in source.iterdir() if path.is_dir() and meanings.meaning(path.name)]
    except OSError:
        return False
    return any(path.suffix.lower() in SUFFIXES for folder in folders for path in folder.iterdir())


LUCEY_2010: Final = Citation("lucey-2010-ckplus", "misc", "CK+", ("Lucey", "others"), 2010)
DATASET: Final = DatasetDefinition(
    summary="CK+: official sequences, class folders, or ckextended.csv.",
    help=f"{ACCESS.help()}\n\n{RULE}",
    open=open_ckplus,
    citations=(LUCEY_2010,),
    loaders=(CkPlus, CkExtended),
)
