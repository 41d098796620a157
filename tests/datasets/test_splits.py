"""Roles of a source's parts, official counts, groups of duplicates and subjects, carving, and the split's hash."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_cli.artifacts.sections import SplitName
from fer_cli.datasets.splits import assign_roles, carve, count_differences, duplicate_groups, split_hash
from tests.kits.fer2013 import fault


def test_official_parts_keep_their_roles() -> None:
    roles = assign_roles({"Training": "train", "PublicTest": "validation", "PrivateTest": "test"})
    assert roles.split_of == {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
    assert {role.part: str(role) for role in roles.parts} == roles.split_of
    assert (roles.carve_validation, roles.carve_test) == (False, False)


def test_validation_becomes_test_where_test_is_missing() -> None:
    roles = assign_roles({"Training": "train", "PublicTest": "validation"})
    assert roles.split_of == {"Training": "train", "PublicTest": "test"}
    assert (roles.carve_validation, roles.carve_test) == (True, False)
    assert {role.part: str(role) for role in roles.parts} == {
        "Training": "train, less the validation split held out from it",
        "PublicTest": "test, because the source has no test part",
    }


@pytest.mark.parametrize(
    ("parts", "split_of", "carved"),
    [
        ({"train": "train", "test": "test"}, {"train": "train", "test": "test"}, (True, False)),
        ({"all": "train"}, {"all": "train"}, (True, True)),
        ({"val": "validation"}, {"val": "test"}, (False, False)),
        ({"test": "test"}, {"test": "test"}, (False, False)),
    ],
)
def test_roles(parts: dict[str, SplitName], split_of: dict[str, str], carved: tuple[bool, bool]) -> None:
    roles = assign_roles(parts)
    assert roles.split_of == split_of
    assert (roles.carve_validation, roles.carve_test) == carved


def test_differences_name_parts_and_classes() -> None:
    expected = {"a": {"happy": 10, "sad": 4}, "b": {"happy": 2000}, "c": {"sad": 1}, "d": dict.fromkeys("uvwxy", 2)}
    found = {"a": {"happy": 9, "sad": 4, "fear": 1}, "c": {"sad": 1}, "d": dict.fromkeys("uvwxy", 1)}
    assert count_differences(found, expected) == [
        "a has 14 of 14 rows (happy 9 of 10, fear 1 of 0)",
        "b is missing (2,000 rows)",
        "d has 5 of 10 rows (u 1 of 2, v 1 of 2, w 1 of 2, 2 more)",
    ]
    assert count_differences(expected, expected) == []


def test_groups_chain_through_duplicates_and_subjects() -> None:
    #        0    1    2    3    4    5
    hashes = ["f", "b", "f", "c", "d", "e"]
    assert duplicate_groups(hashes) == hashes
    subjects = ["ann", "bob", "bob", None, "eve", "eve"]  # rows 0 and 2 are one picture, so ann and bob are one group
    assert duplicate_groups(hashes, subjects) == ["b", "b", "b", "c", "d", "d"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 6))), min_size=1, max_size=30))
def test_groups_are_the_connected_components(rows: list[tuple[int, int | None]]) -> None:
    """Against a brute-force closure of the links between rows."""
    linked = [[a == b or (s is not None and s == t) for b, t in rows] for a, s in rows]
    reach = np.array(linked)
    for _ in rows:
        reach = reach @ reach
    groups = duplicate_groups([str(a) for a, _ in rows], [None if s is None else f"s{s}" for _, s in rows])
    for i in range(len(rows)):
        for j in range(len(rows)):
            assert (groups[i] == groups[j]) == bool(reach[i, j])


def _groups(rng: np.random.Generator, sizes: list[int], labels: list[str]) -> tuple[list[str], list[str]]:
    names = [hashlib.sha256(rng.bytes(8)).hexdigest()[:12] for _ in sizes]
    rows = [(label, name) for name, size, label in zip(names, sizes, labels, strict=True) for _ in range(size)]
    order = rng.permutation(len(rows))
    return [rows[i][0] for i in order], [rows[i][1] for i in order]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.1, 0.2, 0.5]))
def test_carve_is_stratified_whole_and_repeatable(seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    kinds = ["happy", "sad", "fear"]
    wanted = [int(rng.integers(2, 120)), int(rng.integers(2, 60)), int(rng.integers(2, 8))]
    group_labels = [kind for kind, count in zip(kinds, wanted, strict=True) for _ in range(count)]
    sizes = [int(size) for size in rng.integers(1, 5, len(group_labels))]
    labels, groups = _groups(rng, sizes, group_labels)
    mask = carve(labels, groups, fraction, seed=7)

    chosen = {group for group, taken in zip(groups, mask, strict=True) if taken}
    assert all(taken == (group in chosen) for group, taken in zip(groups, mask, strict=True))  # groups whole
    for kind in kinds:
        rows = np.array([label == kind for label in labels])
        largest = max(Counter(np.array(groups)[rows].tolist()).values())
        assert abs(mask[rows].sum() - fraction * rows.sum()) <= largest  # within one group
        assert 0 < mask[rows].sum() < rows.sum()

    order = rng.permutation(len(labels))  # the same rows in another order give the same split
    again = carve([labels[i] for i in order], [groups[i] for i in order], fraction, seed=7)
    np.testing.assert_array_equal(again, mask[order])


def test_carve_of_singletons_hits_the_share_and_follows_the_seed() -> None:
    labels = ["happy"] * 7215 + ["disgust"] * 436
    groups = [f"{index:05d}" for index in range(len(labels))]
    first, second = carve(labels, groups, 0.1, seed=0), carve(labels, groups, 0.1, seed=1)
    for mask in (first, second):
        assert abs(int(mask[:7215].sum()) - 721.5) <= 0.5
        assert int(mask[7215:].sum()) == 44  # 43.6
    assert 0.05 < (first & second).sum() / first.sum() < 0.2  # two seeds agree on a tenth, as chance has it


def test_carve_balances_subjects_that_show_several_classes() -> None:
    rng = np.random.default_rng(3)
    labels, groups = [], []
    for subject in range(118):  # as in CK+: a few sequences a subject, three frames each
        for kind in rng.choice(["happy", "sad", "fear", "anger"], size=rng.integers(1, 5), replace=False):
            labels += [str(kind)] * 3
            groups += [f"S{subject:03d}"] * 3
    mask = carve(labels, groups, 0.2, seed=0)
    for kind in set(labels):
        rows = np.array(labels) == kind
        assert 0.19 < mask[rows].mean() < 0.21


def test_carve_weighs_a_rare_class_as_much_as_a_common_one() -> None:
    """13 of 100 subjects show contempt: the fifth of them nearest to a whole number, 3, is taken each time."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        labels, groups = [], []
        for subject in range(100):
            rows = ["happy"] * int(rng.integers(5, 40)) + ["contempt"] * (2 if subject % 8 == 0 else 0)
            labels += rows
            groups += [f"S{subject:03d}"] * len(rows)
        mask = carve(labels, groups, 0.2, seed)
        assert abs(mask[np.array(labels) == "happy"].mean() - 0.2) < 0.005
        assert mask[np.array(labels) == "contempt"].sum() == 6


