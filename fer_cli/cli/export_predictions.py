"""``fer export-predictions``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_cli.cli.common import Output, check_place, print_file, print_pairs
from fer_cli.cli.options import command

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store


@command("export-predictions")
def export_predictions(
    store: Store,
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="An evaluation, or what was scored: then its newest evaluation.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A .csv or .parquet file. [default: print csv]")
    ] = None,
    predictor: Annotated[
        str | None, typer.Option(help="One of the evaluation's predictors. [default: the chosen one]")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All predictors, such as each seed and the ensemble.")] = False,
) -> Output:
    """Write the predictions of an evaluation: id, split, label, prediction, probabilities.

    In a csv an apostrophe stands before a text that a spreadsheet would run as a formula.
    """
    from fer_cli.artifacts.atomic_io import write_atomic
    from fer_cli.stages.export import form_of, predictions, table_file

    suffix = form_of(out, "--out")
    check_place(out)
    evaluation, table = predictions(store=store, reference=reference, predictor=predictor, every=every)
    data = table_file(table, suffix)
    if out is not None:
        write_atomic(out, data)

    def show() -> None:
        if out is None:
            print_file(data.decode("utf-8"))
        else:
            print_pairs([("of", evaluation.reference), ("rows", f"{len(table):,}"), ("written", str(out))])

    values: dict[str, object] = {
        "evaluation": evaluation.to_json(),
        "columns": table.column_names,
        "rows": len(table),
        "out": None if out is None else str(out),
    }
    return Output(values, show)
