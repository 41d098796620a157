"""``fer cite``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_cli.cli.common import Output, check_place, print_file, print_pairs
from fer_cli.cli.options import command

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store


@command("cite")
def cite(
    store: Store,
    references: Annotated[
        list[str] | None, typer.Argument(metavar="REF", help="Artifacts of any kind. [default: none, fer alone]")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file. [default: print]")] = None,
) -> Output:
    """Print BibTeX of fer and of the systems and data sets behind a result.

    What is not known of an entry, such as a year, is left out.
    """
    from fer_cli.artifacts.atomic_io import write_atomic
    from fer_cli.reporting.bibtex import bibtex
    from fer_cli.stages.cite import cite as stage

    check_place(out)
    found = stage(store=store, references=references or [])
    text = bibtex(found)
    if out is not None:
        write_atomic(out, text.encode("utf-8"))

    def show() -> None:
        if out is None:
            print_file(text)
        else:
            print_pairs([("written", str(out)), ("keys", ", ".join(one.key for one in found))])

    return Output({"citations": [asdict(one) for one in found], "bibtex": text}, show)
