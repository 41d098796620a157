"""Pictures in folders: ``split/class/picture``, ``class/picture``, or a csv table of paths and labels."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

from fer_cli.artifacts.protocol import Leftover
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.errors import FerError, UsageError, one_line
from fer_cli.core.labels import EXPRESSIONS, canonical, code_of, in_order, label_map
from fer_cli.core.progress import note
from fer_cli.datasets.image_files import JUNK, SUFFIXES, Box, native, not_an_image, portable, refuse, walk
from fer_cli.datasets.image_list import WHOLE, ImageEntry, Pictures, path_fault
from fer_cli.datasets.leftovers import listed, unread_columns, unread_images
from fer_cli.datasets.records import Block, Loader, LoadReport, Pictured
from fer_cli.datasets.registry import DatasetDefinition, Labels, Option, Size
from fer_cli.datasets.splits import assign_roles
from fer_cli.datasets.table_columns import BOX_FORM, columns_of
from fer_cli.datasets.tables import open_table, read_header
from fer_cli.faces.aligned import DEFAULT_DETECTION, RULE, FaceDetection

_SPLIT_NAMES: Final[dict[SplitName, tuple[str, ...]]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
_SPLIT_OF: Final = {name: split for split, names in _SPLIT_NAMES.items() for name in names}
PATTERNS: Final = {
    "jaffe": r"(?P<subject>[A-Z]{2})\.(?P<label>[A-Z]{2})\d+\.\d+\.tiff?",
    "kdef": r"(?P<session>[AB])(?P<subject>[FM]\d\d)(?P<label>[A-Z]{2})(?P<pose>FL|HL|S|HR|FR)\.(?:JPG|jpg)",
    "rafd": r"Rafd(?P<pose>\d+)_(?P<subject>\d+)_\w+?_(?:fe)?male_(?P<label>[a-z]+)_(?P<gaze>frontal|left|right)\.jpg",
}
"""Data set -> how the names of its images are made: JAFFE, KDEF and RaFD."""
_LONGEST: Final = 1000  # characters of a pattern
_TABLES: Final = (".csv", ".tsv")
_DEPTH: Final = 8  # names in the path of an image whose label stands in its name


@dataclass(frozen=True, slots=True)
class Listing:
    """The pictures of a source in the order of their ids, and what should be told about it."""

    items: list[ImageEntry]
    parts: dict[str, SplitName]  # the source's name of a split -> split
    leftovers: list[Leftover]
    faces: str | None = None


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
        images: the folder that a table's paths are relative to; by default the table's.
        pattern: how the names of the pictures are made, where these say the label: one of :data:`PATTERNS`, or a
            regular expression with a group ``label``. It is held against the whole file name, and against the path
            where it holds a ``/``. Groups ``subject``, ``sequence`` and ``split`` are read too, others become flags.
        labels: what the source's labels mean beside the usual spellings, as :func:`label_map` reads it.
        ignore_columns: columns of the table, separated by commas, that are passed over though they look like something
            to be read.

    Raises:
        FerError: the source is not there, or its layout, a name in it or its table is at fault.
        UsageError: an option is not for this kind of source.
    """

    def __init__(
        self,
        *,
        source: Path,
        name: str | None = None,
        size: int | None = None,
        grey: bool | None = None,
        images: Path | None = None,
        pattern: str | None = None,
        labels: str | None = None,
        ignore_columns: str | None = None,
    ) -> None:
        if name is not None and (not name or safe_name(name) != name):
            raise FerError(
                f"{name!r} cannot be the name of an artifact",
                hint=f"use a-z, 0-9, '.', '_' and '-', such as {safe_name(name) or 'my-faces'!r}",
            )
        self._labels = {} if labels is None else label_map(labels)
        self._pattern = None if pattern is None else _compiled(PATTERNS.get(pattern, pattern))
        self._table = find_list(source) if pattern is None else None
        if self._table is None and (images is not None or ignore_columns is not None):
            option = "--images" if images is not None else "--ignore-columns"
            raise UsageError(f"{option} is for a table, and {source} is read without one", hint="omit it")
        self._root = images or (source if self._table is None else self._table.parent)
        if self._pattern is not None:
            self._listing = list_flat(source, self._pattern, self._labels)
        elif self._table is None:
            self._listing = list_tree(source, self._labels)
        else:
            ignored = [] if ignore_columns is None else [text.strip().lower() for text in ignore_columns.split(",")]
            self._listing = read_list(self._table, self._root, self._labels, ignored)
        _refuse_equal_ids(self._root, self._listing.items)
        self._name = name or name_of(source)
        tables = {} if self._table is None else dict.fromkeys((WHOLE, *self._listing.parts), self._table)
        self._pictures = Pictures(self._root, self._listing.items, size=size, grey=grey, tables=tables)

    @property
    def has_boxes(self) -> bool:
        """Whether faces are cut out by boxes."""
        return any(item.box is not None for item in self._listing.items)

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
        layout = "pattern" if self._pattern else "tree" if self._table is None else "table"
        asked = {
            "pattern": None if self._pattern is None else self._pattern.pattern,
            "labels": self._labels or None,
            "faces": self._listing.faces,
        }
        return {
            "layout": layout,
            **{key: value for key, value in asked.items() if value is not None},
            **self._pictures.config,
        }

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
        rule = "file names" if self._pattern else "folder names"
        if self._table is not None:
            rule = f"labels of {one_line(portable(self._table.name))}"
        return LoadReport(
            classes=classes,
            label_rule=f"{rule}, N = {len(items):,}",
            parts=roles.parts,
            faces=self._listing.faces,
            leftovers=self._listing.leftovers,
            odd_images=self._pictures.odd_images,
            split_of=roles.split_of,
            warnings=list(self._pictures.warnings),
            carve_validation=roles.carve_validation,
            carve_test=roles.carve_test,
        )


