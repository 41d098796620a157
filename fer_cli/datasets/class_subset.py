"""A data set without some of its classes: the other images, in their order, with all that is known of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.payload import ArrayWriter, read_table, table_bytes
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import AUS, IMAGES, INDEX, MASKS, Dataset

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK: Final = 1024


def kept_rows(dataset: Dataset, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the rows (n,) of some classes.

    Raises:
        FerError: one is not a class of it, or fewer than two are named.
    """
    if unknown := [name for name in classes if name not in dataset.classes]:
        raise FerError(
            f"{dataset.artifact.reference} has no class {unknown[0]!r}", hint=f"it has {', '.join(dataset.classes)}"
        )
    if len(set(classes)) < 2:
        raise FerError("a single class leaves nothing to tell apart", hint="name two or more")
    return np.flatnonzero(np.isin(dataset.labels, [dataset.classes.index(name) for name in classes]))


def subset(
    dataset: Dataset, rows: NDArray[np.int64], classes: Sequence[str]
) -> tuple[Dataset, pa.Table, dict[str, int]]:
    """Return a data set of some rows and classes, its index, and the images of each class that is left out.

    Soft labels are over the classes that are left, divided by their sum.
    """
    import pyarrow as pa

    order = tuple(name for name in dataset.classes if name in set(classes))
    number = np.array([order.index(name) if name in order else -1 for name in dataset.classes])
    table = read_table(dataset.artifact.file(INDEX)).take(pa.array(rows))
    targets = None if dataset.targets is None else dataset.targets[rows][:, number >= 0]
    if targets is not None:
        targets = targets / targets.sum(axis=1, keepdims=True)
        at = table.column_names.index("target")
        table = table.set_column(at, "target", pa.array(targets.tolist(), table.schema.field("target").type))
    metadata = {**(table.schema.metadata or {}), b"classes": json.dumps(order).encode()}
    counts = Counter(dataset.labels.tolist())
    left_out = {name: counts[at] for at, name in enumerate(dataset.classes) if name not in order}
    view = replace(
        dataset,
        classes=order,
        ids=dataset.ids[rows],
        splits=dataset.splits[rows],
        labels=number[dataset.labels[rows]].astype(np.int64),
        pixels=dataset.pixels[rows],
        source_hashes=dataset.source_hashes[rows],
        decoded_hashes=dataset.decoded_hashes[rows],
        subjects=None if dataset.subjects is None else dataset.subjects[rows],
        sequences=None if dataset.sequences is None else dataset.sequences[rows],
        targets=targets,
        folds=None,
        chosen_on=None,
    )
    return view, table.replace_schema_metadata(metadata), left_out


def write_rows(dataset: Dataset, rows: NDArray[np.int64], directory: Path) -> None:
    """Write what a data set holds beside its index, of some rows alone: images, and masks and AUs where it has any."""
    artifact = dataset.artifact
    for name in (IMAGES, MASKS):
        if not artifact.has(name):
            continue
        array = artifact.array(name)
        with ArrayWriter(directory / name, tuple(array.shape[1:]), array.dtype, len(rows), reserve=True) as writer:
            for start in range(0, len(rows), _BLOCK):
                writer.write(start, np.asarray(array[rows[start : start + _BLOCK]]))
            writer.finish(len(rows))
    if artifact.has(AUS):
        import pyarrow as pa

        table = read_table(artifact.file(AUS)).take(pa.array(rows))
        (directory / AUS).write_bytes(table_bytes({name: table[name] for name in table.column_names}))
