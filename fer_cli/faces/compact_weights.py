"""The compact parser's weights: those that come with fer, or a file of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fer_cli.core.assets import asset
from fer_cli.core.errors import FerError
from fer_cli.weights.files import UNKNOWN, WeightsFile

FILE: Final = "compact-parser/compact-parser.safetensors"
SHA256: Final = "2fa4e99e9b4757c3f922149fb89502aa691e447e76b65215e52474767a7671e3"
"""Of the file that comes with fer."""


def find_compact(wanted: str | None, sha256: str | None) -> WeightsFile:
    """Return the compact parser's weights.

    Args:
        wanted: a file; those that come with fer where it is None.
        sha256: what the file's hash must be; of a file of the user's own it is not checked where this is None.

    Raises:
        FerError: the file is not there, or its hash is another.
    """
    path = asset(FILE) if wanted is None else Path(wanted)
    if not path.is_file():
        hint = "reinstall fer" if wanted is None else "--weights takes a file"
        raise FerError("no such file", hint=hint, path=path)
    expected = sha256 or (SHA256 if wanted is None else None)
    weights = WeightsFile(
        path,
        "fer" if wanted is None else "file",
        "ImageNet-1k, CelebAMask-HQ" if wanted is None else UNKNOWN,
        "bundled" if wanted is None else "file",
    )
    if expected is not None and (found := weights.sha256()) != expected.lower():
        hint = "the file is damaged: reinstall fer" if wanted is None else "check that it is the right file"
        raise FerError(f"sha256 {found[:16]}, expected {expected[:16].lower()}", hint=hint, path=path)
    return weights
