"""``fer demo``."""

from __future__ import annotations

from typing import Annotated

import typer

from fer_cli.cli.common import DebugOption, ForceOption, JsonOption, StoreOption, open_store
from fer_cli.cli.evaluate import print_evaluation


def demo(
    images: Annotated[int, typer.Option(help="How many faces are drawn.")] = 1600,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run the whole chain on drawn faces."""
    from fer_cli.stages.demo import demo as stage

    print_evaluation(stage(store=open_store(store), images=images, force=force), as_json=json, command="demo")
