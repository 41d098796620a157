"""Checkpoints: everything that a training needs to go on as if it had never stopped, whole on the disk or not there.

A checkpoint is one safetensors file; ``checkpoints.json`` beside it names the newest first, each with its hash. The one
before the newest is kept, so that there is always one to go back to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from fer_cli.artifacts.durable import sha256_file, write_file
from fer_cli.errors import FerError

INDEX: Final = "checkpoints.json"
KEPT: Final = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Tensors by name, and what is not a tensor."""

    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


def save_checkpoint(place: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint and forget all but the newest two."""
    from safetensors.torch import save

    name = f"checkpoint-{step:09}.safetensors"
    # A tensor that shares memory with another cannot be written, and one on a device must come here first.
    plain = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in tensors.items()}
    write_file(place / name, save(plain, {"fer": json.dumps(state)}))
    entries = [entry for entry in _index(place) if entry["file"] != name]
    entries.insert(0, {"file": name, "sha256": sha256_file(place / name)})
    part = place / f"{INDEX}.part"
    write_file(part, json.dumps(entries[:KEPT]).encode())
    part.replace(place / INDEX)
    for path in place.glob("checkpoint-*.safetensors"):
        if path.name not in {entry["file"] for entry in entries[:KEPT]}:
            path.unlink()


def load_checkpoint(place: Path) -> Checkpoint | None:
    """Return the newest checkpoint; None where there is none.

    A checkpoint whose file a user has removed is passed over: that is how to go back to the one before.

    Raises:
        FerError: it is damaged.
    """
    from safetensors import safe_open

    for entry in _index(place):
        path = place / entry["file"]
        if not path.is_file():
            continue
        if (found := sha256_file(path)) != entry["sha256"]:
            raise FerError(
                f"the checkpoint is damaged: sha256 {found[:16]}, expected {entry['sha256'][:16]}",
                hint="remove this file to go on from the checkpoint before it, or train anew with --force",
                path=path,
            )
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a safetensors file
            return Checkpoint(tensors, json.loads(file.metadata()["fer"]))
    return None


def remove_checkpoints(place: Path) -> None:
    """Remove what a finished training needs no more."""
    for path in (*place.glob("checkpoint-*.safetensors"), *place.glob(f"{INDEX}*")):
        path.unlink()


def _index(place: Path) -> list[dict[str, str]]:
    path = place / INDEX
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_bytes())
        return [{"file": str(entry["file"]), "sha256": str(entry["sha256"])} for entry in entries]
    except (ValueError, TypeError, KeyError) as error:
        raise FerError("the list of checkpoints is damaged", hint="train anew with --force", path=path) from error
