"""FER+ (Barsoum et al. 2016): the images of FER2013 with labels made of ten votes each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

from fer_cli.artifacts.protocol import VotesAgreement
from fer_cli.core.citations import Citation
from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS
from fer_cli.datasets.class_counts import check_classes
from fer_cli.datasets.fer2013 import (
    EMOTIONS,
    FORM,
    GOODFELLOW,
    LABEL_SHARES,
    OFFICIAL,
    OFFICIAL_ROWS,
    check_complete,
    find_table,
    in_words,
    new_tally,
    unread_files,
)
from fer_cli.datasets.pixel_table import PARTS, SIDE, ids, table_blocks
from fer_cli.datasets.records import Block, LoadReport, Row
from fer_cli.datasets.registry import AllowIncomplete, DatasetDefinition, Labels, Option, Source
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.splits import assign_roles, count_differences
from fer_cli.datasets.vote_join import Join, VoteAgreement
from fer_cli.datasets.votes import COLUMNS, RULES, Rule, find_votes, judge, read_votes

_NAMES: Final[dict[Rule, str]] = {
    "majority": "ferplus",
    "plurality": "ferplus-plurality",
    "votes": "ferplus-votes",
}
_PHRASES: Final[dict[Rule, str]] = {
    "majority": "FER+ official majority",
    "plurality": "FER+ plurality",
    "votes": "FER+ votes (official probability mode)",
}
_MAJORITY: Final = {
    "Training": (8740, 7287, 3149, 3014, 2100, 119, 532, 119),
    "PublicTest": (1182, 865, 415, 351, 287, 24, 62, 13),
    "PrivateTest": (1090, 893, 396, 384, 273, 18, 83, 16),
}
KEPT: Final[dict[Rule, dict[str, int]]] = {
    "majority": {part: sum(counts) for part, counts in _MAJORITY.items()},
    "plurality": {"Training": 28389, "PublicTest": 3553, "PrivateTest": 3546},
    "votes": {"Training": 27956, "PublicTest": 3505, "PrivateTest": 3505},
}
"""Rule -> part -> rows that the rule keeps of the complete part."""
MAJORITY_CLASSES: Final = {part: dict(zip(COLUMNS, counts, strict=False)) for part, counts in _MAJORITY.items()}
"""Part -> expression -> rows that the official majority keeps."""


class FerPlus:
    """FER2013's images with FER+ labels.

    Args:
        source: the table of FER2013, an archive of it, or a folder that holds one.
        votes: ``fer2013new.csv`` or a folder that holds it; by default it is looked for beside the images.
        rule: how ten votes become a label: ``majority``, ``plurality`` or ``votes`` (see ``votes.judge``).
        labels: what the numbers in the table of images mean, where they are not FER2013's; votes are named.
        allow_incomplete: take images that lack rows or whole parts; votes of parts that are lacking are left out.

    Raises:
        FerError: the images or the votes are not there.
    """

    def __init__(
        self,
        *,
        source: Source,
        votes: Annotated[
            Path | None, Option("FER+ votes. [default: fer2013new.csv in the same folder as the source]")
        ] = None,
        rule: Annotated[str, Option("majority (official), plurality, or votes (soft labels).")] = "majority",
        allow_incomplete: AllowIncomplete = False,
        labels: Labels = None,
    ) -> None:
        known = next((name for name in RULES if name == rule), None)
        if known is None:
            raise FerError(f"unknown rule {rule!r}", hint=f"it is one of {', '.join(RULES)}")
        table = find_table(source)
        if table is None:
            raise FerError("FER+ votes join by row order, which folders do not keep", hint="give the csv", path=source)
        self._table = table
        self._votes = find_votes(votes, source)
        self._rule = known
        self._allow_incomplete = allow_incomplete
        self._labels = SourceLabels("FER2013", ids(EMOTIONS), labels)
        self._leftovers = unread_files(source, self.files.values())
        self._found = new_tally()
        self._kept = new_tally()
        self._dropped: Counter[str] = Counter()
        self._warnings: list[str] = []
        self._agreement: VotesAgreement | None = None

    @property
    def name(self) -> str:
        """One of ``ferplus``, ``ferplus-plurality`` and ``ferplus-votes``."""
        return _NAMES[self._rule]

    @property
    def files(self) -> dict[str, Path]:
        """The table of images and the votes."""
        return {"table": self._table, "votes": self._votes}

    @property
    def config(self) -> dict[str, Any]:
        """Whether images with gaps were allowed, and the rule."""
        return {"allow_incomplete": self._allow_incomplete, "rule": self._rule, **self._labels.config}

    @property
    def expected_rows(self) -> int | None:
        """The number of rows that the rule keeps of the complete data; None where rows may be lacking."""
        return None if self._allow_incomplete else sum(KEPT[self._rule].values())

    def blocks(self) -> Iterator[Block]:
        """Yield the images that the rule keeps as (n, 48, 48) uint8, in the order of the table."""
        votes = read_votes(self._votes, tuple(PARTS))
        self._warnings += votes.warnings
        self._leftovers += votes.leftovers
        join = Join(votes, self._table, self._allow_incomplete, VoteAgreement(self._table, LABEL_SHARES))
        for block in table_blocks(self._table, FORM, self._labels, self._leftovers):
            rows: list[Row] = []
            keep: list[int] = []
            for index, (line, emotion, part) in enumerate(zip(block.lines, block.labels, block.parts, strict=True)):
                counts = join.take(part, line, emotion)
                verdict = judge(self._rule, counts)
                self._found[part][emotion] += 1
                if verdict.label is None:
                    self._dropped[verdict.reason] += 1
                    continue
                self._kept[part][verdict.label] += 1
                keep.append(index)
                rows.append(
                    Row(
                        id=block.id(index),
                        split=part,
                        label=verdict.label,
                        source=self._table.name,
                        line=line,
                        width=SIDE,
                        height=SIDE,
                        votes=counts,
                        target=verdict.target,
                    )
                )
            if rows:
                yield Block(tuple(rows), block.images[keep])
        self._check_images()  # a part that is missing explains the votes that are left over
        self._warnings += join.finish()
        self._agreement = join.agreement.finish()

    def report(self) -> LoadReport:
        """Check the counts against the official ones, of the images and of what the rule keeps.

        Raises:
            FerError: rows or parts are lacking, or the rule keeps fewer rows than it should, and that was not allowed;
                or it keeps more rows than there are, or those of other classes, which no incomplete source has.
        """
        missing = self._check_images()
        self._check_kept()
        differences = self._rule_differences()
        if differences and not self._allow_incomplete:
            raise FerError(
                f"not the official votes: {', '.join(differences)}",
                hint="use the original fer2013new.csv, or accept these votes with --allow-incomplete",
                path=self._votes,
            )
        roles = assign_roles({part: split for part, split in PARTS.items() if self._found[part].total()})
        return LoadReport(
            classes=EXPRESSIONS,
            label_rule=f"{_PHRASES[self._rule]}, {in_words(self._kept)}",
            family="ferplus",
            official_counts=True,
            parts=roles.parts,
            split_of=roles.split_of,
            missing=missing + differences,
            leftovers=self._leftovers,
            warnings=[*self._warnings, *self._labels.check_used()],
            dropped=dict(self._dropped),
            vote_columns=COLUMNS,
            votes_agreement=self._agreement,
            carve_validation=roles.carve_validation,
            carve_test=roles.carve_test,
        )

    def _check_images(self) -> list[str]:
        return check_complete(self._table, self._found, OFFICIAL, self._allow_incomplete, self._labels)

    def _check_kept(self) -> None:
        """Refuse what the rule cannot keep of the official votes, of whole parts or of others."""
        if self._rule == "majority":
            check_classes("FER+", self._votes, self._kept, MAJORITY_CLASSES)
        for part, most in KEPT[self._rule].items():
            if (kept := self._kept[part].total()) > most:
                raise FerError(
                    f"{self._rule} keeps {kept:,} rows of {part}, more than the {most:,} of the official votes",
                    hint="use the original fer2013new.csv",
                    path=self._votes,
                )

    def _rule_differences(self) -> list[str]:
        """Compare what the rule kept of each complete part with what it should keep."""
        whole = [part for part, rows in OFFICIAL_ROWS.items() if self._found[part].total() == rows]
        if self._rule == "majority":
            return count_differences(self._kept, {part: MAJORITY_CLASSES[part] for part in whole})
        return [
            f"{self._rule} keeps {self._kept[part].total():,} rows of {part}, not {KEPT[self._rule][part]:,}"
            for part in whole
            if self._kept[part].total() != KEPT[self._rule][part]
        ]


BARSOUM_2016: Final = Citation(
    "barsoum-2016-ferplus",
    "inproceedings",
    "Training deep networks for facial expression recognition with crowd-sourced label distribution",
    ("Barsoum, E.", "Zhang, C.", "Canton-Ferrer, C.", "Zhang, Z."),
    2016,
    {"booktitle": "Proceedings of the 18th ACM International Conference on Multimodal Interaction"},
)
DATASET: Final = DatasetDefinition(
    summary="FER+: FER2013's images with ten votes each; joined to FER2013 by row order.",
    help="FER+: FER2013's images with ten votes each; joined to FER2013 by row order.",
    open=FerPlus,
    citations=(BARSOUM_2016, GOODFELLOW),
)
