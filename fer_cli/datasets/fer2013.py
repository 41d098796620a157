"""FER2013 (Goodfellow et al. 2013): the table of pixels in its official forms, and the common re-layout as folders."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

from fer_cli.artifacts.protocol import Leftover, VotesAgreement
from fer_cli.core.citations import Citation
from fer_cli.core.errors import FerError
from fer_cli.core.labels import in_order
from fer_cli.datasets.class_counts import check_classes
from fer_cli.datasets.image_files import decode_blocks, probe_all, refuse
from fer_cli.datasets.image_list import ImageEntry
from fer_cli.datasets.image_tree import list_tree
from fer_cli.datasets.leftovers import find_unread
from fer_cli.datasets.pixel_table import PARTS, SIDE, Form, ids, table_blocks
from fer_cli.datasets.records import Block, LoadReport, Row
from fer_cli.datasets.registry import AllowIncomplete, DatasetDefinition, Labels, Option, Source
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.split_names import split_of_name
from fer_cli.datasets.splits import assign_roles, count_differences
from fer_cli.datasets.vote_join import Join, VoteAgreement
from fer_cli.datasets.votes import find_votes, is_nonface, read_votes

EMOTIONS: Final = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The expressions by the ids of the source."""
_COUNTS: Final = {
    "Training": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "PublicTest": (467, 56, 496, 895, 653, 415, 607),
    "PrivateTest": (491, 55, 528, 879, 594, 416, 626),
}
OFFICIAL: Final = {part: dict(zip(EMOTIONS, counts, strict=True)) for part, counts in _COUNTS.items()}
"""Part -> expression -> rows, as published."""
OFFICIAL_ROWS: Final = {part: sum(counts) for part, counts in _COUNTS.items()}

LABEL_SHARES: Final = {
    name: sum(counts[name] for counts in OFFICIAL.values()) / sum(OFFICIAL_ROWS.values()) for name in EMOTIONS
}
"""Expression -> its share of all rows."""

_BOTH_TESTS: Final = "test"  # the part's name in the re-layout when no file name tells the two tests apart
_TABLE_NAMES: Final = ("fer2013.csv", "icml_face_data.csv")
_NEVER_READ: Final = ("fer2013new.csv*", "train.csv", "test.csv", "example_submission.csv")  # the votes, and Kaggle's
FORM: Final = Form("FER2013", EMOTIONS, OFFICIAL_ROWS, _TABLE_NAMES, _NEVER_READ)
"""What the table may hold."""
_FILE_NAMES: Final = frozenset(
    [name + suffix for name in _TABLE_NAMES for suffix in ("", ".gz", ".xz", ".bz2", ".zip", ".tar.gz")]
    + ["fer2013.tar.gz", "fer2013.tgz", "fer2013.tar", "fer2013.tar.xz", "fer2013.zip"]
)
_WHAT: Final = (
    "fer2013.csv or icml_face_data.csv (plain, .gz, .xz, .zip), fer2013.tar.gz, or the folders train/ and test/"
)
_INCOMPLETE: Final = "get the whole data set, or accept what is there with --allow-incomplete"


