"""Reading a masks artifact: a region map for every image of its data set, and how far each can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.checksums import AnyArray
from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.core.labels import REGIONS
from fer_cli.core.progress import note, warn
from fer_cli.datasets.dataset import Dataset
from fer_cli.faces.mask_codec import unpack

if TYPE_CHECKING:
    import pyarrow as pa

MAPS: Final = "maps.npy"
"""All packed maps, end to end: uint8 (bytes,)."""
SPANS: Final = "spans.npy"
"""Where each image's map begins and ends in MAPS: int64 (N, 2). Equal maps may share one place."""
SCORES: Final = "scores.parquet"
"""One row an image, in the data set's order; the columns are those of :class:`fer_cli.faces.quality.Scores`."""
DOUBTFUL: Final = "doubtful.parquet"
"""The rows of SCORES with a reason to doubt them, the most doubtful first."""


@dataclass(frozen=True, slots=True)
class Masks:
    """A masks artifact, opened. Map i belongs to image i of its data set and has its height and width."""

    artifact: Artifact
    height: int
    width: int
    blob: AnyArray
    spans: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.spans)

    def maps(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the maps of some rows: uint8 (n, H, W), indices into :data:`fer_cli.core.labels.REGIONS`.

        Raises:
            FerError: a map is damaged.
        """
        spans = [self.spans[row] for row in rows]
        try:
            maps = unpack((self.blob[start:stop].tobytes() for start, stop in spans), self.height, self.width)
        except ValueError as error:
            raise FerError(
                f"a region map is damaged ({error})",
                hint="check the artifact with 'fer verify', rebuild it with --force",
                path=self.artifact.path / MAPS,
            ) from error
        if maps.size and maps.max() >= len(REGIONS):
            raise FerError(
                f"a region map holds {maps.max()}, the last region is {len(REGIONS) - 1}",
                hint="rebuild the masks with --force",
                path=self.artifact.path / MAPS,
            )
        return maps

    def scores(self) -> pa.Table:
        """Return how far each map can be believed, one row an image."""
        return read_table(self.artifact.file(SCORES))


def find_masks(store: Store, dataset: Artifact, reference: str | None) -> Artifact:
    """Return the masks that a reference names, or the newest that were made for a data set, and say which.

    Raises:
        FerError: there are none.
    """
    if reference is not None:
        return store.find(reference, ["masks"])
    for directory in store.directories(["masks"]):
        try:
            artifact = store.open(directory)
        except FerError as error:
            warn(f"{error}: looking for other masks")
            continue
        if artifact.manifest.inputs["dataset"].content == dataset.manifest.content:
            note(f"using {artifact.reference} (the newest masks of {dataset.name})")
            return artifact
    raise FerError(
        f"no masks of {dataset.reference} yet", hint=f"create them: fer parse-masks {dataset.name}@{dataset.version}"
    )


def open_masks(artifact: Artifact, dataset: Dataset) -> Masks:
    """Open the masks of a data set.

    Raises:
        FerError: they were made for another data set or another version of it, or they are damaged.
    """
    source, parent = artifact.manifest.inputs["dataset"], dataset.artifact
    if source.content != parent.manifest.content:
        raise FerError(
            f"{artifact.reference} has the masks of {source.name}@{source.version}, not of {parent.reference}",
            hint=f"create its own: fer parse-masks {parent.name}@{parent.version}",
        )
    blob, spans = artifact.array(MAPS), np.asarray(artifact.array(SPANS))
    fits = (
        blob.dtype == np.uint8
        and blob.ndim == 1
        and spans.dtype == np.int64
        and spans.shape == (len(dataset.images), 2)
    )
    if not fits or (len(spans) and (spans.min() < 0 or spans.max() > len(blob))):
        raise FerError(
            f"{SPANS} of {artifact.reference} does not fit its maps and {len(dataset.images)} images",
            hint="check it with 'fer verify', rebuild it with --force",
            path=artifact.path / SPANS,
        )
    height, width = dataset.images.shape[1:3]
    return Masks(artifact, height, width, blob, spans)
