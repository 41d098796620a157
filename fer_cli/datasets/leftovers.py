"""What a source holds and its loader did not read: folders of images, images, files, columns, empty class folders.

Each kind is listed in one line with its number and its first names. A loader adds them to its report; they stand in the
protocol, in what ``fer prepare`` prints and, where they matter, in every report.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from fer_cli.artifacts.protocol import Leftover, LeftoverKind
from fer_cli.core.errors import one_line
from fer_cli.datasets.image_files import JUNK, SUFFIXES

_LISTED: Final = 3


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
            names=tuple(one_line(name)[:80] for name in names[:_LISTED]),
            images=None if images is None else tuple(images[:_LISTED]),
            table=None if table is None else one_line(table.name),
            matters=matters,
        )
    ]


def unread_images(
    source: Path, read: Iterable[Path], *, known: Collection[str] = (), single: bool = True, table: Path | None = None
) -> list[Leftover]:
    """List the images below ``source`` that were not read; a folder of which none was read is listed as a folder.

    Args:
        source: what the user gave; hidden files and folders are passed over.
        read: every image that was read, or left out with a reason, below ``source``.
        known: folders below ``source``, with ``/``, whose images the loader leaves unread on purpose.
        single: list also images in folders of which others were read.
        table: the table that names the images which are read, if one does.
    """
    root = os.path.abspath(source)  # noqa: PTH100  # strings: a Path takes ten times as long
    paths = {os.path.abspath(path) for path in read}  # noqa: PTH100
    used = {root}
    for folder in {os.path.dirname(path) for path in paths}:  # noqa: PTH120
        above = folder
        while above not in used and above != os.path.dirname(above):  # noqa: PTH120
            used.add(above)
            above = os.path.dirname(above)  # noqa: PTH120
    folders: Counter[str] = Counter()
    images: list[str] = []
    seen: set[tuple[int, int]] = set()
    for top, names, files in os.walk(root, followlinks=True):
        info = os.stat(top)  # noqa: PTH116
        relative = PurePosixPath(os.path.relpath(top, root)).as_posix()
        if (info.st_dev, info.st_ino) in seen or relative in known:
            names.clear()
            continue
        seen.add((info.st_dev, info.st_ino))
        names[:] = sorted(name for name in names if not name.startswith(".") and name.lower() not in JUNK)
        pictures = [name for name in files if not name.startswith(".") and _is_picture(name)]
        if top in used:
            prefix = "" if relative == "." else f"{relative}/"
            images += [prefix + name for name in pictures if os.path.join(top, name) not in paths]  # noqa: PTH118
        elif pictures:
            parts = PurePosixPath(relative).parts
            depth = next(n for n in range(1, len(parts) + 1) if os.path.join(root, *parts[:n]) not in used)  # noqa: PTH118
            folders["/".join(parts[:depth]) + "/"] += len(pictures)
    names = sorted(folders)
    return [
        *listed("folders", names, matters=True, images=[folders[name] for name in names]),
        *(listed("images", sorted(images), matters=True, table=table) if single else []),
    ]


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


def unread_columns(table: Path, header: Iterable[str], read: Collection[str]) -> list[Leftover]:
    """List the columns of a table whose names are not among ``read``."""
    return listed("columns", [name or "(no name)" for name in header if name not in read], matters=False, table=table)
