"""The machine: device, cores, memory, allocator. Imports nothing heavy by itself."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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


_THREADS: ContextVar[int | None] = ContextVar("threads", default=None)


@contextmanager
def computing_with(threads: int | None) -> Iterator[None]:
    """Compute with so many threads within this context; None leaves the number to torch and ``OMP_NUM_THREADS``."""
    if threads is None:
        yield
        return
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    loaded = sys.modules.get("torch")
    count = None if loaded is None else loaded.get_num_threads()
    token = _THREADS.set(threads)
    os.environ.update(dict.fromkeys(names, str(threads)))  # read when torch is loaded
    if loaded is not None:
        loaded.set_num_threads(threads)
    try:
        yield
    finally:
        _THREADS.reset(token)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        if (loaded := sys.modules.get("torch")) is not None:
            loaded.set_num_threads(count or usable_cpus())


@contextmanager
def array_threads(threads: int | None) -> Iterator[None]:
    """Let NumPy's and SciPy's linear algebra take so many threads within this context; None leaves it as it is."""
    import scipy.linalg  # noqa: F401 - what is loaded later has no limit
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads, user_api="blas"):
        yield


def threads_asked_for() -> int | None:
    """Return the number of threads that was asked for, None where it is left to the machine."""
    return _THREADS.get()


def share_cores(device: str) -> None:
    """Give each of the processes that ``torchrun`` started here an equal share of the cores; imports torch."""
    if device == "cpu" and threads_asked_for() is None and (local_world := ranks().local_world) > 1:
        import torch

        torch.set_num_threads(max(1, usable_cpus() // local_world))


def wait_passively() -> None:
    """Let threads that wait for each other sleep; to be called before torch is loaded.

    By default they spin for a while: on a machine that does other work as well they take the time of the thread they
    wait for. Any of the variables in the environment is left as it is.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        os.environ["OMP_WAIT_POLICY"] = "passive"


_PATHS: Final = ("avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
"""What a processor may have that oneDNN then computes with."""


def numerics(device: str) -> dict[str, Any]:
    """Return what the last bits of a computation rest on, but for its precision and processes; imports torch."""
    from importlib.metadata import version

    import torch

    libraries = {"torch": str(torch.__version__), "timm": version("timm")}
    record: dict[str, Any] = {"device": device.partition(":")[0], "libraries": libraries}
    if device.startswith("cuda"):
        libraries["cuDNN"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
        return record | {"processor": torch.cuda.get_device_name(device)}
    if device != "cpu":
        return record
    if onednn := re.search(r"MKL-DNN v([0-9.]+)", torch.__config__.show()):
        libraries["oneDNN"] = onednn[1]
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # newer than our oldest torch
    paths = [name for name in _PATHS if capabilities.get(name)]
    return record | {
        "threads": torch.get_num_threads(),
        "processor": capabilities.get("cpu_name"),
        "instructions": " ".join([torch.backends.cpu.get_cpu_capability(), *paths]),
    }


def array_numerics() -> dict[str, Any]:
    """Return what the last bits of NumPy's and SciPy's linear algebra rest on; imports scipy.

    The instructions are those that the BLAS chose for this processor.
    """
    from importlib.metadata import version

    import scipy.linalg  # noqa: F401 - its BLAS is another than NumPy's
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    chosen = dict.fromkeys(f"{pool['internal_api']} {pool['architecture']}" for pool in pools if "architecture" in pool)
    return {
        "device": "cpu",
        "threads": threads_asked_for() or max((pool["num_threads"] for pool in pools), default=1),
        "instructions": ", ".join(chosen) or None,
        "precision": "float64",
        "libraries": {name: version(name) for name in ("numpy", "scipy")},
    }


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
