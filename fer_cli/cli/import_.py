"""``fer import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_cli.cli.common import Output, counted, headline, print_pairs
from fer_cli.cli.options import command

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store


@command("import")
def import_(
    store: Store,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A zip of 'fer export --to zip'.")],
) -> Output:
    """Take the artifacts of a zip that `fer export --to zip` wrote into the store.

    Every file is checked against its hash, which tells that it is whole, not who made it. What is there already with
    equal content stays as it is; with other content nothing is imported. What the artifacts were made from is known
    afterwards by its manifest alone, without payload.
    """
    from fer_cli.artifacts.archive_import import import_archive

    imported = import_archive(store, file)
    values = {
        "artifacts": [one.to_json() for one in imported.artifacts],
        "added": list(imported.added),
        "lineage": imported.lineage,
    }

    def show() -> None:
        for one in imported.artifacts:
            headline(one.reference, "imported" if imported.added else "is here already; nothing was changed")
        print_pairs(
            [
                *(("added", reference) for reference in imported.added),
                *([("lineage only", counted(imported.lineage, "artifact"))] if imported.lineage else []),
                *(("path", str(one.path)) for one in imported.artifacts),
            ]
        )

    return Output(values, show)
