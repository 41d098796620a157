"""Which blocks of a long piece of work are on the disk: what an interrupted command goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fer_cli.artifacts.atomic_io import append

JOURNALS: Final = "journal-*.jsonl"


@dataclass(slots=True)
class Journal:
    """Which blocks are on the disk, with a checksum of each: one file a process, one line a block."""

    directory: Path
    rank: int

    @property
    def _path(self) -> Path:
        return self.directory / f"journal-{self.rank}.jsonl"

    def note(self, block: int, checksums: Mapping[str, int]) -> None:
        """Record a block whose rows were forced to the disk before."""
        append(self._path, json.dumps({"block": block, "crc32": dict(checksums)}) + "\n")

    @staticmethod
    def read(directory: Path) -> dict[int, dict[str, int]]:
        """Return the blocks of all journals of a directory; a line that a kill cut short counts as none."""
        blocks: dict[int, dict[str, int]] = {}
        for path in directory.glob(JOURNALS):
            for line in path.read_text(encoding="ascii", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    blocks[int(entry["block"])] = {str(view): int(crc) for view, crc in entry["crc32"].items()}
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
        return blocks
