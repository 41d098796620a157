"""BiSeNet with seeded weights, and how a refusal reads: for the tests of parsing networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fer_cli.core.errors import FerError


def seeded_bisenet() -> nn.Module:
    from facexlib.parsing.bisenet import BiSeNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network: nn.Module = BiSeNet(num_class=19)
        for module in network.modules():  # statistics of a network that was trained, so that evaluation mode tells
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.uniform_(-0.5, 0.5)
    return network.eval().to(memory_format=torch.channels_last)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refusal(call: Callable[[], Any], kind: type[FerError] = FerError) -> str:
    with pytest.raises(FerError) as caught:
        call()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)
