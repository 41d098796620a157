"""The template parser: the mean regions of a data set's faces, the same for every image.

It knows where eyes and mouth are in an aligned face and nothing of the face at hand: the control experiment that tells
whether real masks matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.checksums import AnyArray
from fer_cli.core.distributed import broadcast_object
from fer_cli.core.labels import REGIONS
from fer_cli.core.progress import track
from fer_cli.faces.parsers import DatasetParser, NetworkParser, Parsed, ParserOptions, ParseRows

MOST: Final = 2000
"""Images that a template is made from: a mean of more looks the same."""
STEPS: Final = 300
"""Of the search for the regions' weights; it settles within a hundred."""


@dataclass(frozen=True, slots=True)
class Template:
    """``shares`` float64 (regions, H, W) of ``images`` training images, symmetric; ``map`` uint8 (H, W)."""

    shares: NDArray[np.float64]
    map: NDArray[np.uint8]
    images: int


def open_parser(options: ParserOptions) -> DatasetParser:
    """Open the template parser for a data set: the compact parser parses its training images first.

    Raises:
        FerError: as for the compact parser.
    """
    from fer_cli.faces.compact import BATCH, open_network

    dataset, batch = options.dataset, options.batch or BATCH
    network = open_network(options)
    rows = chosen_rows(dataset.rows("train"))

    def prepare() -> ParseRows:
        template = None
        if options.ranks.rank == 0:
            with track("the mean of the training faces", len(rows)) as advance:
                template = make_template(network, dataset.images, rows, batch, advance).map
        regions = broadcast_object(template, options.ranks)
        assert regions is not None, "the first process made it"
        return lambda some: Parsed.certain(np.broadcast_to(regions, (len(some), *regions.shape)))

    return DatasetParser(
        name="template",
        name_parts=("template",),
        record={"parser": "template", "from": network.record(), "images": len(rows)},
        summary={**network.summary(), "training_images": len(rows)},
        batch=batch,
        prepare=prepare,
    )


def chosen_rows(train: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows that a template is made from: all training rows, or :data:`MOST` evenly spaced ones."""
    if len(train) <= MOST:
        return train
    return train[np.linspace(0, len(train) - 1, MOST).round().astype(np.int64)]


def make_template(
    parser: NetworkParser,
    images: AnyArray,
    rows: NDArray[np.int64],
    batch: int,
    finished: Callable[[int], None],
) -> Template:
    """Parse some images and take the mean of their region maps and of the mirror images of these.

    Args:
        parser: finds the regions of each image.
        images: all images, uint8 (N, H, W) or (N, H, W, 3).
        rows: those to take.
        batch: images a forward pass.
        finished: told how many were parsed.
    """
    from fer_cli.models.batches import batches

    height, width = images.shape[1:3]
    counts = np.zeros((len(REGIONS), height, width))
    for chunk, maps in batches(lambda some: parser.parse(images[some]).maps, rows, batch):
        for index in range(len(REGIONS)):
            counts[index] += (maps == index).sum(0)
        finished(len(chunk))
    shares = (counts + counts[:, :, ::-1]) / (2 * len(rows))
    return Template(shares, balanced(shares), len(rows))


def balanced(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the map (H, W) in which each region takes as much room as in the mean face, where it is most frequent.

    The most frequent region alone would leave no eyes: they stand in so many places that skin is more frequent in each.
    So a region's share is weighted: its weight rises while it has too few pixels and falls while it has too many.

    Args:
        shares: (regions, H, W), how often each region stands at each pixel.
    """
    target = shares.sum((1, 2))
    weights = np.ones(len(shares))
    best, least = shares.argmax(0), np.inf
    for _ in range(STEPS):
        assigned = (shares * weights[:, None, None]).argmax(0)
        room = np.bincount(assigned.ravel(), minlength=len(shares))
        if (error := float(np.abs(room - target).sum())) < least:
            best, least = assigned, error
        weights *= ((target + 0.5) / (room + 0.5)) ** 0.25
    balanced_map: NDArray[np.uint8] = best.astype(np.uint8)
    return balanced_map
