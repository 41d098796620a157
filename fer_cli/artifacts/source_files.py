"""Files of the user's as inputs of an artifact: what stands for them in its lineage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.manifest import Input, digest
from fer_cli.core.progress import track


def files_input(name: str, files: Mapping[str, Path]) -> Input:
    """Return the lineage entry for files of the user's: a hash over what each is called and its bytes."""
    return hashes_input(name, file_hashes(name, files))


def file_hashes(name: str, files: Mapping[str, Path]) -> dict[str, str]:
    """Return the sha256 of the bytes of each file, under what it is called."""
    hashes = {}
    with track(f"hash {name}", len(files), "files") as advance:
        for shown, path in files.items():
            hashes[shown] = atomic_io.sha256_file(path)
            advance()
    return hashes


def hashes_input(name: str, hashes: Mapping[str, str]) -> Input:
    """Return the lineage entry for files of the user's, of which :func:`file_hashes` are known."""
    return Input(kind="files", name=name, content=digest(sorted([shown, value] for shown, value in hashes.items())))