def safe_name(text: str) -> str:
    """Return ``text`` as a name that an artifact may have: ``[a-z0-9._-]``, beginning with a letter or a digit.

    Accents are taken off; what is left of a name without such letters and digits is nothing.
    """
    bare = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return re.sub(r"[^a-z0-9._-]+", "-", bare.lower()).strip("._-")[:64].rstrip("._-")


def name_of(source: Path) -> str:
    """Return the name of an artifact that is made of a source.

    Raises:
        FerError: the source's name holds letters that an artifact's cannot, so that two sources could get one name.
    """
    text = portable((source.resolve() if source.is_dir() else source.with_suffix("")).name)
    name = safe_name(text)
    bare = unicodedata.normalize("NFKD", text)
    if not name or any(char.isalnum() and not char.isascii() for char in bare):
        hint = "give one of a-z, 0-9, '.', '_' and '-' with --name"
        raise FerError(f"{one_line(text)!r} cannot be the name of an artifact", hint=hint, path=source)
    return name


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
    tables = [name for name in names if name.lower().endswith(_TABLES)]
    if any(split_of_name(name) or canonical(name) for name in names if (source / name).is_dir()) or not tables:
        return None
    if len(tables) > 1:
        hint = "give one of them, or join them into one with a column split"
        raise FerError(f"holds several tables: {', '.join(tables)}", hint=hint, path=source)
    return source / tables[0]


def list_tree(root: Path, labels: Mapping[str, str] | None = None) -> Listing:
    """List the pictures of a folder ``split/class/picture`` or ``class/picture``.

    Args:
        root: the folder.
        labels: what class folders mean beside the usual spellings.

    Raises:
        FerError: a folder that is neither a split nor an expression, both kinds side by side, or a file in a class
            folder that is not a picture; the first is named and the others are counted.
    """
    known = labels or {}
    paths = {path: portable(path) for path in walk(root)}
    tops = sorted({path.partition("/")[0] for path in paths.values() if "/" in path})
    splits = {top: split for top in tops if (split := split_of_name(top)) and code_of(top) not in known}
    faults = [_unknown_folder(root / top) for top in tops if top not in splits and label_of(top, known) is None]
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
    files: list[str] = []
    for path, text in paths.items():
        folders = text.split("/")[:-1]
        is_picture = PurePosixPath(text).suffix.lower() in SUFFIXES
        if len(folders) < depth - 1:
            if is_picture:
                hint = "move it into one, or say with --pattern how the names of the images are made"
                faults.append(FerError("the image is not in a class folder", hint=hint, path=root / path))
            else:
                files.append(text)
            continue
        label = label_of(folders[depth - 2], known)
        if label is None:
            faults.append(_unknown_folder(root / Path(path).parent))
        elif len(folders) >= depth:
            hint = "put images into the class folder"
            faults.append(FerError("a folder inside a class folder", hint=hint, path=root / path))
        elif not is_picture:
            faults.append(not_an_image(root / path))
        else:
            items.append(ImageEntry(path, folders[0] if splits else None, label, id=text))
    refuse(list({str(fault): fault for fault in faults}.values()))
    if not items:
        raise FerError("no images in class folders", hint="expected split/class/picture or class/picture", path=root)
    there = {item.split for item in items}
    parts = {top: split for top, split in splits.items() if top in there} or {WHOLE: "train"}
    for top in parts:
        _refuse_twins(
            root, {(item.id or "").rpartition("/")[0]: item.label for item in items if item.split in {top, None}}
        )
    tables = [name for name in files if name.lower().endswith(_TABLES)]
    leftovers = [
        *listed("empty folders", _empty_folders(root, list(paths.values()), splits), matters=True),
        *listed("tables", tables, matters=True),
        *listed("files", [name for name in files if name not in tables], matters=False),
    ]
    return Listing(_in_order(items), parts, leftovers)


