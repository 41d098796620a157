"""Names of expressions and face regions. Numbers of a source never travel: everything downstream speaks in names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

from fer_cli.core.errors import FerError

EXPRESSIONS: Final = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
"""The canonical names. Every data set uses a subset of them, in this order."""

REGIONS: Final = ("background", "skin", "eye", "ear", "nose", "mouth", "neck", "hair")
"""The eight face regions (Lv et al., SLFER); a mask pixel holds an index into this tuple."""

_SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "neutral": ("neutrality", "ne", "neu", "natural", "calm"),
    "happy": ("happiness", "joy", "joyful", "ha", "hap", "smile"),
    "sad": ("sadness", "sa", "unhappy"),
    "surprise": ("surprised", "su", "sur"),
    "fear": ("afraid", "fearful", "fe", "af", "scared"),
    "disgust": ("disgusted", "di", "dis"),
    "anger": ("angry", "an", "ang"),
    "contempt": ("contemptuous", "co", "con"),
}
SYNONYMS: Final[dict[str, str]] = {
    name: canonical for canonical, names in _SYNONYMS.items() for name in (canonical, *names)
}


def canonical(name: str) -> str | None:
    """Return the canonical name of an expression, or None when the name is not known.

    Case, surrounding blanks and a leading number (``0_angry``, ``3-happy``) do not matter.
    """
    return SYNONYMS.get(name.strip().lower().lstrip("0123456789").lstrip(" ._-"))


def label_map(text: str) -> dict[str, str]:
    """Return code -> canonical name of ``CODE=EXPRESSION,...``, such as ``0=anger,1=happy`` or ``freude=happy``.

    Codes are in lower case and composed (NFC), as :func:`code_of` gives them.

    Raises:
        FerError: a pair is not one, its expression is unknown, or a code comes twice.
    """
    names: dict[str, str] = {}
    for pair in text.split(","):
        code, equals, expression = pair.rpartition("=")
        name = canonical(expression)
        what = None
        if not equals or not code_of(code):
            what = f"{pair.strip()[:40]!r} is not CODE=EXPRESSION"
        elif name is None:
            what = f"unknown expression {expression.strip()[:40]!r}"
        elif code_of(code) in names:
            what = f"code {code.strip()[:40]!r} comes twice"
        if what is not None or name is None:
            hint = f"write --labels 0=anger,1=happy with {', '.join(EXPRESSIONS)}"
            raise FerError(f"--labels: {what}", hint=hint)
        names[code_of(code)] = name
    return names


def code_of(text: str) -> str:
    """Return a code as :func:`label_map` keeps it: without blanks around it, in lower case, composed (NFC)."""
    return unicodedata.normalize("NFC", text.strip().lower())


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct canonical names among ``names`` in canonical order.

    Raises:
        FerError: a name is not canonical.
    """
    found = set(names)
    if unknown := found - set(EXPRESSIONS):
        raise FerError(
            f"unknown expression {sorted(unknown)[0]!r}", hint=f"the canonical names are {', '.join(EXPRESSIONS)}"
        )
    return tuple(name for name in EXPRESSIONS if name in found)
