"""``fer bench``."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fer_cli.cli.common import Output, check_place, headline, listed, print_pairs, print_table
from fer_cli.cli.options import command
from fer_cli.core.errors import UsageError

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store
    from fer_cli.prediction.timing import Form
    from fer_cli.stages.bench import Benchmark


@command("bench")
def bench(
    store: Store,
    model: Annotated[str | None, typer.Argument(help="A model, study or ensemble. [default: comes with fer]")] = None,
    forms: Annotated[
        str, typer.Option(help="Of torch fp32, bf16 and compiled; of onnxruntime onnx and onnx-int8.")
    ] = "fp32,bf16,compiled,onnx,onnx-int8",
    batches: Annotated[str, typer.Option(help="Images at once, 1 to 64.")] = "1,8,64",
    counts: Annotated[
        str | None, typer.Option("--threads", help="Numbers of threads. [default: 1, 2, 4 ... all cores]")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Times that each is measured, in turn; six for an interval.")] = 10,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A .csv or .json file to write.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: a PNG, SVG or PDF.")] = None,
) -> Output:
    """Measure how fast a model answers on this CPU.

    From crops to calibrated probabilities, their preparation included: images a second, as the median over the rounds
    with its 95% interval, and the time of one batch. A form that cannot be had here is named with the reason.
    """
    from fer_cli.stages.bench import bench as stage

    check_place(out)
    check_place(plot)
    if out is not None and out.suffix.lower() not in {".csv", ".json"}:
        raise UsageError(f"--out {out} does not end in .csv or .json", hint="give it one of these suffixes")
    if plot is not None:
        from fer_cli.reporting.style import FORMATS

        if plot.suffix.lower() not in FORMATS:
            raise UsageError(
                f"--plot {plot} does not end in {', '.join(FORMATS)}", hint="give it one of these suffixes"
            )
    found = stage(
        store=store,
        model=model,
        forms=cast("list[Form]", listed(forms, "--forms")),
        batches=_numbers(batches, "--batches"),
        threads=None if counts is None else _numbers(counts, "--threads"),
        rounds=rounds,
    )
    values = _values(found)
    if out is not None:
        from fer_cli.artifacts.atomic_io import write_atomic

        text = json.dumps(values, indent=2) + "\n" if out.suffix.lower() == ".json" else _csv(values["speeds"])
        write_atomic(out, text.encode("utf-8"))
    if plot is not None and found.speeds:
        from fer_cli.reporting.speeds import speeds_figure
        from fer_cli.reporting.style import save_figure

        save_figure(speeds_figure(found.speeds, f"Speed of {found.model}", _measured(found)), plot)
    written = {what: path for what, path in (("out", out), ("plot", plot)) if path is not None and path.is_file()}
    return Output(
        {**values, "written": {what: str(path) for what, path in written.items()}}, lambda: _show(found, written)
    )


def _numbers(text: str, option: str) -> list[int]:
    parts = listed(text, option)
    if wrong := [part for part in parts if not part.isdecimal()]:
        raise UsageError(f"{option} {wrong[0]!r} is no number", hint="write 1,8,64")
    return [int(part) for part in parts]


def _values(found: Benchmark) -> dict[str, Any]:
    values = asdict(found)
    for speed in values["speeds"]:
        speed |= {key: None if isinstance(one, float) and math.isinf(one) else one for key, one in speed.items()}
    values["speeds"] = list(values["speeds"])
    return values


def _csv(speeds: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    columns = ["form", "threads", "batch", "rate", "low", "high", "p50", "p95", "passes"]
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(speeds)
    return stream.getvalue()


def _measured(found: Benchmark) -> str:
    return (
        f"crops of {found.side} px; {found.rounds} rounds in turn, each at least {found.seconds:g} s and 3 passes; "
        f"load {found.load:.1f}"
    )


def _show(found: Benchmark, written: dict[str, Path]) -> None:
    headline(found.model)
    right = ("threads", "batch", "images/s", "95% interval", "p50 ms", "p95 ms")
    rows = [
        [
            one.form,
            str(one.threads),
            str(one.batch),
            _number(one.rate),
            f"{_number(one.low)} to {_number(one.high)}" if math.isfinite(one.low) else "",
            _number(one.p50),
            _number(one.p95),
        ]
        for one in found.speeds
    ]
    print_table({"form": "left", **dict.fromkeys(right, "right")}, rows)
    lines = [("measured", _measured(found))]
    if found.rounds < 6:
        lines.append(("note", "no interval: it wants six rounds"))
    lines += [(form, f"not measured: {why}") for form, why in found.missing.items()]
    print_pairs([*lines, *((what, str(path)) for what, path in written.items())])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
