"""Near copies that were found before, kept next to the artifacts: an audit of what has not changed says so at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from fer_cli.artifacts import atomic_io
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.maintenance import REQUESTS
from fer_cli.artifacts.manifest import digest
from fer_cli.audit.near_duplicates import NearCopies

_TYPES: Final = {
    "first": np.int64,
    "second": np.int64,
    "mirrored": np.bool_,
    "likeness": np.float32,
    "blank": np.int64,
}


def kept_copies(
    dataset: Artifact, features: Artifact | None, setting: object, search: Callable[[], NearCopies]
) -> NearCopies:
    """Return the near copies among a dataset's pictures: those kept of an equal search, or what ``search`` finds.

    Args:
        dataset: whose pictures they are; what is kept lies in its store, and goes when it goes.
        features: by which neighbours are looked at too.
        setting: what else decides which pairs are found, a JSON value.
        search: looks for them.
    """
    inputs = [artifact for artifact in (dataset, features) if artifact is not None]
    key = digest([setting, [artifact.manifest.content for artifact in inputs]])
    path = dataset.path.parents[2] / REQUESTS / f"{key}.json"
    if (known := _read(path, key)) is not None:
        return known
    found = search()
    values = {name: array.tolist() for name, array in asdict(found).items()}
    led_to = [[f"{one.kind}/{one.name}/{one.version}", one.manifest.content] for one in inputs]
    with suppress(OSError):  # a store that is read-only, or full: the next time is searched again
        atomic_io.make_directory(path.parent)
        atomic_io.write_atomic(path, json.dumps([key, led_to, digest(values), values]).encode())
    return found


def _read(path: Path, key: str) -> NearCopies | None:
    """Return what is kept; None where nothing is, or it is damaged."""
    try:
        asked, _, checksum, values = json.loads(path.read_bytes())
        if asked != key or checksum != digest(values):
            return None
        arrays: dict[str, Any] = {name: np.array(values[name], dtype=kind) for name, kind in _TYPES.items()}
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return NearCopies(**arrays)
