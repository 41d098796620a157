"""Tables as Markdown and LaTeX. Every text is escaped: names come from users' folders and files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from fer_cli.core.errors import one_line

Side = Literal["left", "right"]
FORMATS: Final = ("table", "markdown", "latex", "html")
SUFFIXES: Final = {".txt": "table", ".md": "markdown", ".tex": "latex", ".html": "html"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell. What is ``unsound`` is red and bold; its text says so too, for where there is neither."""

    text: str
    unsound: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; ``columns`` are headings with their justification: what is justified right is a number."""

    title: str
    columns: tuple[tuple[str, Side], ...]
    rows: tuple[tuple[Cell, ...], ...]
    wraps: bool = False  # long texts: lines are broken


@dataclass(frozen=True, slots=True)
class Page:
    """Tables under a title, and what a reader must know: ``unsound`` in red, ``notes`` in plain."""

    title: str
    tables: tuple[Table, ...]
    unsound: tuple[str, ...]
    notes: tuple[str, ...]


_MARKDOWN: Final = re.compile(r"[\\`*<>|#&~$]|\](?=[(\[:])|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "–": "--",
}
# Of two signs that LaTeX would print as one, such as a dash for two hyphens, the first is set apart.
_TEX: Final = re.compile(rf"-(?=-)|`(?=`)|'(?=')|,(?=,)|[?!](?=`)|[{re.escape(''.join(_LATEX))}]")
MINUS: Final = re.compile(r"(?<![\w.])-(?=[\d.])")
"""A hyphen that is a minus."""


def for_markdown(text: str) -> str:
    """Return any text for a line or a cell of Markdown, which shows it as it stands."""
    return _MARKDOWN.sub(lambda found: f"\\{found.group()}", one_line(text))


def for_latex(text: str, *, number: bool = False) -> str:
    """Return any text for LaTeX, which prints it as it stands; in a ``number`` a hyphen before a digit is a minus."""
    pieces = MINUS.split(one_line(text)) if number else [one_line(text)]
    escaped = "$-$".join(_TEX.sub(lambda sign: _LATEX.get(sign[0], f"{sign[0]}{{}}"), piece) for piece in pieces)
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped  # else an option of the command before it


def markdown(page: Page) -> str:
    """Return a page as Markdown with tables in GitHub's form."""

    def cell(one: Cell) -> str:
        text = for_markdown(one.text)
        return f"**{text}**" if one.unsound and text else text

    lines = [f"## {for_markdown(page.title)}", ""]
    lines += [f"- **UNSOUND: {for_markdown(text)}**" for text in page.unsound]
    lines += [""] if page.unsound else []
    for table in page.tables:
        lines += [f"**{for_markdown(table.title)}**", ""]
        lines.append(_row([for_markdown(heading) for heading, _ in table.columns]))
        lines.append(_row(["---:" if side == "right" else "---" for _, side in table.columns]))
        lines += [_row([cell(one) for one in row]) for row in table.rows]
        lines.append("")
    lines += [f"- {for_markdown(note)}" for note in page.notes]
    return "\n".join(lines).rstrip() + "\n"


def latex(page: Page) -> str:
    """Return the tables of a page as LaTeX, for a document that has booktabs and xcolor."""

    def cell(one: Cell, side: Side) -> str:
        text = for_latex(one.text, number=side == "right")
        return rf"\textbf{{\textcolor{{red}}{{{text}}}}}" if one.unsound and text else text

    lines = [r"% needs \usepackage{booktabs} and \usepackage{xcolor}"]
    for number, table in enumerate(page.tables):
        title = f"{page.title}. {table.title}." if number == 0 else f"{table.title}."
        share = 0.72 / max(1, len(table.columns) - 1)
        wide = ["p{0.2\\linewidth}", *[f"p{{{share:.2f}\\linewidth}}"] * (len(table.columns) - 1)]
        sides = "".join(wide if table.wraps else ["r" if side == "right" else "l" for _, side in table.columns])
        lines += [
            *("", r"\begin{table}[htbp]", r"\centering", rf"\caption{{{for_latex(title)}}}"),
            *(rf"\begin{{tabular}}{{{sides}}}", r"\toprule"),
            " & ".join(for_latex(heading) for heading, _ in table.columns) + r" \\",
            r"\midrule",
        ]
        for row in table.rows:
            cells = [cell(one, side) for one, (_, side) in zip(row, table.columns, strict=True)]
            lines.append(" & ".join(cells) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    marks = [rf"\textbf{{\textcolor{{red}}{{UNSOUND: {for_latex(text)}}}}}" for text in page.unsound]
    texts = [*marks, *(for_latex(note) for note in page.notes)]
    if texts:
        lines += ["", r"\begin{itemize}", *(rf"\item {text}" for text in texts), r"\end{itemize}"]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
