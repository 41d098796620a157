"""What the loaders of data sets in official layouts share: finding folders, strict counts, and the loader itself."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from fer_cli.artifacts.protocol import Leftover, PartRole
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.errors import FerError
from fer_cli.core.labels import in_order
from fer_cli.core.progress import note
from fer_cli.datasets.access import Access
from fer_cli.datasets.class_counts import Counts, check_classes
from fer_cli.datasets.image_files import SUFFIXES, not_an_image, refuse, walk
from fer_cli.datasets.image_list import WHOLE, ImageEntry, Pictures
from fer_cli.datasets.leftovers import find_unread
from fer_cli.datasets.records import Block, LoadReport
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.splits import assign_roles, count_differences

INCOMPLETE: Final = "get the whole data set, or accept what is there with --allow-incomplete"


@dataclass(slots=True)
class ParsedSource:
    """A source whose layout was recognised and whose lists were read and checked, all but the pixels.

    Attributes:
        root: what the items' paths are relative to.
        layout: the layout, in a word.
        items: the pictures, in the order in which they come out.
        parts: the source's name of each part -> the split that it is by its name.
        label_rule: whose labels these are, in a phrase.
        faces: how a picture was made of what the authors took, in a phrase.
        labels: role -> file, of every file beside the pictures whose bytes decide the result.
        tables: part -> the table whose lines the items name.
        subjects_remark: what a reader should know of its subjects.
        unread: parts whose labels were never released.
        leftovers: what was not read beside the files that :func:`find_unread` finds: columns of a table, sequences.
        dropped: reason -> pictures that were left out.
        source: the folder that the user gave, which is looked through for what was not read; by default ``root``.
        known: files that were left out with a reason, and folders all of whose files were.
        never_read: patterns of what belongs to the data set and is not for this loader, as ``find_unread`` takes them.
        warnings: what a person should know.
    """

    root: Path
    layout: str
    items: list[ImageEntry]
    parts: dict[str, SplitName]
    label_rule: str
    faces: str
    labels: dict[str, Path] = field(default_factory=dict)
    tables: dict[str, Path] = field(default_factory=dict)
    subjects_remark: str | None = None
    unread: list[str] = field(default_factory=list)
    leftovers: list[Leftover] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    source: Path | None = None
    known: list[Path] = field(default_factory=list)
    never_read: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Return part -> expression -> pictures that are there."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for item in self.items:
            counts[item.split or WHOLE][item.label] += 1
        return dict(counts)


class ImageDatasetLoader:
    """The loader of a data set whose pictures lie in an official layout or a common re-layout.

    Args:
        name: the artifact's name.
        classes: the expressions that the complete data set has.
        found: the source, read and checked.
        family: what it is of, whatever its name.
        missing: what it lacks, in words, where that was allowed.
        official_counts: the counts were compared with the published ones, one by one.
        size: resize every picture to a square of this side in pixels (see ``listed.Pictures``).
        jobs: threads that decode.
        labels: what the source's labels were taken for.

    Raises:
        FerError: what was given as ``--labels`` names none of them, or the source holds a folder of images that looks
            like a split or a class and is none of the data set's.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        found: ParsedSource,
        *,
        family: str,
        missing: Sequence[str],
        official_counts: bool = True,
        size: int | None,
        jobs: int | None,
        labels: SourceLabels | None = None,
    ) -> None:
        self._name, self._family, self._official_counts = name, family, official_counts
        self._classes = in_order(classes)
        self._found = found
        self._missing = list(missing)
        self._labels = labels
        if labels is not None:
            found.warnings += labels.check_used()
        self._pictures = Pictures(found.root, found.items, size=size, jobs=jobs, tables=found.tables)
        source = found.source or found.root
        read = (*(found.root / item.path for item in found.items), *found.labels.values(), *found.known)
        unread = find_unread(source, read, parts=found.never_read)
        one = next((found.root / item.path for item in found.items), None)
        unread.refuse_lookalikes(found.root, [] if labels is None else labels.codes, like=one)
        (table,) = found.tables.values() if len(found.tables) == 1 else (None,)
        complete = official_counts and not missing  # then no image of the data set is among those that were not read
        found.leftovers += unread.leftovers(table=table, images_matter=not complete)

    @property
    def name(self) -> str:
        """The artifact's name."""
        return self._name

    @property
    def files(self) -> dict[str, Path]:
        """Every picture under its path below the source, and the files that hold labels."""
        return self._found.labels | self._pictures.files

    @property
    def config(self) -> dict[str, Any]:
        """The layout, the classes, how faces were cut out, and how pictures are resized where they have to be."""
        found = self._found
        classes = list(self._classes)
        given = {} if self._labels is None else self._labels.config
        return {"layout": found.layout, "classes": classes, "faces": found.faces, **given, **self._pictures.config}

    @property
    def expected_rows(self) -> int:
        """The number of pictures."""
        return len(self._found.items)

    def blocks(self) -> Iterator[Block]:
        """Yield the pictures in the order of their list, after a look at the headers of all."""
        return self._pictures.blocks()

    def report(self) -> LoadReport:
        """Tell what became of the source's parts."""
        found = self._found
        counts = found.counts
        roles = assign_roles({part: split for part, split in found.parts.items() if part in counts})
        numbers = {part: f"{counts[part].total():,}" for part in found.parts if part in counts}
        number = " + ".join(text if part == WHOLE else f"{text} {part}" for part, text in numbers.items())
        return LoadReport(
            classes=self._classes,
            label_rule=f"{found.label_rule}, N = {number}",
            family=self._family,
            official_counts=self._official_counts,
            parts=[*roles.parts, *(PartRole(part=part, use="not read") for part in found.unread)],
            faces=found.faces,
            subjects_remark=found.subjects_remark,
            split_of=roles.split_of,
            missing=self._missing,
            leftovers=found.leftovers,
            odd_images=self._pictures.odd_images,
            numbering=None if self._labels is None else self._labels.numbering,
            warnings=[*found.warnings, *self._pictures.warnings],
            dropped=found.dropped,
            carve_validation=roles.carve_validation,
            carve_test=roles.carve_test,
        )


