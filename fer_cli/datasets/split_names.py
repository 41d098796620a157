"""Names of splits, as folders, cells and files have them."""

from __future__ import annotations

import re
from typing import Final

from fer_cli.artifacts.sections import SplitName

_NAMES: Final[dict[SplitName, tuple[str, ...]]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
_SPLIT_OF: Final = {name: split for split, names in _NAMES.items() for name in names}


def split_of_name(name: str) -> SplitName | None:
    """Return the split that a folder or a cell names, or None when it names none; case does not matter."""
    return _SPLIT_OF.get(name.strip().lower())


def names_split(name: str) -> bool:
    """Tell whether a word of a name is that of a split: ``test_new``, ``Val_Aligned_Faces``."""
    return any(split_of_name(word) for word in re.split(r"[\W_\d]+", name))
