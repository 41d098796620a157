"""Subjects and sequences as people write them in tables and names of files: one spelling of each, none for nobody."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from fer_cli.core.errors import one_line

_NOBODY: Final = frozenset({"", "nan", "none", "null", "n/a", "<na>", "?", "-", "unknown", "unk"})
_NUMBER: Final = re.compile(r"0*(\d+)(?:\.0+)?")
_SHOWN: Final = 3


class Spellings:
    """The names that were met, and what each is kept as: the first spelling of it.

    Case, width, blanks, the form of accents, characters that cannot be seen, and zeros before or after a number make no
    other name: two spellings of one subject would be two people, who may be in two splits.

    Args:
        noun: what is named, for messages: ``"subject"``.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._spellings: dict[str, list[str]] = {}
        self._named = self._nameless = 0

    def of(self, text: str | None) -> str | None:
        """Return what a name is kept as, None where it says that nobody knows."""
        composed = unicodedata.normalize("NFC", text or "").strip()
        key = _key(composed)
        if key in _NOBODY:
            self._nameless += 1
            return None
        self._named += 1
        spellings = self._spellings.setdefault(key, [composed])
        if composed not in spellings:
            spellings.append(composed)
        return spellings[0]

    def remarks(self) -> list[str]:
        """Return a line on names that were spelled in several ways, and one on images without a name among others."""
        lines = []
        several = [spellings for spellings in self._spellings.values() if len(spellings) > 1]
        if several:
            shown = ", ".join(one_line(" = ".join(map(repr, spellings)))[:80] for spellings in several[:_SHOWN])
            more = f", {len(several) - _SHOWN} more" if len(several) > _SHOWN else ""
            lines.append(f"each {self._noun} that is spelled in several ways was taken for one: {shown}{more}")
        if self._named and self._nameless:
            lines.append(
                f"{self._nameless:,} of {self._named + self._nameless:,} images have no {self._noun}: nothing keeps "
                "those of one together in one split"
            )
        return lines


def _key(text: str) -> str:
    seen = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    folded = " ".join(seen.casefold().split())
    number = _NUMBER.fullmatch(folded)
    return number[1] if number is not None else folded