class Fer2013:
    """FER2013 with its own labels.

    Args:
        source: the table or an archive of it, a folder that holds one of them, or a folder with ``train/`` and
            ``test/``.
        allow_incomplete: take a source that lacks rows or whole parts.
        labels: what the numbers or names of classes mean, where they are not the official ones.
        drop_nonface: the FER+ votes; rows where NF holds more than half of the votes are left out.

    Raises:
        FerError: the source is not there, or there are several.
    """

    def __init__(
        self,
        *,
        source: Source,
        allow_incomplete: AllowIncomplete = False,
        labels: Labels = None,
        drop_nonface: Annotated[
            Path | None, Option("FER+ votes (fer2013new.csv): drop images that most voters call no face.")
        ] = None,
    ) -> None:
        self._source = source
        self._allow_incomplete = allow_incomplete
        self._table = find_table(source)
        self._labels = SourceLabels("FER2013", ids(EMOTIONS), labels)
        self._tree = _read_tree(source) if self._table is None else []
        if drop_nonface is not None and self._table is None:
            raise FerError("FER+ votes join by row order, which folders do not keep", hint="give the csv", path=source)
        self._votes = None if drop_nonface is None else find_votes(drop_nonface, source)
        self._leftovers = unread_files(source, self.files.values())
        self._found = new_tally()  # what the source holds
        self._kept = new_tally()
        self._warnings: list[str] = []
        self._agreement: VotesAgreement | None = None
        for item in self._tree:
            self._found[item.part][item.label] += 1
            self._kept[item.part][item.label] += 1
        if self._table is None:
            self._check()

    @property
    def name(self) -> str:
        """The name is ``fer2013``, or ``fer2013-faces`` where the images without a face are left out."""
        return "fer2013" if self._votes is None else "fer2013-faces"

    @property
    def files(self) -> dict[str, Path]:
        """The table, and the votes if they are used; or every picture under its path below the source."""
        if self._table is None:
            return {f"picture {item.path}": self._source / item.path for item in self._tree}
        return {"table": self._table} | ({} if self._votes is None else {"votes": self._votes})

    @property
    def config(self) -> dict[str, Any]:
        """Whether a source with gaps was allowed, and the rule by which images without a face are left out."""
        rule = None if self._votes is None else "NF holds more than half of the FER+ votes"
        return {"allow_incomplete": self._allow_incomplete, "drop_nonface": rule, **self._labels.config}

    @property
    def expected_rows(self) -> int | None:
        """The number of pictures in folders, or of rows in the complete table; None where rows may be lacking."""
        if self._table is None:
            return len(self._tree)
        return None if self._allow_incomplete or self._votes is not None else sum(OFFICIAL_ROWS.values())

    def blocks(self) -> Iterator[Block]:
        """Yield the images as (n, 48, 48) uint8, in the order of the table or of the sorted file names."""
        return self._tree_blocks() if self._table is None else self._table_blocks(self._table)

    def _table_blocks(self, path: Path) -> Iterator[Block]:
        join = None
        if self._votes is not None:
            votes = read_votes(self._votes, tuple(PARTS))
            self._warnings += votes.warnings
            self._leftovers += votes.leftovers
            join = Join(votes, path, self._allow_incomplete, VoteAgreement(path, LABEL_SHARES))
        for block in table_blocks(path, FORM, self._labels, self._leftovers):
            rows, keep = [], []
            for index, (line, label, part) in enumerate(zip(block.lines, block.labels, block.parts, strict=True)):
                self._found[part][label] += 1
                if join is not None and is_nonface(join.take(part, line, label)):
                    continue
                self._kept[part][label] += 1
                keep.append(index)
                rows.append(Row(block.id(index), part, label, path.name, line, width=SIDE, height=SIDE))
            if rows:
                yield Block(tuple(rows), block.images if len(keep) == len(block.lines) else block.images[keep])
        if join is not None:
            self._check()  # a part that is missing explains the votes that are left over
            self._warnings += join.finish()
            self._agreement = join.agreement.finish()

    def _tree_blocks(self) -> Iterator[Block]:
        paths = [self._source / item.path for item in self._tree]
        pictures = probe_all(paths)
        refuse(
            [
                FerError(
                    f"the image is {picture.width}x{picture.height} pixels, those of FER2013 are {SIDE}x{SIDE}",
                    hint="use the original images, or fer prepare folder",
                    path=path,
                )
                for path, picture in zip(paths, pictures, strict=True)
                if (picture.width, picture.height) != (SIDE, SIDE)
            ]
        )
        if coloured := sum(not picture.grey for picture in pictures):
            self._warnings.append(f"{coloured:,} images are stored in colour; their luma was taken")
        start = 0
        for images, hashes in decode_blocks(paths, grey=True, shape=(SIDE, SIDE), resize=False):
            items = self._tree[start : start + len(images)]
            start += len(images)
            yield Block(
                tuple(
                    Row(item.path, item.part, item.label, item.path, width=SIDE, height=SIDE, decoded_hash=pixels)
                    for item, pixels in zip(items, hashes, strict=True)
                ),
                images,
            )

    def report(self) -> LoadReport:
        """Check the counts against the official ones.

        Raises:
            FerError: rows or parts are lacking, and that was not allowed.
        """
        missing = self._check()
        parts = PARTS | {_BOTH_TESTS: "test"}
        roles = assign_roles({part: split for part, split in parts.items() if self._found[part].total()})
        dropped = sum(counts.total() for counts in self._found.values()) - sum(c.total() for c in self._kept.values())
        rule = "FER2013 labels" if self._votes is None else "FER2013 labels, without rows that FER+ votes NF"
        return LoadReport(
            classes=in_order(EMOTIONS),
            label_rule=f"{rule}, {in_words(self._kept)}",
            family="fer2013",
            official_counts=True,
            parts=roles.parts,
            split_of=roles.split_of,
            missing=missing,
            leftovers=self._leftovers,
            numbering=self._labels.numbering,
            warnings=[*self._warnings, *self._labels.check_used()],
            votes_agreement=self._agreement,
            dropped={} if self._votes is None else {"NF holds more than half of the FER+ votes": dropped},
            carve_validation=roles.carve_validation,
            carve_test=roles.carve_test,
        )

    def _check(self) -> list[str]:
        official = OFFICIAL if self._table is not None else _official_tree(self._found)
        return check_complete(self._table or self._source, self._found, official, self._allow_incomplete, self._labels)


Tally = defaultdict[str, Counter[str]]
"""Part -> label -> rows."""


def new_tally() -> Tally:
    """Return an empty tally."""
    return defaultdict(Counter)


def in_words(kept: Tally) -> str:
    """Return ``N = 25,060 Training + 3,199 PublicTest``: what a label rule left of each part."""
    return "N = " + " + ".join(f"{counts.total():,} {part}" for part, counts in kept.items() if counts.total())


