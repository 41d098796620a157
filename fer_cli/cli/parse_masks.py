"""``fer parse-masks``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fer_cli.cli.common import (
    DebugOption,
    ForceOption,
    JsonOption,
    StoreOption,
    counted,
    open_store,
    print_result,
    summary_of,
)


def parse_masks(
    dataset: Annotated[str | None, typer.Argument(help="The data set. [default: the newest]")] = None,
    parser: Annotated[
        str,
        typer.Option(
            help="bisenet, compact (comes with fer), template (mean regions of the training faces), truth (of drawn "
            "faces), or auto: bisenet where its weights are here, else compact."
        ),
    ] = "auto",
    weights: Annotated[str | None, typer.Option(help="A file of weights of bisenet or compact.")] = None,
    weights_sha256: Annotated[
        str | None, typer.Option("--weights-sha256", help="The hash that the weights must have.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="PART=REGION: brow=skin, hat=hair, glasses=skin ...; may be given several times."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side of the input in pixels. [default: bisenet 512, compact 160 and 192, or 192 and 256]"),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror/--no-mirror", help="Parse the mirror image too and take the mean: twice the time.")
    ] = True,
    batch: Annotated[
        int | None, typer.Option(help="Pictures a forward pass. [default: 4 for bisenet, else 16]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[
        str,
        typer.Option(help="float32, bfloat16, or auto: bfloat16 for compact where the machine has it natively."),
    ] = "auto",
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the regions of every face, and which of the maps are to be doubted.

    Stopped work goes on where it was; `torchrun -m fer_cli parse-masks ...` shares it among processes.
    """
    from fer_cli.faces.quality import REASONS
    from fer_cli.stages.parse_masks import parse_masks as stage

    result = stage(
        store=open_store(store),
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
    lines = [("masks", f"{counted(summary['images'], 'picture')} by {summary['parser']}")]
    if "weights" in summary:
        lines.append(("weights", f"{summary['weights']['source']}, seen at {_sizes(summary)}, {summary['precision']}"))
    lines.append(("regions", ", ".join(f"{name} {100 * share:.0f}%" for name, share in summary["regions"].items())))
    lines.append(("doubtful", f"{summary['doubtful']:,} ({summary['doubtful'] / summary['images']:.1%})"))
    lines += [("", f"{count:,} {reason}: {REASONS[reason]}") for reason, count in summary["reasons"].items()]
    if measured.get("images_per_second") and "mirror" in summary:  # a template's or a truth's maps cost nothing
        lines.append(("speed", f"{measured['images_per_second']:,.0f} pictures/s"))
    print_result("parse-masks", result, lines, as_json=json)


def _sizes(summary: dict[str, Any]) -> str:
    straight, mirrored = summary["size"], summary.get("mirror")
    return f"{straight} px" if mirrored is None else f"{straight} px, mirrored at {mirrored} px"
