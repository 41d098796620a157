"""``fer extract``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_cli.cli.common import Output, artifact_output, listed
from fer_cli.cli.options import (
    BatchOption,
    DeviceOption,
    ForceOption,
    InputSizeOption,
    WeightsOption,
    command,
)

if TYPE_CHECKING:
    from fer_cli.artifacts.result import Result
    from fer_cli.artifacts.store import Store

SourceArgument = Annotated[
    str | None, typer.Argument(help="A dataset, or a model whose features are taken. [default: the newest dataset]")
]


@command("extract")
def extract(
    store: Store,
    dataset: SourceArgument = None,
    data: Annotated[
        str | None, typer.Option(help="The dataset of a model's features. [default: the one that it was trained on]")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Any network of timm. [default: tf_efficientnet_lite0]")] = None,
    level: Annotated[
        str,
        typer.Option(
            help="pooled, a feature map (stage1, the finest, to the deepest; stage3.block23 of a ConvNeXt), or auto: "
            "where Conv-cut truncates the network."
        ),
    ] = "pooled",
    size: InputSizeOption = None,
    views: Annotated[str, typer.Option(help="original, flip, or both: original,flip.")] = "original",
    weights: WeightsOption = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or float16: type of the stored features.")] = "float32",
    batch: BatchOption = 64,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    name: str | None = None,
) -> Output:
    """Extract the features of a frozen network, or of a trained model and its own answers.

    Resumes where it stopped; `torchrun -m fer_cli extract ...` shares the work among processes.
    """
    from fer_cli.artifacts.summaries import FeaturesSummary, Measured
    from fer_cli.cli.requests import answer

    options: dict[str, Any] = {
        "name": name,
        "backbone": backbone,
        "level": level,
        "size": size,
        "views": listed(views, "--views"),
        "weights": weights,
        "dtype": dtype,
        "batch": batch,
        "device": device,
    }

    def build(references: Mapping[str, Any]) -> Sequence[Result]:
        from fer_cli.weights.networks import check_architecture

        if backbone is not None:
            check_architecture(backbone)  # before torch is imported
        from fer_cli.stages.extract import extract as stage

        return [stage(store=store, **references, **options, force=force)]

    kinds = ["dataset"] if dataset is None else ["dataset", "model"]
    named: dict[str, tuple[str | None, list[str]]] = {"dataset": (dataset, kinds)}
    if data is not None:
        named["data"] = (data, ["dataset"])
    [result] = answer(store, "extract", options, named, build, force=force)
    summary, measured = FeaturesSummary.of(result.artifact), Measured.of(result.artifact)
    shape = " x ".join(str(side) for side in summary.shape)
    lines = [
        ("features", f"{summary.images:,} images x {', '.join(summary.views)} x {shape} {summary.dtype}"),
        ("weights", "none: random" if summary.weights is None else summary.weights.source),
        (
            "network",
            f"{summary.parameters / 1e6:.2f} M parameters, {summary.multiply_adds / 1e9:.3f} G multiply-adds",
        ),
    ]
    if measured.images_per_second:
        lines.append(("speed", f"{measured.images_per_second:,.0f} images/s on {measured.device}"))
    return artifact_output(result, lines)
