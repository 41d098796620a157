"""``fer reproduce``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import BaseModel

from fer_cli.cli.common import Output, check_place, plain, print_file, print_line, print_pairs, print_table, say
from fer_cli.cli.options import DeviceOption, command
from fer_cli.cli.train import SetOption, WorkersOption, seed_list
from fer_cli.core.errors import FerError, UsageError

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store
    from fer_cli.reporting.reproduction import Reproduction
    from fer_cli.reporting.tables import Page
    from fer_cli.stages.reproduce_plan import Availability, Index, Request, Step


@command("reproduce")
def reproduce(
    store: Store,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="PAPER[/TABLE]",
            help="A table or figure, such as conv-cut/table2; of one data set, such as conv-cut/table2-ferplus; with "
            "--report also a paper. [default: list all]",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="The dataset. [default: the newest of the paper's, else of what can stand in]"),
    ] = None,
    scale: Annotated[
        Literal["laptop", "gpu", "paper"], typer.Option("--scale", help="How large networks and trainings are.")
    ] = "laptop",
    seeds: Annotated[str, typer.Option("--seeds", help="Of each training; one alone decides nothing.")] = "0,1,2",
    changes: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is there, what would be made and how long it would take.")
    ] = False,
    as_commands: Annotated[bool, typer.Option("--commands", help="Print the plain commands that do the same.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write one HTML page of what is measured so far; nothing is made.")
    ] = False,
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, markdown, latex or html. [default: by the suffix of --out, else table]"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the table to this file. [default: print it]")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the list as csv.")] = False,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> Output:
    """Put a paper's table or figure beside what is measured here.

    Everything is made by the plain commands, once: run again it finds all, and one that was stopped goes on. Rows are
    judged by a stated rule. Without a name it lists every table, figure and list of settings of the four papers.
    """
    from fer_cli.papers.catalogue import find
    from fer_cli.reporting.tables import FORMATS, SUFFIXES
    from fer_cli.stages.reproduce_plan import Index, commands, plan

    check_place(out)
    form = form or (SUFFIXES.get(out.suffix.lower(), "table") if out else "table")
    if form not in FORMATS:
        raise UsageError(f"--format {form!r} is not a choice", hint=f"take {', '.join(FORMATS)}")
    numbers = seed_list(seeds)
    if what is None:
        return _list(store, numbers, as_csv=as_csv)
    if as_csv:
        raise UsageError("--csv is for the list", hint="leave it or the name out")
    entries = find(what)
    index = Index(store)
    if report:
        return _report(index, what, data, numbers, changes or [], out)
    if "/" not in what:
        raise UsageError(f"{what} is a whole paper", hint=f"name a table, such as {entries[0].reference}, or --report")
    requests = _requests(index, entries, data, scale, numbers, changes or [])
    if as_commands:
        lines = [line for request in requests for line in commands(request)]
        return Output({"commands": lines}, lambda: print_file("".join(f"{line}\n" for line in lines)))
    if dry_run:
        return _dry_run([(request, plan(index, request)) for request in requests])
    return _made(store, requests, device, workers, form, out)


def _requests(
    index: Index,
    entries: Sequence[Any],
    data: str | None,
    scale: Literal["laptop", "gpu", "paper"],
    seeds: Sequence[int],
    changes: Sequence[str],
) -> list[Request]:
    """Return what is asked for: of several entries those whose own data are there, else what a stand-in fits."""
    from fer_cli.stages.reproduce_plan import ask

    requests, faults = [], []
    for entry in entries:
        try:
            requests.append(ask(index, entry, data=data, scale=scale, seeds=seeds, changes=changes))
        except FerError as error:
            faults.append(error)
    if not requests:
        raise faults[0]
    own = [request for request in requests if not request.stands_in]
    if own:
        return own
    same = {request.entry.metric for request in requests}
    return requests if len(same) > 1 else requests[:1]


def _made(
    store: Store, requests: Sequence[Request], device: str, workers: int | None, form: str, out: Path | None
) -> Output:
    from fer_cli.stages.reproduce import draw, make
    from fer_cli.stages.reproduce import reproduce as stage
    from fer_cli.stages.reproduce_plan import Index

    results = []
    for request in requests:
        made = make(store, request, device=device, workers=workers)
        folder = Path() if out is None else out.parent
        pictures = draw(store, request, made.evaluations, folder, device)
        results.append(stage(Index(store), request, made, pictures))
    return _output(results, form, out)


def _output(results: Sequence[Reproduction], form: str, out: Path | None) -> Output:
    from fer_cli.artifacts.atomic_io import write_atomic
    from fer_cli.reporting.reproduction import page_of
    from fer_cli.reporting.reproduction_page import html
    from fer_cli.reporting.tables import latex, markdown

    pages = [page_of(one) for one in results]
    renderers: dict[str, Callable[[Page], str]] = {"markdown": markdown, "latex": latex, "html": html}
    text = "" if form == "table" else "\n".join(renderers[form](page) for page in pages)
    if form == "html" and len(pages) > 1:
        raise UsageError("--format html is of one table", hint="name it with its data set")
    if out is not None:
        write_atomic(out, (text or "\n".join(markdown(page) for page in pages)).encode("utf-8"))

    def show() -> None:
        if out is not None:
            print_pairs([("written", str(out))])
        elif text:
            print_file(text)
        else:
            for page in pages:
                _print(page)

    values = {"reproductions": [_json(asdict(one)) for one in results]}
    return Output({**values, "out": None if out is None else str(out)}, show)


def _print(page: Page) -> None:
    print_line(plain(page.title, "bold"))
    for text in page.unsound:
        print_line(plain(f"  UNSOUND  {text}", "bold red"))
    for table in page.tables:
        say("")
        columns: dict[str, str] = dict(table.columns)
        rows = [[cell.text for cell in row] for row in table.rows]
        print_table(
            columns,
            rows,
            table.title,
            fold={"row": 24, "measured": 12},
            wrap=["verdict", "because", "deviation from the paper", "here"],
            drop=["cost", "because", "MDE", "difference"],
        )
    say("")
    for note in page.notes:
        print_line(plain(f"- {note}"))


def _dry_run(planned: Sequence[tuple[Request, Sequence[Step]]]) -> Output:
    from fer_cli.reporting.reproduction import duration

    rows, total = [], 0.0
    values = []
    for request, steps in planned:
        for step in steps:
            total += step.seconds or 0.0
            took = "" if step.seconds is None else duration(step.seconds)
            basis = "" if step.is_there else "measured here" if step.measured else "stated rate"
            rows.append([step.run, step.what, "there" if step.is_there else "to be made", took, basis])
            values.append({"entry": request.entry.reference, **asdict(step)})

    def show() -> None:
        for request, _ in planned:
            data = "no data" if request.dataset is None else request.dataset.reference
            stand_in = f" in place of {request.entry.dataset} (stand-in data)" if request.stands_in else ""
            print_line(plain(f"{request.entry.reference} {request.entry.title}, on {data}{stand_in}", "bold"))
        if not rows:
            say("nothing is to be made")
            return
        columns = {"row": "left", "what": "left", "state": "left", "time": "right", "from": "left"}
        print_table(columns, rows, fold={"row": 24}, wrap=["what"], drop=["from"])
        say(f"all together about {duration(total)}, and the scoring")
        if any(row[-1] == "measured here" for row in rows):
            say(
                "measured here: the time per image and epoch of the most similar run of this store, times the images, "
                "the epochs and, without kept features, the area of the images; other work on the machine counts in it"
            )
        if any(row[-1] == "stated rate" for row in rows):
            rates = sorted({_rate(request) for request, _ in planned})
            say(
                f"stated rate: {'; '.join(rates)}; nothing alike was run in this store, so it may be wrong by "
                "several times until the first seed is done"
            )

    return Output({"steps": values, "seconds": total}, show)


def _rate(request: Request) -> str:
    """Return the rates that the estimates of a request rest on where nothing was measured."""
    form = request.form
    cached = "" if form.cached_images_per_second is None else f", {form.cached_images_per_second:,.0f} on kept features"
    return f"{form.images_per_second:,.0f} images/s{cached} at {request.scale} scale"


def _report(
    index: Index, what: str, data: str | None, seeds: Sequence[int], changes: Sequence[str], out: Path | None
) -> Output:
    from fer_cli.artifacts.atomic_io import write_atomic
    from fer_cli.papers.catalogue import find, paper
    from fer_cli.reporting.reproduction import report_page
    from fer_cli.reporting.reproduction_page import html
    from fer_cli.stages.reproduce import status

    results = [status(index, entry, data=data, seeds=seeds, changes=changes) for entry in find(what)]
    page = report_page(paper(what.partition("/")[0]), results)
    path = out or Path(f"fer-reproduce-{what.replace('/', '-')}.html")
    write_atomic(path, html(page).encode("utf-8"))
    values = {"reproductions": [_json(asdict(one)) for one in results], "out": str(path)}
    return Output(values, lambda: say(str(path)))


def _list(store: Store, seeds: Sequence[int], *, as_csv: bool) -> Output:
    from fer_cli.papers.catalogue import PAPERS, paper
    from fer_cli.stages.compare import csv_bytes
    from fer_cli.stages.reproduce_plan import Index, availability

    index = Index(store)
    found = [(entry, availability(index, entry, seeds)) for name in PAPERS for entry in paper(name).entries]
    values = [
        {
            **{"entry": entry.reference, "paper": entry.paper, "kind": entry.kind, "title": entry.title},
            **{"needs": entry.dataset, "can_run": one.can_run, "on": one.dataset, "stand_in": one.stands_in},
            **{"rows": one.rows, "measured": one.measured, "scale": one.scale, "seconds": one.seconds},
            **{"seconds_measured": one.measured_cost, "why_not": one.why},
        }
        for entry, one in found
    ]

    def show() -> None:
        if as_csv:
            rows = [list(values[0]), *([_cell(cell) for cell in row.values()] for row in values)]
            print_file(csv_bytes(rows).decode("utf-8"))
            return
        columns = {"entry": "left", "what": "left", "data": "left", "measured": "right", "cost": "right"}
        for name in PAPERS:
            rows = [
                [entry.reference, entry.title, _data(entry.dataset, one), _progress(one), _cost(one)]
                for entry, one in found
                if entry.paper == name
            ]
            print_line(plain(f"{name}: {paper(name).authors}", "bold"))
            print_table(columns, rows, wrap=["what"], drop=["cost"])
            say("")
        say("data: what is needed, (in brackets) what would stand in for it here, * nothing")
        say("cost: at laptop scale with all seeds, an estimate (~), or as measured here")
        say("fer reproduce ENTRY makes it; --dry-run says what and how long, --commands how")

    return Output({"entries": values}, show)


def _data(needs: str | None, one: Availability) -> str:
    if needs is None:
        return one.why or "*"
    if not one.can_run:
        return f"{needs}: no"
    return f"{needs} ({one.dataset_name})" if one.stands_in else needs


def _progress(one: Availability) -> str:
    return f"{one.measured} of {one.rows}" if one.rows else ""


def _cost(one: Availability) -> str:
    from fer_cli.reporting.reproduction import duration

    if one.seconds is None:
        return ""
    return duration(one.seconds) if one.measured_cost else f"~{duration(one.seconds)}"


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _json(value: Any) -> Any:  # noqa: ANN401 - a JSON tree
    """Return a tree of plain values with null for what is undefined."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, dict):
        return {key: _json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