def _empty_folders(root: Path, paths: Sequence[str], splits: Collection[str]) -> list[str]:
    """Return the folders, below ``root`` and in those of splits, that hold no file."""
    used = {folder.as_posix() for path in paths for folder in PurePosixPath(path).parents}
    empty = []
    for folder in ("", *sorted(splits)):
        for name in sorted(os.listdir(root / folder)):  # noqa: PTH208  # a Path would lose nothing but time
            text = f"{folder}/{portable(name)}".lstrip("/")
            skipped = name.startswith(".") or name.lower() in JUNK or text in used
            if not skipped and (root / folder / name).is_dir():
                empty.append(f"{text}/")
    return empty


def _in_order(items: list[ImageEntry]) -> list[ImageEntry]:
    return sorted(items, key=lambda item: item.id or item.path)


def label_of(text: str, labels: Mapping[str, str]) -> str | None:
    """Return the expression that a folder, a cell or a part of a name means, or None; ``labels`` come first."""
    return labels.get(code_of(text)) or canonical(text)


def _unknown_folder(path: Path) -> FerError:
    return FerError(
        f"the folder {path.name!r} is neither a split nor an expression",
        hint=f"rename it to train, val or test, or to one of {', '.join(EXPRESSIONS)}, say what it means with --labels "
        f"{path.name}=..., or move it away",
        path=path,
    )


def _refuse_twins(root: Path, meanings: Mapping[str, str]) -> None:
    """Refuse two folders that mean the same: which one was meant, or whether both, nobody but the user knows."""
    first: dict[str, str] = {}
    for folder, meaning in sorted(meanings.items()):
        other = first.setdefault(meaning, folder)
        if other != folder:
            hint = "merge the two or move one away"
            raise FerError(f"means {meaning}, like {other}/", hint=hint, path=root / folder)


def _refuse_equal_ids(root: Path, items: Sequence[ImageEntry]) -> None:
    """Refuse two files whose names differ in the form of their accents alone."""
    first: dict[str, ImageEntry] = {}
    for item in items:
        if (other := first.setdefault(item.id or item.path, item)) is not item:
            what = f"its name and that of {other.path!r} differ in the form of accents alone"
            raise FerError(what, hint="rename one of them", path=root / item.path)


