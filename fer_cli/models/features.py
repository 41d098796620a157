"""Reading a features artifact: one memory map a view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.checksums import AnyArray
from fer_cli.artifacts.store import Artifact
from fer_cli.artifacts.summaries import DatasetSummary, FeaturesSummary
from fer_cli.core.errors import FerError

BLOCK: Final = 4096
"""Rows that are read at a time."""


@dataclass(frozen=True, slots=True)
class Features:
    """A features artifact, opened. Row i of every view belongs to row i of its data set."""

    artifact: Artifact
    views: Mapping[str, AnyArray]

    @property
    def dimension(self) -> int:
        """Number of features of one image; a feature map counts flattened."""
        return int(np.prod(next(iter(self.views.values())).shape[1:]))

    def rows(self, view: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (n, d) float32 features of the given rows.

        Raises:
            FerError: the view was not extracted.
        """
        if view not in self.views:
            raise FerError(
                f"{self.artifact.reference} has no {view} view",
                hint=f"extract with --views {','.join([*self.views, view])}",
            )
        return np.asarray(self.views[view][rows], dtype=np.float32).reshape(len(rows), -1)

    def blocks(
        self, rows: NDArray[np.int64], labels: NDArray[Any]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
        """Yield every view of the given rows with their labels, a block at a time: never the whole in memory."""
        for view in self.views:
            for start in range(0, len(rows), BLOCK):
                part = rows[start : start + BLOCK]
                yield self.rows(view, part), labels[part]


def open_features(artifact: Artifact, dataset: Artifact) -> Features:
    """Open the features of a data set.

    Raises:
        FerError: they were extracted from another data set or another version of it, or have another number of rows.
    """
    source, images = artifact.manifest.inputs["dataset"], DatasetSummary.of(dataset).images
    if source.content != dataset.manifest.content:
        raise FerError(
            f"{artifact.reference} has the features of {source.name}@{source.version}, not of {dataset.reference}",
            hint=f"extract its own: fer extract {dataset.name}@{dataset.version}",
        )
    views = {view: artifact.array(f"{view}.npy") for view in FeaturesSummary.of(artifact).views}
    for view, array in views.items():
        if len(array) != images:
            raise FerError(
                f"{view}.npy has {len(array)} rows, the data set {images}",
                hint="extract them again",
                path=artifact.path,
            )
    return Features(artifact, views)