def check_complete(
    path: Path,
    found: Mapping[str, Mapping[str, int]],
    official: Mapping[str, Mapping[str, int]],
    allow_incomplete: bool,
    labels: SourceLabels,
) -> list[str]:
    """Compare counts with the official ones and return the differences in words.

    Raises:
        FerError: they differ, and ``allow_incomplete`` is not set; or they are those of other classes or more rows.
    """
    check_classes("FER2013", path, found, official, labels)
    differences = count_differences(found, official)
    if differences and not allow_incomplete:
        raise FerError(f"not the complete FER2013: {', '.join(differences)}", hint=_INCOMPLETE, path=path)
    return differences


def find_table(source: Path) -> Path | None:
    """Return the table of FER2013 at ``source``: itself if it is a file, the one in it if it is a folder.

    Returns:
        None for a folder with ``train/`` or ``test/`` in it instead.

    Raises:
        FerError: there is nothing of the kind, or more than one.
    """
    try:
        if source.is_file():
            with source.open("rb"):
                return source
        names = sorted(entry.name for entry in source.iterdir())
    except OSError as error:
        raise FerError(f"cannot be read: {error.strerror}", hint=f"give {_WHAT}", path=source) from None
    tables = [name for name in names if name.lower() in _FILE_NAMES]
    folders = [name for name in names if split_of_name(name) and (source / name).is_dir()]
    found = tables + ([" and ".join(f"{name}/" for name in folders)] if folders else [])
    if not found:
        raise FerError("FER2013 is not in this folder", hint=f"looked for {_WHAT}", path=source)
    if len(found) > 1:
        raise FerError(f"holds several sources: {', '.join(found)}", hint="give the right one", path=source)
    return source / tables[0] if tables else None


def unread_files(source: Path, read: Iterable[Path]) -> list[Leftover]:
    """List what a folder holds beside the files of FER2013 that are read; nothing where the source is a file."""
    return find_unread(source, read, parts=_NEVER_READ).leftovers() if source.is_dir() else []


@dataclass(frozen=True, slots=True)
class _TreePicture:
    path: str
    part: str
    label: str


def _read_tree(root: Path) -> list[_TreePicture]:
    """List the pictures of the re-layout ``train/`` and ``test/`` with their parts."""
    pictures: list[_TreePicture] = []
    faults: list[FerError] = []
    for item in list_tree(root).items:
        part = _part_of(item)
        if part is None or item.label not in EMOTIONS:
            what = f"does not belong to {item.split or 'this source'}" if part is None else "not a class of FER2013"
            hint = "the re-layout of FER2013 has train/ and test/ with seven classes; other folders: fer prepare folder"
            faults.append(FerError(what, hint=hint, path=root / item.path))
        else:
            pictures.append(_TreePicture(item.path, part, item.label))
    refuse(faults)
    unnamed = [item for item in pictures if item.part == _BOTH_TESTS]
    if unnamed and any(item.part in {"PublicTest", "PrivateTest"} for item in pictures):
        raise FerError(
            "the name contains neither PublicTest nor PrivateTest, unlike those of other files",
            hint="give all test files their original names, or none of them",
            path=root / unnamed[0].path,
        )
    return pictures


def _part_of(item: ImageEntry) -> str | None:
    """Return the part of FER2013 that a picture of the re-layout belongs to, or None if it has no place in it."""
    prefix = PurePosixPath(item.path).name.partition("_")[0].lower()
    named = {part.lower(): part for part in PARTS}.get(prefix)
    split = split_of_name(item.split or "")
    if split == "train":
        return "Training" if named in {None, "Training"} else None
    if split == "test":
        return None if named == "Training" else named or _BOTH_TESTS
    return None


def _official_tree(found: Tally) -> dict[str, dict[str, int]]:
    """Return the official counts, those of both tests in one if the file names do not tell them apart."""
    if not found[_BOTH_TESTS]:
        return OFFICIAL
    both = Counter(OFFICIAL["PublicTest"]) + Counter(OFFICIAL["PrivateTest"])
    return {"Training": OFFICIAL["Training"], _BOTH_TESTS: dict(both)}


GOODFELLOW: Final = Citation(
    "goodfellow-fer2013",
    "article",
    "Challenges in representation learning: A report on three machine learning contests",
    ("Goodfellow, I. J.", "Erhan, D.", "others"),
    more={"journal": "Neural Networks", "volume": "64", "pages": "59–63"},
)
DATASET: Final = DatasetDefinition(
    summary="FER2013: fer2013.csv (plain, compressed, or in an archive), icml_face_data.csv, or folders.",
    help="""FER2013: fer2013.csv (also .gz, .xz, .zip, .tar.gz), icml_face_data.csv, or train/ and test/ folders.

PublicTest is validation and PrivateTest is test. Where PrivateTest is missing, PublicTest is the test split and
validation is held out from Training, so that no model is selected on the images it is tested on.""",
    open=Fer2013,
    citations=(GOODFELLOW,),
)
