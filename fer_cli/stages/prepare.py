"""Stage ``prepare``: an official layout in, a dataset artifact out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.payload import ArrayWriter, table_bytes
from fer_cli.artifacts.protocol import DatasetProtocol, DuplicatesLeftOut, SplitOrigin
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.sections import SplitName
from fer_cli.artifacts.source_files import file_hashes, hashes_input
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import DatasetSummary, Measured
from fer_cli.artifacts.work import Plan, Work
from fer_cli.audit.deduplicate import SETTING, leave_out_copies
from fer_cli.core.errors import FerError
from fer_cli.core.labels import REGIONS
from fer_cli.core.progress import note, track, warn
from fer_cli.datasets.dataset import AUS, IMAGES, INDEX, MASKS
from fer_cli.datasets.image_hash import decoded_hash
from fer_cli.datasets.image_list import odd_images
from fer_cli.datasets.leaks import Leaks, find_leaks
from fer_cli.datasets.records import SPLITS, Loader, LoadReport, Row
from fer_cli.datasets.splits import (
    MIN_SHARE,
    carve,
    check_groups,
    class_warnings,
    duplicate_groups,
    split_hash,
    units_of,
)

REVISION: Final = 3
CARVED_TEST: Final = 0.2
"""Share of a source without any split that becomes the test split."""
BLANK: Final = 3
"""Levels of grey, of 255, between the darkest and the brightest value of an image that is of one colour."""


def prepare(
    *,
    store: Store,
    loader: Loader,
    validation: float = 0.1,
    seed: int = 0,
    drop_duplicates: bool = False,
    command: str = "",
    force: bool = False,
    name: str | None = None,
) -> Result:
    """Read a source, check it, and write it as a dataset artifact.

    Args:
        store: where it goes.
        loader: the opened source.
        validation: share of train that becomes validation where the source has none.
        seed: of the carved splits.
        drop_duplicates: leave out training pictures that are copies of others, as
            :mod:`fer_cli.audit.deduplicate` says; the artifact's name says so.
        command: what the user typed, for the reports of all that is made from it; no part of the version.
        force: make it anew even when it is up to date.
        name: of what is made; from its inputs and settings where it is None.

    Raises:
        FerError: the source is at fault; nothing is left behind.
    """
    if not MIN_SHARE <= validation < 0.5:
        what = f"--validation {validation} is not a share of train"
        raise FerError(what, hint=f"use a number from {MIN_SHARE:g} to below 0.5")
    name = name or (f"{loader.name}-unique" if drop_duplicates else loader.name)
    files = file_hashes(loader.name, loader.files) if loader.files else {}
    plan = Plan(
        kind="dataset",
        name=name,
        stage="prepare",
        revision=REVISION,
        config={"loader": type(loader).__name__, **loader.config, "validation": validation, "split_seed": seed}
        | ({"drop_duplicates": SETTING} if drop_duplicates else {}),
        inputs={"source": hashes_input(loader.name, files)} if files else {},
        seeds=[seed],
    )
    with store.make(plan, force=force) as work:
        if work.committed is not None:
            return Result(work.committed, up_to_date=True)
        rows, hashes, intensities, blank = _write_blocks(work, loader, files)
        report = loader.report()
        report.odd_images += odd_images("blank", blank)
        left_out = None
        if drop_duplicates:
            kept = leave_out_copies(work, rows, _source_splits(rows, report), hashes)
            rows, hashes = [rows[at] for at in kept.positions], [hashes[at] for at in kept.positions]
            intensities = None if intensities is None else intensities[kept.positions]
            report.dropped |= kept.dropped
            left_out = kept.protocol()
        if intensities is not None:
            work.write(AUS, _aus_bytes(rows, intensities, report))
        rows = _with_splits(rows, hashes, report, validation, seed)
        leaks = find_leaks(
            [row.split for row in rows],
            labels=[row.label for row in rows],
            pixels=hashes,
            subjects=[row.subject for row in rows],
            sequences=[row.sequence for row in rows],
        )
        work.write(INDEX, _index_bytes(rows, hashes, report))
        artifact = work.commit(
            summary=_summary(rows, report, leaks),
            protocol=_protocol(name, rows, report, leaks, left_out, validation, seed),
            measured=Measured(command=command or None),
            warnings=[
                *(str(leftover) for leftover in report.leftovers if leftover.matters),
                *map(str, report.odd_images),
                *([str(report.numbering)] if report.numbering and not report.numbering.is_certain else []),
                *report.warnings,
                *class_warnings([row.label for row in rows], [row.split for row in rows], report.classes),
                *leaks.warnings,
            ],
        )
    for text in artifact.manifest.warnings:
        warn(text)
    return Result(artifact, up_to_date=False)


def _write_blocks(
    work: Work, loader: Loader, files: Mapping[str, str]
) -> tuple[list[Row], list[str], NDArray[np.float32] | None, list[str]]:
    """Stream pixels (and masks where there are any) to the disk.

    Args:
        work: where they go.
        loader: where they come from.
        files: the hash of each of its files.

    Returns:
        The rows with their hashes, the hash of each image as it is kept, the AU intensities where there are any, and
        the ids of images of one colour.
    """
    rows: list[Row] = []
    blank: list[str] = []
    hashes: list[str] = []
    intensities: list[NDArray[np.float32]] = []
    writers: dict[str, ArrayWriter] = {}
    expected = loader.expected_rows
    with track(f"prepare {loader.name}", expected) as advance, ExitStack() as opened:
        for block in loader.blocks():
            arrays = {IMAGES: block.images} | ({} if block.masks is None else {MASKS: block.masks})
            if not writers:
                _check_room(work, arrays.values(), expected)
                for name, array in arrays.items():
                    path, shape = work.directory / name, array.shape[1:]
                    writer = ArrayWriter(path, shape, array.dtype, expected or 0, reserve=True)
                    writers[name] = opened.enter_context(writer)
            for name, array in arrays.items():
                writers[name].write(len(rows), array)
            if block.aus is not None:
                intensities.append(block.aus)
            hashes += [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in block.images]
            rows += [_hashed(row, image, files) for row, image in zip(block.rows, block.images, strict=True)]
            spread = block.images.max((1, 2)) - block.images.min((1, 2))  # of each channel
            plain = (spread <= BLANK).all(axis=tuple(range(1, spread.ndim)))
            blank += [block.rows[at].id for at in np.flatnonzero(plain)]
            advance(len(block.rows))
        if not rows:
            raise FerError(f"{loader.name} has no images", hint="check the source")
        for writer in writers.values():
            writer.finish(len(rows))
    _check_ids(rows)
    return rows, hashes, np.concatenate(intensities) if intensities else None, blank


def _hashed(row: Row, image: NDArray[np.uint8], files: Mapping[str, str]) -> Row:
    """Return a row with what tells its image from others: the hash of its own file, and that of its pixels."""
    file = None if row.is_cut_out else files.get(f"picture {row.source}")
    return replace(
        row,
        source_hash=row.source_hash if file is None else file[:32],
        decoded_hash=row.decoded_hash or decoded_hash(image),
    )


def _aus_bytes(rows: Sequence[Row], intensities: NDArray[np.float32], report: LoadReport) -> bytes:
    columns = {name: intensities[:, i] for i, name in enumerate(report.au_columns)}
    return table_bytes({"id": [row.id for row in rows]} | columns)


def _check_room(work: Work, arrays: Iterable[NDArray[np.uint8]], expected: int | None) -> None:
    needed = sum((expected or len(array)) * array[0].nbytes for array in arrays)
    free = shutil.disk_usage(work.directory).free
    if needed > free:
        raise FerError(
            f"needs {needed / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free",
            hint="free some space, or give another --store",
            path=work.target.parent,
        )
    if expected is not None:
        note(f"reading {expected:,} images, {needed / 1e6:,.1f} MB when written to {work.target}")


def _check_ids(rows: Sequence[Row]) -> None:
    seen: dict[str, Row] = {}
    for row in rows:
        if (first := seen.setdefault(row.id, row)) is not row:
            raise FerError(
                f"id {row.id!r} is duplicated, first for {first.source}",
                hint="give each image one row",
                path=row.source,
                line=row.line,
            )


def _with_splits(rows: list[Row], hashes: list[str], report: LoadReport, validation: float, seed: int) -> list[Row]:
    """Resolve the source's own names of splits and carve the ones that it lacks.

    Duplicates and subjects stay whole, and sequences where the source names no subject.
    """
    splits = _source_splits(rows, report)
    groups = duplicate_groups(hashes, units_of([row.subject for row in rows], [row.sequence for row in rows]))
    carved = [name for name, wanted in (("validation", report.carve_validation), ("test", report.carve_test)) if wanted]
    if carved:
        train = [index for index, split in enumerate(splits) if split == "train"]
        check_groups([rows[at].label for at in train], [groups[at] for at in train], ["train", *carved])
    for wanted, name, share in (
        (report.carve_test, "test", CARVED_TEST),
        (report.carve_validation, "validation", validation),
    ):
        if wanted:
            train = [index for index, split in enumerate(splits) if split == "train"]
            chosen = carve([rows[index].label for index in train], [groups[index] for index in train], share, seed)
            for index, taken in zip(train, chosen, strict=True):
                if taken:
                    splits[index] = name
    copies = Counter(hashes)
    return [
        replace(row, split=split, flags=(*row.flags, "duplicate") if copies[pixels] > 1 else row.flags)
        for row, split, pixels in zip(rows, splits, hashes, strict=True)
    ]


def _source_splits(rows: Sequence[Row], report: LoadReport) -> list[str]:
    """Return the split of each row before any was carved."""
    splits = [report.split_of.get(row.split, row.split) for row in rows]
    assert set(splits) <= set(SPLITS), set(splits) - set(SPLITS)
    return splits


def _index_bytes(rows: Sequence[Row], hashes: Sequence[str], report: LoadReport) -> bytes:
    import pyarrow as pa

    columns = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "split": pa.array([row.split for row in rows], pa.string()),
        "label": pa.array([row.label for row in rows], pa.string()),
        "source": pa.array([row.source for row in rows], pa.string()),
        "line": pa.array([row.line for row in rows], pa.int32()),
        "width": pa.array([row.width for row in rows], pa.int32()),
        "height": pa.array([row.height for row in rows], pa.int32()),
        "subject": pa.array([row.subject for row in rows], pa.string()),
        "sequence": pa.array([row.sequence for row in rows], pa.string()),
        "pixels": pa.array(hashes, pa.string()),
        "source_hash": pa.array([row.source_hash for row in rows], pa.string()),
        "decoded_hash": pa.array([row.decoded_hash for row in rows], pa.string()),
        "flags": pa.array([list(row.flags) for row in rows], pa.list_(pa.string())),
        "votes": pa.array([None if row.votes is None else list(row.votes) for row in rows], pa.list_(pa.uint8())),
        "target": pa.array([None if row.target is None else list(row.target) for row in rows], pa.list_(pa.float64())),
    }
    metadata = {"classes": json.dumps(report.classes), "vote_columns": json.dumps(report.vote_columns)}
    return table_bytes(columns, metadata)


def _counts(rows: Sequence[Row], classes: Sequence[str]) -> dict[SplitName, dict[str, int]]:
    """Return split -> class -> number of images, every class named in every split."""
    counted = Counter((row.split, row.label) for row in rows)
    there = [split for split in SPLITS if any(key[0] == split for key in counted)]
    return {split: {name: counted[split, name] for name in classes} for split in there}


def _summary(rows: Sequence[Row], report: LoadReport, leaks: Leaks) -> DatasetSummary:
    counts = _counts(rows, report.classes)
    subjects = {row.subject for row in rows if row.subject is not None}
    return DatasetSummary(
        images=len(rows),
        splits={split: sum(of.values()) for split, of in counts.items()},
        classes=counts,
        source_counts=_source_counts(rows, report),
        duplicates=leaks.duplicates(),
        dropped=report.dropped,
        missing=tuple(report.missing),
        official_counts="differ" if report.missing else "as published" if report.official_counts else "none published",
        subjects=len(subjects) or None,
        alignment=report.alignment_record or None,
        aus=report.au_columns or None,
        regions=REGIONS if report.au_columns else None,
    )


def _source_counts(rows: Sequence[Row], report: LoadReport) -> dict[SplitName, int]:
    """Return how many images each part of the source gave, before a split was held out from it."""
    carved = {"validation": report.carve_validation, "test": report.carve_test}
    counted = Counter("train" if carved.get(row.split) else row.split for row in rows)
    return {split: counted[split] for split in SPLITS if counted[split]}


def _protocol(
    name: str,
    rows: Sequence[Row],
    report: LoadReport,
    leaks: Leaks,
    left_out: DuplicatesLeftOut | None,
    validation: float,
    seed: int,
) -> DatasetProtocol:
    n = {split: sum(of.values()) for split, of in _counts(rows, report.classes).items()}

    def origin(split: SplitName, share: float, *, carved: bool) -> SplitOrigin:
        if not carved:
            return SplitOrigin(kind="own")
        return SplitOrigin(kind="carved", share=share, images=n.get(split, 0), seed=seed)

    named = sum(row.subject is not None for row in rows)
    return DatasetProtocol(
        dataset=name,
        family=report.family,
        synthetic=report.synthetic,
        classes=tuple(report.classes),
        label_rule=report.label_rule,
        n=n,
        split_hash=split_hash([row.id for row in rows], [row.split for row in rows]),
        parts=tuple(report.parts),
        faces=report.faces,
        subjects_remark=report.subjects_remark,
        alignment=report.alignment,
        validation=origin("validation", validation, carved=report.carve_validation),
        test=origin("test", CARVED_TEST, carved=report.carve_test),
        subjects_named="all" if named == len(rows) else "some" if named else "none",
        missing=tuple(report.missing),
        leftovers=tuple(report.leftovers),
        odd_images=tuple(report.odd_images),
        numbering=report.numbering,
        votes_agreement=report.votes_agreement,
        duplicates_across_splits=leaks.duplicates_across,
        subjects_across_splits=leaks.subjects_across,
        sequences_across_splits=leaks.sequences_across,
        duplicates_left_out=left_out,
    )
