"""Pictures in folders: ``split/class/picture``, ``class/picture``, or a csv table of paths and labels."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

from fer_cli.artifacts.sections import SplitName
from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS, canonical, in_order
from fer_cli.datasets.image_files import SUFFIXES, refuse, walk
from fer_cli.datasets.image_list import WHOLE, ImageEntry, Pictures, path_fault
from fer_cli.datasets.records import Block, Loader, LoadReport, Pictured
from fer_cli.datasets.registry import DatasetDefinition, Option, Size
from fer_cli.datasets.splits import assign_roles
from fer_cli.datasets.tables import open_table
from fer_cli.faces.aligned import DEFAULT_DETECTION, RULE, FaceDetection

_SPLIT_NAMES: Final[dict[SplitName, tuple[str, ...]]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
_SPLIT_OF: Final = {name: split for split, names in _SPLIT_NAMES.items() for name in names}
_REQUIRED: Final = {
    "path": ("path", "image", "file", "filename"),
    "label": ("label", "emotion", "expression", "class"),
}
_OPTIONAL: Final = {"split": ("split", "usage", "set"), "subject": ("subject",), "sequence": ("sequence",)}


@dataclass(frozen=True, slots=True)
class Listing:
    """The pictures of a source in the order of their paths, and what should be told about it."""

    items: list[ImageEntry]
    parts: dict[str, SplitName]  # the source's name of a split -> split
    warnings: list[str]


def split_of_name(name: str) -> SplitName | None:
    """Return the split that a folder or a cell names, or None when it names none; case does not matter."""
    return _SPLIT_OF.get(name.strip().lower())


class Folder:
    """A user's own pictures.

    Args:
        source: a folder ``split/class/picture`` or ``class/picture``, a csv table, or a folder that holds one.
        name: the artifact's name; by default that of the source.
        size: resize every picture to a square of this side in pixels. By default pictures of one size keep it, and
            pictures of different sizes become squares of 112.
        grey: one channel, or three; by default one if no picture has colour.

    Raises:
        FerError: the source is not there, or its layout, a name in it or its table is at fault.
    """

    def __init__(
        self, *, source: Path, name: str | None = None, size: int | None = None, grey: bool | None = None
    ) -> None:
        if name is not None and safe_name(name) != name:
            raise FerError(
                f"{name!r} cannot be the name of an artifact",
                hint=f"use a-z, 0-9, '.', '_' and '-', such as {safe_name(name)!r}",
            )
        self._table = find_list(source)
        self._root = source if self._table is None else self._table.parent
        self._listing = list_tree(source) if self._table is None else read_list(self._table)
        self._name = name or safe_name((source.resolve() if source.is_dir() else source.with_suffix("")).name)
        self._pictures = Pictures(self._root, self._listing.items, size=size, grey=grey)

    @property
    def name(self) -> str:
        """The name that was given, or the source's, made fit for an artifact."""
        return self._name

    @property
    def files(self) -> dict[str, Path]:
        """Every picture under its path below the source, and the table if there is one."""
        table = {} if self._table is None else {"table": self._table}
        return table | self._pictures.files

    @property
    def config(self) -> dict[str, Any]:
        """The size and the colours asked for, and how pictures are resized where they have to be."""
        return {"layout": "tree" if self._table is None else "table", **self._pictures.config}

    @property
    def expected_rows(self) -> int:
        """The number of pictures."""
        return len(self._listing.items)

    def blocks(self) -> Iterator[Block]:
        """Yield the pictures in the order of their paths, after a look at the headers of all."""
        return self._pictures.blocks()

    def pictures(self) -> list[Pictured]:
        """Return the pictures in the order of their paths, after a look at the headers of all."""
        return self._pictures.pictures()

    def report(self) -> LoadReport:
        """Tell what became of the source's parts."""
        items = self._listing.items
        roles = assign_roles(self._listing.parts)
        classes = in_order(item.label for item in items)
        warnings = [*self._listing.warnings, *self._pictures.warnings]
        for part in self._listing.parts:
            there = {item.label for item in items if (item.split or WHOLE) == part}
            if absent := [name for name in classes if name not in there]:
                warnings.append(f"{part} has no {', '.join(absent)}")
        rule = "folder names" if self._table is None else f"labels of {self._table.name}"
        return LoadReport(
            classes=classes,
            label_rule=f"{rule}, N = {len(items):,}",
            parts=roles.parts,
            split_of=roles.split_of,
            warnings=warnings,
            carve_validation=roles.carve_validation,
            carve_test=roles.carve_test,
        )


