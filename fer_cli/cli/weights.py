"""``fer weights``: what networks can start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_cli.cli.common import DebugOption, JsonOption, console, print_json, print_pairs, print_table

if TYPE_CHECKING:
    from fer_cli.stages.weights import Entry

app = typer.Typer(
    help="Pretrained weights: what a network can start from, and where it is.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("ls")
def ls(
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Any backbone of timm, bisenet, compact or a retinaface. [default: those fer names]"
        ),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List what networks can start from: source, training data, licence, hash, and where it is.

    Nothing is fetched, and no server is asked.
    """
    from fer_cli.stages.weights import list_weights

    entries = list_weights(network=network)
    if json:
        print_json("weights ls", weights=[entry.to_json() for entry in entries])
        return
    if network is not None:
        _print_one(entries[0])
        return
    rows = [
        [
            *(entry.network, entry.state, entry.source, entry.pretraining, entry.licence),
            "" if entry.sha256 is None else entry.sha256[:12],
            _size(entry),
        ]
        for entry in entries
    ]
    sides = dict.fromkeys(("network", "state", "source", "pretraining", "licence", "sha256"), "left")
    print_table({**sides, "size": "right"}, rows)
    print_pairs([(entry.network, _where(entry)) for entry in entries])  # too long for columns: never cut off


@app.command("fetch")
def fetch(
    network: Annotated[str, typer.Argument(metavar="NAME", help="A backbone of timm, bisenet or a retinaface.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Bring a network's published weights to this machine.

    Only tensors are ever read from them, no pickled objects.
    """
    from fer_cli.stages.weights import fetch_weights

    done = fetch_weights(network=network)
    if json:
        print_json(
            "weights fetch",
            network=network,
            path=str(done.weights.path),
            source=done.weights.source,
            pretraining=done.weights.pretraining,
            sha256=done.sha256,
            already=done.already,
        )
        return
    _headline(network, "already here" if done.already else "fetched")
    print_pairs(
        [
            ("source", done.weights.source),
            ("pretraining", done.weights.pretraining),
            ("sha256", done.sha256),
            ("path", str(done.weights.path)),
        ]
    )


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Safetensors, or a .pth file that holds tensors alone.")],
    network: Annotated[
        str,
        typer.Option(
            "--for", metavar="NAME", help="Which network it is for: a backbone of timm, bisenet or a retinaface."
        ),
    ],
    source: Annotated[str | None, typer.Option(help="Where the file is from.")] = None,
    pretraining: Annotated[str | None, typer.Option(help="What it was trained on.")] = None,
    licence: Annotated[str | None, typer.Option(help="Under which terms it may be used.")] = None,
    sha256: Annotated[str | None, typer.Option(metavar="HEX", help="What the file's SHA-256 must be.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace other weights that are there.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Put a file of weights where fer finds it: into $FER_WEIGHTS, else into fer's cache.

    The file must fit the network tensor by tensor. What is told of it is kept beside it.
    """
    from fer_cli.stages.weights import import_weights

    done = import_weights(
        file=file,
        network=network,
        source=source,
        pretraining=pretraining,
        licence=licence,
        sha256=sha256,
        force=force,
    )
    if json:
        print_json("weights import", path=str(done.path), already=done.already, **done.record.model_dump())
        return
    _headline(network, "already here" if done.already else "imported")
    told = done.record.model_dump(exclude={"network"})
    print_pairs(
        [*((key.replace("_", " "), value or "not told") for key, value in told.items()), ("path", str(done.path))]
    )


def _headline(network: str, state: str) -> None:
    console().print(f"[bold]{network}[/bold]  {state}", highlight=False, soft_wrap=True)


def _print_one(entry: Entry) -> None:
    _headline(entry.network, entry.state)
    pairs = [
        ("source", entry.source),
        ("pretraining", entry.pretraining),
        ("licence", entry.licence),
        ("sha256", entry.sha256 or ""),
        ("size", _size(entry)),
        ("path", "" if entry.path is None else str(entry.path)),
        ("what to do", entry.advice),
    ]
    print_pairs([(what, value) for what, value in pairs if value])


def _where(entry: Entry) -> str:
    return ": ".join(filter(None, ["" if entry.path is None else str(entry.path), entry.advice]))


def _size(entry: Entry) -> str:
    return "" if entry.size is None else f"{entry.size / 1e6:,.1f} MB"
