"""Files that come with fer: in the checkout's ``assets``, or inside the installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PLACES: Final = (Path(__file__).resolve().parent / "_assets", Path(__file__).resolve().parent.parent / "assets")


def asset(name: str) -> Path:
    """Return the path of a file that comes with fer; where there is none, the path at which it should be."""
    paths = [place / name for place in _PLACES]
    return next((path for path in paths if path.is_file()), paths[0] if _PLACES[0].is_dir() else paths[1])
