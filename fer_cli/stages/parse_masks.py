"""Stage ``parse-masks``: a dataset artifact in, a masks artifact out. Resumes; several processes share the blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from fer_cli.artifacts.naming import composed_name
from fer_cli.artifacts.protocol import DatasetProtocol
from fer_cli.artifacts.result import Result
from fer_cli.artifacts.runner import run
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import MasksSummary, Measured
from fer_cli.artifacts.work import Plan, Work
from fer_cli.core import distributed, machine
from fer_cli.core.distributed import broadcast_object, process_group
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.labels import REGIONS
from fer_cli.core.progress import note
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.faces.masks import DOUBTFUL, MAPS, SCORES, SPANS
from fer_cli.faces.parser_registry import open_parser
from fer_cli.faces.parsers import PRECISIONS, DatasetParser, ParserOptions
from fer_cli.faces.parsing import Known, Rows, assemble, parse_dataset
from fer_cli.faces.quality import REASONS, QualityThresholds
from fer_cli.faces.regions import grouping

REVISION: Final = 1
MANY: Final = 0.2
"""Share of doubtful maps above which a person should look before training on them."""


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
    name: str | None = None,
) -> Result:
    """Find the regions of every face of a data set and say which of the maps are to be doubted.

    The payload is described in :mod:`fer_cli.faces.masks`; map i belongs to the data set's image i and has its size.

    Args:
        store: where artifacts are.
        dataset: reference of the data set; the newest where it is None.
        parser: ``bisenet``, ``compact``, ``template`` (the mean regions of the training images, found by the compact
            parser), ``truth`` (of synthetic faces), or ``auto``: bisenet where its weights are here, else compact.
        weights: a file of the parser's weights.
        weights_sha256: the hash that the weights must have; bisenet's published one where it is None.
        groups: changes to the grouping of parts into regions, ``PART=REGION``.
        size: side in pixels that images are resized to; 512 for bisenet, for compact 160 and its
            mirror image 192 (large images: 192 and 256) where it is None.
        mirror: parse the mirror image too, and take the mean of both.
        batch: images a forward pass; 4 for bisenet, whose outputs are large, else 16 where it is None.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: of the network: ``float32``, ``bfloat16``, or ``auto``: bfloat16 for compact where the device
            multiplies it natively (its mIoU is the same, see the model card), else float32.
        force: parse again even when it is up to date.
        name: of what is made; from its inputs and settings where it is None.

    Raises:
        FerError: the weights, the data set or the machine is at fault.
        PreemptedError: a stop signal came; what was finished is kept, and the same call resumes.
    """
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(f"--precision {precision!r} is none", hint=f"take auto, {' or '.join(PRECISIONS)}")
    if batch is not None and batch < 1:
        raise UsageError(f"--batch {batch} is not a number of images", hint="take 1 or more")
    ranks = distributed.ranks()
    regions, images = grouping(groups), open_dataset(store.find(dataset, ["dataset"]))
    thresholds = QualityThresholds()
    options = ParserOptions(
        dataset=images,
        weights=weights,
        weights_sha256=weights_sha256,
        grouping=regions,
        regrouped=bool(groups),
        size=size,
        mirror=mirror,
        batch=batch,
        device=device,
        precision=precision,
        ranks=ranks,
    )
    with process_group(ranks):
        opened = open_parser(parser, options)
        plan = _plan(images, opened, thresholds, name)

        def produce(work: Work) -> None:
            rows = Rows(images.ids, images.pixels)
            known = Known([store.open(path) for path in _earlier(store, plan, options, force=force)])
            if reused := sum(pixels in known for pixels in rows.pixels.tolist()):
                note(f"{reused:,} of {len(rows):,} images are parsed already: {', '.join(known.references)}")
            rate = parse_dataset(
                opened.prepare(),
                rows,
                known,
                work.directory,
                thresholds=thresholds,
                batch=opened.batch,
                ranks=ranks,
                run=plan.version,
                title=f"parse {plan.name}",
            )
            if ranks.rank == 0:
                measured = Measured(
                    images_per_second=rate, taken_over=reused, batch=opened.batch, processes=ranks.world
                )
                _commit(work, images, opened, measured)

        return run(store, plan, produce, ranks=ranks, force=force)


def _plan(dataset: Dataset, parser: DatasetParser, thresholds: QualityThresholds, name: str | None) -> Plan:
    return Plan(
        kind="masks",
        name=name or composed_name(dataset.artifact.name, parser.name_parts),
        stage="parse-masks",
        revision=REVISION,
        config={
            **parser.record,
            "regions": list(REGIONS),
            "map": list(dataset.images.shape[1:3]),
            "bar": thresholds.record(),
        },
        inputs={"dataset": dataset.artifact.as_input()},
    )


def _earlier(store: Store, plan: Plan, options: ParserOptions, *, force: bool) -> list[Path]:
    """Return sound masks whose maps can be taken over: of the same network and settings, of whatever data set.

    A template or a truth is that of its data set alone. Every process gets those that the first one found.
    """
    found = []
    if options.ranks.rank == 0 and not force and "weights" in plan.config:
        for directory in store.directories(["masks"]):
            try:
                manifest = store.open(directory).manifest
            except FerError:
                continue  # a damaged one: it is no reason not to make this one
            same = (manifest.revision, manifest.payload_format) == (plan.revision, plan.payload_format)
            if same and manifest.config == plan.config and manifest.version != plan.version:
                found.append(directory)
    return broadcast_object(found, options.ranks)


def _commit(work: Work, dataset: Dataset, parser: DatasetParser, measured: Measured) -> None:
    scores = assemble(work.directory, len(dataset.ids))
    doubts = [reasons for reasons in scores["reasons"].to_pylist() if reasons]
    counts = Counter(reason for reasons in doubts for reason in reasons)
    warnings = list(dataset.artifact.manifest.warnings)
    if len(doubts) / len(scores) > MANY:
        warnings.append(f"{len(doubts) / len(scores):.0%} of the maps are doubtful: look at them with 'fer plot masks'")
    work.commit(
        summary=MasksSummary(
            images=len(scores),
            parser=parser.name,
            **parser.summary,
            doubtful=len(doubts),
            reasons={name: counts[name] for name in REASONS if counts[name]},
            regions={name: round(float(np.mean(scores[f"share_{name}"])), 4) for name in REGIONS},
        ),
        protocol=DatasetProtocol.of(dataset.artifact),
        measured=measured.model_copy(update={"peak_memory": machine.peak_memory()}),
        warnings=warnings,
        files=[MAPS, SPANS, SCORES, DOUBTFUL],
    )
