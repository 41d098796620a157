"""``fer predict``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fer_cli.cli.common import Output, Printer, counted, headline, print_pairs, print_table
from fer_cli.cli.options import DeviceOption, command
from fer_cli.core.errors import UsageError

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store
    from fer_cli.prediction.rows import PredictionRow
    from fer_cli.stages.predict import PredictionSummary


@command("predict")
def predict(
    store: Store,
    as_json: bool,
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Photos, videos, folders, csv lists with a column path, or camera (camera:1 for the second).",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A model, a study or an ensemble (its models answer together), AHM, an exported ONNX file. "
            "[default: comes with fer]"
        ),
    ] = None,
    faces: Annotated[
        Literal["auto", "detect", "whole"],
        typer.Option(
            help="detect finds and aligns faces; whole takes each image as one face crop; auto: detect if it can."
        ),
    ] = "auto",
    detector: Annotated[
        str, typer.Option(help="retinaface-resnet50, retinaface-mobile0.25, or auto: one that is on this machine.")
    ] = "auto",
    weights: Annotated[
        str | None,
        typer.Option(
            "--detector-weights", metavar="FILE", help="The detector's weights, or the detector exported as ONNX."
        ),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--detector-sha256", metavar="HEX", help="SHA-256 that the file must have.")
    ] = None,
    least: Annotated[
        float, typer.Option("--min-score", min=0, max=1, help="Detections with a lower score do not count.")
    ] = 0.0,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time between two frames of a video: 0.5s, 200ms. [default: all frames]"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .csv, .jsonl or .parquet file to write.")
    ] = None,
    form: Annotated[Literal["table", "csv", "jsonl"], typer.Option("--format", help="What is printed.")] = "table",
    draw: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the images and videos with their faces marked.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=4096, help="Images at once.")] = 16,
    tta: Annotated[
        Literal["none", "flip", "ten-crop"],
        typer.Option(help="Test-time augmentation: the mean over views of each face, of a model of the store."),
    ] = "none",
    device: DeviceOption = "auto",
) -> Output:
    """Recognise the expressions of faces in photos and videos.

    One row per face: the image, the face's box, the detector's score, the expression, calibrated probabilities, and
    flags that speak against trusting it: small, blurred, cut-off, no-face, no-detector. An image that cannot be read is
    a row with an error.
    """
    from fer_cli.stages.predict import predict as stage

    if form != "table" and as_json:
        raise UsageError("--json and --format both say what is printed", hint="take one")
    summary = stage(
        store=store,
        given=given,
        model=model,
        faces=faces,
        detector=detector,
        detector_weights=weights,
        detector_sha256=sha256,
        least=least,
        every=None if every is None else seconds(every),
        batch=batch,
        tta=tta,
        output=output,
        stream=None if form == "table" else Printer(),
        form=form,
        draw=draw,
        device=device,
    )

    def show() -> None:
        if form == "table":
            _print(summary, output, draw)

    return Output(
        {
            "model": summary.model,
            "classes": list(summary.classes),
            "images": summary.images,
            "faces": summary.faces,
            "without_face": summary.without_face,
            "unreadable": summary.unreadable,
            "left_out": list(summary.left_out),
            "expressions": dict(summary.expressions),
            "flags": dict(summary.flags),
            "seconds": round(summary.seconds, 3),
            "rows": [row.values(summary.classes) for row in summary.rows],
        },
        show,
    )


def seconds(text: str) -> float:
    """Return a time in s, written as 0.5s, 200ms or 0.5.

    Raises:
        UsageError: it is none, or not above 0.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|)\s*", text)
    value = 0.0 if match is None else float(match[1]) * (0.001 if match[2] == "ms" else 1)
    if not 0 < value < 1e6:
        raise UsageError(f"--every {text!r} is no time", hint="write 0.5s or 200ms")
    return value


def _print(summary: PredictionSummary, output: Path | None, draw: Path | None) -> None:
    shown = summary.rows
    timed = any(row.time is not None for row in shown)
    columns = {"image": "left", **({"time": "right"} if timed else {}), "face": "right", "expression": "left"}
    columns |= {"probability": "right", "next": "left", "remarks": "left"}
    print_table(columns, [_cells(row, timed) for row in shown], wrap=("image", "remarks"))
    headline(summary.model)
    rest = summary.faces + summary.without_face + summary.unreadable - len(shown)
    lines = [("images", f"{summary.images:,}, {counted(summary.faces, 'face')}")]
    if rest > 0:
        lines.append(("not shown", f"{counted(rest, 'more row')}: --output FILE or --format csv gives all"))
    for what, number in (("without face", summary.without_face), ("unreadable", summary.unreadable)):
        if number:
            lines.append((what, f"{number:,}"))
    if summary.flags:
        lines.append(("flags", ", ".join(f"{flag} {number:,}" for flag, number in summary.flags.most_common())))
    if summary.left_out:
        names = ", ".join(summary.left_out[:3])
        lines.append(("not read", f"{counted(len(summary.left_out), 'other file')}: {names}"))
    lines.append(("speed", f"{summary.images / max(summary.seconds, 1e-9):,.1f} images/s"))
    lines += [(what, str(path)) for what, path in (("rows", output), ("drawn", draw)) if path is not None]
    print_pairs(lines)


def _cells(row: PredictionRow, timed: bool) -> list[str]:
    ranked = sorted(row.probabilities.items(), key=lambda item: -item[1])
    clock = [f"{row.time:.2f} s" if row.time is not None else ""] if timed else []
    remarks = row.error or ", ".join(row.flags)
    return [
        row.file,
        *clock,
        "" if row.face is None else str(row.face),
        row.expression or "",
        f"{ranked[0][1]:.1%}" if ranked else "",
        f"{ranked[1][0]} {ranked[1][1]:.0%}" if len(ranked) > 1 else "",
        remarks,
    ]