def test_carve_leaves_a_class_of_two_groups_on_both_sides() -> None:
    labels = ["happy"] * 40 + ["contempt"] * 2
    mask = carve(labels, [str(index) for index in range(42)], 0.1, seed=0)
    assert mask[40:].sum() == 1
    assert carve(["sad", "sad"], ["a", "b"], 0.9, seed=0).sum() == 1  # not all of it, whatever the share


def test_carve_refuses_a_class_that_cannot_be_on_both_sides() -> None:
    labels, groups = ["happy"] * 4 + ["contempt"] * 3, ["a", "b", "c", "d", "e", "e", "e"]
    fault(lambda: carve(labels, groups, 0.1, 0), "'contempt'", "only one independent image", "add data")
    # Each class has two groups, but the two subjects share them: moving one moves everything that is left of sad.
    tangled = ["happy", "sad", "happy", "sad", "anger", "anger"]
    names = ["a", "a", "b", "b", "a", "b"]
    assert carve(tangled, names, 0.5, 0).sum() == 3
    chain = (["happy", "sad", "sad", "fear", "fear", "happy"], ["a", "a", "b", "b", "c", "c"])
    fault(lambda: carve(*chain, 0.5, 0), "cannot be on both sides")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_carve_refuses_a_share_that_is_none(fraction: float) -> None:
    fault(lambda: carve(["sad", "sad"], ["a", "b"], fraction, 0), "share to hold out")


def test_split_hash_is_of_sorted_lines() -> None:
    expected = hashlib.sha256(b"test\tb\ntrain\ta\ntrain\tz\n").hexdigest()
    assert split_hash(["a", "b", "z"], ["train", "test", "train"]) == expected
    assert split_hash(["z", "a", "b"], ["train", "train", "test"]) == expected
    assert split_hash(["a", "b", "z"], ["train", "train", "train"]) != expected
    with pytest.raises(ValueError, match="comes twice"):
        split_hash(["a", "a"], ["train", "test"])
    with pytest.raises(ValueError, match="PublicTest"):
        split_hash(["a"], ["PublicTest"])
