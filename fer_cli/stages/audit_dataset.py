"""Stage ``audit`` of a dataset: an artifact in, findings out, and on request a contact sheet of the worst cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.checksums import AnyArray
from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.summaries import DatasetSummary
from fer_cli.audit import reach
from fer_cli.audit.deduplicate import SETTING
from fer_cli.audit.findings import Index, findings, fold_findings
from fer_cli.audit.kept import kept_copies
from fer_cli.audit.near_duplicates import groups_of, near_copies
from fer_cli.core.errors import UsageError
from fer_cli.core.findings import Case, Check, Finding, failed
from fer_cli.datasets.dataset import INDEX, Dataset, open_dataset
from fer_cli.models.features import open_features

if TYPE_CHECKING:
    import pyarrow as pa

    from fer_cli.reporting.cases import ShownCase

SHOWN: Final = 12
"""Cases of a kind on a contact sheet."""
_SHEET: Final = {
    Check.NEAR_COPIES_ACROSS_SPLITS: "Near copies across splits, the least alike first",
    Check.LABELS_OF_NEAR_COPIES: "Near copies with different labels, the least alike first",
    Check.LABELS_OF_EXACT_COPIES: "Equal pixels, different labels",
    Check.EXACT_COPIES_ACROSS_SPLITS: "Equal pixels across splits",
    Check.NEAR_COPIES: "Near copies, the least alike first",
    Check.NON_FACES: "No face",
}

_PAIRED: Final = (
    *(Check.EXACT_COPIES, Check.NEAR_COPIES, Check.NEAR_COPIES_ACROSS_SPLITS),
    *(Check.NEAR_COPIES_ACROSS_FOLDS, Check.LABELS_OF_NEAR_COPIES),
)
"""The checks that count pairs; of pictures with equal pixels the others look at those that lie apart."""
PAIR_COLUMNS: Final = (
    *("id", "other_id", "split", "other_split", "label", "other_label"),
    *("likeness", "mirrored"),
)


@dataclass(frozen=True, slots=True)
class DatasetAudit:
    """What an audit found. ``sheet`` is where the contact sheet is, None where none was asked for or needed."""

    dataset: Dataset
    findings: tuple[Finding, ...]
    sheet: Path | None

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings that make scores on the test or validation split, or over folds, optimistic."""
        return tuple(failed(self.findings))

    @property
    def verdict(self) -> str:
        """One line."""
        if self.leaks:
            return f"LEAKS: {', '.join(finding.check for finding in self.leaks)}"
        cautions = [finding.check for finding in self.findings if finding.verdict == "caution"]
        found = f"cautions: {', '.join(cautions)}; no leak found" if cautions else "nothing found"
        return f"{found} within the reach of the search"

    @property
    def reach(self) -> tuple[reach.Reach, ...]:
        """What the search for near copies was measured to find of changed copies."""
        return reach.measured()

    def to_json(self) -> list[dict[str, Any]]:
        """Return every finding with its cases, the pictures by id."""
        data = self.dataset
        columns = zip(data.ids.tolist(), data.splits.tolist(), data.labels.tolist(), strict=True)
        pictures = [{"id": str(one), "split": split, "label": data.classes[label]} for one, split, label in columns]
        return [
            {**finding.to_json(), "cases": [_case(case, pictures) for case in finding.cases]}
            for finding in self.findings
        ]

    def pairs(self) -> dict[str, list[Any]]:
        """Return near copies and equal pictures as columns, one row a pair: each picture with the first of its case.

        ``likeness`` is 1 for equal pixels; ``mirrored``: one shows the other's mirror image.
        """
        data = self.dataset
        columns: dict[str, list[Any]] = {name: [] for name in PAIR_COLUMNS}
        seen = set[frozenset[int]]()
        for finding in self.findings:
            if finding.check not in _PAIRED:
                continue
            for case in finding.cases:
                first, *others = case.rows
                for other in others:
                    if frozenset((first, other)) in seen:
                        continue
                    seen.add(frozenset((first, other)))
                    values = (
                        *(str(data.ids[row]) for row in (first, other)),
                        *(str(data.splits[row]) for row in (first, other)),
                        *(data.classes[data.labels[row]] for row in (first, other)),
                        None if case.likeness is None else round(case.likeness, 4),
                        case.mirrored,
                    )
                    for name, value in zip(PAIR_COLUMNS, values, strict=True):
                        columns[name].append(value)
        return columns


