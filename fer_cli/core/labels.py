"""Names of expressions and face regions. Numbers of a source never travel: everything downstream speaks in names."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from fer_cli.core.errors import FerError

EXPRESSIONS: Final = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
"""The canonical names. Every data set uses a subset of them, in this order."""

REGIONS: Final = ("background", "skin", "eye", "ear", "nose", "mouth", "neck", "hair")
"""The eight face regions (Lv et al., SLFER); a mask pixel holds an index into this tuple."""

MOST_CLASSES: Final = 200
"""The most classes that a data set may have."""
LONGEST_NAME: Final = 60
"""Characters of a class's name."""
_RESERVED: Final = "no answer"
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_NO_NAMES: Final = frozenset(
    (
        *("unknown", "none", "nan", "null", "n/a", "misc", "other", "others", "unlabeled", "unlabelled", "unsorted"),
        *(
            "image",
            "images",
            "picture",
            "pictures",
            "photo",
            "photos",
            "img",
            "imgs",
            "face",
            "faces",
            "frame",
            "frames",
        ),
        *(
            "aligned",
            "cropped",
            "original",
            "raw",
            "data",
            "label",
            "labels",
            "mask",
            "masks",
            "annotations",
            "results",
        ),
    )
)
_MARKS: Final = frozenset(",;|#=<>[]{}")
_SHORTEST: Final = 3  # letters of a Latin name; shorter ones are codes
_MISSPELT: Final = 0.75  # of difflib's ratio: that of feer and fear
_STEM: Final = 3  # letters that forms of one word begin with: angry and anger, but not calm and neutral

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


def class_mapping(text: str) -> dict[str, str]:
    """Return code -> class of ``NAME=CLASS,...`` as it is written: ``calm=neutral`` maps, several to one class merge.

    Raises:
        FerError: a pair is not one, a code comes twice, or a class's name cannot be one.
    """
    names: dict[str, str] = {}
    hint = "write --labels NAME=CLASS,..., such as calm=neutral or 0=anger"
    for pair in text.split(","):
        code, equals, name = pair.rpartition("=")
        if not equals or not code_of(code):
            raise FerError(f"--labels: {pair.strip()[:40]!r} is not NAME=CLASS", hint=hint)
        if code_of(code) in names:
            raise FerError(f"--labels: code {code.strip()[:40]!r} comes twice", hint=hint)
        names[code_of(code)] = class_name(name, "--labels")
    return names


def class_name(text: str, where: str) -> str:
    """Return the name of a class as it is kept: composed (NFC), without blanks around it; expressions in lower case.

    Raises:
        FerError: it is empty, too long, or holds characters that cannot be seen.
    """
    name = unicodedata.normalize("NFC", text).strip()
    what = None
    if not name:
        what = "a class has no name"
    elif len(name) > LONGEST_NAME:
        what = f"the class {name[:20]!r}... has a name of {len(name):,} characters"
    elif any(unicodedata.category(char) in _UNSEEN for char in name):
        what = f"the name of class {name!r} holds a character that cannot be seen"
    elif folded(name) == _RESERVED:
        what = f"no class can be named {name!r}: it stands for an image without an answer"
    if what is not None:
        raise FerError(f"{where}: {what}", hint=f"give names of 1 to {LONGEST_NAME} visible characters")
    return folded(name) if folded(name) in EXPRESSIONS else name


def folded(text: str) -> str:
    """Return a name as names are compared: composed, without case, without blanks around it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).strip().casefold())


def check_classes(names: Sequence[str]) -> None:
    """Refuse a set of classes that cannot be learned, or whose names are too alike.

    Raises:
        FerError: there are fewer than two or more than :data:`MOST_CLASSES`, or two differ in case or form alone.
    """
    first: dict[str, str] = {}
    for name in names:
        key = folded(unicodedata.normalize("NFKC", name))
        other = first.setdefault(key, name)
        if other is not name:
            what = f"the classes {other!r} and {name!r} " + ("come twice" if other == name else "are too alike")
            raise FerError(what, hint=f"rename one, or merge them with --labels {code_of(name)}={other}")
    if not 2 <= len(names) <= MOST_CLASSES:
        count = "1 class" if len(names) == 1 else f"{len(names):,} classes"
        raise FerError(f"the source has {count}", hint=f"2 to {MOST_CLASSES} can be used")


def name_reader(classes: Sequence[str]) -> Callable[[str], str | None]:
    """Return what tells the class that a text names, or None.

    A class of ``classes`` comes first. Where these are all expressions the usual spellings are read too, and else
    the canonical names alone: nobody's ``calm`` is taken for neutral.
    """
    own = {folded(name): name for name in classes}
    every_known = all(name in EXPRESSIONS for name in classes)

    def read(text: str) -> str | None:
        key = folded(text)
        if key in own:
            return own[key]
        return canonical(text) if every_known else key if key in EXPRESSIONS else None

    return read


def is_likely_name(text: str) -> bool:
    """Return whether a text may be a class of the user's own without being asked: no number, code or gap."""
    key = folded(text)
    letters = sum(char.isalpha() for char in key)
    several = bool(_MARKS.intersection(key))  # happy|sad, ['happy'], happy # a remark
    return letters > 0 and key not in _NO_NAMES and not several and not (key.isascii() and letters < _SHORTEST)


def is_expression(text: str) -> bool:
    """Return whether a text is an expression's name in some form of that word: angry, not calm, which is another."""
    name = canonical(text)
    return name is not None and folded(text).lstrip("0123456789 ._-")[:_STEM] == name[:_STEM]


def is_misspelling(text: str) -> bool:
    """Return whether a text is no spelling of an expression and close to one."""
    key = folded(text)
    return canonical(key) is None and bool(difflib.get_close_matches(key, SYNONYMS, n=1, cutoff=_MISSPELT))


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct ``names``: expressions in canonical order, then others in the order of their code points."""
    found = set(names)
    known = tuple(name for name in EXPRESSIONS if name in found)
    return (*known, *sorted(found.difference(EXPRESSIONS)))
