"""Checkpoints: one of another form is refused in one line, not with a traceback."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from fer_cli.core.errors import FerError
from fer_cli.losses.cross_entropy import CrossEntropy
from fer_cli.training.checkpoint import TrainingState, load_checkpoint


@pytest.mark.parametrize("metadata", [None, {"fer": "{}"}, {"fer": '{"state": {"epoch": 1}, "sums": [[0.0]]}'}])
def test_a_checkpoint_of_an_earlier_form_is_refused_by_name(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    data = save({"network.weight": torch.zeros(1, 1)}, metadata)
    path = tmp_path / f"checkpoint-{1:09}-{hashlib.sha256(data).hexdigest()}.safetensors"
    path.write_bytes(data)
    network = nn.Linear(1, 1)
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    state = TrainingState(network, None, CrossEntropy(), optimiser)
    with pytest.raises(FerError, match=r"checkpoint-000000001-.*: the checkpoint is of an earlier version of fer"):
        load_checkpoint(tmp_path, "run", state)
