"""``fer demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fer_cli.cli.common import DebugOption, ForceOption, JsonOption, StoreOption, open_store, print_json
from fer_cli.cli.evaluate import print_comparison


def demo(
    images: Annotated[int, typer.Option(help="How many faces are drawn.")] = 1600,
    out: Annotated[
        Path | None,
        typer.Option(help="The picture of the masks. [default: ./fer-masks-synth-compact-128-vs-truth.png]"),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="The comparison, HTML. [default: ./fer-comparison-synth.html]")
    ] = None,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run the whole chain on drawn faces."""
    from fer_cli.stages.demo import demo as stage

    shown = stage(store=open_store(store), images=images, out=out, page=page, force=force)
    more = {
        "comparison": str(shown.comparison),
        "masks": str(shown.picture),
        "masks_miou": round(shown.miou, 4),
    }
    if json:
        from fer_cli.artifacts.payload import read_json

        found = {
            system: {"artifact": result.artifact.to_json(), "metrics": read_json(result.artifact.file("metrics.json"))}
            for system, result in shown.evaluations.items()
        }
        print_json("demo", evaluations=found, **more)
        return
    print_comparison(shown.evaluations, [(name.replace("_", " "), str(value)) for name, value in more.items()])
