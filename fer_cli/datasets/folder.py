"""A user's own pictures: in folders of classes, with labels in their names, or listed in a table."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

from fer_cli.core.errors import FerError, UsageError, one_line
from fer_cli.datasets.image_files import portable
from fer_cli.datasets.image_list import WHOLE, Pictures
from fer_cli.datasets.image_names import PATTERNS, compiled_pattern, list_flat
from fer_cli.datasets.image_table import find_list, read_list
from fer_cli.datasets.image_tree import list_tree
from fer_cli.datasets.listing import ClassNames, Listing, refuse_equal_ids
from fer_cli.datasets.records import Block, Loader, LoadReport, Pictured
from fer_cli.datasets.registry import DatasetDefinition, Option, Size
from fer_cli.datasets.splits import assign_roles
from fer_cli.faces.aligned import DEFAULT_DETECTION, RULE, FaceDetection


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
        labels: what the source's labels mean, as :func:`~fer_cli.core.labels.class_mapping` reads it.
        classes: ``own`` takes the source's names as they stand; a list of names, separated by commas, is all that there
            may be, in this order. By default expressions in their usual spellings, or, where there are other names,
            all as they stand.
        synonyms: read the usual spellings of expressions among own names as these.
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
        classes: str | None = None,
        synonyms: bool = False,
        ignore_columns: str | None = None,
    ) -> None:
        if name is not None and (not name or safe_name(name) != name):
            raise FerError(
                f"{name!r} cannot be the name of an artifact",
                hint=f"use a-z, 0-9, '.', '_' and '-', such as {safe_name(name) or 'my-faces'!r}",
            )
        self._names = ClassNames.of(labels, classes, synonyms=synonyms)
        self._pattern = None if pattern is None else compiled_pattern(PATTERNS.get(pattern, pattern))
        self._table = find_list(source) if pattern is None else None
        if self._table is None and (images is not None or ignore_columns is not None):
            option = "--images" if images is not None else "--ignore-columns"
            raise UsageError(f"{option} is for a table, and {source} is read without one", hint="omit it")
        self._root = images or (source if self._table is None else self._table.parent)
        ignored = [] if ignore_columns is None else [text.strip().lower() for text in ignore_columns.split(",")]
        self._listing = self._read(source, ignored)
        try:
            self._names.check_used()
            self._classes = self._names.order(item.label for item in self._listing.items)
        except FerError as error:
            raise FerError(error.what, hint=error.hint, path=source) from None
        refuse_equal_ids(self._root, self._listing.items)
        self._name = name or name_of(source)
        tables = {} if self._table is None else dict.fromkeys((WHOLE, *self._listing.parts), self._table)
        self._pictures = Pictures(self._root, self._listing.items, size=size, grey=grey, tables=tables)

    def _read(self, source: Path, ignored: list[str]) -> Listing:
        """List the source; once more with own names where they are no expressions and nobody said what they are."""

        def listed(names: ClassNames) -> Listing:
            if self._pattern is not None:
                return list_flat(source, self._pattern, names)
            if self._table is None:
                return list_tree(source, names)
            return read_list(self._table, self._root, names, ignored)

        if self._names.own or self._pattern is not None:
            return listed(self._names)
        asked, self._names = self._names, replace(self._names, tentative=True)
        try:
            return listed(self._names)
        except FerError:
            own = self._names.with_own()
        listing: Listing | None = None
        try:
            listing = listed(own)
            own.order(item.label for item in listing.items)
        except FerError:
            listing = None
        if listing is None or not own.may_be_own:
            self._names = asked
            return listed(asked)
        self._names = own
        return listing

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
            **self._names.config,
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
        rule = "file names" if self._pattern else "folder names"
        if self._table is not None:
            rule = f"labels of {one_line(portable(self._table.name))}"
        return LoadReport(
            classes=self._classes,
            label_rule=f"{rule}, N = {len(items):,}",
            parts=roles.parts,
            faces=self._listing.faces,
            leftovers=self._listing.leftovers,
            odd_images=self._pictures.odd_images,
            split_of=roles.split_of,
            warnings=[*self._names.remarks(), *self._listing.remarks, *self._pictures.warnings],
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
    labels: Annotated[
        str | None,
        Option("What names or codes mean, as NAME=CLASS,...: calm=neutral,joyful=happy or 0=anger; merges too."),
    ] = None,
    classes: Annotated[
        str | None,
        Option(
            "own: take all names as they are; or the classes in their order, as calm,frustrated,... [default: "
            "expressions, or all names as they are where some are none]"
        ),
    ] = None,
    synonyms: Annotated[
        bool, Option("Read calm as neutral, joyful as happy ... among own classes.", "--synonyms")
    ] = False,
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
        classes=classes,
        synonyms=synonyms,
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
