"""Two kill -9 at random moments in each stage; ``benchmarks/chaos`` does the same with more."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chaos.harness import STAGES, trials


@pytest.mark.parametrize("stage", list(STAGES))
def test_killed_stages_leave_nothing_or_a_whole_and_end_equal(stage: str, tmp_path: Path) -> None:
    outcome = trials(stage, tmp_path / "chaos", 2, seed=7)
    assert outcome.killed == 2
    assert outcome.faults == []


def test_a_plain_write_fails_the_same_test(tmp_path: Path) -> None:
    assert trials("prepare", tmp_path / "chaos", 4, seed=7, plain=True).faults
