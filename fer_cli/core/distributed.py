"""Several processes at one artifact: those that ``torchrun`` started, on one machine or on many."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from fer_cli.core.errors import FerError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
ARRIVAL: Final = timedelta(minutes=15)
"""How long the first process to come waits for the others: a scheduler starts nodes minutes apart."""
WORK: Final = timedelta(days=7)
"""How long one process may work while the others wait for it."""
MAX_PROCESSES: Final = 65_536
"""More than any job for these networks has; torch keeps each of them in lists before the first has come."""
_DIGITS: Final = 12  # leading zeros too
_RANK_DEFAULTS: Final = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that ``torchrun`` started; alone: rank 0 of 1."""

    rank: int
    world: int
    local_rank: int
    local_world: int


def ranks() -> Ranks:
    """Return this process's place among those of ``torchrun``, from the environment it sets."""
    read = {}
    for name, default in _RANK_DEFAULTS.items():
        text = os.environ.get(name, default)
        if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS and int(text) <= MAX_PROCESSES):
            what = f"the variable {name} is {text[:40]!r}, not a number from 0 to {MAX_PROCESSES:,}"
            raise FerError(what, hint="unset it, or start with torchrun")
        read[name] = int(text)
    for number, count in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", "LOCAL_WORLD_SIZE")):
        if read[number] >= read[count]:
            what = f"the variable {number} is {read[number]} of {count}={read[count]} processes, counted from 0"
            raise FerError(what, hint="unset both, or start with torchrun")
    return Ranks(read["RANK"], read["WORLD_SIZE"], read["LOCAL_RANK"], read["LOCAL_WORLD_SIZE"])


@contextmanager
def process_group(ranks: Ranks) -> Iterator[None]:
    """Join the processes that ``torchrun`` started; what lies on a GPU travels by NCCL, everything else by gloo."""
    if ranks.world == 1:
        yield
        return
    import torch
    import torch.distributed

    if torch.distributed.is_initialized():  # by the stage that this one is a part of
        yield
        return
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise FerError(f"WORLD_SIZE is {ranks.world} but {missing[0]} is not set", hint="start it with torchrun")
    _meet(ranks)
    try:
        yield
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise FerError(
            "another process of this job has stopped", hint="see its own error, then run the same command again"
        ) from error
    finally:
        # An error must end the process at once: a barrier in the way out would wait for ranks that never come.
        if sys.exc_info()[0] is None:
            torch.distributed.destroy_process_group()


def _meet(ranks: Ranks) -> None:
    """Wait for the other processes, and make one group with them.

    Raises:
        FerError: they do not come.
    """
    import torch
    import torch.distributed
    from torch.distributed.rendezvous import rendezvous

    nccl = torch.cuda.is_available() and torch.distributed.is_nccl_available()
    try:
        store, rank, world = next(rendezvous("env://", ranks.rank, ranks.world, timeout=ARRIVAL))
        store.set_timeout(ARRIVAL)
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if nccl else "gloo", store=store, rank=rank, world_size=world, timeout=WORK
        )
        store.set_timeout(WORK)
    except (RuntimeError, ConnectionError, TimeoutError) as error:  # torch's own errors are RuntimeErrors
        raise FerError(
            f"the {ranks.world} processes cannot reach each other: {error}".partition("\n")[0],
            hint="start all of them with the same MASTER_ADDR and MASTER_PORT, which each must be able to reach",
        ) from error


def _is_lost(error: RuntimeError) -> bool:
    """Tell whether the connection to another process broke: gloo says so in words alone."""
    import torch.distributed

    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused")
    return isinstance(error, torch.distributed.DistError) or any(word in str(error) for word in words)


def broadcast_object(value: T, ranks: Ranks) -> T:
    """Return the first process's value in every process."""
    if ranks.world == 1:
        return value
    import torch.distributed

    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def all_gather(values: Sequence[float], ranks: Ranks) -> list[list[float]]:
    """Return every process's numbers, in order of rank; all processes give as many."""
    if ranks.world == 1:
        return [list(values)]
    import torch
    import torch.distributed

    own = torch.tensor(values, dtype=torch.float64)
    gathered = [torch.empty_like(own) for _ in range(ranks.world)]
    torch.distributed.all_gather(gathered, own)
    return [values.tolist() for values in gathered]


def all_reduce(tensor: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """Return the sum of every process's tensor; all have the same shape."""
    if ranks.world == 1:
        return tensor
    import torch.distributed

    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total


def broadcast_tensors(tensors: Iterable[torch.Tensor], ranks: Ranks) -> None:
    """Give tensors the values that they have in the first process."""
    if ranks.world > 1:
        import torch.distributed

        for tensor in tensors:
            torch.distributed.broadcast(tensor, src=0)


def barrier(ranks: Ranks) -> None:
    """Wait until every process is here."""
    if ranks.world > 1:
        import torch.distributed

        torch.distributed.barrier()