def check_jobs(jobs: int | None) -> None:
    """Refuse a number of threads that is none.

    Raises:
        FerError: it is out of range.
    """
    if jobs is not None and not 1 <= jobs <= 256:
        raise FerError(f"--jobs {jobs} is out of range", hint="give a number from 1 to 256")


def check_counts(
    title: str, source: Path, found: Counts, expected: Counts, *, allow: bool, labels: SourceLabels | None = None
) -> list[str]:
    """Compare counts with the official ones; where they differ, print both as a table.

    Returns:
        The differences in words, none for a complete source.

    Raises:
        FerError: they differ, and that is not allowed; or they are those of other classes or of more images, which no
            incomplete source has.
    """
    check_classes(title, source, found, expected, labels)
    differences = count_differences(found, expected)
    if differences:
        for line in count_table(title, found, expected):
            note(line)
        if not allow:
            raise FerError(f"not the complete {title}: {', '.join(differences)}", hint=INCOMPLETE, path=source)
    return differences


def count_table(title: str, found: Counts, expected: Counts) -> list[str]:
    """Return the lines of a table: expected and found images of each part and class; a star where they differ."""
    names = in_order({name for side in (expected, found) for counts in side.values() for name in counts})
    cells = [["", *(f"{part}: expected" if side else "found" for part in expected for side in (True, False))]]
    for name in names:
        row = [name]
        for part, counts in expected.items():
            want, have = counts.get(name, 0), found.get(part, {}).get(name, 0)
            row += [f"{want:,}", f"{have:,}{' ' if want == have else '*'}"]
        cells.append(row)
    totals = ["all"]
    for part, counts in expected.items():
        want, have = sum(counts.values()), sum(found.get(part, {}).values())
        totals += [f"{want:,}", f"{have:,}{' ' if want == have else '*'}"]
    cells.append(totals)
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
    return [f"images of {title} (* differs):", *(f"  {line.rstrip()}" for line in lines)]


