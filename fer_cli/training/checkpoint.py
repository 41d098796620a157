"""Checkpoints: everything that a training needs to go on as if it had never stopped, whole on the disk or not there.

A checkpoint is one safetensors file with its own hash in its name, so that nothing else must be sound to trust it. The
one before the newest is kept: there is always one to go back to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from fer_cli.artifacts.atomic_io import PARTS, sha256_file, write_atomic
from fer_cli.core.errors import FerError

PATTERN: Final = "checkpoint-*.safetensors"
KEPT: Final = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Tensors by name, and what is not a tensor."""

    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


def save_checkpoint(place: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint and forget all but the newest two."""
    from safetensors.torch import save

    # A tensor that shares memory with another cannot be written, and one on a device must come here first.
    plain = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in tensors.items()}
    data = save(plain, {"fer": json.dumps(state)})
    name = f"checkpoint-{step:09}-{hashlib.sha256(data).hexdigest()}.safetensors"
    for part in place.glob(PARTS):  # left by a kill
        part.unlink()
    write_atomic(place / name, data)
    for path in [path for path in _newest_first(place) if path.name != name][KEPT - 1 :]:
        path.unlink()


def load_checkpoint(place: Path) -> Checkpoint | None:
    """Return the newest checkpoint; None where there is none. To go back to the one before, a user removes it.

    Raises:
        FerError: it is damaged.
    """
    from safetensors import safe_open

    for path in _newest_first(place):
        expected = path.stem.rpartition("-")[2]
        if (found := sha256_file(path)) != expected:
            raise FerError(
                f"the checkpoint is damaged: sha256 {found[:16]}, expected {expected[:16]}",
                hint="remove this file to go on from the checkpoint before it, or train anew with --force",
                path=path,
            )
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a safetensors file
            return Checkpoint(tensors, json.loads(file.metadata()["fer"]))
    return None


def has_checkpoint(place: Path) -> bool:
    """Tell whether a training in ``place`` has come to a checkpoint."""
    return bool(_newest_first(place))


def _newest_first(place: Path) -> list[Path]:
    return sorted(place.glob(PATTERN), reverse=True)
