"""Text in a figure: one line that the font can write, that fits its place, and that is the name as it stands.

Names come from users' files and folders. In a figure a dollar sign would start a formula (:data:`style.styled` turns
formulas off for every text), a control character would break the SVG, and what the font lacks would be an empty box:
a font of :data:`FALLBACKS` that is installed lends it, else an escape stands in its place, which is said.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Final

from fer_cli.core.errors import one_line
from fer_cli.core.progress import warn

FONT: Final = "DejaVu Sans"
"""It comes with matplotlib: the same figure is the same file, anywhere."""
FALLBACKS: Final = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
)
"""Fonts that have letters of Chinese, Japanese and Korean, the first that is installed first."""
_CJK: Final = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"})
_missing: set[str] = set()
"""The scripts of which a letter was missed, which is said once each."""
DOTS: Final = 200
"""In an inch: the unit of widths, and the resolution of a saved figure."""
LONGEST: Final = 360.0
"""Dots that the name of a class may take beside a figure; a longer one is shortened."""
MARK: Final = "\u200e"
"""Shows nothing; what follows it is written from left to right."""
_LETTERS: Final = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]+"
_RIGHT_TO_LEFT: Final = re.compile(rf"{_LETTERS}(?:[ '-]+{_LETTERS})*")
_READ: Final = 500  # characters of a text, at most: no figure has room for more, and to measure them takes time

_any_letter: ContextVar[bool] = ContextVar("any_letter", default=False)


@contextmanager
def page_fonts() -> Iterator[None]:
    """Draw figures for an HTML page, whose reader has fonts for what ours lacks: such letters stay as they are."""
    token = _any_letter.set(True)
    try:
        yield
    finally:
        _any_letter.reset(token)


def fitted(text: str, room: float, size: float, weight: str = "normal", *, middle: bool = False) -> str:
    """Return one line of at most ``room`` dots: an ellipsis takes the place of what is too much.

    Args:
        text: any.
        room: dots.
        size: points.
        weight: of the font.
        middle: leave out the middle, where the end of a text says as much as its start.
    """
    return left_to_right(_shortened(text, room, size, weight, middle=middle))


def _shortened(text: str, room: float, size: float, weight: str, *, middle: bool) -> str:
    text = printable(text if len(text) <= _READ else f"{text[: _READ // 2]}…{text[-_READ // 2 :]}")
    if measured(text, size, weight) <= room:
        return text

    def short(kept: int) -> str:
        tail = kept // 2 if middle else 0
        return text[: kept - tail].rstrip() + "…" + text[len(text) - tail :]

    return short(bisect_right(range(1, len(text)), room, key=lambda kept: measured(short(kept), size, weight)))


def left_to_right(text: str) -> str:
    """Return ``text`` with marks round what is written from right to left, or it would draw numbers beside it along."""
    marked = _RIGHT_TO_LEFT.sub(rf"\g<0>{MARK}", text)
    return text if marked == text else MARK + marked


def class_names(classes: Sequence[str], size: float = 9.5, room: float = LONGEST) -> tuple[list[str], float]:
    """Return names of classes for the margin of a figure, and the width of the widest in inches."""
    names = [fitted(name, room, size) for name in classes]
    return names, max((measured(name, size) for name in names), default=0) / DOTS


def printable(text: str) -> str:
    """Return ``text`` with what the font does not have, and what would break a line, written as escapes."""
    text = one_line(text)
    if _any_letter.get():
        return text
    for char in text:
        if not _has(char):
            _say_missing(char)
    return "".join(char if _has(char) else _escaped(char) for char in text)


@cache
def families() -> tuple[str, ...]:
    """Return the fonts that letters are taken from, in this order: ours, and those of ``FALLBACKS`` that are here."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return (FONT, *(name for name in FALLBACKS if name in installed))


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _say_missing(char: str) -> None:
    """Say of the first letter of each script that no font here has."""
    script = unicodedata.name(char, "unnamed").split()[0]
    if script not in _missing:
        _missing.add(script)
        hint = "install Noto Sans CJK, or " if script in _CJK else ""
        warn(f"no font here has {char!r}: figures show {_escaped(char)}; {hint}give other names with --labels")


def measured(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a text in dots."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=list(families()), size=size, weight=weight)
    known = "".join(char if _has(char) else "M" for char in text)
    return float(text_to_path.get_text_width_height_descent(known, font, False)[0]) * DOTS / 72


@cache
def _has(char: str) -> bool:
    """Tell whether a font has a character, in both weights that figures use."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    def lends(family: str) -> bool:
        fonts = (FontProperties(family=family, weight=weight) for weight in ("normal", "bold"))
        return all(get_font(findfont(font)).get_char_index(ord(char)) for font in fonts)

    return any(lends(family) for family in families())