def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of file names.

    Raises:
        FerError: it is none, or has no group ``label``.
    """
    hint = f"give {', '.join(PATTERNS)}, or an expression such as '(?P<subject>\\w+)_(?P<label>[A-Z]+)\\.jpg'"
    if len(pattern) > _LONGEST:
        raise FerError(f"--pattern is longer than {_LONGEST:,} characters", hint=hint)
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise FerError(f"--pattern {pattern[:80]!r} is not a regular expression: {error}", hint=hint) from None
    if "label" not in compiled.groupindex:
        raise FerError(f"--pattern {pattern[:80]!r} has no group (?P<label>...)", hint=hint)
    return compiled


def list_flat(root: Path, pattern: re.Pattern[str], labels: Mapping[str, str]) -> Listing:
    """List the pictures whose names a pattern matches, in whatever folders they lie.

    Raises:
        FerError: no name matches, or one that does has a label or a split that is unknown.
    """
    items: list[ImageEntry] = []
    faults: list[FerError] = []
    parts: dict[str, SplitName] = {}
    other: list[str] = []
    whole = "/" in pattern.pattern
    for path in walk(root, _DEPTH):
        text = portable(path)
        match = pattern.fullmatch(text if whole else PurePosixPath(text).name)
        if PurePosixPath(text).suffix.lower() not in SUFFIXES:
            other.append(text)
        elif match is not None:
            groups = {name: value for name, value in match.groupdict().items() if value}
            label, part = label_of(groups.pop("label", ""), labels), groups.pop("split", None)
            split = None if part is None else split_of_name(part)
            if label is None or (part is not None and split is None):
                what = f"unknown expression {match['label']!r}" if label is None else f"unknown split {part!r}"
                hint = f"say what it means with --labels {match['label']}=..." if label is None else "use train or test"
                faults.append(FerError(what, hint=hint, path=root / path))
                continue
            if split is not None:
                parts[split] = split
            subject, sequence = groups.pop("subject", None), groups.pop("sequence", None)
            flags = tuple(f"{name}={value}" for name, value in sorted(groups.items()))
            items.append(ImageEntry(path, split, label, subject=subject, sequence=sequence, id=text, flags=flags))
    refuse(faults)
    if not items:
        first = next((portable(path) for path in walk(root, _DEPTH) if Path(path).suffix.lower() in SUFFIXES), None)
        what = "holds no images" if first is None else f"no name of an image matches --pattern; the first is {first!r}"
        raise FerError(what, hint=f"it is held against the whole {'path' if whole else 'file name'}", path=root)
    leftovers = [
        *unread_images(root, [root / item.path for item in items]),
        *listed("files", other, matters=False),
    ]
    return Listing(_in_order(items), parts or {WHOLE: "train"}, leftovers)


def read_list(
    table: Path, root: Path | None = None, labels: Mapping[str, str] | None = None, ignored: Sequence[str] = ()
) -> Listing:
    """Read a csv of pictures: a path and a label, and split, subject, sequence and the face's box where they are known.

    Paths are relative to ``root`` and stay inside it. Where there are boxes a picture may have several rows, a face
    each; its faces are then a sequence, so that splits keep them together.

    Args:
        table: the csv.
        root: where the pictures are; by default the table's folder.
        labels: what labels mean beside the usual spellings.
        ignored: columns that are passed over.

    Raises:
        FerError: a column or, with its line, the first row at fault, and the number of others like it.
    """
    root = root or table.parent
    columns = columns_of(table, read_header(table), ignored)
    required: dict[str, Sequence[str]] = {name: columns.names[name] for name in ("path", "label")}
    optional: dict[str, Sequence[str]] = {name: columns.names[name] for name in ("split", "subject", "sequence")}
    opened = open_table(table, required, optional)
    note(f"columns of {portable(table.name)}: {columns}")
    codes = {name: (opened.header.index(name), dict[str, tuple[str, int]]()) for name in columns.codes}
    items: list[ImageEntry] = []
    faults: list[FerError] = []
    parts: dict[str, SplitName] = {}
    first_line: dict[tuple[str, Box | None], int] = {}
    for line, cells in opened.rows:
        values = {name: cells[column] for name, column in opened.columns.items()}
        text = _relative(root, values["path"])
        path = native(root, text)
        label = label_of(values["label"], labels or {})
        split = split_of_name(values["split"]) if "split" in values else None
        box = None if columns.box is None else columns.box.box(cells)
        if (fault := path_fault(root, path)) is None:
            if label is None:
                hint = f"use one of {', '.join(EXPRESSIONS)}, or say what it means with --labels"
                fault = f"unknown expression {values['label'][:40]!r}", hint
            elif "split" in values and split is None:
                fault = f"unknown split {values['split'][:40]!r}", "use train, val or test"
            elif isinstance(box, str):
                fault = box, BOX_FORM
            elif (first := first_line.setdefault((portable(path), box), line)) != line:
                fault = f"{path!r} is already in line {first}", "keep one row per image"
            else:
                fault = _contradiction(codes, cells, label, line)
        if fault is not None or label is None or isinstance(box, str):
            what, hint = fault or ("", "")
            faults.append(FerError(what, hint=hint, path=table, line=line))
            continue
        if split is not None:
            parts[split] = split
        subject, sequence = values.get("subject") or None, values.get("sequence") or None
        items.append(ImageEntry(path, split, label, line, subject, sequence, portable(path), box=box))
    refuse(faults)
    if not items:
        raise FerError("the table has a header and no rows", hint="give one row per image", path=table, line=1)
    leftovers = [
        *unread_columns(table, columns.unread, ()),
        *unread_images(root, [root / item.path for item in items], table=table),
        *listed("tables", _other_tables(table), matters=True),
    ]
    faces = None if columns.box is None else f"cut out by the boxes of {one_line(portable(table.name))}: not aligned"
    return Listing(_in_order(_single_faces(items)), parts or {WHOLE: "train"}, leftovers, faces)


def _relative(root: Path, cell: str) -> str:
    """Return a cell's path relative to ``root``, with ``/``; one of Windows, and one that is absolute inside it."""
    if not cell:
        return ""
    if "\\" in cell and not (root / cell).exists():
        cell = cell.replace("\\", "/")
    text = posixpath.normpath(cell)
    above = posixpath.normpath(root.absolute().as_posix())
    return text.removeprefix(f"{above}/")


