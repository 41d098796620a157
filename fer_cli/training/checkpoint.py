"""Checkpoints: everything that a training needs to resume as if it had never stopped, whole on the disk or not there.

A checkpoint is one safetensors file with its own hash in its name, so that nothing else must be sound to trust it. The
one before the newest is kept: there is always one to go back to.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from fer_cli.artifacts.atomic_io import PARTS, sha256_file, write_atomic
from fer_cli.core.errors import FerError
from fer_cli.training.schedule import Plateau

PATTERN: Final = "checkpoint-*.safetensors"
KEPT: Final = 2


@dataclass(slots=True)
class Progress:
    """How far a training has come, and which epoch was best."""

    epoch: int = 0  # from 0, the one under way
    step: int = 0  # in the epoch, the next one
    seconds: float = 0.0
    best_value: float = -math.inf
    best_epoch: int = 0  # from 1
    plateau: Plateau = field(default_factory=Plateau)
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(slots=True)
class TrainingState:
    """All of a training that changes: what a checkpoint holds."""

    network: nn.Module
    averaged: nn.Module | None
    loss: nn.Module
    optimiser: torch.optim.Optimizer
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor by name."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.averaged is not None:
            tensors |= {f"averaged.{name}": tensor for name, tensor in self.averaged.state_dict().items()}
        tensors |= {f"loss.{name}": tensor for name, tensor in self.loss.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for number, values in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in values.items() if tensor is not None}
        return tensors

    def is_finite(self) -> bool:
        """Tell whether the network and the loss hold numbers alone."""
        values = [*self.network.state_dict().values(), *self.loss.state_dict().values()]
        finite = [torch.isfinite(value).all() for value in values if value.is_floating_point()]
        return not finite or bool(torch.stack(finite).all())  # one look at the device, not one a tensor

    def load(self, tensors: Mapping[str, torch.Tensor], progress: Mapping[str, Any]) -> None:
        """Put everything back to where it came from."""
        groups: dict[str, dict[str, torch.Tensor]] = {
            name: {} for name in ("network", "averaged", "loss", "best", "optimiser")
        }
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = tensor
        self.network.load_state_dict(groups["network"])
        if self.averaged is not None:
            self.averaged.load_state_dict(groups["averaged"])
        self.loss.load_state_dict(groups["loss"])
        self.best = groups["best"]
        moments: dict[int, dict[str, torch.Tensor]] = {}
        parameters = [value for group in self.optimiser.param_groups for value in group["params"]]
        for name, tensor in groups["optimiser"].items():
            number, _, moment = name.partition(".")
            value = parameters[int(number)]
            # A fused step goes through memory: a moment must lie there as its parameter does, perhaps channels last.
            lies = torch.empty_like(value, dtype=tensor.dtype).copy_(tensor) if tensor.shape == value.shape else tensor
            moments.setdefault(int(number), {})[moment] = lies
        current = self.optimiser.state_dict()
        self.optimiser.load_state_dict({"state": moments, "param_groups": current["param_groups"]})
        self.progress = Progress(**{**progress, "plateau": Plateau(**progress["plateau"])})


def save_checkpoint(directory: Path, run: str, step: int, state: TrainingState, sums: list[list[float]]) -> None:
    """Write a checkpoint and forget all but the newest two.

    Args:
        directory: of the training.
        run: what the training is; no other one can load the checkpoint.
        step: larger than that of the checkpoint before.
        state: what the first process holds; it is the same in all.
        sums: of the epoch so far, of each process.
    """
    from safetensors.torch import save

    # A tensor that shares memory with another cannot be written, and one on a device must come here first.
    plain = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in state.tensors().items()}
    record = {"run": run, "step": step, "progress": asdict(state.progress), "sums": sums}
    data = save(plain, {"fer": json.dumps(record)})
    name = f"checkpoint-{step:09}-{hashlib.sha256(data).hexdigest()}.safetensors"
    for part in directory.glob(PARTS):  # left by a kill
        part.unlink()
    write_atomic(directory / name, data)
    for path in [path for path in _newest_first(directory) if path.name != name][KEPT - 1 :]:
        path.unlink()


def load_checkpoint(directory: Path, run: str, state: TrainingState) -> list[list[float]] | None:
    """Put the newest checkpoint into ``state`` and return each process's sums; None where there is none.

    To go back to the checkpoint before, a user removes the newest.

    Raises:
        FerError: it is damaged, of another training, or of another step than its name says.
    """
    from safetensors import safe_open

    paths = _newest_first(directory)
    if not paths:
        return None
    path = paths[0]
    expected = path.stem.rpartition("-")[2]
    if (actual := sha256_file(path)) != expected:
        raise FerError(
            f"the checkpoint is damaged: sha256 {actual[:16]}, expected {expected[:16]}",
            hint="remove this file to resume from the checkpoint before it, or train from the start with --force",
            path=path,
        )
    with safe_open(path, "pt") as file:
        record = json.loads((file.metadata() or {}).get("fer", "{}"))
        if not {"run", "step", "progress", "sums"} <= record.keys():
            raise FerError(
                "the checkpoint is of an earlier version of fer",
                hint="train from the start with --force, or resume with the version that wrote it",
                path=path,
            )
        if (record["run"], path.stem.split("-")[1]) != (run, f"{record['step']:09}"):
            other = f"of step {record['step']}" if record["run"] == run else f"of another training, {record['run']}"
            raise FerError(
                f"the checkpoint is {other}: it was renamed, or does not belong here",
                hint="remove this file to resume from the checkpoint before it, or train from the start with --force",
                path=path,
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a safetensors file
    state.load(tensors, record["progress"])
    sums: list[list[float]] = record["sums"]
    return sums


def has_checkpoint(directory: Path) -> bool:
    """Tell whether a training in ``directory`` has come to a checkpoint."""
    return bool(_newest_first(directory))


def _newest_first(directory: Path) -> list[Path]:
    return sorted(directory.glob(PATTERN), reverse=True)
