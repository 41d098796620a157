"""What a source holds and its loader did not read: folders, images, tables, columns, empty folders, hidden files.

One walk through the source, for all loaders. Each kind is listed in one line with its number and its first names; the
lines stand in the protocol, in what ``fer prepare`` prints and, where they matter, in every report. Folders of images
that look like a split, a class or a person are refused by the loaders of data sets that have none by that name.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final

from fer_cli.artifacts.protocol import Leftover, LeftoverKind
from fer_cli.core.errors import FerError, one_line
from fer_cli.core.labels import canonical
from fer_cli.datasets.image_files import JUNK, SUFFIXES, portable, probe
from fer_cli.datasets.split_names import names_split, split_of_name
from fer_cli.datasets.table_columns import column_like, looks_like

TABLES: Final = (".csv", ".tsv")
"""What the name of a table ends with, in lower case."""
NOISE: Final = JUNK | {".ds_store", ".localized", ".directory"}
"""Files that systems leave everywhere: the only ones that are not even counted."""
_LISTED: Final = 3


@dataclass(slots=True)
class Unread:
    """What a walk found and nothing had read, as sorted paths below ``source`` with ``/``.

    ``folders``: the topmost folders none of whose images was read -> their images. ``samples``: the same -> one of
    these images. ``holders``: the same -> the folders right below them that hold some. ``parts``: what the patterns of
    the data set's own parts matched, the path where it is one, else the pattern.
    """

    source: Path
    folders: Counter[str] = field(default_factory=Counter)
    samples: dict[str, str] = field(default_factory=dict)
    holders: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)

    def leftovers(
        self, *, table: Path | None = None, images_matter: bool = True, tables_matter: Collection[str] | None = None
    ) -> list[Leftover]:
        """Return a line for each kind of which something is there.

        Args:
            table: the table that names the images which are read, if one does.
            images_matter: whether single images may be what a number rests on.
            tables_matter: the tables that may be; by default all.
        """
        names = sorted(self.folders)
        mattering = self.tables if tables_matter is None else [name for name in self.tables if name in tables_matter]
        return [
            *listed("folders", names, matters=True, images=[self.folders[name] for name in names]),
            *listed("images", self.images, matters=images_matter, table=table),
            *listed("empty folders", self.empty, matters=True),
            *listed("tables", mattering, matters=True),
            *listed("tables", [name for name in self.tables if name not in set(mattering)], matters=False),
            *listed("files", self.files, matters=False),
            *listed("hidden files", self.hidden, matters=False),
            *listed("parts", sorted(self.parts.values()), matters=False),
        ]

    def refuse_lookalikes(self, root: Path, codes: Collection[str] = (), *, like: Path | None = None) -> None:
        """Refuse folders of images that look like a split, a class, a person, boxes or scores of the data set.

        A folder is a split by its name, or where a word of its name is one and it holds class folders, too, or images
        of the data set's size: those in ``test_results/`` may be plots.

        Args:
            root: the folder of its layout; beside it may lie other data sets, and whatever else.
            codes: the names and numbers of its classes.
            like: an image of the data set.

        Raises:
            FerError: there is one.
        """
        below = os.path.relpath(root, self.source)
        prefix = "" if below == "." else f"{below}/"
        for folder in sorted(self.folders):
            name, inside, sample = PurePosixPath(folder).name, folder.startswith(prefix), self.samples[folder]
            inner = next((inner for inner in sorted(self.holders[folder]) if _is_class(inner, codes)), None)
            looks = None
            if split_of_name(name) is not None:
                looks = "a split"
            elif inner is not None and (inside or names_split(name)):
                looks = f"a split, with its class folder {inner}/,"
            elif inside and names_split(name) and like is not None and _same_size(self.source / sample, like):
                looks = "a split, with images of the data set's size,"
            elif inside:
                looks = "a class" if _is_class(name, codes) else looks_like(name.lower())
            if looks is not None:
                raise FerError(
                    f"looks like {looks} and is none of this data set: its images ({self.folders[folder]:,}) would not "
                    "be read",
                    hint="restore its name, move it out of the source, or read the whole with fer prepare folder",
                    path=self.source / folder,
                )


def _same_size(image: Path, other: Path) -> bool:
    """Tell whether two images have the same size; one that cannot be read has none."""
    try:
        one, two = probe(image), probe(other)
    except FerError:
        return False
    return (one.width, one.height) == (two.width, two.height)


def listed(
    kind: LeftoverKind,
    names: Sequence[str],
    *,
    matters: bool,
    images: Sequence[int] | None = None,
    table: Path | None = None,
) -> list[Leftover]:
    """Return the one leftover of a kind, or none where there are no names."""
    if not names:
        return []
    return [
        Leftover(
            kind=kind,
            count=len(names),
            names=tuple(one_line(portable(name))[:80] for name in names[:_LISTED]),
            images=None if images is None else tuple(images[:_LISTED]),
            table=None if table is None else one_line(table.name),
            matters=matters,
        )
    ]


def find_unread(source: Path, read: Iterable[Path], *, parts: Collection[str] = ()) -> Unread:
    """Walk through a source and list what nothing has read.

    Args:
        source: the folder that the user gave.
        read: every file that was read, or left out with a reason, and folders with which the same is true of all that
            they hold.
        parts: patterns (of :mod:`fnmatch`) of what belongs to the data set and its loader never reads, such as
            ``Annotation/auto``: they are held against the ends of paths.
    """
    real = cache(os.path.realpath)  # of folders, which may be reached by links; strings: a Path takes ten times as long
    root = real(source)
    paths = {os.path.join(real(os.path.dirname(path)), os.path.basename(path)) for path in map(os.fspath, read)}  # noqa: PTH118, PTH119, PTH120
    used = _with_parents({os.path.dirname(path) for path in paths}, root)  # noqa: PTH120
    known = {pattern: re.compile(fnmatch.translate(f"*/{pattern}")) for pattern in parts}

    def part(relative: str) -> str | None:
        return next((name for name, pattern in known.items() if pattern.match(f"/{relative}")), None)

    unread = Unread(source)
    seen: set[tuple[int, int]] = set()
    for top, folders, files in os.walk(root, followlinks=True):
        info = os.stat(top)  # noqa: PTH116
        relative, place = os.path.relpath(top, root), real(top)
        prefix = "" if relative == "." else f"{relative}/"
        if (info.st_dev, info.st_ino) in seen:
            folders.clear()
            continue
        seen.add((info.st_dev, info.st_ino))
        if not any(name.lower() not in NOISE for name in (*folders, *files)):
            unread.empty.append(prefix or "./")
        inside = []
        for name in sorted(folders):
            if name.lower() in NOISE or os.path.join(place, name) in paths:  # noqa: PTH118
                continue
            if name.startswith("."):
                unread.hidden.append(f"{prefix}{name}/")
            elif (own := part(prefix + name)) is not None:
                unread.parts[own] = own if own in unread.parts else prefix + name
            else:
                inside.append(name)
        folders[:] = inside
        pictures, sample = 0, ""
        for name in files:
            path, suffix = prefix + name, os.path.splitext(name)[1].lower()  # noqa: PTH122
            if name.lower() in NOISE or os.path.join(place, name) in paths:  # noqa: PTH118
                continue
            if name.startswith("."):
                unread.hidden.append(path)
            elif known and (own := part(path)) is not None:
                unread.parts[own] = own if own in unread.parts else path
            elif suffix not in SUFFIXES:
                (unread.tables if suffix in TABLES else unread.files).append(path)
            elif place in used:
                unread.images.append(path)
            else:
                pictures, sample = pictures + 1, path
        if pictures:
            names = PurePosixPath(relative).parts
            depth = next(n for n in range(1, len(names) + 1) if real(os.path.join(root, *names[:n])) not in used)  # noqa: PTH118
            topmost = "/".join(names[:depth]) + "/"
            unread.folders[topmost] += pictures
            unread.samples.setdefault(topmost, sample)
            unread.holders[topmost].update(names[depth : depth + 1])
    for names_of in (unread.images, unread.tables, unread.files, unread.hidden, unread.empty):
        names_of.sort()
    return unread


def unread_members(archive: Path, names: Iterable[str], *, parts: Collection[str] = ()) -> Unread:
    """List the files of an archive beside the table that is read, as :func:`find_unread` lists those of a folder.

    Args:
        archive: the file.
        names: the paths of the others in it.
        parts: patterns as of :func:`find_unread`.
    """
    unread = Unread(archive)
    for name in sorted(name.replace("\\", "/") for name in names):
        path, levels = f"{archive.name}/{name}", name.lower().split("/")
        suffix = PurePosixPath(levels[-1]).suffix
        if any(level in NOISE for level in levels):
            continue
        own = next((part for part in parts if fnmatch.fnmatchcase(f"/{name}", f"*/{part}")), None)
        if own is not None:
            unread.parts[own] = path
        elif any(level.startswith(".") and level.strip(".") for level in levels):
            unread.hidden.append(path)
        else:
            (unread.images if suffix in SUFFIXES else unread.tables if suffix in TABLES else unread.files).append(path)
    return unread


def _with_parents(folders: set[str], root: str) -> set[str]:
    used = {root}
    for folder in folders:
        above = folder
        while above not in used and above != os.path.dirname(above):  # noqa: PTH120
            used.add(above)
            above = os.path.dirname(above)  # noqa: PTH120
    return used


def _is_class(name: str, codes: Collection[str]) -> bool:
    return name in codes or canonical(name) is not None


def named_like_splits(tables: Iterable[str]) -> Iterator[str]:
    """Yield the tables whose names say that they are a split: a test set, perhaps."""
    return (name for name in tables if names_split(PurePosixPath(name).stem))


def unread_columns(
    table: Path, header: Sequence[str], read: Collection[int], known: Collection[str] = ()
) -> list[Leftover]:
    """List the columns of an official table that are not read.

    Args:
        table: the file, for messages.
        header: the names of its columns, in lower case.
        read: the places of those that are read.
        known: names of those that belong to the table and are never read.

    Raises:
        FerError: another one looks like a person, a film, a split, a box, a score or a class.
    """
    names = [name for place, name in enumerate(header) if place not in read]
    for name in names:
        if name not in known and (looks := column_like(name)) is not None:
            raise FerError(
                f"column {name!r} looks like {looks} and is not read",
                hint="use the official table; a table of your own: fer prepare folder",
                path=table,
                line=1,
            )
    return listed("columns", [name or "(no name)" for name in names], matters=False, table=table)
