"""Stage ``extract``: a dataset artifact in, a features artifact out. Resumes; several processes share the blocks."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from fer_cli.artifacts.journal import JOURNALS, Journal
from fer_cli.artifacts.payload import ArrayWriter
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.store import Artifact, Plan, Store, Work
from fer_cli.core import distributed, machine, signals
from fer_cli.core.distributed import barrier, broadcast_object, process_group
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import note, track
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.inference import extraction
from fer_cli.inference.extraction import VIEWS, extract_blocks, sound_blocks
from fer_cli.models.backbones import POOLED, Backbone, check_name, cost
from fer_cli.models.truncation import open_level
from fer_cli.weights.files import WeightsFile, find_weights

REVISION: Final = 1
DTYPES: Final = ("float32", "float16")


def extract(
    *,
    store: Store,
    dataset: str | None = None,
    backbone: str = "tf_efficientnet_lite0",
    level: str = POOLED,
    size: int | None = None,
    views: Sequence[str] = ("original",),
    weights: str = "auto",
    dtype: str = "float32",
    batch: int = 64,
    device: str = "auto",
    force: bool = False,
) -> Result:
    """Run a frozen backbone over every image of a data set.

    The payload is one ``<view>.npy`` a view: (N, d) for ``pooled``, (N, C, H, W) for a stage; row i is the data set's
    row i.

    Args:
        store: where artifacts are.
        dataset: reference of the data set; the newest where it is None.
        backbone: timm's name of the network.
        level: ``pooled``, ``stage1`` to the network's last feature level, a block of a ConvNeXt (``stage3.block23``),
            or ``auto``, where Conv-cut cuts it.
        size: side in pixels that images are resized to; the network's own where it is None.
        views: of ``original`` and ``flip`` (mirrored left to right).
        weights: ``auto``, ``none`` or a file.
        dtype: ``float32`` or ``float16``, of the stored features; the network computes in float32.
        batch: images a forward pass.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: make it anew even when it is up to date.

    Raises:
        FerError: a name, the weights or the machine is at fault.
        PreemptedError: SIGTERM or SIGUSR1 came; what was finished is kept and the same call goes on from there.
    """
    views = _check_options(views, dtype, batch, size)
    machine.tune_allocator()
    ranks = distributed.ranks()
    source = open_dataset(store.find(dataset, ["dataset"]))
    check_name(backbone)
    found = find_weights(backbone, weights)
    network = open_level(backbone, level=level, size=size, weights=found)
    target = machine.device_name(device)
    network.network.to(target)
    shape = _probe(network, target)
    plan = _plan(source.artifact, network, found, views, dtype)
    with process_group(ranks), ExitStack() as stack:
        # Rank 0 alone holds the lock and makes the directory; the others are told where it is.
        work = stack.enter_context(store.make(plan, force=force, resumable=True)) if ranks.rank == 0 else None
        place = broadcast_object(None if work is None or work.committed is not None else str(work.directory), ranks)
        if place is None:
            return Result(store.open(store.root / plan.kind / plan.name / plan.version), up_to_date=True)
        if force and ranks.rank == 0:
            _start_afresh(Path(place))
        barrier(ranks)
        measured = _run(Path(place), plan, source, network, views, shape, dtype, batch, target, ranks)
        barrier(ranks)
        if work is not None:
            _finish(work, source, network, views, dtype, measured, found)
        barrier(ranks)
        return Result(store.open(store.root / plan.kind / plan.name / plan.version), up_to_date=False)


def _check_options(views: Sequence[str], dtype: str, batch: int, size: int | None) -> list[str]:
    if unknown := [view for view in views if view not in VIEWS]:
        raise UsageError(f"--views {unknown[0]!r} is not a view", hint=f"take {','.join(VIEWS)}")
    if not views:
        raise UsageError("--views is empty", hint=f"take {','.join(VIEWS)}")
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype!r} is not a type", hint=f"take {' or '.join(DTYPES)}")
    if batch < 1:
        raise UsageError(f"--batch {batch} is not a number of images", hint="take 1 or more")
    if size is not None and not 16 <= size <= 2048:
        raise UsageError(f"--size {size} is out of range", hint="take 16 to 2048 px")
    return [view for view in VIEWS if view in views]


def _probe(network: Backbone, device: str) -> tuple[int, ...]:
    """Return the shape of one image's features, found by running the network once."""
    import torch

    size = network.preprocessing.size
    try:
        with torch.inference_mode():
            return tuple(network.features(torch.zeros(1, 3, size, size, device=device)).shape[1:])
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise FerError(
            f"{network.name} cannot take images of {size} px ({reason})", hint="give another --size"
        ) from error


