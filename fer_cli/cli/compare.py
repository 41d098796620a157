"""``fer compare``."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fer_cli.cli.common import UNBOUNDED, Output, check_place, console, listed, plain, print_file, print_pairs
from fer_cli.cli.options import command
from fer_cli.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console, OverflowMethod

    from fer_cli.artifacts.store import Store
    from fer_cli.reporting.comparison import Comparison
    from fer_cli.reporting.paper_table import Spread
    from fer_cli.reporting.tables import Page, Table


@command("compare")
def compare(
    store: Store,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Models, studies, ahm artifacts or evaluations; of a model its newest evaluation.",
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="table, markdown, latex or html. [default: from the suffix of --out, else table]"
        ),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--latex", help="One LaTeX table for a paper (booktabs); see --names, --caption.")
    ] = False,
    names: Annotated[
        str | None,
        typer.Option(help="With --latex and in HTML: names of the systems in their order, or A=NAME,B=NAME."),
    ] = None,
    spread: Annotated[
        str | None,
        typer.Option(help="With --latex: sd (over seeds) or interval (95%). [default: sd where all have seeds]"),
    ] = None,
    caption: Annotated[str | None, typer.Option(help="With --latex: the caption. [default: what it shows]")] = None,
    label: Annotated[str | None, typer.Option(help="With --latex: the label. [default: tab:fer-DATASET]")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the tables to this file. [default: print them]")] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="Write a csv of the images on which the models disagree; an apostrophe stands before a name that a "
            "spreadsheet would run as a formula (=, +, -, @)."
        ),
    ] = None,
    allow_unsound: Annotated[
        bool,
        typer.Option("--allow-unsound", help="Include, and mark, unsound numbers, such as those selected on test."),
    ] = False,
) -> Output:
    """Compare models on the same test images, with paired tests.

    Differences and tests are of each against the first.
    """
    from fer_cli.artifacts.atomic_io import write_atomic
    from fer_cli.reporting.comparison import page_of
    from fer_cli.reporting.paper_table import SPREADS, best_of, check_label, is_ahead, paper_table
    from fer_cli.reporting.tables import FORMATS, SUFFIXES, latex, markdown
    from fer_cli.stages.compare import changed_csv, html_page
    from fer_cli.stages.compare import compare as stage

    options = {"--spread": spread, "--caption": caption, "--label": label}
    if not paper and (wrong := [option for option, value in options.items() if value is not None]):
        raise UsageError(f"{wrong[0]} is for --latex", hint="give that too, or leave it out")
    if paper and form not in {None, "latex"}:
        raise UsageError(f"--latex and --format {form} contradict each other", hint="leave one out")
    if spread is not None and spread not in SPREADS:
        raise UsageError(f"--spread {spread!r} is not a choice", hint=f"take {' or '.join(SPREADS)}")
    if label is not None:
        check_label(label)
    form = "latex" if paper else form or (SUFFIXES.get(out.suffix.lower(), "table") if out else "table")
    if names is not None and not (paper or form == "html"):
        raise UsageError("--names is for --latex and --format html", hint="give one of them too, or leave it out")
    called = listed(names, "--names") if names is not None else ()
    if form not in FORMATS:
        raise UsageError(f"--format {form!r} is not a choice", hint=f"take {', '.join(FORMATS)}")
    for path in (out, items):
        check_place(path)
    found = stage(store=store, references=models, allow_unsound=allow_unsound)
    if items is not None:
        write_atomic(items, changed_csv(found.changes))
    renderers: dict[str, Callable[[Page], str]] = {
        "markdown": markdown,
        "latex": latex,
        "html": lambda _: html_page(store, found, called),
    }
    page = page_of(found.comparison)
    if paper:
        best = best_of(found.comparison)
        against = found.comparison
        if best is not against.systems[0]:  # the tests are of each against the first
            order = [models[found.comparison.systems.index(best)]]
            order += [one for one in models if one != order[0]]
            against = stage(store=store, references=order, allow_unsound=allow_unsound).comparison
        table = paper_table(
            found.comparison,
            ahead=best if is_ahead(against) else None,
            names=called,
            spread=cast("Spread | None", spread),
            caption=caption,
            label=label,
        )
        renderers["latex"] = lambda _: table
    if out is not None:
        text = _plain(found.comparison) if form == "table" else renderers[form](page)
        write_atomic(out, text.encode("utf-8"))
    written = {what: str(path) for what, path in (("tables", out), ("items", items)) if path is not None}

    def show() -> None:
        if out is None and form != "table":
            print_file(renderers[form](page))
            return
        if out is None:
            _print(console(wide=not sys.stdout.isatty()), found.comparison)
        if written:
            print_pairs(list(written.items()))

    return Output({"comparison": _json(asdict(found.comparison)), "written": written}, show)


def _print(on: Console, comparison: Comparison) -> None:
    """Print a comparison as the terminal shows it: which letter is which system, then the tables."""
    from fer_cli.reporting.comparison import page_of

    page = page_of(comparison, names=False)
    on.print(plain(page.title, "bold"), soft_wrap=True)
    for one in comparison.systems:
        line = f"  {one.heading}  {one.name}, {one.decides}  ({one.evaluation})"
        on.print(plain(line, "bold red" if one.unsound else ""), soft_wrap=True)
    for text in page.unsound:
        on.print(plain(f"  UNSOUND  {text}", "bold red"), soft_wrap=True)
    for table in page.tables:
        on.print()
        on.print(_rich(table))
    on.print()
    for note in page.notes:
        on.print(plain(f"- {note}"), soft_wrap=True)


def _rich(table: Table) -> Any:  # noqa: ANN401 - rich is imported where it is needed
    from rich.table import Table as RichTable

    shown = RichTable(
        title=plain(table.title, "bold"),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        title_justify="left",
        header_style="dim",
    )
    overflow: OverflowMethod = "fold" if table.wraps else "ellipsis"
    for heading, side in table.columns:
        shown.add_column(plain(heading), justify=side, no_wrap=not table.wraps, overflow=overflow)
    for row in table.rows:
        shown.add_row(*[plain(cell.text, "bold red" if cell.unsound else "") for cell in row])
    return shown


def _plain(comparison: Comparison) -> str:
    """Return what a terminal as wide as it takes would show, without colours."""
    from io import StringIO

    from rich.console import Console

    stream = StringIO()
    _print(Console(file=stream, width=UNBOUNDED, color_system=None, highlight=False, emoji=False), comparison)
    return stream.getvalue()


def _json(value: Any) -> Any:  # noqa: ANN401 - a JSON tree
    """Return a tree of plain values with null for what is undefined."""
    if isinstance(value, dict):
        return {key: _json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
