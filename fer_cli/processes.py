"""Several processes at one artifact: those that ``torchrun`` started, on one machine or on many."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from fer_cli.env import Ranks
from fer_cli.errors import FerError

T = TypeVar("T")


@contextmanager
def joined(ranks: Ranks) -> Iterator[None]:
    """Join the processes that ``torchrun`` started; gloo, since only paths and barriers travel."""
    if ranks.world == 1:
        yield
        return
    from datetime import timedelta

    import torch.distributed

    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise FerError(f"WORLD_SIZE is {ranks.world} but {missing[0]} is not set", hint="start it with torchrun")
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield
    finally:
        # An error must end the process at once: a barrier in the way out would wait for ranks that never come.
        if sys.exc_info()[0] is None:
            torch.distributed.destroy_process_group()


def share(value: T, ranks: Ranks) -> T:
    """Return the first process's value in every process."""
    if ranks.world == 1:
        return value
    import torch.distributed

    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def barrier(ranks: Ranks) -> None:
    """Wait until every process is here."""
    if ranks.world > 1:
        import torch.distributed

        torch.distributed.barrier()
