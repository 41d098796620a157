"""``fer export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fer_cli.cli.common import Output, headline, print_pairs
from fer_cli.cli.listing import in_bytes
from fer_cli.cli.options import ModelArgument, command

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store
    from fer_cli.stages.export_model import Exported


@command("export")
def export(
    store: Store,
    model: ModelArgument = None,
    to: Annotated[
        Literal["onnx", "torch-export"],
        typer.Option(help="onnx; torch-export (.pt2)."),
    ] = "onnx",
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(help="Of an ONNX file; int8 is static, with ranges from 256 training images."),
    ] = "fp32",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file. [default: NAME-VERSION with the usual suffix]")
    ] = None,
) -> Output:
    """Write a model as a file for other programs.

    The graph goes from pixels to calibrated probabilities; its metadata hold the classes, how images are prepared, the
    temperature and the lineage. Its answers to up to 1,000 validation images must be the network's: the same class, and
    probabilities within 1e-4, else nothing is written. What fp16 and int8 cost is measured on the whole validation
    split and written into the file.
    """
    from fer_cli.stages.export_model import export_graph

    exported = export_graph(store=store, model=model, to=to, precision=precision, out=out)
    record = exported.record.record()
    values = {"path": str(exported.path), "bytes": exported.size, "record": record}
    return Output(values, lambda: _show(exported))


def _show(exported: Exported) -> None:
    record, check = exported.record, exported.record.check
    assert check is not None, "it is written with what was measured"
    headline(record.reference, "exported")
    print_pairs(
        [
            ("precision", record.precision),
            *([("opset", str(record.opset))] if record.opset is not None else []),
            ("classes", ", ".join(record.classes)),
            ("checked on", f"{check.images:,} {check.split} images of {check.dataset}"),
            ("same class", f"{check.same_class:.2%}; probabilities differ by {check.largest_difference:.2g} at most"),
            ("accuracy", f"{check.accuracy:.2%}, of the network {check.network_accuracy:.2%}"),
            ("written", f"{exported.path}, {in_bytes(exported.size)}"),
        ]
    )
