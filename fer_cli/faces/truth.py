"""The parser ``truth``: the true masks that come with synthetic faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fer_cli.core.errors import FerError, UsageError
from fer_cli.datasets.dataset import MASKS
from fer_cli.faces.parsers import DatasetParser, Parsed, ParserOptions


def open_parser(options: ParserOptions) -> DatasetParser:
    """Return the parser of a data set whose masks are known.

    Raises:
        UsageError: an option of networks was given.
        FerError: the data set has no masks, or they do not fit its images.
    """
    dataset = options.dataset
    if not dataset.artifact.has(MASKS):
        raise FerError(
            f"{dataset.artifact.reference} has no true masks: only synthetic faces have them",
            hint="take --parser compact or bisenet",
        )
    if options.weights is not None or options.size is not None or options.regrouped:
        raise UsageError(
            "--parser truth takes no --weights, --size or --group", hint="the true masks are regions already"
        )
    masks = dataset.artifact.array(MASKS)
    if masks.shape != dataset.images.shape[:3] or masks.dtype != np.uint8:
        raise FerError(
            f"masks are {masks.shape} of {masks.dtype}",
            hint="prepare the data set again with --force",
            path=dataset.artifact.path,
        )

    def parse(rows: NDArray[np.int64]) -> Parsed:
        return Parsed.certain(np.asarray(masks[rows]))

    return DatasetParser("truth", ("truth",), {"parser": "truth"}, {}, options.batch or 16, lambda: parse)
