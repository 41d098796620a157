"""A short form of ``python -m benchmarks.chaos fuzz``: every reader of users' files reads or refuses hostile bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.chaos import fuzz


@pytest.mark.timeout(120)
def test_every_reader_reads_or_refuses(tmp_path: Path) -> None:
    found = fuzz.fuzz(420, 1, tmp_path)
    assert {what for counts in found.values() for what in counts} <= {"read", "refused"}
    assert all(counts.total() == 30 for counts in found.values())


@pytest.mark.skipif(sys.platform == "darwin", reason="it keeps to no limit on memory")
def test_the_fuzzer_notices_what_is_at_fault(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        match path.name:
            case "memory":
                bytearray(fuzz.MEMORY * 2)
            case "bug":
                raise IndexError("there is none")
            case "crash":
                import os

                os.abort()

    paths = [tmp_path / name for name in ("read", "memory", "bug", "crash", "read")]
    expected = ["read", "memory", "IndexError: there is none", "ended with -6", "read"]
    assert list(fuzz.outcomes(fuzz.Target({}, read), paths)) == expected
