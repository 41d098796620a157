"""Processes that share work: they meet, or the one that came says that the others did not."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
import torch.distributed

from fer_cli.core import distributed
from fer_cli.core.distributed import Ranks
from fer_cli.core.errors import FerError


@pytest.mark.parametrize(("rank", "under_torchrun"), [(0, False), (1, False), (1, True)])
def test_nobody_waits_for_ever_for_those_who_never_came(
    rank: int, under_torchrun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = 20_000 + os.getpid() % 10_000  # nobody listens there
    monkeypatch.setattr(distributed, "ARRIVAL", timedelta(seconds=1))
    for name, value in (("MASTER_ADDR", "localhost"), ("MASTER_PORT", str(port)), ("RANK", str(rank))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "2")
    if under_torchrun:  # which keeps the meeting place itself; here it is gone
        monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    with (
        pytest.raises(FerError, match="the 2 processes cannot reach each other: .*imed out"),
        distributed.process_group(Ranks(rank, 2, rank, 2)),
    ):
        raise AssertionError("nobody else is there")
    assert not torch.distributed.is_initialized()
