"""The machine and the process: device, threads, allocator, versions, signals. Imports nothing heavy by itself."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Final

from fer_cli import __version__
from fer_cli.errors import FerError, PreemptedError, UsageError

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_KEEP: Final = 1 << 30

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1)
"""What batch systems send before they end a job."""


def tune_allocator() -> bool:
    """Make glibc keep freed memory instead of giving it back to the kernel after each layer.

    On the CPU a network allocates and frees the same large blocks at every layer; with the default thresholds each is
    a fresh ``mmap`` whose pages the kernel must zero. Measured in ``benchmarks/extract.py``. Returns False where the C
    library is another or ``FER_ALLOCATOR=default`` asks to leave it alone.
    """
    if os.environ.get("FER_ALLOCATOR") == "default" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(_M_MMAP_THRESHOLD, _KEEP), mallopt(_M_TRIM_THRESHOLD, _KEEP), mallopt(_M_TOP_PAD, 64 << 20)])


def version_of(package: str) -> str | None:
    """Return the installed version of a distribution, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def code_version() -> dict[str, Any]:
    """Return the version of fer and, in a checkout, the commit and whether files differ from it."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if not (root / ".git").exists() or (commit := git("rev-parse", "HEAD")) is None:
        return {"version": __version__, "commit": None, "modified": None}
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "fer_cli")
    return {"version": __version__, "commit": commit, "modified": None if changed is None else bool(changed)}


def environment() -> dict[str, Any]:
    """Return what a manifest records of the machine: versions, threads and, where torch is loaded, the accelerator."""
    record: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "numpy": version_of("numpy"),
        "cpus": usable_cpus(),
    }
    if (torch := sys.modules.get("torch")) is not None:
        record |= {"torch": torch.__version__, "timm": version_of("timm"), "threads": torch.get_num_threads()}
        record["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_initialized() else None
    return record


def usable_cpus() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory() -> int:
    """Return the bytes of memory that a process could still take without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def is_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory is short: torch says so on the CPU, and its libraries, in words alone."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    words = ("can't allocate memory", "not enough memory", "out of memory", "_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def device_name(wanted: str) -> str:
    """Return the torch device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; imports torch.

    Raises:
        FerError: the device is not there, or the name is none.
    """
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return f"cuda:{ranks().local_rank % torch.cuda.device_count()}"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UsageError(f"--device {wanted!r} is not a device", hint="take auto, cpu, cuda, cuda:N or mps") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise FerError(f"--device {wanted}: this machine has no such device", hint="take --device auto; see fer doctor")
    return wanted


def fast_bfloat16(device: str) -> bool:
    """Tell whether a device multiplies bfloat16 natively, about twice as fast as float32; imports torch."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # newer than our oldest torch
    return device == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


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
        if not text.isdecimal():
            raise FerError(f"the variable {name} is {text!r}, not a number", hint="unset it, or start with torchrun")
        read[name] = int(text)
    for number, count in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", "LOCAL_WORLD_SIZE")):
        if read[number] >= read[count]:
            what = f"the variable {number} is {read[number]} of {count}={read[count]} processes, counted from 0"
            raise FerError(what, hint="unset both, or start with torchrun")
    return Ranks(read["RANK"], read["WORLD_SIZE"], read["LOCAL_RANK"], read["LOCAL_WORLD_SIZE"])


_RANK_DEFAULTS: Final = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


class StopRequest:
    """Set by SIGTERM or SIGUSR1: the work should come to a point from which it can go on, and stop there."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.again = "run the same command again to go on"

    def check(self, saved: str) -> None:
        """Raise PreemptedError when a signal came. Call it where all work so far is on the disk."""
        if self.signal is not None:
            raise PreemptedError(f"stopped by {self.signal.name}, {saved}", hint=self.again)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Within this context SIGTERM and SIGUSR1 set a flag; elsewhere they end the command at once, with 75 too."""
    request = StopRequest()

    def note(number: int, _frame: FrameType | None) -> None:
        request.signal = signal.Signals(number)

    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
