"""``fer weights``: what networks can start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_cli.cli.common import Output, headline, print_pairs, print_table
from fer_cli.cli.options import ForceOption, command

if TYPE_CHECKING:
    from fer_cli.stages.weights import Entry

app = typer.Typer(
    help="List, fetch and import pretrained weights.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("ls")
@command("weights ls")
def ls(
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Any backbone of timm, bisenet, compact or a retinaface. [default: those fer uses]"
        ),
    ] = None,
) -> Output:
    """List pretrained weights: source, training data, licence, hash and path.

    Nothing is fetched, and no server is contacted.
    """
    from fer_cli.stages.weights import list_weights

    entries = list_weights(network=network)

    def show() -> None:
        if network is not None:
            _print_entry(entries[0])
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
        print_pairs([(entry.network, _location(entry)) for entry in entries])  # too long for columns: never cut off

    return Output({"weights": [entry.to_json() for entry in entries]}, show)


@app.command("fetch")
@command("weights fetch")
def fetch(
    network: Annotated[str, typer.Argument(metavar="NAME", help="A backbone of timm, bisenet or a retinaface.")],
) -> Output:
    """Download a network's published weights.

    Only tensors are read from them, never pickled objects.
    """
    from fer_cli.stages.weights import fetch_weights

    done = fetch_weights(network=network)
    weights = {
        "source": done.weights.source,
        "pretraining": done.weights.pretraining,
        "sha256": done.sha256,
        "path": str(done.weights.path),
    }

    def show() -> None:
        headline(network, "already here" if done.already else "fetched")
        print_pairs(list(weights.items()))

    return Output({"network": network, **weights, "already": done.already}, show)


@app.command("import")
@command("weights import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A safetensors file, or a .pth that holds only tensors.")
    ],
    network: Annotated[
        str,
        typer.Option("--for", metavar="NAME", help="The network: a backbone of timm, bisenet or a retinaface."),
    ],
    source: Annotated[str | None, typer.Option(help="Where the file comes from.")] = None,
    pretraining: Annotated[str | None, typer.Option(help="What the weights were trained on.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
    sha256: Annotated[str | None, typer.Option(metavar="HEX", help="SHA-256 that the file must have.")] = None,
    force: ForceOption = False,
) -> Output:
    """Copy a file of weights to where fer looks for it: $FER_WEIGHTS, else fer's cache.

    Every tensor must fit the network. Source, training data and licence are stored with it.
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

    def show() -> None:
        headline(network, "already here" if done.already else "imported")
        record = done.record.model_dump(exclude={"network"})
        pairs = [(key.replace("_", " "), value or "not given") for key, value in record.items()]
        print_pairs([*pairs, ("path", str(done.path))])

    return Output({"path": str(done.path), "already": done.already, **done.record.model_dump()}, show)


def _print_entry(entry: Entry) -> None:
    headline(entry.network, entry.state)
    pairs = [
        ("source", entry.source),
        ("pretraining", entry.pretraining),
        ("licence", entry.licence),
        ("sha256", entry.sha256 or ""),
        ("size", _size(entry)),
        ("path", "" if entry.path is None else str(entry.path)),
        ("what to do", entry.advice),
    ]
    print_pairs([(label, value) for label, value in pairs if value])


def _location(entry: Entry) -> str:
    return ": ".join(filter(None, ["" if entry.path is None else str(entry.path), entry.advice]))


def _size(entry: Entry) -> str:
    return "" if entry.size is None else f"{entry.size / 1e6:,.1f} MB"
