"""Running a backbone over a data set in blocks that can be stopped, resumed and shared among processes."""

from __future__ import annotations

import math
import shutil
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.checksums import AnyArray
from fer_cli.artifacts.journal import Rows, process_blocks
from fer_cli.artifacts.payload import ArrayWriter
from fer_cli.core.distributed import Ranks, barrier
from fer_cli.core.errors import FerError
from fer_cli.core.progress import note
from fer_cli.models.backbones import Backbone
from fer_cli.models.features import logits_of

if TYPE_CHECKING:
    import torch

VIEWS: Final = ("original", "flip")
BLOCK = 512
"""Images between two points from which an interrupted extraction resumes; tests make it small."""


def feature_shape(backbone: Backbone, device: str) -> tuple[int, ...]:
    """Return the shape of one image's features, found by running the backbone once.

    Raises:
        FerError: the backbone cannot process images of its size.
    """
    import torch

    size = backbone.preprocessing.size
    try:
        with torch.inference_mode():
            return tuple(backbone.features(torch.zeros(1, 3, size, size, device=device)).shape[1:])
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise FerError(
            f"{backbone.name} cannot process images of {size} px ({reason})", hint="give another --size"
        ) from error


def extract_features(
    directory: Path,
    backbone: Backbone,
    images: AnyArray,
    *,
    views: Sequence[str],
    shape: tuple[int, ...],
    dtype: str,
    batch: int,
    device: str,
    ranks: Ranks,
    run: str,
    title: str,
    classes: int = 0,
) -> float | None:
    """Write one ``<view>.npy`` a view, (N, *shape); return the images a second that this process forwarded.

    Of a model that answers, the logits of each view stand beside it: ``<view>-logits.npy``, float32 (N, classes).

    Args:
        directory: where the files go, and what an earlier call left of them is.
        backbone: the network, on ``device``.
        images: all images of the data set, uint8 (N, H, W) or (N, H, W, 3).
        views: of :data:`VIEWS`.
        shape: of one image's features, :func:`feature_shape`.
        dtype: of the stored features.
        batch: images a forward pass.
        device: torch's name of the device.
        ranks: the processes that share the work.
        run: what the features are of: what another run left is not taken up.
        title: of the progress.
        classes: of a model's logits; 0 where the backbone is no model's.

    Raises:
        FerError: the disk is too small, or a feature is not finite.
        PreemptedError: a signal came; what was finished is kept.
    """
    from fer_cli.models.batches import batches, load_images

    rows = len(images)
    first = ranks.rank == 0
    if first:
        _announce(directory, rows, views, shape, dtype)
    with ExitStack() as stack:
        arrays: dict[str, tuple[tuple[int, ...], str]] = dict.fromkeys(views, (shape, dtype))
        arrays |= {logits_of(view): ((classes,), "float32") for view in views if classes}
        writers = {
            name: stack.enter_context(ArrayWriter(directory / f"{name}.npy", form, kind, rows, reserve=first))
            for name, (form, kind) in arrays.items()
        }
        barrier(ranks)  # the files have their length

        def forward(some: Rows) -> dict[str, torch.Tensor]:
            x = load_images(images, some, backbone.preprocessing, device)
            found = {}
            for view in views:
                seen = x.flip(-1) if view == "flip" else x
                found[view] = backbone.features(seen)
                if classes:
                    assert backbone.answer is not None, "a model answers"
                    found[logits_of(view)] = backbone.answer(seen, found[view])
            return found

        def compute(block: Rows) -> dict[str, NDArray[Any]]:
            import torch

            parts = [outputs for _, outputs in batches(forward, block, batch)]
            return {name: torch.cat([outputs[name] for outputs in parts]).cpu().numpy() for name in arrays}

        def is_sound(block: int, checksums: Mapping[str, int]) -> bool:
            start, stop = block * BLOCK, min(rows, (block + 1) * BLOCK)
            return all(
                zlib.crc32(writer.read(start, stop).tobytes()) == checksums.get(view)
                for view, writer in writers.items()
            )

        images_done, seconds = process_blocks(
            directory,
            rows,
            BLOCK,
            run=run,
            title=title,
            ranks=ranks,
            compute=compute,
            save=lambda block, features: _save(block * BLOCK, features, writers),
            is_sound=is_sound,
        )
        if first:
            for writer in writers.values():
                writer.finish(rows)
    return round(len(views) * images_done / seconds, 1) if images_done else None


def _save(start: int, features: Mapping[str, NDArray[Any]], writers: Mapping[str, ArrayWriter]) -> dict[str, int]:
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
    return checksums


def _announce(directory: Path, rows: int, views: Sequence[str], shape: tuple[int, ...], dtype: str) -> None:
    """Say what will be written, and refuse now what cannot fit."""
    size = len(views) * rows * math.prod(shape) * np.dtype(dtype).itemsize
    written = sum(path.stat().st_blocks * 512 for path in directory.glob("*.npy"))
    free = shutil.disk_usage(directory).free + written
    if size > free:
        raise FerError(
            f"needs {size / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free",
            hint="free some, take --dtype float16 or fewer --views, or give another --store",
            path=directory.parent,
        )
    dimensions = "x".join(str(side) for side in shape)
    note(
        f"writing {rows:,} images x {len(views)} view{'s' * (len(views) > 1)} x {dimensions} {dtype} = "
        f"{size / 1e6:,.1f} MB to {directory.parent}"
    )
