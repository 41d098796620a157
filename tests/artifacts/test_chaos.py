"""Short forms of ``python -m benchmarks.chaos damage`` and ``disk``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.chaos import chain, damage, disk

pytestmark = pytest.mark.usefixtures("restored_threads")


@pytest.fixture
def restored_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What :func:`chain.warm_up` sets for its forks is taken back."""
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    chain.warm_up()
    yield
    torch.set_num_threads(threads)


def test_damage_gives_no_other_number_without_a_word_and_would_without_checks(tmp_path: Path) -> None:
    kinds = ("features", "work of extract")
    matrix = damage.Matrix(tmp_path, kinds)
    tallies = damage.run(matrix, kinds, 6, 1, control=False, lines=False)
    assert [fault for one in tallies.values() for fault in one.faults] == []
    control = damage.run(matrix, kinds, 4, 1, control=True, lines=False)
    assert all(one.faults for one in control.values())


def test_a_fault_of_the_disk_leaves_nothing_half_made(tmp_path: Path) -> None:
    stores = chain.build(tmp_path / "stores", ("prepare", "split"))
    count, faults = disk.trials("split", tmp_path / "trials", stores, every=5)
    assert count >= 8
    assert faults == []
