"""What a manifest records of the code and the machine: versions, commit, threads, accelerator."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from fer_cli import __version__
from fer_cli.core.machine import usable_cpus


def version_of(package: str) -> str | None:
    """Return the installed version of a distribution, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def code_version() -> dict[str, Any]:
    """Return the version of fer and, in a checkout, the commit and whether files differ from it."""
    root = Path(__file__).resolve().parents[2]

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
