"""Long work in blocks of rows: shared among processes, noted on the disk as it is done, resumed after a stop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.atomic_io import append
from fer_cli.core import signals
from fer_cli.core.distributed import Ranks, barrier
from fer_cli.core.progress import note, track, warn

T = TypeVar("T")
Rows = NDArray[np.int64]
JOURNALS: Final = "journal-*.jsonl"


@dataclass(slots=True)
class Journal:
    """Which blocks are on the disk, with a checksum of each: one file a process, one line a block."""

    directory: Path
    rank: int
    run: str

    @property
    def _path(self) -> Path:
        return self.directory / f"journal-{self.rank}.jsonl"

    def note(self, block: int, checksums: Mapping[str, int]) -> None:
        """Record a block whose rows were forced to the disk before."""
        append(self._path, json.dumps({"run": self.run, "block": block, "crc32": dict(checksums)}) + "\n")

    @staticmethod
    def read(directory: Path, run: str) -> dict[int, dict[str, int]]:
        """Return the blocks of a run in the journals of a directory; a line that a kill cut short counts as none."""
        blocks: dict[int, dict[str, int]] = {}
        for path in directory.glob(JOURNALS):
            for line in path.read_text(encoding="ascii", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    if entry["run"] != run:
                        continue
                    blocks[int(entry["block"])] = {str(view): int(crc) for view, crc in entry["crc32"].items()}
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
        return blocks


def process_blocks(
    directory: Path,
    rows: int,
    size: int,
    *,
    run: str,
    title: str,
    ranks: Ranks,
    compute: Callable[[Rows], T],
    save: Callable[[int, T], Mapping[str, int]],
    is_sound: Callable[[int, Mapping[str, int]], bool],
) -> tuple[int, float]:
    """Compute and save every block that is not on the disk yet; this process takes its share of them.

    A block is saved by a thread while the next one is computed. A stop signal ends the work after a block.

    Args:
        directory: where blocks and journals are.
        rows: how many there are in all.
        size: rows of a block; the last has fewer.
        run: what the blocks are of: those that another run noted count as none.
        title: of the progress.
        ranks: the processes that share the blocks. All are done when this returns.
        compute: returns what is to be saved of some rows (n,).
        save: writes it as the block of this number, forces it to the disk, and returns its checksums by name.
        is_sound: tells whether what is on the disk of a block has the journal's checksums.

    Returns:
        How many rows this process computed, and in how many seconds.

    Raises:
        PreemptedError: a signal came; the journal says what is done.
    """
    count = math.ceil(rows / size)
    noted = Journal.read(directory, run)
    done = {block for block, checksums in noted.items() if 0 <= block < count and is_sound(block, checksums)}
    if ranks.rank == 0:
        if noted.keys() - done:
            warn(f"{len(noted.keys() - done)} finished blocks are not as they were written: they are made again")
        if done:
            note(f"resuming: {len(done)} of {count} blocks are there already")
    barrier(ranks)  # every process has read the journals before one of them grows
    missing = [block for block in range(count) if block not in done][ranks.rank :: ranks.world]
    blocks = {block: np.arange(block * size, min(rows, (block + 1) * size)) for block in missing}
    journal, begun = Journal(directory, ranks.rank, run), time.perf_counter()

    def finish(block: int, result: T) -> int:
        journal.note(block, save(block, result))
        return len(blocks[block])

    with (
        signals.stop_on_signal("block") as stop,
        track(title, rows, done=min(rows, len(done) * size)) as advance,
        ThreadPoolExecutor(1) as background,
    ):
        saving: Future[int] | None = None
        saved = len(done)

        def wait() -> None:  # the errors of the thread come out here
            nonlocal saved
            if saving is not None:
                advance(saving.result() * ranks.world)
                saved += ranks.world

        for block, some in blocks.items():
            result = compute(some)
            wait()
            saving = background.submit(finish, block, result)
            if stop.signal is not None:
                break
        wait()
        stop.check(f"{min(saved, count):,} of {count:,} blocks are saved")
    seconds = time.perf_counter() - begun
    barrier(ranks)
    return sum(map(len, blocks.values())), seconds
