"""Where each value of a TOML document stands: ``tomllib`` tells what a file holds, and not on which line.

It reads documents that ``tomllib`` has accepted, so it follows the grammar and checks nothing.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

MAX_DEPTH: Final = 32
"""Brackets inside brackets, and names in one key: ten times what a recipe or a hierarchy has."""

Path = tuple[str | int, ...]

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*""")
_SCALAR = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""(?:"{0,2}(?!"))|\'\'\'.*?\'\'\'(?:'{0,2}(?!'))|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,\]}#][^,\]}#\n]*''',
    re.DOTALL,
)
# A string without an end runs to that of the text: the parser is the one to refuse it.
_STRUCTURE = re.compile(
    r'''"""(?:[^\\]|\\.|\\\Z)*?(?:"{3,5}|\Z)|\'{3}.*?(?:\'{3,5}|\Z)|"(?:[^"\\\n]|\\[^\n])*"?|'[^'\n]*'?|#[^\n]*|[\[\]{}.=,\n]''',
    re.DOTALL,
)


class TomlDepthError(ValueError):
    """A TOML document nests deeper than :data:`MAX_DEPTH`, on the ``line`` counted from 1."""

    def __init__(self, line: int) -> None:
        self.line = line
        super().__init__(f"nests deeper than {MAX_DEPTH} levels")


def value_lines(text: str) -> dict[Path, int]:
    """Return the line, counted from 1, of every table, key and array item of a valid TOML document.

    A path is the keys that lead to the value; items of arrays count from 0: ``("parts", "mouth", "units", 1)``.
    A key's line is the line of the key; a table's is that of its header (or of its first mention).

    Args:
        text: a document that ``tomllib.loads`` accepts.
    """
    lines: dict[Path, int] = {}
    tables: dict[Path, int] = {}  # how many [[headers]] of each path there were
    at = 0
    done = 0  # characters whose line ends are counted
    line = 1

    def note(path: Path) -> None:
        nonlocal done, line
        line += text.count("\n", done, at)
        done = at
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], line)

    def skip_space() -> None:
        nonlocal at
        found = _SPACE.match(text, at)
        at = found.end() if found else at

    def keys() -> tuple[str, ...]:
        nonlocal at
        names: list[str] = []
        while found := _KEY.match(text, at):
            raw = found[1]
            # A quoted key may hold escapes: let the real parser read it.
            names.append(next(iter(tomllib.loads(f"{raw} = 0"))) if raw[0] in "\"'" else raw)
            at = found.end()
            if text[at : at + 1] != ".":
                break
            at += 1
        return tuple(names)

    def value(path: Path) -> None:
        nonlocal at
        skip_space()
        note(path)
        opening = text[at]
        if opening == "[":
            at += 1
            index = 0
            skip_space()
            while text[at] != "]":
                value((*path, index))
                index += 1
                skip_comma()
            at += 1
        elif opening == "{":
            at += 1
            skip_space()
            while text[at] != "}":
                pair(path)
                skip_comma()
            at += 1
        else:
            found = _SCALAR.match(text, at)
            at = found.end() if found else len(text)

    def skip_comma() -> None:
        nonlocal at
        skip_space()
        if text[at] == ",":
            at += 1
            skip_space()

    def pair(prefix: Path) -> None:
        nonlocal at
        start = at
        path = (*prefix, *keys())
        end, at = at, start
        note(path)
        at = end + 1  # past the equals sign
        value(path)

    prefix: Path = ()
    skip_space()
    while at < len(text):
        if text[at] != "[":
            pair(prefix)
        else:
            double = text.startswith("[[", at)
            start = at
            at += 2 if double else 1
            names = keys()
            end, at = at + (2 if double else 1), start
            prefix = ()
            for depth, name in enumerate(names, start=1):
                prefix = (*prefix, name)
                # [a.b] after [[a]] is a table of a's last item.
                if depth < len(names) and prefix in tables:
                    prefix = (*prefix, tables[prefix] - 1)
            if double:
                tables[prefix] = tables.get(prefix, 0) + 1
                prefix = (*prefix, tables[prefix] - 1)
            # A header that comes after its own sub-table's still is the table's place.
            lines.pop(prefix, None)
            note(prefix)
            at = end
        skip_space()
    return lines


def syntax_error_line(error: tomllib.TOMLDecodeError, text: str) -> int | None:
    """Return the line, counted from 1, that a syntax error of ``tomllib`` speaks of."""
    if isinstance(number := getattr(error, "lineno", None), int):  # Python 3.14
        return number
    found = re.search(r"\(at line (\d+), column \d+\)", str(error))
    if found:
        return int(found[1])
    return text.count("\n") + 1 if "end of document" in str(error) else None


def check_depth(text: str) -> None:
    """Refuse a text that ``tomllib``, or whoever walks its values, would need too much time or stack for.

    The check comes before the parser: the time that ``tomllib`` takes grows with the square of a key's names.

    Raises:
        TomlDepthError: brackets or the names of a key go deeper than :data:`MAX_DEPTH`.
    """
    depth = names = 0
    for token in _STRUCTURE.finditer(text):
        match token[0]:
            case "[" | "{":
                depth, names = depth + 1, 0
            case "]" | "}":
                depth, names = max(depth - 1, 0), 0
            case ".":
                names += 1
            case "=" | "," | "\n":
                names = 0
        if max(depth, names) > MAX_DEPTH:
            raise TomlDepthError(text.count("\n", 0, token.start()) + 1)


def read_toml(text: str) -> tuple[dict[str, Any], dict[Path, int]]:
    """Return a TOML document's values and their lines (:func:`value_lines`).

    Raises:
        tomllib.TOMLDecodeError: the text is not TOML.
        TomlDepthError: it nests too deep.
        ValueError: a number is beyond what Python reads.
    """
    check_depth(text)
    return tomllib.loads(text), value_lines(text)
