"""Stage ``split``: a dataset artifact in, the same images under another split, or in folds, out."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.naming import composed_name
from fer_cli.artifacts.payload import read_table, table_bytes
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.source_files import files_input
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import DatasetSummary, Measured
from fer_cli.artifacts.work import Plan, Work
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import warn
from fer_cli.datasets.class_subset import kept_rows, subset, write_rows
from fer_cli.datasets.dataset import INDEX, Dataset, open_dataset
from fer_cli.datasets.folder import safe_name
from fer_cli.datasets.records import SPLITS
from fer_cli.datasets.resplit import VALIDATION, Images, New, as_listed, by_frames, carved_anew, in_folds
from fer_cli.datasets.resplit import like as split_like
from fer_cli.datasets.split_list import MOST_FOLDS, write_list
from fer_cli.datasets.splits import MIN_SHARE, class_warnings, split_hash

REVISION: Final = 1
BY: Final = ("subject", "class")


def split(
    *,
    store: Store,
    dataset: str | None = None,
    folds: int | None = None,
    by: str | None = None,
    frames: str | None = None,
    ids: Path | None = None,
    like: str | None = None,
    classes: Sequence[str] | None = None,
    validation: float | None = None,
    seed: int = 0,
    force: bool = False,
    name: str | None = None,
) -> Result:
    """Write a data set with another split. The pictures are shared with the one that it is made from, not copied.

    One of ``folds``, ``frames``, ``ids`` and ``like`` says what is made; with none of them the validation split is
    carved anew from what is train or validation.

    Args:
        store: where artifacts are.
        dataset: reference of the data set; the newest where it is None.
        folds: so many folds beside the splits that there are. Each image is tested in one.
        by: ``subject``: fold i holds ``sorted(subjects)[i::folds]``; ``class``: each fold has its share of each class,
            subjects and equal images kept whole. None: by subject where each image has one. Of ``frames``, ``class``
            splits the images of each class by themselves.
        frames: ``2:1``: images of train and of test, drawn at random whatever sequence they are of. That leaks, and is
            marked wherever a number appears.
        ids: a csv of ids with their splits or folds, as :func:`export` writes it.
        like: reference of a data set that has images of this one: each is put where that one has it, by file or
            pixels; the others stay where they are.
        classes: those that are kept, such as the six basic expressions; images of the others are left out, and what is
            left is copied. Its splits stay.
        validation: share of what trains, in every fold too, that becomes validation; 0 for none. None: a tenth, and
            nothing where a list gives splits.
        seed: of all that is drawn by chance.
        force: make it anew even when it is up to date.
        name: of what is made; from its inputs and settings where it is None.

    Raises:
        FerError: the data set or the list is at fault; nothing is left behind.
    """
    ratio = _check_options(folds, by, frames, ids, like, classes, validation)
    other = None if like is None else open_dataset(store.find(like, ["dataset"]))
    parent = open_dataset(store.find(dataset, ["dataset"]))
    artifact = parent.artifact
    by = _by(parent, by) if folds is not None else by
    share = VALIDATION if validation is None else validation
    told: dict[str, object] = {"folds": folds, "by": by, "frames": frames, "validation": validation, "split_seed": seed}
    rows = None if classes is None else kept_rows(parent, classes)
    if classes is not None:
        if parent.folds is not None:
            raise UsageError(f"{artifact.reference} has folds", hint="leave classes out first, then make folds")
        told["classes"] = [one for one in parent.classes if one in set(classes)]
    plan = Plan(
        kind="dataset",
        name=name or _name(parent, folds, by, frames, ids, other, told.get("classes")),
        stage="split",
        revision=REVISION,
        config={name: value for name, value in told.items() if value is not None},
        inputs={
            "dataset": artifact.as_input(),
            **({} if ids is None else {"ids": files_input(ids.name, {"ids": _there(ids)})}),
            **({} if other is None else {"like": other.artifact.as_input()}),
        },
        seeds=[seed],
    )
    with store.make(plan, force=force) as work:
        if work.committed is not None:
            return Result(work.committed, up_to_date=True)
        whole = images = Images(parent, read_table(artifact.file(INDEX)))
        left_out: dict[str, int] | None = None
        if classes is not None and rows is not None:
            view, table, left_out = subset(parent, rows, classes)
            images = Images(view, table)
        if left_out is not None:
            new = New(images.splits, keeps_test=True)
        elif folds is not None:
            new = in_folds(images, folds, str(by), share, seed)
        elif ratio is not None:
            new = by_frames(images, *ratio, share, seed, by_class=by == "class")
        elif ids is not None:
            new = as_listed(images, ids, validation, seed)
        elif other is not None:
            new = split_like(images, other)
        else:
            new = carved_anew(images, share, seed)
        work.write(INDEX, _index(images.table, new))
        if rows is not None:
            write_rows(parent, rows, work.directory)
        else:
            for entry in artifact.manifest.files:
                if entry.path != INDEX:
                    work.share(artifact, entry.path)
        made = _commit(work, images, new, _command(artifact, plan.config, ids, other), whole, left_out)
    for text in made.manifest.warnings:
        warn(text)
    return Result(made, up_to_date=False)


def export(*, store: Store, dataset: str | None, path: Path) -> Artifact:
    """Write ids, splits and folds of a data set as csv: :func:`split` makes them again of the same images.

    Raises:
        FerError: there is no such data set, or the file cannot be written.
    """
    opened = open_dataset(store.find(dataset, ["dataset"]))
    write_list(path, opened)
    return opened.artifact


def _check_options(
    folds: int | None,
    by: str | None,
    frames: str | None,
    ids: Path | None,
    like: str | None,
    classes: Sequence[str] | None,
    validation: float | None,
) -> tuple[int, int] | None:
    options = (("folds", folds), ("leaky-frame-split", frames), ("ids", ids), ("like", like), ("classes", classes))
    given = [name for name, value in options if value is not None]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} exclude each other", hint="give one")
    if classes is not None and validation is not None:
        raise UsageError("--validation and --classes exclude each other", hint="leave classes out first, then split")
    if like is not None and validation is not None:
        raise UsageError("--validation has no effect: --like says what is validation", hint="omit it")
    if by is not None and folds is None and frames is None:
        raise UsageError("--by is for --folds and --leaky-frame-split", hint="give one of them too")
    if frames is not None and by not in (None, "class"):
        raise UsageError(f"--by {by} is not for --leaky-frame-split", hint="take --by class, or omit it")
    if not given and validation is None:
        raise UsageError(
            "no split was requested", hint="give --folds, --ids, --like, --classes, --leaky-frame-split or --validation"
        )
    if by not in (None, *BY):
        raise UsageError(f"--by {by!r} is not a choice", hint=f"take {' or '.join(BY)}")
    if folds is not None and not 2 <= folds <= MOST_FOLDS:
        raise UsageError(f"--folds {folds} is out of range", hint=f"take 2 to {MOST_FOLDS}")
    if validation and not MIN_SHARE <= validation < 0.5:
        hint = f"use 0, or a number from {MIN_SHARE:g} to below 0.5"
        raise UsageError(f"--validation {validation} is not a share of train", hint=hint)
    if not given and not validation:
        raise UsageError("--validation 0 holds nothing out", hint="use more than 0, less than 0.5")
    if frames is None:
        return None
    if not (found := re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", frames)):
        raise UsageError(f"--leaky-frame-split {frames!r} is not a ratio of train to test", hint="write it as 2:1")
    return int(found[1]), int(found[2])


def _there(ids: Path) -> Path:
    if not ids.is_file():
        raise FerError("no such file", hint="'fer split --export FILE' writes one", path=ids)
    return ids


def _by(dataset: Dataset, by: str | None) -> str:
    known = dataset.names_every_subject
    if by == "subject" and not known:
        raise FerError(f"not every image of {dataset.artifact.reference} has a subject", hint="take --by class")
    return by or ("subject" if known else "class")


def _name(
    dataset: Dataset,
    folds: int | None,
    by: str | None,
    frames: str | None,
    ids: Path | None,
    other: Dataset | None,
    classes: object,
) -> str:
    name = dataset.artifact.name
    if isinstance(classes, list):
        return composed_name(name, [f"without-{one}" for one in dataset.classes if one not in classes])
    if other is not None:
        return composed_name(f"{name}-like-{other.artifact.name}")
    if folds is not None:
        return f"{name}-folds{folds}{'-by-class' if by == 'class' and _by(dataset, None) == 'subject' else ''}"
    if frames is not None:
        return f"{name}-frames{frames.replace(':', '-')}{'-by-class' if by == 'class' else ''}"
    if ids is None:
        return f"{name}-carved"
    stem = safe_name(ids.stem)
    return stem if stem.startswith(f"{name}-") else f"{name}-{stem or 'ids'}"


def _index(table: Any, new: New) -> bytes:  # noqa: ANN401 - pyarrow has no types
    """Return the parent's index with the new columns."""
    import pyarrow as pa

    columns = {name: table[name] for name in table.column_names if name not in {"fold", "validation_of"}}
    columns["split"] = pa.array(new.splits, pa.string())
    if new.folds is not None and new.chosen_on is not None:
        columns["fold"] = pa.array(new.folds.tolist(), pa.int32())
        of = [np.flatnonzero(row).tolist() for row in new.chosen_on]
        columns["validation_of"] = pa.array(of, pa.list_(pa.int32()))
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return table_bytes(columns, metadata)


