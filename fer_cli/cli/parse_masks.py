"""``fer parse-masks``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_cli.cli.common import Output, artifact_output, counted
from fer_cli.cli.options import DatasetArgument, DeviceOption, ForceOption, WeightsHashOption, command

if TYPE_CHECKING:
    from fer_cli.artifacts.result import Result
    from fer_cli.artifacts.store import Store


@command("parse-masks")
def parse_masks(
    store: Store,
    dataset: DatasetArgument = None,
    parser: Annotated[
        str,
        typer.Option(
            help="bisenet, compact (comes with fer), template (mean map of the training faces), truth (of synthetic "
            "faces), or auto: bisenet if its weights are on this machine, else compact."
        ),
    ] = "auto",
    weights: Annotated[str | None, typer.Option(help="File of weights for bisenet or compact.")] = None,
    weights_sha256: WeightsHashOption = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="PART=REGION: brow=skin, hat=hair, glasses=skin ...; may be repeated."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side of the input in pixels. [default: bisenet 512, compact 160 and 192, or 192 and 256]"),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror/--no-mirror", help="Average with the parse of the mirror image: twice the time.")
    ] = True,
    batch: Annotated[
        int | None, typer.Option(help="Images per forward pass. [default: 4 for bisenet, else 16]")
    ] = None,
    device: DeviceOption = "auto",
    precision: Annotated[
        str,
        typer.Option(help="float32, bfloat16, or auto: bfloat16 for compact if the device supports it natively."),
    ] = "auto",
    force: ForceOption = False,
    name: str | None = None,
) -> Output:
    """Segment every face into regions, and flag the doubtful masks.

    Resumes where it stopped; `torchrun -m fer_cli parse-masks ...` shares the work among processes.
    """
    from fer_cli.artifacts.summaries import MasksSummary, Measured
    from fer_cli.cli.requests import answer
    from fer_cli.faces.quality import REASONS

    options: dict[str, Any] = {
        "name": name,
        "parser": parser,
        "weights": weights,
        "weights_sha256": weights_sha256,
        "groups": group or (),
        "size": size,
        "mirror": mirror,
        "batch": batch,
        "device": device,
        "precision": precision,
    }

    def build(references: Mapping[str, Any]) -> Sequence[Result]:
        from fer_cli.stages.parse_masks import parse_masks as stage

        return [stage(store=store, **references, **options, force=force)]

    [result] = answer(store, "parse-masks", options, {"dataset": (dataset, ["dataset"])}, build, force=force)
    summary, measured = MasksSummary.of(result.artifact), Measured.of(result.artifact)
    lines = [("masks", f"{counted(summary.images, 'image')} by {summary.parser}")]
    if summary.weights is not None:
        sizes = f"{summary.size} px" + ("" if summary.mirror is None else f", mirrored at {summary.mirror} px")
        lines.append(("weights", f"{summary.weights.source}, input {sizes}, {summary.precision}"))
    lines.append(("regions", ", ".join(f"{name} {100 * share:.0f}%" for name, share in summary.regions.items())))
    lines.append(("doubtful", f"{summary.doubtful:,} ({summary.doubtful / summary.images:.1%})"))
    lines += [("", f"{count:,} {reason}: {REASONS[reason]}") for reason, count in summary.reasons.items()]
    if measured.images_per_second and summary.parser in {"bisenet", "compact"}:  # the others' maps cost nothing
        lines.append(("speed", f"{measured.images_per_second:,.0f} images/s"))
    return artifact_output(result, lines)
