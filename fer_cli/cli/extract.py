"""``fer extract``."""

from __future__ import annotations

from typing import Annotated

import typer

from fer_cli.cli.common import (
    DebugOption,
    ForceOption,
    JsonOption,
    StoreOption,
    listed,
    open_store,
    print_result,
    summary_of,
)


def extract(
    dataset: Annotated[str | None, typer.Argument(help="The data set. [default: the newest]")] = None,
    backbone: Annotated[str, typer.Option(help="Any network that timm knows.")] = "tf_efficientnet_lite0",
    level: Annotated[
        str,
        typer.Option(
            help="pooled, a feature map (stage1, the finest, to the deepest; stage3.block23 of a ConvNeXt), or auto: "
            "where Conv-cut cuts."
        ),
    ] = "pooled",
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels. [default: the network's own]")] = None,
    views: Annotated[str, typer.Option(help="original, flip, or both: original,flip.")] = "original",
    weights: Annotated[str, typer.Option(help="auto, none (random), or a file.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or float16, of what is stored.")] = "float32",
    batch: Annotated[int, typer.Option(help="Images a forward pass.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Keep the features of a frozen network.

    Stopped work goes on where it was; `torchrun -m fer_cli extract ...` shares it among processes.
    """
    from fer_cli.stages.extract import extract as stage

    result = stage(
        store=open_store(store),
        dataset=dataset,
        backbone=backbone,
        level=level,
        size=size,
        views=listed(views, "--views"),
        weights=weights,
        dtype=dtype,
        batch=batch,
        device=device,
        force=force,
    )
    summary, measured = summary_of(result), result.artifact.manifest.measured
    shape = " x ".join(str(side) for side in summary["shape"])
    lines = [
        ("features", f"{summary['images']:,} images x {', '.join(summary['views'])} x {shape} {summary['dtype']}"),
        ("weights", "none: random" if summary["weights"] is None else str(summary["weights"]["source"])),
        (
            "network",
            f"{summary['parameters'] / 1e6:.2f} M parameters, {summary['multiply_adds'] / 1e9:.3f} G multiply-adds",
        ),
    ]
    if measured.get("images_per_second"):
        lines.append(("speed", f"{measured['images_per_second']:,.0f} images/s on {measured['device']}"))
    print_result("extract", result, lines, as_json=json)
