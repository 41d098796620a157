"""``fer train baseline`` as a process that can be stopped at a chosen moment.

``python -m benchmarks.chaos.command often train baseline ...`` is ``fer``, with a checkpoint after each step.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
SAVE_SECONDS = 0.0
TICK = 1 / os.sysconf("SC_CLK_TCK")
# The laptop's recipe (its augmentation, its clipping) with all else that a training has to remember.
CHANGES = (
    *("model.backbone=test_efficientnet", "model.weights=none", "model.dropout=0.3", "model.drop_path=0.1"),
    *("data.size=48", "optim.lr=3e-3", "train.sampling=balanced", "train.ema=0.95"),
    *("schedule.name=plateau", "schedule.patience=1", "train.early_stopping=9", "train.monitor=balanced_accuracy"),
    *("schedule.factor=0.5", "train.batch=20", "train.epochs=4"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command: its exit code as a shell sees it, its stderr, its CPU seconds to the work and of it."""

    code: int
    said: str
    starting: float
    working: float

    @property
    def origin(self) -> str:
        """Where it went on."""
        if found := re.search(r"^going on from (epoch \d+, step \d+)$", self.said, re.MULTILINE):
            return found[1]
        return "the beginning" if self.had_steps else "nowhere yet" if self.code else "the end"

    @property
    def had_steps(self) -> bool:
        """Whether there was, or must have been, a checkpoint to go on from, where there is one after each step."""
        return "\nepoch 1/" in self.said or "\ngoing on from epoch" in self.said


def train(place: Path, ranks: int, how: str, hit: signal.Signals | None = None, after: float = 0.0) -> Run:
    """Run the command to its end, or send it a signal ``after`` CPU seconds of its work (of a new program: of all).

    ``how``: ``fer``, a new program; ``fork``, a fork of this process; ``often``, the same with a checkpoint each step;
    ``forgets``, that with the control's defect; ``lone``, as ``often``, and the signal is for the last rank alone.
    """
    words = ["train", "baseline", "--store", str(place), "--device", "cpu", "--workers", "2" if hit else "0"]
    words += [word for change in CHANGES for word in ("--set", change)]
    with tempfile.TemporaryFile() as said:
        clock = time.time_ns()
        process = os.fork()
        if process == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(said.fileno(), 2)
            become(ranks, how, words, place.parent)
        awaited(process, lambda: (hit is not None and how == "fer") or has_begun(place, clock))
        begun = spent(process)
        if hit and awaited(process, lambda: spent(process) >= begun + after):
            time.sleep(after % TICK)  # anywhere between two ticks of the CPU's clock
            for one in below(process)[-1:] if how == "lone" else [process, *below(process) * (ranks > 1)]:
                with suppress(ProcessLookupError):
                    os.kill(one, hit)  # each: torchrun gives its ranks groups of their own
        _, status, used = os.wait4(process, 0)
        said.seek(0)
        working = used.ru_utime + used.ru_stime - begun
        code = os.waitstatus_to_exitcode(status)
        return Run(code if code >= 0 else 128 - code, said.read().decode(), begun, working)


def become(ranks: int, how: str, words: list[str], temporary: Path) -> NoReturn:
    """Be the command, in a process that has just been forked."""
    try:
        if ranks == 1 and how != "fer":
            os._exit(be(how, words))
        head = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
        module = ["-m", "fer_cli"] if how == "fer" else ["-m", "benchmarks.chaos.command", how]
        os.chdir(ROOT)
        os.environ["TMPDIR"] = str(temporary)  # torchrun leaves folders there
        os.execv(sys.executable, [sys.executable, *head, *module, *words])
    finally:
        os._exit(70)


def awaited(process: int, until: Callable[[], bool]) -> bool:
    """Wait until something is so, and tell whether the process is still there."""
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if until():
            return True
        time.sleep(0.002)
    return False


def spent(process: int) -> float:
    """Return the CPU seconds of a process and those below it so far: unlike the time, no matter what else runs."""
    ticks = 0
    for one in (process, *below(process)):
        with suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks * TICK


def below(process: int) -> list[int]:
    """Return the children of a process."""
    with suppress(OSError):
        return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def has_begun(place: Path, clock: int) -> bool:
    """Tell whether a run that was started at ``clock`` (ns) has taken up its work: it first writes what decides it."""
    with suppress(FileNotFoundError):
        return any(path.stat().st_mtime_ns > clock for path in place.glob("model/*/.partial-*/plan.json"))
    return False


def fer(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run another command of ``fer`` to its end."""
    command = [sys.executable, "-m", "fer_cli", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def be(how: str, words: list[str]) -> int:
    """Be ``fer`` in this process, with a checkpoint after each step and a defect where it is asked for."""
    import torch

    from fer_cli.cli.app import run
    from fer_cli.training import engine

    assert engine.SAVE_SECONDS > SAVE_SECONDS, "the engine has it no more"
    engine.SAVE_SECONDS = engine.SAVE_SECONDS if how == "fork" else SAVE_SECONDS
    if how == "forgets":
        load = torch.optim.AdamW.load_state_dict
        torch.optim.AdamW.load_state_dict = lambda self, state_dict: load(self, {**state_dict, "state": {}})  # type: ignore[method-assign]
    return run(words)


if __name__ == "__main__":
    sys.exit(be(sys.argv[1], sys.argv[2:]))
