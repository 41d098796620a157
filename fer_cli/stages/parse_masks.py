"""Stage ``parse-masks``: a dataset artifact in, a masks artifact out. Resumes; several processes share the blocks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.journal import JOURNALS, Journal
from fer_cli.artifacts.payload import read_array
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.store import Artifact, Plan, Store, Work
from fer_cli.core import distributed, machine, signals
from fer_cli.core.distributed import barrier, broadcast_object, process_group
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.labels import REGIONS
from fer_cli.core.progress import note, track
from fer_cli.datasets.dataset import MASKS, Dataset, open_dataset
from fer_cli.faces import parsing
from fer_cli.faces.parsers import PRECISIONS, Parsed
from fer_cli.faces.parsing import Known, ParseRows, Rows, assemble, parse_blocks, sound_blocks
from fer_cli.faces.quality import REASONS, QualityThresholds
from fer_cli.faces.regions import Grouping, grouping

if TYPE_CHECKING:
    from fer_cli.faces.parsers import NetworkParser

REVISION: Final = 1
PARSERS: Final = ("auto", "bisenet", "compact", "template", "truth")
SIZE_OF_BISENET: Final = 512
BATCHES: Final = {"bisenet": 4}
MANY: Final = 0.2
"""Share of doubtful maps above which a person should look before training on them."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where maps come from: what decides them, what is told of it, and, once they are needed, the function itself."""

    parser: str
    name: str
    record: dict[str, Any]
    told: dict[str, Any]
    ready: Callable[[], ParseRows]


def parse_masks(
    *,
    store: Store,
    dataset: str | None = None,
    parser: str = "auto",
    weights: str | None = None,
    weights_sha256: str | None = None,
    groups: Sequence[str] = (),
    size: int | None = None,
    mirror: bool = True,
    batch: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    force: bool = False,
) -> Result:
    """Find the regions of every face of a data set and say which of the maps are to be doubted.

    The payload is described in :mod:`fer_cli.faces.masks`; map i belongs to the data set's image i and has its size.

    Args:
        store: where artifacts are.
        dataset: reference of the data set; the newest where it is None.
        parser: ``bisenet``, ``compact``, ``template`` (the mean regions of the training pictures, found by the compact
            parser), ``truth`` (of drawn faces), or ``auto``: bisenet where its weights are here, else compact.
        weights: a file of the parser's weights.
        weights_sha256: the hash that the weights must have; bisenet's published one where it is None.
        groups: changes to the grouping of parts into regions, ``PART=REGION``.
        size: side in pixels that pictures are resized to; 512 for bisenet, for compact 160 and its
            mirror image 192 (large pictures: 192 and 256) where it is None.
        mirror: parse the mirror image too, and take the mean of both.
        batch: pictures a forward pass; 4 for bisenet, whose answers are large, else 16 where it is None.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: of the network: ``float32``, ``bfloat16``, or ``auto``: bfloat16 for compact where the device
            multiplies it natively (its mIoU is the same, see the model card), else float32.
        force: make it anew even when it is up to date.

    Raises:
        FerError: the weights, the data set or the machine is at fault.
        PreemptedError: SIGTERM or SIGUSR1 came; what was finished is kept and the same call goes on from there.
    """
    if parser not in PARSERS:
        raise UsageError(f"--parser {parser!r} is not a parser", hint=f"take {', '.join(PARSERS)}")
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(f"--precision {precision!r} is none", hint=f"take auto, {' or '.join(PRECISIONS)}")
    if batch is not None and batch < 1:
        raise UsageError(f"--batch {batch} is not a number of pictures", hint="take 1 or more")
    wanted = grouping(groups)
    ranks = distributed.ranks()
    found = open_dataset(store.find(dataset, ["dataset"]))
    parser = _chosen(parser, weights)
    batch = batch or BATCHES.get(parser, 16)
    with process_group(ranks), ExitStack() as stack:
        if parser == "truth":
            source = _truth(found, weights, size, groups)
        else:
            machine.tune_allocator()
            target = machine.device_name(device)
            _share_cores(ranks, target)
            if precision == "auto":  # one for all processes, whatever their machines
                fast = parser != "bisenet" and machine.fast_bfloat16(target)
                precision = broadcast_object("bfloat16" if fast else "float32", ranks)
            network = _network(parser, found, weights, weights_sha256, wanted, size, mirror, target, precision)
            source = (
                _template(found, network, batch, ranks)
                if parser == "template"
                else _of_network(found, network, size, bool(groups))
            )
        bar = QualityThresholds()
        plan = _plan(found, source, bar)
        # Rank 0 alone holds the lock and makes the directory; the others are told where it is.
        work = stack.enter_context(store.make(plan, force=force, resumable=True)) if ranks.rank == 0 else None
        place = broadcast_object(None if work is None or work.committed is not None else str(work.directory), ranks)
        if place is None:
            return Result(store.open(store.root / plan.kind / plan.name / plan.version), up_to_date=True)
        if force and ranks.rank == 0:
            for path in Path(place).iterdir():
                path.unlink()
        barrier(ranks)
        earlier = broadcast_object([] if force or ranks.rank else _earlier(store, plan), ranks)
        measured = _run(Path(place), plan, found, source, bar, [store.open(path) for path in earlier], batch, ranks)
        barrier(ranks)
        if work is not None:
            _finish(work, found, source, measured)
        barrier(ranks)
        return Result(store.open(store.root / plan.kind / plan.name / plan.version), up_to_date=False)


