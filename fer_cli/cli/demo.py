"""``fer demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_cli.cli.common import Output
from fer_cli.cli.evaluate import print_comparison
from fer_cli.cli.options import ForceOption, command

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Store


@command("demo")
def demo(
    store: Store,
    images: Annotated[int, typer.Option(help="Number of synthetic faces.")] = 1600,
    out: Annotated[
        Path | None,
        typer.Option(help="Picture of the masks. [default: ./fer-masks-synth-compact-128-vs-truth-VERSIONS.png]"),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="The comparison, HTML. [default: ./fer-comparison-synth.html]")
    ] = None,
    force: ForceOption = False,
) -> Output:
    """Run every stage and all systems on synthetic faces.

    It ends with a comparison of the systems and a report of each.
    """
    from fer_cli.artifacts.payload import read_json
    from fer_cli.stages.demo import demo as stage

    result = stage(store=store, images=images, out=out, page=page, force=force)
    more: dict[str, object] = {
        "comparison": str(result.comparison),
        "masks": str(result.picture),
        "masks_miou": round(result.miou, 4),
    }
    evaluations = {
        system: {"artifact": done.artifact.to_json(), "metrics": read_json(done.artifact.file("metrics.json"))}
        for system, done in result.evaluations.items()
    }
    lines = [(name.replace("_", " "), str(value)) for name, value in more.items()]
    return Output(
        {"evaluations": evaluations, **more},
        lambda: print_comparison(result.evaluations, lines),
    )
