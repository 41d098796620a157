"""Classes of parsing networks land in the regions of the brief's own table, on either side of the face."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fer_cli.core.errors import UsageError
from fer_cli.core.labels import REGIONS
from fer_cli.faces.regions import BISENET_ORDER, CELEBAMASK_ORDER, DEFAULT_GROUPING, PARTS, Grouping, grouping
from tests.kits.parsers import refusal

# By hand, from the numbers that the checkpoint and the data set are published with.
BISENET = {
    "background": {0, 16, 18},
    "skin": {1},
    "eye": {2, 3, 4, 5, 6},
    "ear": {7, 8, 9},
    "nose": {10},
    "mouth": {11, 12, 13},
    "neck": {14, 15},
    "hair": {17},
}
CELEBAMASK = {
    "background": {0, 14, 18},
    "skin": {1},
    "nose": {2},
    "eye": {3, 4, 5, 6, 7},
    "ear": {8, 9, 15},
    "mouth": {10, 11, 12},
    "hair": {13},
    "neck": {16, 17},
}
PAIRS = {"bisenet": ((2, 3), (4, 5), (7, 8)), "celebamask": ((4, 5), (6, 7), (8, 9))}
ORDERS = {"bisenet": BISENET_ORDER, "celebamask": CELEBAMASK_ORDER}


@pytest.mark.parametrize(
    ("order", "number", "region"),
    [
        (name, number, region)
        for name, table in (("bisenet", BISENET), ("celebamask", CELEBAMASK))
        for region, numbers in table.items()
        for number in sorted(numbers)
    ],
)
def test_every_class_lands_in_its_region(order: str, number: int, region: str) -> None:
    table = grouping().table(ORDERS[order])
    assert table.shape == (19,)
    assert table.dtype == np.uint8
    assert REGIONS[table[number]] == region


def test_tables_of_this_test_are_whole() -> None:
    for table in (BISENET, CELEBAMASK):
        assert sorted(number for numbers in table.values() for number in numbers) == list(range(19))
        assert set(table) == set(REGIONS)
    assert REGIONS == ("background", "skin", "eye", "ear", "nose", "mouth", "neck", "hair")


@pytest.mark.parametrize("order", sorted(ORDERS))
@settings(max_examples=30, deadline=None)
@given(
    maps=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 18)),
    moved=st.dictionaries(st.sampled_from(PARTS[1:]), st.sampled_from(REGIONS)),
)
def test_grouping_and_mirroring_commute(order: str, maps: NDArray[Any], moved: dict[str, str]) -> None:
    table = grouping(f"{part}={region}" for part, region in moved.items()).table(ORDERS[order])
    other_side = np.arange(19)
    for left, right in PAIRS[order]:
        other_side[[left, right]] = right, left
    mirrored_person = other_side[maps[:, ::-1]]
    np.testing.assert_array_equal(table[mirrored_person], table[maps][:, ::-1])


def test_a_change_moves_one_part_and_no_other() -> None:
    changed = grouping(["brow=skin", " hat = hair "])
    assert changed.record() == {**DEFAULT_GROUPING, "brow": "skin", "hat": "hair"}
    table = changed.table(CELEBAMASK_ORDER)
    assert [REGIONS[table[number]] for number in (6, 7, 14, 4)] == ["skin", "skin", "hair", "eye"]
    assert grouping().record() == DEFAULT_GROUPING


def test_a_grouping_is_one_region_for_each_part() -> None:
    assert grouping() == Grouping(tuple(DEFAULT_GROUPING[part] for part in PARTS))
    with pytest.raises(ValueError):
        Grouping(REGIONS).record()
    assert grouping().table().tolist() == [REGIONS.index(DEFAULT_GROUPING[part]) for part in PARTS]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("brow", "does not name a part"),
        ("", "does not name a part"),
        ("=skin", "does not name a part"),
        ("left brow=skin", "does not name a part"),
        ("Brow=skin", "does not name a part"),
        ("brow=", "does not name a region"),
        ("brow=brow", "does not name a region"),
        ("brow=skin=eye", "does not name a region"),
        ("brow=s\nkin", "does not name a region"),
        ("background=skin", "background a region"),
    ],
)
def test_changes_that_mean_nothing_are_refused(change: str, words: str) -> None:
    message = refusal(lambda: grouping(["nose=skin", change]), UsageError)
    assert words in message
    assert repr(change) in message


def test_the_background_may_stay_where_it_is() -> None:
    assert grouping(["background=background"]) == grouping()