def _chosen(parser: str, weights: str | None) -> str:
    """Return the parser that ``auto`` stands for, and say so."""
    if parser != "auto":
        return parser
    if weights is not None:
        raise UsageError("--weights does not say of which network", hint="add --parser bisenet or --parser compact")
    from fer_cli.weights.download import BISENET, find_release

    if find_release(BISENET, None, None, fetch=False) is not None:
        note("parser bisenet: its weights are here")
        return "bisenet"
    note("parser compact: the weights of bisenet are not here (fer parse-masks --parser bisenet fetches them)")
    return "compact"


def _network(
    parser: str,
    dataset: Dataset,
    weights: str | None,
    sha256: str | None,
    wanted: Grouping,
    size: int | None,
    mirror: bool,
    device: str,
    precision: str,
) -> NetworkParser:
    if parser == "bisenet":
        from fer_cli.faces.bisenet import open_bisenet
        from fer_cli.weights.download import BISENET, find_release

        released = find_release(BISENET, weights, sha256, fetch=True)
        assert released is not None, "fetched or refused"
        return open_bisenet(
            released,
            grouping=wanted,
            size=SIZE_OF_BISENET if size is None else size,
            mirror=mirror,
            device=device,
            precision=precision,
        )
    from fer_cli.faces.compact import open_compact, working_sizes
    from fer_cli.faces.compact_weights import find_compact

    side, other = working_sizes(*dataset.images.shape[1:3]) if size is None else (size, size)
    return open_compact(
        find_compact(weights, sha256),
        grouping=wanted,
        size=side,
        mirror=mirror,
        device=device,
        mirror_size=other,
        precision=precision,
    )


def _told(network: NetworkParser) -> dict[str, Any]:
    return {"weights": network.weights, "size": network.preprocessing.size, "precision": network.precision}


def _of_network(dataset: Dataset, network: NetworkParser, size: int | None, regrouped: bool) -> _Source:
    def parse_rows(rows: NDArray[np.int64]) -> Parsed:
        return network.parse(dataset.images[rows])

    parts = [dataset.artifact.name, network.name, *([] if size is None else [str(size)]), *(["regrouped"] * regrouped)]
    return _Source(
        parser=network.name,
        name="-".join(parts),
        record=network.record(),
        told={**_told(network), "mirror": network.record()["mirror"]},
        ready=lambda: parse_rows,
    )


def _template(dataset: Dataset, network: NetworkParser, batch: int, ranks: distributed.Ranks) -> _Source:
    from fer_cli.faces.template import chosen_rows, make_template

    rows = chosen_rows(dataset.rows("train"))

    def ready() -> ParseRows:
        template = None
        if ranks.rank == 0:
            with track("the mean of the training faces", len(rows)) as advance:
                template = make_template(network, dataset.images, rows, batch, advance).map
        one = broadcast_object(template, ranks)
        assert one is not None, "the first process made it"

        def parse_rows(rows: NDArray[np.int64]) -> Parsed:
            unknown = np.full(len(rows), np.nan, np.float32)
            return Parsed(np.broadcast_to(one, (len(rows), *one.shape)), unknown, unknown)

        return parse_rows

    return _Source(
        parser="template",
        name=f"{dataset.artifact.name}-template",
        record={"parser": "template", "from": network.record(), "images": len(rows)},
        told={**_told(network), "training_images": len(rows)},
        ready=ready,
    )


