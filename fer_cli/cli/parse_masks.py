"""``fer parse-masks``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_cli.cli.common import Output, artifact_output, counted, summary_of
from fer_cli.cli.options import DatasetArgument, DeviceOption, ForceOption, WeightsHashOption, command

if TYPE_CHECKING:
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
) -> Output:
    """Segment every face into regions, and flag the doubtful masks.

    Resumes where it stopped; `torchrun -m fer_cli parse-masks ...` shares the work among processes.
    """
    from fer_cli.faces.quality import REASONS
    from fer_cli.stages.parse_masks import parse_masks as stage

    result = stage(
        store=store,
        dataset=dataset,
        parser=parser,
        weights=weights,
        weights_sha256=weights_sha256,
        groups=group or (),
        size=size,
        mirror=mirror,
        batch=batch,
        device=device,
        precision=precision,
        force=force,
    )
    summary, measured = summary_of(result), result.artifact.manifest.measured
    lines = [("masks", f"{counted(summary['images'], 'image')} by {summary['parser']}")]
    if "weights" in summary:
        lines.append(("weights", f"{summary['weights']['source']}, input {_sizes(summary)}, {summary['precision']}"))
    lines.append(("regions", ", ".join(f"{name} {100 * share:.0f}%" for name, share in summary["regions"].items())))
    lines.append(("doubtful", f"{summary['doubtful']:,} ({summary['doubtful'] / summary['images']:.1%})"))
    lines += [("", f"{count:,} {reason}: {REASONS[reason]}") for reason, count in summary["reasons"].items()]
    if measured.get("images_per_second") and "mirror" in summary:  # a template's or a truth's maps cost nothing
        lines.append(("speed", f"{measured['images_per_second']:,.0f} images/s"))
    return artifact_output(result, lines)


def _sizes(summary: dict[str, Any]) -> str:
    straight, mirrored = summary["size"], summary.get("mirror")
    return f"{straight} px" if mirrored is None else f"{straight} px, mirrored at {mirrored} px"
