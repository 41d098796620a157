"""The machine: device, cores, memory, allocator. Imports nothing heavy by itself."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any, Final

from fer_cli.core.distributed import ranks
from fer_cli.core.errors import FerError, UsageError

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_KEEP: Final = 1 << 30


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


def usable_cpus() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores(device: str) -> None:
    """Give each of the processes that ``torchrun`` started here an equal share of the cores; imports torch."""
    if device == "cpu" and (local_world := ranks().local_world) > 1:
        import torch

        torch.set_num_threads(max(1, usable_cpus() // local_world))


def usage(device: str) -> dict[str, Any]:
    """Return what a manifest records of the machine: device, torch's threads, peak memory in bytes; imports torch."""
    import torch

    on_gpu = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else device,
        "threads": torch.get_num_threads(),
        "peak_memory": torch.cuda.max_memory_allocated(device) if on_gpu else peak_memory(),
    }


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
