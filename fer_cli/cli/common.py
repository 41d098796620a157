"""Options that all commands share, and how results are printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_cli.core.errors import FerError, UsageError, one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from fer_cli.artifacts.artifact import Artifact
    from fer_cli.artifacts.result import Result

UNBOUNDED: Final = 100_000
"""Columns of what is no terminal: nothing is cut in a pipe."""
SCHEMA: Final = 1
"""Version of what ``--json`` prints."""


def listed(text: str, option: str) -> list[str]:
    """Return the items of a comma-separated option.

    Raises:
        UsageError: an item is empty.
    """
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise UsageError(f"{option} {text!r} has an empty item", hint="write it as a,b,c")
    return items


def check_place(path: Path | None) -> None:
    """Refuse a place for a file before any work begins.

    Raises:
        FerError: it is a folder, or in a folder that is not there.
    """
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise FerError("cannot be written: not a file in an existing folder", hint="give the path of a file", path=path)


@dataclass(frozen=True, slots=True)
class Output:
    """What a command prints.

    Args:
        values: the members of the JSON object that ``--json`` prints, after ``schema`` and ``command``.
        show: prints the same for people.
        check: called once all is printed; raises where a check did not pass.
        made: the artifact that it is of, where the command makes one.
        parts: artifacts that it holds and that the command made with it: the models of a study.
    """

    values: Mapping[str, object]
    show: Callable[[], None]
    check: Callable[[], None] | None = None
    made: Artifact | None = None
    parts: Sequence[Artifact] = ()


def emit(command: str, output: Output, *, as_json: bool) -> None:
    """Print what a command has to say, then raise where a check did not pass."""
    if as_json:
        print_json(command, **output.values)
    else:
        output.show()
    if output.check is not None:
        output.check()


_printed: list[str] = []


def print_json(command: str, **values: object) -> None:
    """Print the one JSON object of a command."""
    _printed.append(command)
    print(json.dumps({"schema": SCHEMA, "command": command, **values}))  # noqa: T201


def printed_json() -> bool:
    """Tell whether this command has printed its object: an error after it must not print a second one."""
    return bool(_printed)


def forget_json() -> None:
    """Begin a new command."""
    _printed.clear()


def artifact_output(result: Result, lines: Sequence[tuple[str, str]]) -> Output:
    """Return what a stage's command prints of its artifact: a headline and aligned lines of (label, value)."""
    artifact = result.artifact

    def show() -> None:
        headline(artifact.reference, "up to date" if result.up_to_date else "written")
        print_pairs([*lines, ("path", str(artifact.path))])

    return Output(
        {
            "artifact": artifact.to_json(),
            "up_to_date": result.up_to_date,
            "summary": artifact.manifest.summary,
            "measured": artifact.manifest.measured,
            "warnings": artifact.manifest.warnings,
        },
        show,
        made=artifact,
    )


def plain(text: str, style: str = "") -> Text:
    """Return any text for the terminal as it stands: no markup in it counts, and control characters are escaped."""
    from rich.text import Text

    return Text(one_line(text), style=style)


def say(text: str, *, err: bool = False) -> None:
    """Print one line, on stderr where a question follows; control characters in it are escaped."""
    print(one_line(text), file=sys.stderr if err else sys.stdout)


def print_file(text: str) -> None:
    """Print the text of a file of several lines, whose writer has escaped what is not ours."""
    print(text, end="")  # noqa: T201


class Printer:
    """A stream that prints the rows of a table as they come, with control characters in them escaped."""

    def write(self, text: str, /) -> None:
        """Print some lines."""
        print_file("\n".join(one_line(line) for line in text.split("\n")))


def print_line(*parts: Text) -> None:
    """Print one line, made of :func:`plain` parts; it is never cut."""
    console().print(plain("").join(parts), soft_wrap=True)


def headline(subject: str, state: str = "") -> None:
    """Print what a command is about in bold, and its state."""
    print_line(plain(subject, "bold"), plain(f"  {state}" if state else ""))


def padded(text: str, width: int, style: str = "") -> Text:
    """Return :func:`plain` text of at least ``width`` cells of the terminal: some characters take two, some none."""
    shown = plain(text, style)
    shown.pad_right(max(0, width - shown.cell_len))
    return shown


def width_of(texts: Iterable[str]) -> int:
    """Return the cells of the terminal that the widest of some texts takes."""
    return max((plain(text).cell_len for text in texts), default=0)


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print aligned lines of (what, value); plain text, whatever the values hold."""
    width = width_of(what for what, _ in pairs)
    for what, value in pairs:
        print_line(plain("  "), padded(what, width, "dim"), plain("  "), plain(value))


MIN_WRAPPED: Final = 14
"""Columns of the terminal that a wrapped column of a table has at least."""


def print_table(
    columns: Mapping[str, str],
    rows: Sequence[Sequence[str]],
    title: str | None = None,
    *,
    wrap: Sequence[str] = (),
    fold: Mapping[str, int] | None = None,
    drop: Sequence[str] = (),
) -> None:
    """Print a table; ``columns`` maps each heading to its justification, ``left`` or ``right``.

    On a terminal that is too narrow the columns ``wrap`` go on in further lines, and those of ``fold`` when they have
    more than so many characters; then those of ``drop`` are left out, the first one first, which a last line says;
    then the rest goes on in further lines. Nothing is cut.
    """
    from rich.table import Table

    out = console(wide=not sys.stdout.isatty())
    widths = {
        heading: max(width_of([heading]), width_of(row[at] for row in rows)) for at, heading in enumerate(columns)
    }
    most = {**dict.fromkeys(wrap, MIN_WRAPPED), **(fold or {})}
    least = {name: min(width, most.get(name, width)) for name, width in widths.items()}
    gone: list[str] = []
    for name in drop:
        if sum(least[other] + 2 for other in columns if other not in gone) - 2 <= out.width:
            break
        gone.append(name)
    table = Table(
        title=None if title is None else plain(title),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        title_justify="left",
        header_style="dim",
    )
    shown = [at for at, name in enumerate(columns) if name not in gone]
    left = out.width + 2 - sum(least[name] + 2 for name in columns if name not in gone)
    for name, side in columns.items():
        if name in gone:
            continue
        more = max(0, min(widths[name] - least[name], left))
        left -= more
        table.add_column(
            plain(name),
            justify="right" if side == "right" else "left",
            width=least[name] + more if left >= 0 else None,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*[plain(row[at]) for at in shown])
    out.print(table)
    if gone:
        print_line(plain(f"not shown at this width: {', '.join(gone)}", "dim"))


def console(*, wide: bool = False) -> Console:
    """Return a console on stdout: colours on a terminal alone, and none under ``NO_COLOR``."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    plain = not terminal or os.environ.get("NO_COLOR")
    return Console(
        file=sys.stdout,
        highlight=False,
        width=UNBOUNDED if wide else None,
        force_terminal=terminal,
        emoji=False,
        color_system=None if plain else "auto",
    )


def counted(number: int, thing: str) -> str:
    """Return a number with its noun, in the plural where it is not one."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
