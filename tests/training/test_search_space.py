"""Spaces of a search: what is drawn, and what is refused in one line."""

from __future__ import annotations

import pytest

from fer_cli.core.errors import UsageError
from fer_cli.systems import registry
from fer_cli.training.search_space import Space, read_space
from fer_cli.training.trials import rounds, shortened

LR = "optim.lr=log:1e-4..3e-3"


def space(*texts: str) -> Space:
    return read_space(texts, registry.load("baseline").recipe_type, registry.read_recipe("baseline"))


def test_more_trials_extend_the_same_sequence_in_whatever_order_keys_are_given() -> None:
    first = space(LR, "train.batch=16..64").random(5, seed=3)
    more = space("train.batch=16..64", LR).random(12, seed=3)
    assert more[:5] == first
    assert len({repr(one) for one in more}) == 12
    assert all(1e-4 <= one["optim.lr"] <= 3e-3 and isinstance(one["train.batch"], int) for one in more)
    assert space(LR).random(3, seed=4) != space(LR).random(3, seed=3)


def test_a_grid_has_each_setting_once_and_no_key_of_another_loss() -> None:
    grid = space("loss=cross-entropy,focal", "loss.gamma=1,2", "optim.lr=1e-3..3e-3/3").grid()
    assert len(grid) == 3 + 2 * 3
    assert sorted({one["optim.lr"] for one in grid}) == [0.001, 0.002, 0.003]
    assert all(("loss.gamma" in one) == (one["loss.name"] == "focal") for one in grid)


def test_a_space_that_is_exhausted_gives_what_there_is() -> None:
    assert len(space("optim.name=adam,sgd").random(20, seed=0)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optim.lr=3e-3..1e-4", "holds nothing"),
        ("optim.lr=log:0..1", "begins at 0"),
        ("optim.lr=1..x", "no range"),
        ("optim.lr=1e-3", "single value"),
        ("train.batch=1.5..4", "is for an integer"),
        ("nothing", "neither KEY=VALUES nor a file"),
    ],
)
def test_a_bad_space_is_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        space(text)


def test_rounds_of_halving_take_three_times_the_epochs() -> None:
    assert rounds(27, 27) == (1, 3, 9, 27)
    assert rounds(9, 30) == (3, 10, 30)
    assert rounds(2, 30) == (30,)


def test_a_shorter_training_keeps_the_share_of_what_counts_in_epochs() -> None:
    recipe = registry.read_recipe("baseline", None, ["train.epochs=9", "schedule.warmup=3"])
    short = shortened(recipe, 3)
    assert (short.train.epochs, short.schedule.warmup) == (3, 1.0)
