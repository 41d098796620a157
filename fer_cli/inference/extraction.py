"""Running a backbone over a data set in blocks that can be stopped, resumed and shared among processes."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.journal import Journal
from fer_cli.artifacts.payload import ArrayWriter
from fer_cli.core.errors import FerError
from fer_cli.models.backbones import Backbone

if TYPE_CHECKING:
    import torch

VIEWS: Final = ("original", "flip")
BLOCK = 512
"""Images between two points from which an interrupted extraction goes on; tests make it small."""


def sound_blocks(writers: Mapping[str, ArrayWriter], rows: int, journal: Mapping[int, Mapping[str, int]]) -> set[int]:
    """Return the blocks whose rows on the disk match the journal's checksums in every view."""
    sound = set()
    for block, checksums in journal.items():
        start, stop = block * BLOCK, min(rows, (block + 1) * BLOCK)
        if start < rows and all(
            view in checksums and zlib.crc32(writer.read(start, stop).tobytes()) == checksums[view]
            for view, writer in writers.items()
        ):
            sound.add(block)
    return sound


def extract_blocks(
    backbone: Backbone,
    images: NDArray[np.uint8],
    blocks: Sequence[int],
    writers: Mapping[str, ArrayWriter],
    journal: Journal,
    *,
    batch: int,
    device: str,
    finished: Callable[[int], None],
) -> float:
    """Write the features of the given blocks and return the seconds that it took.

    Args:
        backbone: the network, on ``device``.
        images: all images of the data set, uint8 (N, H, W) or (N, H, W, 3).
        blocks: numbers of blocks of :data:`BLOCK` images.
        writers: view -> the file of its features.
        journal: where finished blocks are noted.
        batch: images a forward pass.
        device: torch's name of the device.
        finished: told after each block how many images it had; may raise to stop the work there.
    """
    import torch

    begun = time.perf_counter()
    with torch.inference_mode(), ThreadPoolExecutor(1) as background:
        saving = None
        for block in blocks:
            start, stop = block * BLOCK, min(len(images), (block + 1) * BLOCK)
            parts: dict[str, list[torch.Tensor]] = {view: [] for view in writers}
            for first in range(start, stop, batch):
                pixels = torch.from_numpy(np.array(images[first : min(first + batch, stop)])).to(device)
                x = backbone.preprocessing.apply(pixels)
                for view, outputs in parts.items():
                    outputs.append(backbone.features(x.flip(-1) if view == "flip" else x))
            features = {view: torch.cat(outputs).cpu().numpy() for view, outputs in parts.items()}
            # The disk works while the next block is computed; its errors come out here, at the next block's end.
            if saving is not None:
                finished(saving.result())
            saving = background.submit(_save, block, start, features, writers, journal)
        if saving is not None:
            finished(saving.result())
    return time.perf_counter() - begun


def _save(
    block: int,
    start: int,
    features: Mapping[str, NDArray[Any]],
    writers: Mapping[str, ArrayWriter],
    journal: Journal,
) -> int:
    checksums = {}
    for view, writer in writers.items():
        rows = np.ascontiguousarray(features[view].astype(writer.dtype, copy=False))
        if not np.isfinite(rows).all():
            raise FerError(
                f"features of the {view} view are not finite in images {start} to {start + len(rows) - 1}",
                hint="take --dtype float32; if they still are not, the weights are at fault",
            )
        writer.write(start, rows)
        writer.sync()
        checksums[view] = zlib.crc32(rows.tobytes())
    journal.note(block, checksums)
    return len(next(iter(features.values())))
