"""The parsers of ``fer parse-masks``. A new one is a module that has ``open_parser``, and a line in ``PARSERS``."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from fer_cli.core.errors import UsageError
from fer_cli.core.progress import note
from fer_cli.faces.parsers import DatasetParser, ParserOptions
from fer_cli.weights.download import BISENET, find_release

PARSERS: Final = {
    "bisenet": "fer_cli.faces.bisenet",
    "compact": "fer_cli.faces.compact",
    "template": "fer_cli.faces.template",
    "truth": "fer_cli.faces.truth",
}
AUTO: Final = "auto"


def open_parser(name: str, options: ParserOptions) -> DatasetParser:
    """Open a parser for a data set. ``auto`` is bisenet where its weights are on this machine, else compact.

    Raises:
        UsageError: there is no such parser, or it takes no such option.
        FerError: its weights are missing or damaged, or the data set has no masks of its own.
    """
    if name != AUTO and name not in PARSERS:
        raise UsageError(f"--parser {name!r} is not a parser", hint=f"take {', '.join([AUTO, *PARSERS])}")
    if name == AUTO:
        name = _default(options)
    parser: DatasetParser = import_module(PARSERS[name]).open_parser(options)
    return parser


def _default(options: ParserOptions) -> str:
    if options.weights is not None:
        raise UsageError(
            "--weights needs --parser: the file does not say which network it belongs to",
            hint="add --parser bisenet or --parser compact",
        )
    if find_release(BISENET, None, None, fetch=False) is not None:
        note("parser bisenet: its weights are on this machine")
        return "bisenet"
    note("parser compact: the weights of bisenet are not here (fer parse-masks --parser bisenet fetches them)")
    return "compact"
