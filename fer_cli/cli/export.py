"""``fer export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fer_cli.cli.common import Output, headline, print_pairs
from fer_cli.cli.listing import in_bytes
from fer_cli.cli.options import command
from fer_cli.core.errors import UsageError

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store
    from fer_cli.faces.retinaface_onnx import DetectorRecord
    from fer_cli.prediction.onnx_model import CheckRecord
    from fer_cli.stages.export_model import Archived, Exported


@command("export")
def export(
    store: Store,
    model: Annotated[
        str | None,
        typer.Argument(help="A model, study or ensemble; in a zip AHM or an evaluation too. [default: the newest]"),
    ] = None,
    to: Annotated[
        Literal["onnx", "torch-export", "zip"],
        typer.Option(help="onnx; torch-export (.pt2); zip, which 'fer import' takes into another store."),
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
    probabilities within 1e-4, else nothing is written; where the model's data set is not in the store, on 64 synthetic
    faces, which the file then says. What fp16 and int8 cost is measured on the whole validation
    split and written into the file.

    The name of a face detector, such as retinaface-mobile0.25, writes that one as ONNX, for --detector-weights of `fer
    predict`.

    A zip holds the artifact, of a study its models too, and the manifests of all that these were made from; never the
    images of a data set.
    """
    from fer_cli.faces.retinaface import DETECTORS
    from fer_cli.stages.export_model import export_archive, export_detector, export_graph

    if model in DETECTORS:
        if to != "onnx" or precision != "fp32":
            raise UsageError("a detector is exported to ONNX in fp32", hint="leave --to and --precision out")
        return _detector(*export_detector(name=model, out=out))
    if to == "zip":
        if precision != "fp32":
            raise UsageError(f"--precision {precision} is of ONNX files", hint="add --to onnx")
        return _archived(export_archive(store=store, reference=model, out=out))
    exported = export_graph(store=store, model=model, to=to, precision=precision, out=out)
    record = exported.record.record()
    values = {"path": str(exported.path), "bytes": exported.size, "record": record}
    return Output(values, lambda: _show(exported))


def _detector(path: Path, record: DetectorRecord) -> Output:
    check = f"{record.images} synthetic pictures: differs by {record.largest_difference:.2g} at most"

    def show() -> None:
        headline(record.detector, "exported")
        print_pairs(
            [
                ("weights", f"sha256 {record.weights[:16]}, {record.licence}"),
                ("checked on", check),
                ("written", f"{path}, {in_bytes(path.stat().st_size)}"),
            ]
        )

    return Output({"path": str(path), "bytes": path.stat().st_size, "record": record.record()}, show)


def _archived(archived: Archived) -> Output:
    values = {
        "path": str(archived.path),
        "bytes": archived.size,
        "artifacts": [one.reference for one in archived.parts],
        "lineage": [one.reference for one in archived.lineage],
    }

    def show() -> None:
        headline(archived.artifact.reference, "exported")
        print_pairs(
            [
                *(("holds", one.reference) for one in archived.parts),
                *(("lineage only", one.reference) for one in archived.lineage),
                ("written", f"{archived.path}, {in_bytes(archived.size)}"),
            ]
        )

    return Output(values, show)


def _show(exported: Exported) -> None:
    record, check = exported.record, exported.record.check
    assert check is not None, "it is written with what was measured"
    headline(record.reference, "exported")
    print_pairs(
        [
            ("precision", record.precision),
            *([("opset", str(record.opset))] if record.opset is not None else []),
            ("classes", ", ".join(record.classes)),
            ("checked on", f"{check.images:,} {_images(check)}"),
            ("same class", f"{check.same_class:.2%}; probabilities differ by {check.largest_difference:.2g} at most"),
            *(
                [("accuracy", f"{check.accuracy:.2%}, of the network {check.network_accuracy:.2%}")]
                if check.accuracy is not None
                else []
            ),
            ("written", f"{exported.path}, {in_bytes(exported.size)}"),
        ]
    )


def _images(check: CheckRecord) -> str:
    if check.dataset is None:
        return "synthetic faces: no images of its data set are here"
    return f"{check.split} images of {check.dataset}"
