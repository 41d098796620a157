"""Folds: the published rule of CK+, shares of classes, groups kept whole, and what a model of one fold sees."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.datasets.fold_view import seen
from fer_cli.datasets.folds import check_folds, class_folds, folds_hash, of_fold, subject_folds
from fer_cli.datasets.leaks import find_leaks
from fer_cli.datasets.splits import random_frames, split_hash
from fer_cli.stages.split import split
from tests.kits.films import CLASSES, SEQUENCES, film_dataset


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("films"))
    film_dataset(store)
    split(store=store, dataset="films", folds=10)
    return store


@pytest.fixture(scope="module")
def folded(films: Store) -> Dataset:
    return open_dataset(films.find("films-folds10", ["dataset"]))


def test_the_kit_has_the_shape_of_ck_plus(folded: Dataset) -> None:
    assert folded.subjects is not None
    assert folded.sequences is not None
    assert (len(set(folded.subjects)), len(set(folded.sequences)), len(folded.ids)) == (118, 327, 981)
    assert Counter(folded.classes[label] for label in folded.labels) == {
        name: 3 * number for name, number in SEQUENCES.items()
    }


def test_folds_by_subject_are_the_published_rule(folded: Dataset) -> None:
    assert folded.folds is not None
    assert folded.subjects is not None
    subjects = sorted(set(folded.subjects.tolist()))
    assert subjects != list(dict.fromkeys(folded.subjects.tolist())), "the source's order is another"
    sizes = []
    for fold in range(10):
        published = set(subjects[fold::10])
        assert set(folded.subjects[folded.folds == fold].tolist()) == published
        sizes.append(len(published))
    assert sizes == [12] * 8 + [11] * 2


def test_every_fold_is_trained_chosen_and_tested_on_other_subjects(folded: Dataset) -> None:
    assert folded.subjects is not None
    tested: Counter[str] = Counter()
    for fold in range(10):
        view = of_fold(folded, fold)
        parts = {name: set(folded.subjects[view.rows(name)]) for name in ("train", "validation", "test")}
        assert not parts["train"] & parts["validation"]
        assert not parts["train"] & parts["test"]
        assert not parts["validation"] & parts["test"]
        assert folded.chosen_on is not None
        assert view.rows("validation").tolist() == np.flatnonzero(folded.chosen_on[:, fold]).tolist()
        tested.update(view.ids[view.rows("test")].tolist())
        share = len(view.rows("validation")) / (981 - len(view.rows("test")))
        assert 0.07 < share < 0.13
        assert set(view.labels[view.rows("validation")]) == set(range(len(CLASSES)))
    assert set(tested.values()) == {1}
    assert len(tested) == 981


def test_a_fold_has_its_own_protocol(folded: Dataset) -> None:
    one, own = seen(folded, 3), seen(folded, None)
    view = one.dataset
    assert own.protocol.record() == folded.artifact.manifest.protocol
    assert own.dataset is folded
    assert one.protocol.fold == 3
    assert one.protocol.n == {name: len(view.rows(name)) for name in ("train", "validation", "test")}
    assert one.protocol.split_hash == split_hash(view.ids.tolist(), view.splits.tolist())
    assert str(one.protocol.test) == "fold 3 of 10: fold i holds sorted(subjects)[i::10]"
    assert not one.protocol.subjects_across_splits
    assert not one.protocol.sequences_across_splits
    assert not one.protocol.duplicates_across_splits
    with pytest.raises(FerError, match=r"films-folds10@\w+ has no fold 10; it has 0 to 9"):
        seen(folded, 10)


def test_a_data_set_without_folds_says_how_to_make_them(films: Store) -> None:
    with pytest.raises(FerError, match=r"has no folds; create them: fer split films --folds 10"):
        of_fold(open_dataset(films.find("films", ["dataset"])), 0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_folds_by_class_keep_groups_whole_whatever_the_order(data: st.DataObject) -> None:
    number = data.draw(st.integers(2, 5))
    groups = data.draw(st.lists(st.integers(0, 12).map(str), min_size=number, max_size=60))
    labels = data.draw(st.lists(st.sampled_from("abc"), min_size=len(groups), max_size=len(groups)))
    if len(set(groups)) < number:
        with pytest.raises(FerError, match="too few"):
            class_folds(labels, groups, number, 0)
        return
    folds = class_folds(labels, groups, number, 0)
    for group in set(groups):
        assert len({fold for fold, of in zip(folds.tolist(), groups, strict=True) if of == group}) == 1
    assert set(folds.tolist()) <= set(range(number))
    order = data.draw(st.permutations(range(len(groups))))
    again = class_folds([labels[row] for row in order], [groups[row] for row in order], number, 0)
    assert again.tolist() == folds[list(order)].tolist()


def test_folds_by_class_give_each_its_share() -> None:
    labels = ["rare"] * 13 + ["common"] * 1000
    folds = class_folds(labels, [str(row) for row in range(1013)], 10, 0)
    rare = np.bincount(folds[:13], minlength=10)
    assert sorted(rare.tolist()) == [1] * 7 + [2] * 3
    assert np.bincount(folds[13:]).tolist() == [100] * 10
    assert class_folds(labels, [str(row) for row in range(1013)], 10, 1).tolist() != folds.tolist()


def test_folds_by_class_of_whole_subjects_are_near_their_share(folded: Dataset) -> None:
    assert folded.subjects is not None
    labels = [folded.classes[label] for label in folded.labels]
    folds = class_folds(labels, folded.subjects.tolist(), 10, 0)
    for label in range(len(CLASSES)):
        counts = np.bincount(folds[folded.labels == label], minlength=10)
        assert abs(counts - counts.mean()).max() <= 6, "two sequences of three frames"


def test_fewer_subjects_than_folds() -> None:
    with pytest.raises(FerError, match="3 subjects are too few for 4 folds; use fewer --folds"):
        subject_folds(["a", "b", "c"], 4)


def test_a_class_that_one_fold_holds_alone_cannot_be_learned_there() -> None:
    folds, none = np.array([0, 0, 1, 1, 1]), np.zeros((5, 2), dtype=np.bool_)
    check_folds(list("abaab"), folds, none)
    with pytest.raises(FerError, match="without fold 0 there is no training image of b"):
        check_folds(list("abaaa"), folds, none)
    chosen = none.copy()
    chosen[4, 0] = True  # the only other b is what the model of fold 0 is chosen on
    with pytest.raises(FerError, match="without fold 0 there is no training image of b"):
        check_folds(list("abaab"), folds, chosen)


def test_frames_are_drawn_whatever_they_are_of() -> None:
    ids = [f"S{film:02}_{frame}" for film in range(40) for frame in range(4)]
    tested = random_frames(ids, 2, 1, 0)
    assert tested.sum() == round(160 / 3)
    both = sum(0 < tested[film : film + 4].sum() < 4 for film in range(0, 160, 4))
    assert both > 20
    order = np.random.default_rng(0).permutation(160)
    assert random_frames([ids[row] for row in order], 2, 1, 0).tolist() == tested[order].tolist()
    assert random_frames(ids, 2, 1, 1).tolist() != tested.tolist()
    labels = ["happy"] * 30 + ["sad"] * 130
    each = random_frames(ids, 2, 1, 0, labels)
    assert (each[:30].sum(), each[30:].sum()) == (10, round(130 / 3))


def test_leaks_are_counted_and_said() -> None:
    found = find_leaks(
        ["train", "test", "train", "test"],
        labels=["a", "b", "a", "a"],
        pixels=["x", "x", "y", "z"],
        subjects=["p", "q", "p", "p"],
        sequences=["1", None, "1", None],
    )
    assert (found.extra_copies, found.duplicates_across, found.conflicting) == (1, 1, 1)
    assert (found.subjects_across, found.sequences_across) == (1, 0)
    assert found.warnings == (
        "1 subjects are in more than one split: scores are optimistic",
        "1 duplicate groups span splits: scores on them are optimistic",
        "1 duplicate groups have conflicting labels",
    )


def test_the_hash_of_folds_names_what_is_chosen_on_too() -> None:
    folds, chosen = np.array([0, 1, 1]), np.zeros((3, 2), dtype=np.bool_)
    first = folds_hash(["a", "b", "c"], folds, chosen)
    assert folds_hash(["c", "a", "b"], folds[[2, 0, 1]], chosen) == first
    chosen[0, 1] = True
    assert folds_hash(["a", "b", "c"], folds, chosen) != first
    assert folds_hash(["a", "b", "c"], np.array([1, 0, 1]), np.zeros_like(chosen)) != first


def test_artifacts_without_folds_open_as_before(films: Store) -> None:
    artifact: Artifact = films.find("films", ["dataset"])
    opened = open_dataset(artifact)
    assert opened.folds is None
    assert opened.chosen_on is None
