"""The reach of the search for near copies: a table that was measured, and what is said of it."""

from __future__ import annotations

import pytest

from benchmarks.near_copies import CHANGES, OF_GREY, TO_GREY, drawn, measured
from fer_cli.audit import reach


def test_every_change_was_measured_on_all_kinds_of_pictures() -> None:
    rows = {(row.pictures, row.change) for row in reach.measured()}
    kinds = {"synthetic faces": CHANGES, "FER2013": OF_GREY, "CelebAMask-HQ": TO_GREY}
    assert rows == {(pictures, change) for pictures, changes in kinds.items() for change in changes}
    assert all(0 <= row.found <= row.copies and row.copies >= 100 for row in reach.measured())


def test_the_interval_is_that_of_wilson() -> None:
    """By hand, 9 of 10: (0.9 + 0.1921) / 1.3841 -+ 1.3841^-1 * 1.96 * sqrt(0.009 + 0.0096)."""
    low, high = reach.Reach("synthetic faces", "flipped", 1, 9, 10, 0).interval
    assert (low, high) == pytest.approx((0.596, 0.982), abs=0.001)


def test_a_change_is_within_reach_only_where_nearly_all_copies_are_found_on_every_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: tuple[reach.Reach, ...] = (
        reach.Reach("synthetic faces", "flipped", 1, 100, 100, 0),
        reach.Reach("FER2013", "flipped", 1, 95, 100, 0),
        reach.Reach("synthetic faces", "turned", 1, 99, 100, 0),
        reach.Reach("FER2013", "turned", 1, 94, 100, 0),
    )
    monkeypatch.setattr(reach, "measured", lambda: rows)
    assert (reach.within(), reach.beyond()) == ("flipped 95%", "turned 94%")
    pairs = (("flipped, grey", 100), ("flipped, blurred", 97), ("turned, shifted", 20))
    rows += tuple(reach.Reach("FER2013", change, 2, found, 100, 0) for change, found in pairs)
    assert reach.within() == "flipped 95%; 2 of 3 pairs of such changes 97% to 100%"
    assert reach.beyond() == "turned 94%; turned, shifted 20%"


def test_the_table_is_what_the_search_does_today() -> None:
    """On a few synthetic faces: what has 100% in the table."""
    names = ("flipped", "turned 15 degrees")
    kept = {row.change: row.recall for row in reach.measured() if row.pictures == "synthetic faces"}
    today = measured("synthetic faces", drawn(60, seed=1), {name: CHANGES[name] for name in names}, 20)
    assert {row.change: (row.recall, row.wrong) for row in today} == {name: (kept[name], 0) for name in names}
