"""``python -m benchmarks.chaos disk [--stages A,B] [--steps A,B] [--every 1]``: a fault at every n-th step on the disk.

Steps are each write, each flush (fsync), each rename or link, and each creation of a file or folder. At the n-th the
call fails with ENOSPC or EIO, as the system's own would. The command must end as documented (1 and one line, or 0 where
the step was no part of the result), the store must hold nothing damaged, and the same command must then end
with the results of one that met no fault, with nothing left over.

The layer replaces the functions of ``os`` through which fer writes. An audit hook sees every file that is opened for
writing, and the experiment fails where one went past the layer.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos import chain
from fer_cli.artifacts import atomic_io

STEPS: Final = {
    "write": ("write", "pwrite", "ftruncate", "posix_fallocate"),
    "fsync": ("fsync",),
    "rename": ("rename", "replace", "link"),
    "create": ("open", "mkdir"),
}
FAULTS: Final = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
_CREATES: Final = os.O_CREAT | getattr(os, "O_TMPFILE", 0)


class Layer:
    """Counts the steps of one kind below a folder and fails the one of a number; writes the count into a file."""

    def __init__(self, kind: str, at: int | None, code: int, report: Path) -> None:
        self.kind, self.at, self.code, self.report, self.count = kind, at, code, report, 0
        self.past: list[str] = []

    def __call__(self) -> None:
        """Install it; called in the process that is to meet the fault."""
        for name in STEPS[self.kind]:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        exchange = atomic_io._exchange_in_one_step
        atomic_io._exchange_in_one_step = (  # renameat2 is called through ctypes
            self._wrapped("rename", exchange) if self.kind == "rename" else exchange
        )
        sys.addaudithook(self._audit)

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the function takes
            named = arguments[0]
            if isinstance(named, int):
                named = Path(f"/proc/self/fd/{named}").readlink()
            relevant = str(self.report.parent) in str(named) or name in {"link"}
            if relevant and (name != "open" or (len(arguments) > 1 and arguments[1] & _CREATES)):
                self.count += 1
                if self.at is None:
                    self._note()
                elif self.count == self.at:
                    raise OSError(
                        self.code, os.strerror(self.code), *(() if isinstance(arguments[0], int) else (named,))
                    )
            return real(*arguments, **options)

        return call

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        # ``os.open`` has no mode; whatever has one writes through C, where no layer of Python stands.
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            path = str(arguments[0])
            if str(self.report.parent) in path and path != str(self.report):
                self.past.append(path)
                self._note()

    def _note(self) -> None:
        descriptor = _open(self.report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        _pwrite(descriptor, "\n".join([str(self.count), *self.past]).encode(), 0)
        os.close(descriptor)


_open, _pwrite = os.open, os.pwrite


def trials(
    stage: str, folder: Path, stores: dict[str, Path], *, every: int = 1, kinds: tuple[str, ...] = tuple(STEPS)
) -> tuple[int, list[str]]:
    """Put a fault at every n-th step of a stage; return how many there were, and what was wrong."""
    before, reference = stores[f"before-{stage}"], chain.contents(stores[stage])
    count, faults = 0, []
    for kind in kinds:
        report = folder / "report"
        report.unlink(missing_ok=True)
        ended = chain.run(stage, chain.copy(before, folder / "trial"), layer=Layer(kind, None, 0, report))
        assert ended.code == 0, ended.said
        steps, *past = report.read_text().splitlines() if report.exists() else ["0"]
        faults += [f"{stage}: {path} was written past the layer" for path in past]
        for at in range(1, int(steps) + 1, every):
            chosen = list(FAULTS) if every == 1 else [list(FAULTS)[at // every % 2]]
            for name in chosen:
                place = chain.copy(before, folder / "trial")
                ended = chain.run(stage, place, layer=Layer(kind, at, FAULTS[name], report))
                found = ended.faults((0, 1))
                found += [text for text in chain.remains(place) if not text.startswith("left over")]
                if ended.code == 0 and (there := chain.contents(place)) != reference:
                    found.append(f"exit 0 with other results: {sorted(set(reference.items()) ^ set(there.items()))}")
                again = chain.run(stage, place)
                found += [f"again: {text}" for text in again.faults((0,)) + chain.remains(place)]
                if again.code == 0 and chain.contents(place) != reference:
                    found.append("again: other results")
                count += 1
                faults += [f"{stage} {name} at {kind} {at}: {text}" for text in found]
    return count, faults


def main() -> None:
    """Run it; exit with 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", default=",".join(chain.STAGES))
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--every", type=int, default=1, help="only every n-th step, ENOSPC and EIO in turn")
    options = parser.parse_args()
    chosen = options.stages.split(",")
    chain.warm_up()
    total, wrong = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        names = list(chain.STAGES)
        last = max(names.index(stage) for stage in chosen)
        stores = chain.build(Path(folder) / "stores", tuple(names[: last + 1]))
        for stage in chosen:
            begun = time.perf_counter()
            kinds = tuple(options.steps.split(","))
            count, faults = trials(stage, Path(folder) / stage, stores, every=options.every, kinds=kinds)
            print("\n".join(faults), end="\n" * bool(faults))
            print(
                f"{stage}: {count} faults of the disk, {len(faults)} wrong, {time.perf_counter() - begun:.0f} s",
                flush=True,
            )
            total, wrong = total + count, wrong + len(faults)
    print(f"in all: {total} faults of the disk, {wrong} wrong")
    sys.exit(int(wrong > 0))