def _commit(
    work: Work, images: Images, new: New, command: str, whole: Images, left_out: dict[str, int] | None
) -> Artifact:
    parent, before = images.dataset.artifact, images.protocol
    counted = Counter(zip(new.splits, images.labels, strict=True))
    there = [name for name in SPLITS if name in set(new.splits)]
    counts = {name: {label: counted[name, label] for label in images.dataset.classes} for name in there}
    n = {name: sum(of.values()) for name, of in counts.items()}
    leaks = images.leaks(new.splits)
    replaced = {
        *whole.leaks(whole.splits).warnings,
        *class_warnings(whole.labels, whole.splits, whole.dataset.classes),
    }
    prepared = Measured.of(parent).command
    return work.commit(
        summary=DatasetSummary.of(parent).model_copy(
            update={
                "images": len(images.ids),
                "splits": n,
                "folds": None if new.chosen_on is None else new.chosen_on.shape[1],
                "classes": counts,
                "duplicates": leaks.duplicates(),
            }
        ),
        protocol=before.model_copy(
            update={
                "n": n,
                "classes": images.dataset.classes,
                **({} if left_out is None else {"classes_left_out": {**(before.classes_left_out or {}), **left_out}}),
                "split_hash": split_hash(images.ids, new.splits),
                "duplicates_across_splits": leaks.duplicates_across,
                "subjects_across_splits": leaks.subjects_across,
                "sequences_across_splits": leaks.sequences_across,
                "parts": new.parts or before.parts,
                "validation": new.validation or before.validation,
                "test": new.test or before.test,
                "leaky_frame_split": new.leaky_frame_split or (new.keeps_test and before.leaky_frame_split),
                # Where subjects are known, what is said of them in the source's own split is counted anew.
                "subjects_remark": before.subjects_remark
                if new.parts is None or before.subjects_named == "none"
                else None,
                "folds": new.folds_protocol,
            }
        ),
        measured=Measured(command=" && ".join(part for part in (prepared, command) if part)),
        warnings=[
            *(text for text in parent.manifest.warnings if text not in replaced),
            *class_warnings(images.labels, new.splits, images.dataset.classes),
            *leaks.warnings,
            *new.warnings,
        ],
    )


_OPTIONS: Final = {"split_seed": "seed", "frames": "leaky-frame-split"}
"""Options of the command that are called otherwise in the configuration."""


def _command(parent: Artifact, config: Mapping[str, Any], ids: Path | None, other: Dataset | None) -> str:
    words = ["fer", "split", f"{parent.name}@{parent.version}"]
    like = None if other is None else f"{other.artifact.name}@{other.artifact.version}"
    for name, value in {**config, "ids": ids, "like": like}.items():
        if isinstance(value, list):
            words += [f"--{name}", ",".join(value)]
        elif value is not None:
            words += [f"--{_OPTIONS.get(name, name)}", str(value)]
    return shlex.join(words)