def inside(folder: Path, *names: str) -> Path | None:
    """Return ``folder/name/name...`` if it is there, or None.

    Raises:
        FerError: a name stands there in another case: nobody knows whether it is meant.
    """
    place = folder
    for name in names:
        if not (place / name).exists():
            if other := other_case(place, name):
                raise FerError(
                    f"its name in the official layout is {name!r}", hint="restore its name", path=place / other
                )
            return None
        place = place / name
    return place


def other_case(folder: Path, name: str) -> str | None:
    """Return the name in a folder that differs from ``name`` in case alone, or None."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  # a Path would lose nothing but time
    except OSError:
        return None
    return next((other for other in names if other != name and other.casefold() == name.casefold()), None)


def first_inside(folder: Path, *choices: Sequence[str]) -> Path | None:
    """Return the first of several places in a folder that is there, or None."""
    return next((place for choice in choices if (place := inside(folder, *choice)) is not None), None)


def needed_folder(folder: Path, *names: str) -> Path:
    """Return a folder below ``folder``.

    Raises:
        FerError: it is not there, or it is still packed.
    """
    place = inside(folder, *names)
    if place is not None and place.is_dir():
        return place
    wanted = folder.joinpath(*names)
    archives = [wanted.with_name(wanted.name + end) for end in (".zip", ".tar.gz", ".tar", ".7z", ".rar")]
    packed = next((archive.name for archive in archives if archive.exists()), None)
    hint = f"unpack {packed}" if packed else "unpack the data set again"
    raise FerError("this folder is missing", hint=hint, path=wanted)


def class_folders(
    folder: Path, prefix: str, label_of: Callable[[str], str | None], faults: list[FerError], classes: str
) -> list[tuple[str, str]]:
    """List the pictures of ``folder/class/picture`` as (path, label), each path with ``prefix`` before it.

    Args:
        folder: what holds the class folders.
        prefix: of the paths that are returned, with a slash at its end, or nothing.
        label_of: the label of a class folder's name, or None where it has none.
        faults: what is wrong is added here.
        classes: the names that a class folder may have, in words.
    """
    listed: list[tuple[str, str]] = []
    meaning: dict[str, str] = {}
    strange: set[str] = set()
    for path in walk(folder):
        name, slash, rest = path.partition("/")
        is_picture = PurePosixPath(path).suffix.lower() in SUFFIXES
        label = label_of(name) if slash else None
        if not slash:
            if is_picture:
                faults.append(FerError("the image is not in a class folder", hint="move it", path=folder / path))
        elif label is None:
            if name not in strange:
                strange.add(name)
                faults.append(FerError("is not a class folder", hint=f"classes are {classes}", path=folder / name))
        elif meaning.setdefault(label, name) != name:
            what = f"means {label}, like {meaning[label]}/"
            if name not in strange:
                strange.add(name)
                faults.append(FerError(what, hint="merge the two or move one away", path=folder / name))
        elif "/" in rest:
            faults.append(FerError("a folder inside a class folder", hint="move its images", path=folder / path))
        elif not is_picture:
            faults.append(not_an_image(folder / path))
        else:
            listed.append((prefix + path, label))
    return listed


def one_layout(source: Path, layouts: Mapping[str, Path | None], access: Access) -> str:
    """Return the one layout that was found.

    Args:
        source: what the user gave.
        layouts: name of a layout -> where it begins, or None where it is not there.
        access: what to tell where there is none.

    Raises:
        FerError: there is none, or more than one.
    """
    there = [name for name, place in layouts.items() if place is not None]
    if not there:
        raise access.absent(source)
    if len(there) > 1:
        raise FerError(
            f"holds {access.title} more than once: {' and '.join(there)}", hint="move all but one away", path=source
        )
    return there[0]


def refuse_all(faults: list[FerError]) -> None:
    """Raise the first fault in the order of files and lines, with the number of the others, if there is any."""
    refuse(sorted(faults, key=lambda fault: (str(fault.path), fault.line or 0)))
