"""A copy of the tree in which one module at a time is changed and its tests are run, each in a forked process."""

from __future__ import annotations

import compileall
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

Outcome = Literal["passed", "failed", "timeout"]

_LIBRARIES: Final = ("numpy", "scipy.stats", "scipy.linalg", "torch", "timm", "sklearn", "pyarrow.parquet", "pydantic",
                     "typer", "PIL.Image", "pytest", "hypothesis", "safetensors.numpy")  # fmt: skip
"""What the tests import: loaded once, before the first fork."""


class Sandbox:
    """A temporary copy of the files that git knows.

    Args:
        repository: the root of the working tree.
        folder: where the copy goes; it must not exist.
    """

    def __init__(self, repository: Path, folder: Path) -> None:
        self._root = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=repository, capture_output=True, check=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (repository / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(repository / name, folder / name)
        if (repository / "shared").exists():
            (folder / "shared").symlink_to(repository / "shared")

    def __enter__(self) -> Sandbox:
        for name in _LIBRARIES:
            importlib.import_module(name)
        sys.modules["torch"].set_num_threads(1)
        for package in ("fer_cli", "tests"):
            compileall.compile_dir(self._root / package, quiet=2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._root)

    def source(self, module: str) -> str:
        """Return the source of a module, given by its path in the repository."""
        return (self._root / module).read_text(encoding="utf-8")

    @contextmanager
    def changed(self, module: str, source: str) -> Iterator[None]:
        """Give a module another source within a ``with`` block."""
        path = self._root / module
        original = path.read_bytes()
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()  # a change of equal length within a second would not be seen
        path.write_text(source, encoding="utf-8")
        try:
            yield
        finally:
            path.write_bytes(original)

    def run(self, tests: Sequence[str], limit: float) -> tuple[Outcome, float]:
        """Run tests until the first one fails.

        Returns:
            How it ended, and the seconds that it took.
        """
        started = time.monotonic()
        process = os.fork()
        if process == 0:
            self._run_here(tests)
        while (ended := os.waitpid(process, os.WNOHANG))[0] == 0:
            if time.monotonic() - started > limit:
                os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return "timeout", time.monotonic() - started
            time.sleep(0.02)
        return "passed" if ended[1] == 0 else "failed", time.monotonic() - started

    def _run_here(self, tests: Sequence[str]) -> None:
        """Run tests in this process and end it; nothing that they do reaches the process that it was forked from."""
        code = 70
        try:
            os.setsid()
            os.chdir(self._root)
            log = os.open(self._root / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ["PYTHONPATH"] = str(self._root)
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            sys.dont_write_bytecode = True
            sys.path[:] = [str(self._root), *[path for path in sys.path if path not in {"", os.environ.get("PWD", "")}]]
            import pytest

            code = int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]))
        finally:
            os._exit(code)

    def log(self) -> str:
        """Return what the last run printed."""
        return (self._root / "pytest.log").read_text(encoding="utf-8", errors="replace")