def _truth(dataset: Dataset, weights: str | None, size: int | None, groups: Sequence[str]) -> _Source:
    if not dataset.artifact.has(MASKS):
        raise FerError(
            f"{dataset.artifact.reference} has no true masks: those of drawn faces alone are known",
            hint="take --parser compact or bisenet",
        )
    if weights is not None or size is not None or groups:
        raise UsageError(
            "--parser truth takes no --weights, --size or --group", hint="the true masks are regions already"
        )
    masks = read_array(dataset.artifact.file(MASKS))
    if masks.shape != dataset.images.shape[:3] or masks.dtype != np.uint8:
        raise FerError(
            f"masks are {masks.shape} of {masks.dtype}", hint="prepare the data set anew", path=dataset.artifact.path
        )

    def parse_rows(rows: NDArray[np.int64]) -> Parsed:
        unknown = np.full(len(rows), np.nan, np.float32)
        return Parsed(np.asarray(masks[rows]), unknown, unknown)

    return _Source("truth", f"{dataset.artifact.name}-truth", {"parser": "truth"}, {}, lambda: parse_rows)


def _plan(dataset: Dataset, source: _Source, bar: QualityThresholds) -> Plan:
    return Plan(
        kind="masks",
        name=source.name,
        stage="parse-masks",
        revision=REVISION,
        config={
            **source.record,
            "regions": list(REGIONS),
            "map": list(dataset.images.shape[1:3]),
            "bar": bar.record(),
        },
        inputs={"dataset": dataset.artifact.as_input()},
    )


def _share_cores(ranks: distributed.Ranks, device: str) -> None:
    import torch

    if ranks.local_world > 1 and device == "cpu":
        torch.set_num_threads(max(1, machine.usable_cpus() // ranks.local_world))


def _earlier(store: Store, plan: Plan) -> list[Path]:
    """Return sound masks whose maps can be taken over: of the same network and settings, of whatever data set.

    A template or a truth is that of its data set alone.
    """
    if "weights" not in plan.config:
        return []
    found = []
    for directory in store.directories(["masks"]):
        try:
            artifact = store.open(directory)
        except FerError:
            continue  # a damaged one: it is no reason not to make this one
        manifest = artifact.manifest
        same = (manifest.revision, manifest.payload_format) == (plan.revision, plan.payload_format)
        if same and manifest.config == plan.config and manifest.version != plan.version:
            found.append(directory)
    return found


def _run(
    place: Path,
    plan: Plan,
    dataset: Dataset,
    source: _Source,
    bar: QualityThresholds,
    earlier: Sequence[Artifact],
    batch: int,
    ranks: distributed.Ranks,
) -> dict[str, Any]:
    """Parse this process's share of the blocks that are missing; return what was measured."""
    rows = Rows(dataset.ids, dataset.pixels)
    numbers = range(math.ceil(len(rows) / parsing.BLOCK))
    known = Known(earlier)
    with signals.stop_on_signal() as stop:
        done = sound_blocks(place)
        if done and ranks.rank == 0:
            note(f"going on: {len(done)} of {len(numbers)} blocks are there already")
        if reused := sum(pixels in known for pixels in rows.pixels.tolist()):
            note(f"{reused:,} of {len(rows):,} pictures are parsed already: {', '.join(a.reference for a in earlier)}")
        barrier(ranks)
        missing = [block for block in numbers if block not in done][ranks.rank :: ranks.world]
        parse_rows = source.ready()
        with track(f"parse {plan.name}", len(rows), done=min(len(rows), len(done) * parsing.BLOCK)) as advance:

            def finished(pictures: int) -> None:
                advance(pictures * ranks.world)
                stop.check("what was finished is kept")

            parsed, seconds = parse_blocks(
                parse_rows,
                rows,
                missing,
                known,
                place,
                Journal(place, ranks.rank),
                thresholds=bar,
                batch=batch,
                finished=finished,
            )
    return {
        "images_per_second": round(parsed / seconds, 1) if parsed else None,
        "taken_over": reused,
        "batch": batch,
        "processes": ranks.world,
        "peak_memory": machine.peak_memory(),
    }


def _finish(work: Work, dataset: Dataset, source: _Source, measured: dict[str, Any]) -> None:
    scores = assemble(work.directory, range(math.ceil(len(dataset.ids) / parsing.BLOCK)))
    reasons = Counter(reason for found in scores["reasons"].to_pylist() for reason in found)
    doubtful = sum(bool(found) for found in scores["reasons"].to_pylist())
    share_of = doubtful / len(scores)
    warnings = list(dataset.artifact.manifest.warnings)
    if share_of > MANY:
        warnings.append(f"{share_of:.0%} of the maps are doubtful: look at them with 'fer plot masks'")
    work.commit(
        summary={
            "images": len(scores),
            "parser": source.parser,
            **source.told,
            "doubtful": doubtful,
            "reasons": {name: reasons[name] for name in REASONS if reasons[name]},
            "regions": {name: round(float(np.mean(scores[f"share_{name}"])), 4) for name in REGIONS},
        },
        protocol={**dataset.artifact.manifest.protocol, "masks": source.parser},
        measured=measured,
        warnings=warnings,
        scratch=[JOURNALS, parsing.BLOCKS],
    )
