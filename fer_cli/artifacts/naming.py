"""Names of artifacts: those that a user chooses, and those that say what a run was made of and how it differs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from fer_cli.artifacts.manifest import KINDS, digest
from fer_cli.core.errors import UsageError

LONGEST: Final = 120
"""Characters of a name: it is a folder's."""
LONGEST_CHOSEN: Final = 80
"""Characters of a name that a user chooses: seeds, folds and splits are put after it."""
_WORDS: Final = 48
"""Characters of the words that say how a run differs, all together."""
_HASH: Final = 6
_NAME: Final = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{LONGEST - 1}}}")


def is_name(text: str) -> bool:
    """Tell whether an artifact can have this name."""
    return _NAME.fullmatch(text) is not None


def chosen_name(text: str, option: str = "--name") -> str:
    """Return a name that a user chose, in its composed form (NFC).

    Letters are small and of ASCII: file systems differ in whether others are the same name.

    Raises:
        UsageError: it cannot be the name of an artifact, or it is the word for a kind.
    """
    name = unicodedata.normalize("NFC", text)
    if not is_name(name):
        hint = "use a-z, 0-9, '.', '_' and '-', with a letter or a digit first"
        raise UsageError(f"{option} {text!r} is not a name", hint=hint)
    if len(name) > LONGEST_CHOSEN:
        raise UsageError(f"{option} has {len(name)} characters", hint=f"take {LONGEST_CHOSEN} at most")
    if name in KINDS:
        raise UsageError(f"{option} {name!r} is the word for a kind of artifact", hint="take another name")
    return name


def slug(text: str) -> str:
    """Return any text as a part of a name."""
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-._")


def number_word(value: float) -> str:
    """Return a number as it stands in a name: short, and never that of another number."""
    short = f"{value:g}"
    return (short if float(short) == value else repr(value)).replace("+", "")


def composed_name(stem: str, words: Sequence[str] = (), tail: Sequence[str] = (), longest: int = LONGEST) -> str:
    """Return the name of what ``stem`` is about, the words for how it differs, and what always ends it.

    Words that are too many give way to a short hash over all of them, and so does the end of a stem that is too long.
    The same parts have the same name, whatever else there is.

    Args:
        stem: such as data set, system and backbone.
        words: each a setting that is other than usual.
        tail: such as fold and seed.
        longest: characters of the whole.
    """
    parts = [word for word in map(slug, words) if word]
    if len("-".join(parts)) > _WORDS:
        short: list[str] = []
        for part in parts:
            if len("-".join([*short, part])) > _WORDS - _HASH - 1:
                break
            short.append(part)
        parts = [*short, digest(parts)[:_HASH]]
    end = "".join(f"-{part}" for part in (*parts, *tail))
    if len(stem) + len(end) > longest:
        kept = longest - len(end) - _HASH - 1
        assert kept > 0, end
        stem = f"{stem[:kept].rstrip('-._')}-{digest(stem)[:_HASH]}"
    return f"{stem}{end}"