def _case(case: Case, pictures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    alike = {} if case.likeness is None else {"likeness": round(case.likeness, 4), "mirrored": case.mirrored}
    return {"pictures": [pictures[row] for row in case.rows], **alike}


def audit_dataset(*, dataset: Artifact, features: Artifact | None = None, out: Path | None = None) -> DatasetAudit:
    """Look for what makes scores on a dataset untrustworthy.

    Args:
        dataset: the artifact.
        features: of the dataset: neighbours by them are looked at as near copies too.
        out: where to draw the worst cases (PNG, SVG or PDF); they are not drawn where it is None.

    Raises:
        FerError: an artifact is damaged, or the features are of another dataset.
        UsageError: ``out`` is no picture by its suffix.
    """
    from fer_cli.reporting.style import FORMATS

    if out is not None and out.suffix.lower() not in FORMATS:
        raise UsageError(f"--out {out} has no suffix of a picture", hint=f"end it in one of {', '.join(FORMATS)}")
    opened = open_dataset(dataset)
    index = _index(opened, read_table(dataset.file(INDEX)))
    folds = None if opened.folds is None else [f"fold {fold}" for fold in opened.folds.tolist()]
    groups = groups_of(index.subjects, index.splits, *([] if folds is None else [folds]))
    embeddings = None if features is None else _embeddings(features, opened)
    near = kept_copies(
        dataset, features, SETTING, lambda: near_copies(opened.images, opened.pixels, embeddings, groups)
    )
    found = [*findings(index, near), _official_counts(dataset)]
    if folds is not None:
        found += fold_findings(replace(index, splits=folds, side="fold"), near)
    audit = DatasetAudit(opened, tuple(found), None)
    return audit if out is None else replace(audit, sheet=_draw(audit, out))


def _embeddings(features: Artifact, dataset: Dataset) -> AnyArray:
    return next(iter(open_features(features, dataset.artifact).views.values()))


def _index(dataset: Dataset, table: pa.Table) -> Index:
    columns = json.loads((table.schema.metadata or {}).get(b"vote_columns", b"[]"))
    votes: Sequence[tuple[int, int] | None] = [None] * len(table)
    if "nf" in columns:
        at = columns.index("nf")
        votes = [None if one is None else (one[at], sum(one)) for one in table["votes"].to_pylist()]
    return Index(
        splits=dataset.splits.tolist(),
        labels=[dataset.classes[label] for label in dataset.labels],
        pixels=dataset.pixels,
        subjects=table["subject"].to_pylist(),
        sequences=table["sequence"].to_pylist(),
        votes=votes,
    )


def _official_counts(dataset: Artifact) -> Finding:
    """Say what the manifest says: the loader compared the rows of each part and class with the published ones."""
    if dataset.manifest.stage == "split":
        source = dataset.manifest.inputs["dataset"]
        measured = f"see {source.name}@{source.version}, which it is split from"
        return Finding(Check.OFFICIAL_COUNTS, "not measured", measured, count=0)
    summary = DatasetSummary.of(dataset)
    match summary.official_counts:
        case "differ":
            measured = "; ".join(summary.missing)
            return Finding(Check.OFFICIAL_COUNTS, "caution", measured, count=len(summary.missing))
        case "as published":
            return Finding(Check.OFFICIAL_COUNTS, "pass", "as published", count=0)
        case "none published":
            return Finding(Check.OFFICIAL_COUNTS, "not measured", "no published counts", count=0)


def _draw(audit: DatasetAudit, out: Path) -> Path | None:
    from fer_cli.reporting.cases import cases_figure
    from fer_cli.reporting.style import save_figure

    by_check = {finding.check: finding for finding in audit.findings}
    drawn: set[Case] = set()
    groups = {}
    for check, heading in _SHEET.items():
        cases = [case for case in by_check[check].cases if case not in drawn][:SHOWN]
        drawn.update(cases)
        groups[heading] = [_shown(audit.dataset, case) for case in cases]
    if not drawn:
        return None
    reference = audit.dataset.artifact.reference.removeprefix("dataset/")
    return save_figure(cases_figure(groups, f"Audit of {reference}", audit.verdict), out)


def _shown(dataset: Dataset, case: Case) -> ShownCase:
    """Return a case as it is drawn: of more than two equal pictures, two of different labels, else splits."""
    from fer_cli.reporting.cases import ShownCase

    first, *others = case.rows
    other = max(others, key=lambda row: _differs(dataset, first, row), default=None)
    rows = (first,) if other is None else (first, other)
    note = ""
    if case.likeness is not None:
        note = "equal pixels" if case.likeness == 1 else f"alike {case.likeness:.2f}{', mirrored' * case.mirrored}"
        note += f", {len(case.rows)} of them" if len(case.rows) > 2 else ""
    return ShownCase(
        tuple(np.asarray(dataset.images[row]) for row in rows),
        tuple(
            (str(dataset.ids[row]), f"{dataset.splits[row]}, {dataset.classes[dataset.labels[row]]}") for row in rows
        ),
        note,
    )


def _differs(dataset: Dataset, one: int, other: int) -> tuple[bool, bool]:
    return bool(dataset.labels[one] != dataset.labels[other]), bool(dataset.splits[one] != dataset.splits[other])