def _contradiction(
    codes: Mapping[str, tuple[int, dict[str, tuple[str, int]]]], cells: Sequence[str], label: str, line: int
) -> tuple[str, str] | None:
    """Return the fault of a row whose second class means another label than in the rows before."""
    for name, (column, meanings) in codes.items():
        meaning, first = meanings.setdefault(cells[column], (label, line))
        if meaning != label:
            what = f"{name} {cells[column][:40]!r} is {label} here and {meaning} in line {first}"
            return what, f"correct the row, or pass over the column with --ignore-columns {name}"
    return None


def _single_faces(items: Sequence[ImageEntry]) -> list[ImageEntry]:
    """Number the faces of pictures that have several, and keep these together."""
    rows = Counter(item.path for item in items)
    seen: Counter[str] = Counter()
    entries = []
    for item in items:
        seen[item.path] += 1
        several = rows[item.path] > 1
        entries.append(
            replace(item, id=f"{item.id}#{seen[item.path]}", sequence=item.sequence or item.id) if several else item
        )
    return entries


def _other_tables(table: Path) -> list[str]:
    """Return the tables beside one whose names say that they are a split: a test set, perhaps."""
    names = sorted(portable(name) for name in os.listdir(table.parent))  # noqa: PTH208
    return [
        name
        for name in names
        if name.lower().endswith(_TABLES)
        and name != portable(table.name)
        and any(split_of_name(word) for word in re.split(r"[\W_]+", name))
    ]


def open_folder(
    *,
    source: Annotated[Path, Option("The folder, or the csv.")],
    name: Annotated[str | None, Option("The data set's name. [default: the folder's]")] = None,
    size: Size = None,
    grey: Annotated[bool | None, Option("[default: colour where any image has it]", "--grey/--colour")] = None,
    images: Annotated[
        Path | None, Option("The folder that a csv's paths are relative to. [default: the csv's]")
    ] = None,
    pattern: Annotated[
        str | None,
        Option(
            "Labels stand in file names: jaffe, kdef, rafd, or a regular expression with the group (?P<label>...), and "
            "(?P<subject>...), (?P<sequence>...), (?P<split>...)."
        ),
    ] = None,
    labels: Labels = None,
    ignore_columns: Annotated[
        str | None, Option("Columns of the csv, separated by commas, that may be passed over.")
    ] = None,
    align: Annotated[
        bool, Option("Find the face in each image, and align it to a template.", "--align/--no-align")
    ] = False,
    detection: FaceDetection = DEFAULT_DETECTION,
) -> Loader:
    """Open a user's own images, with their faces aligned where ``align`` is set.

    Raises:
        FerError: the source is at fault.
    """
    folder = Folder(
        source=source,
        name=name,
        size=size,
        grey=grey,
        images=images,
        pattern=pattern,
        labels=labels,
        ignore_columns=ignore_columns,
    )
    if align and folder.has_boxes:
        raise UsageError("--align finds the faces of whole images, and the table has boxes", hint="leave one out")
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