def _plan(dataset: Artifact, network: Backbone, weights: WeightsFile | None, views: Sequence[str], dtype: str) -> Plan:
    parts = [dataset.name, network.name.replace("/", "-").lower()]
    if network.preprocessing.size != network.own_size:
        parts.append(str(network.preprocessing.size))
    if network.level != POOLED:
        parts.append(network.level)
    if weights is None:
        parts.append("random")
    return Plan(
        kind="features",
        name="-".join(parts),
        stage="extract",
        revision=REVISION,
        config={
            "backbone": network.name,
            "level": network.level,
            # Equal bytes are equal weights, wherever they came from: the rest is told in the summary.
            "weights": "none: random, seed 0" if weights is None else weights.sha256(),
            "preprocessing": network.preprocessing.record(),
            "views": list(views),
            "dtype": dtype,
        },
        inputs={"dataset": dataset.as_input()},
        seeds=[] if weights is not None else [0],
    )


def _run(
    place: Path,
    plan: Plan,
    source: Dataset,
    network: Backbone,
    views: Sequence[str],
    shape: tuple[int, ...],
    dtype: str,
    batch: int,
    device: str,
    ranks: distributed.Ranks,
) -> dict[str, Any]:
    """Compute this process's share of the blocks that are missing; return what was measured."""
    import torch

    if ranks.local_world > 1 and device == "cpu":
        torch.set_num_threads(max(1, machine.usable_cpus() // ranks.local_world))
    rows = len(source.images)
    row_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    numbers = range(math.ceil(rows / extraction.BLOCK))
    with ExitStack() as stack, signals.stop_on_signal() as stop:
        if ranks.rank == 0:
            _announce(place, plan, rows, views, shape, dtype, rows * row_bytes * len(views))
        writers = {
            view: stack.enter_context(ArrayWriter(place / f"{view}.npy", shape, dtype, rows, reserve=ranks.rank == 0))
            for view in views
        }
        barrier(ranks)
        done = sound_blocks(writers, rows, Journal.read(place))
        if done and ranks.rank == 0:
            note(f"going on: {len(done)} of {len(numbers)} blocks are there already")
        barrier(ranks)
        missing = [block for block in numbers if block not in done][ranks.rank :: ranks.world]
        before = min(rows, len(done) * extraction.BLOCK)
        with track(f"extract {plan.name}", rows, done=before) as advance:

            def finished(images: int) -> None:
                advance(images * ranks.world)
                stop.check("what was finished is kept")

            seconds = extract_blocks(
                network,
                source.images,
                missing,
                writers,
                Journal(place, ranks.rank),
                batch=batch,
                device=device,
                finished=finished,
            )
        barrier(ranks)
        if ranks.rank == 0:
            for writer in writers.values():
                writer.finish(rows)
    forwarded = len(views) * sum(min(extraction.BLOCK, rows - block * extraction.BLOCK) for block in missing)
    return {
        "images_per_second": round(forwarded / seconds, 1) if forwarded else None,
        "batch": batch,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "processes": ranks.world,
        "threads": torch.get_num_threads(),
        "peak_memory": torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else machine.peak_memory(),
    }


def _announce(
    place: Path, plan: Plan, rows: int, views: Sequence[str], shape: tuple[int, ...], dtype: str, size: int
) -> None:
    """Say what will be written, and refuse now what cannot fit."""
    there = sum(path.stat().st_blocks * 512 for path in place.glob("*.npy"))
    free = shutil.disk_usage(place).free + there
    if size > free:
        raise FerError(
            f"needs {size / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free",
            hint="free some, take --dtype float16 or fewer --views, or give another --store",
            path=place.parent,
        )
    dimensions = "x".join(str(side) for side in shape)
    note(
        f"writing {rows:,} images x {len(views)} view{'s' * (len(views) > 1)} x {dimensions} {dtype} = "
        f"{size / 1e6:,.1f} MB to {place.parent / plan.version}"
    )


def _finish(
    work: Work,
    source: Dataset,
    network: Backbone,
    views: Sequence[str],
    dtype: str,
    measured: dict[str, Any],
    weights: WeightsFile | None,
) -> None:
    shapes = {view: list(np.load(work.directory / f"{view}.npy", mmap_mode="r").shape) for view in views}
    work.commit(
        summary={
            "images": len(source.images),
            "views": list(views),
            "shape": shapes[views[0]][1:],
            "dtype": dtype,
            "weights": None if weights is None else weights.record(),
            "tensors_loaded": network.tensors_loaded,
            **cost(network),
        },
        protocol={
            **source.artifact.manifest.protocol,
            "pretraining": "none (random weights)" if weights is None else f"{weights.pretraining} ({weights.source})",
        },
        measured=measured,
        warnings=source.artifact.manifest.warnings,
        scratch=[JOURNALS],
    )


def _start_afresh(place: Path) -> None:
    for path in place.iterdir():
        path.unlink()