def safe_name(text: str) -> str:
    """Return ``text`` as a name that an artifact may have: ``[a-z0-9._-]``, beginning with a letter or a digit."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("._-")[:64].rstrip("._-") or "folder"


def find_list(source: Path) -> Path | None:
    """Return the csv table of a source: itself if it is a file, the only one in a folder without class folders.

    Returns:
        None if the pictures lie in class folders.

    Raises:
        FerError: there is no such source, or a folder with several tables and no class folders.
    """
    try:
        if source.is_file():
            return source
        with os.scandir(source) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise FerError(
            f"cannot be read: {error.strerror}", hint="give a folder of images or a csv table", path=source
        ) from None
    tables = [name for name in names if name.lower().endswith(".csv")]
    if any(split_of_name(name) or canonical(name) for name in names if (source / name).is_dir()) or not tables:
        return None
    if len(tables) > 1:
        raise FerError(f"holds several tables: {', '.join(tables)}", hint="give the right one", path=source)
    return source / tables[0]


def list_tree(root: Path) -> Listing:
    """List the pictures of a folder ``split/class/picture`` or ``class/picture``.

    Raises:
        FerError: a folder that is neither a split nor an expression, both kinds side by side, or a file in a class
            folder that is not a picture; the first is named and the others are counted.
    """
    paths = walk(root)
    tops = sorted({path.partition("/")[0] for path in paths if "/" in path})
    splits = {top: split for top in tops if (split := split_of_name(top))}
    faults = [_unknown_folder(root / top) for top in tops if top not in splits and canonical(top) is None]
    refuse(faults)
    if splits and len(splits) < len(tops):
        other = next(top for top in tops if top not in splits)
        raise FerError(
            f"mixes folders of splits ({next(iter(splits))}/) and of expressions ({other}/)",
            hint="use split/class/picture or class/picture",
            path=root,
        )
    _refuse_twins(root, splits)
    depth = 3 if splits else 2
    items: list[ImageEntry] = []
    warnings: list[str] = []
    for path in paths:
        folders = path.split("/")[:-1]
        is_picture = PurePosixPath(path).suffix.lower() in SUFFIXES
        if len(folders) < depth - 1:
            if is_picture:
                faults.append(_fault(root / path, "the image is not in a class folder", "move it into one"))
            elif path.lower().endswith(".csv"):
                warnings.append(f"{path} was not read: the folders' names are the labels")
            continue
        label = canonical(folders[depth - 2])
        if label is None:
            faults.append(_unknown_folder(root / "/".join(folders)))
        elif len(folders) >= depth:
            faults.append(_fault(root / path, "a folder inside a class folder", "put images into the class folder"))
        elif not is_picture:
            faults.append(_fault(root / path, "not an image by its name", "remove it from the class folder"))
        else:
            items.append(ImageEntry(path, folders[0] if splits else None, label))
    refuse(list({str(fault): fault for fault in faults}.values()))
    if not items:
        raise FerError("no images in class folders", hint="expected split/class/picture or class/picture", path=root)
    there = {item.split for item in items}
    parts = {top: split for top, split in splits.items() if top in there} or {WHOLE: "train"}
    for top in parts:
        _refuse_twins(root, {item.path.rpartition("/")[0]: item.label for item in items if item.split in {top, None}})
    return Listing(items, parts, warnings)


def _fault(path: Path, what: str, hint: str) -> FerError:
    return FerError(what, hint=hint, path=path)


def _unknown_folder(path: Path) -> FerError:
    return _fault(
        path,
        f"the folder {path.name!r} is neither a split nor an expression",
        f"rename it to train, val or test, or to one of {', '.join(EXPRESSIONS)}, or move it away",
    )


def _refuse_twins(root: Path, meanings: Mapping[str, str]) -> None:
    """Refuse two folders that mean the same: which one was meant, or whether both, nobody but the user knows."""
    first: dict[str, str] = {}
    for folder, meaning in sorted(meanings.items()):
        other = first.setdefault(meaning, folder)
        if other != folder:
            raise _fault(root / folder, f"means {meaning}, like {other}/", "merge the two or move one away")


def read_list(table: Path) -> Listing:
    """Read a csv of pictures: a path and a label, and split, subject and sequence where they are known.

    Paths are relative to the table's folder and stay inside it.

    Raises:
        FerError: the first row at fault, with its line and the number of others like it.
    """
    opened = open_table(table, _REQUIRED, _OPTIONAL)
    items: list[ImageEntry] = []
    faults: list[FerError] = []
    parts: dict[str, SplitName] = {}
    first_line: dict[str, int] = {}
    for line, cells in opened.rows:
        values = {name: cells[column] for name, column in opened.columns.items()}
        path = posixpath.normpath(values["path"]) if values["path"] else ""
        label = canonical(values["label"])
        split = split_of_name(values["split"]) if "split" in values else None
        if (fault := path_fault(table.parent, path)) is None:
            if label is None:
                fault = f"unknown expression {values['label'][:40]!r}", f"use one of {', '.join(EXPRESSIONS)}"
            elif "split" in values and split is None:
                fault = f"unknown split {values['split'][:40]!r}", "use train, val or test"
            elif first_line.setdefault(path, line) != line:
                fault = f"{path!r} is already in line {first_line[path]}", "keep one row per image"
        if fault is not None or label is None:
            what, hint = fault or ("", "")
            faults.append(FerError(what, hint=hint, path=table, line=line))
            continue
        if split is not None:
            parts[split] = split
        items.append(
            ImageEntry(path, split, label, line, values.get("subject") or None, values.get("sequence") or None)
        )
    refuse(faults)
    if not items:
        raise FerError("the table has a header and no rows", hint="give one row per image", path=table, line=1)
    return Listing(sorted(items, key=lambda item: item.path), parts or {WHOLE: "train"}, [])


def open_folder(
    *,
    source: Annotated[Path, Option("The folder, or the csv.")],
    name: Annotated[str | None, Option("The data set's name. [default: the folder's]")] = None,
    size: Size = None,
    grey: Annotated[bool | None, Option("[default: colour where any image has it]", "--grey/--colour")] = None,
    align: Annotated[
        bool, Option("Find the face in each image, and align it to a template.", "--align/--no-align")
    ] = False,
    detection: FaceDetection = DEFAULT_DETECTION,
) -> Loader:
    """Open a user's own images, with their faces aligned where ``align`` is set.

    Raises:
        FerError: the source is at fault.
    """
    folder = Folder(source=source, name=name, size=size, grey=grey)
    if align:
        return detection.align(folder, size=size, name=name, grey=grey)
    detection.refuse_unused()
    return folder


DATASET: Final = DatasetDefinition(
    summary="Any split/class/image tree, class/image tree, or csv of paths and labels.",
    help=f"Any split/class/image tree, class/image tree, or csv of paths and labels.\n\n{RULE}",
    open=open_folder,
    default_source=False,
)
