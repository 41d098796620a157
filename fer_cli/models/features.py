"""Reading a features artifact: one memory map a view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.checksums import AnyArray
from fer_cli.artifacts.summaries import DatasetSummary, FeaturesSummary
from fer_cli.core.errors import FerError


def logits_of(view: str) -> str:
    """Return what the logits of a view's images are called: a model's own answers, beside its features."""
    return f"{view}-logits"


BLOCK: Final = 4096
"""Rows that are read at a time."""


@dataclass(frozen=True, slots=True)
class Features:
    """A features artifact, opened. Row i of every view belongs to row i of its data set.

    ``logits`` are by view the answers (N, C) over ``classes`` of the trained model that the features are of; both are
    empty where they are of none.
    """

    artifact: Artifact
    views: Mapping[str, AnyArray]
    logits: Mapping[str, AnyArray] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    @property
    def dimension(self) -> int:
        """Number of features of one image; a feature map counts flattened."""
        return int(np.prod(next(iter(self.views.values())).shape[1:]))

    def rows(self, view: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (n, d) float32 features of the given rows.

        Raises:
            FerError: the view was not extracted.
        """
        self._check_view(view)
        return np.asarray(self.views[view][rows], dtype=np.float32).reshape(len(rows), -1)

    def probabilities(self, view: str, rows: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.float64]:
        """Return what the model answers of rows (n,): its softmax over some of its classes, (n, C) float64.

        Raises:
            FerError: the view was not extracted.
        """
        self._check_view(view)
        places = [self.classes.index(name) for name in classes]
        logits = np.asarray(self.logits[view][rows], dtype=np.float64)[:, places]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def _check_view(self, view: str) -> None:
        if view not in self.views:
            raise FerError(
                f"{self.artifact.reference} has no {view} view",
                hint=f"extract with --views {','.join([*self.views, view])}",
            )

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
    summary = FeaturesSummary.of(artifact)
    views = {view: artifact.array(f"{view}.npy") for view in summary.views}
    logits = {view: artifact.array(f"{logits_of(view)}.npy") for view in views if summary.classes}
    for view, array in [*views.items(), *((logits_of(view), array) for view, array in logits.items())]:
        if len(array) != images:
            raise FerError(
                f"{view}.npy has {len(array)} rows, the data set {images}",
                hint="extract them again",
                path=artifact.path,
            )
    return Features(artifact, views, logits, summary.classes or ())
