"""Parts of the training: loss, schedule, running mean, selection of rows, changes to a recipe."""

from __future__ import annotations

import math
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fer_cli.core import assets
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.recipes import load_recipe
from fer_cli.core.toml_text import toml_text, toml_value
from fer_cli.losses.cross_entropy import balanced_weights, cross_entropy
from fer_cli.systems import registry
from fer_cli.systems.baseline.recipe import BaselineRecipe
from fer_cli.systems.registry import read_recipe
from fer_cli.training.inputs import limited
from fer_cli.training.recipe import Recipe, Schedule
from fer_cli.training.schedule import Plateau, rate_factor

LAPTOP = assets.recipe("baseline/laptop.toml")


RECIPES = [path for system in registry.SYSTEMS.bundled for path in sorted((LAPTOP.parents[1] / system).glob("*.toml"))]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_that_comes_with_fer_can_be_read(path: Path) -> None:
    read: Recipe = load_recipe(path, registry.load(path.parent.name).recipe_type, [])
    own = f"fer train {path.parent.name} "
    assert read.about.command.startswith(own)
    assert read.about.measured, "what a recipe gave and how long it took, or that it was not run"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_printed_recipe_is_read_as_the_same_recipe(path: Path, tmp_path: Path) -> None:
    system = path.parent.name
    read: Recipe = read_recipe(system, path)
    (tmp_path / "printed.toml").write_text(toml_text(read), encoding="utf-8")
    assert read_recipe(system, tmp_path / "printed.toml") == read
    assert toml_text(read_recipe(system, tmp_path / "printed.toml")) == toml_text(read)


def test_a_value_is_printed_as_toml_reads_it() -> None:
    values = {
        "text": 'a "b" \\ \n\t\x7f é',
        "odd key": [1, 2.5, True],
        "float": [1e-05, 1e30, 5.0],
        "table": {"a.b": 1},
    }
    assert tomllib.loads("\n".join(f"v{n} = {toml_value(value)}" for n, value in enumerate(values.values()))) == {
        f"v{n}": value for n, value in enumerate(values.values())
    }


def test_every_key_of_every_recipe_says_what_it_is() -> None:
    for system in registry.SYSTEMS.bundled:
        keys = registry.recipe_reference(system)
        assert len({key.key for key in keys}) == len(keys)
        assert all(key.title and key.values for key in keys)
    losses = {key.key: key for key in registry.recipe_reference("psa-resnet") if key.key.startswith("loss.")}
    assert losses["loss.name"].values == '"cross-entropy", "island", "focal"'
    assert losses["loss.gamma"].variant == "focal"
    assert losses["loss.label_smoothing"].variant == "cross-entropy, island"
    assert losses["loss.soft"].variant is None
    size = next(key for key in registry.recipe_reference("baseline") if key.key == "data.size")
    assert (size.default, size.values, size.unit) == (None, "integer, >= 16, <= 1024", "px")


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_is_what_loops_give(smoothing: float, weighted: bool, soft: bool) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (5, 4))
    shares = generator.dirichlet(np.ones(4), 5)
    labels = generator.integers(0, 4, 5)
    weights = generator.uniform(0.2, 3, 4) if weighted else None
    total = 0.0
    for row in range(5):
        log_sum = math.log(sum(math.exp(value) for value in logits[row]))
        for column in range(4):
            target = shares[row, column] if soft else float(labels[row] == column)
            target = (1 - smoothing) * target + smoothing / 4
            total -= (1.0 if weights is None else weights[column]) * target * (logits[row, column] - log_sum)
    found = cross_entropy(
        torch.from_numpy(logits),
        torch.from_numpy(shares if soft else labels),
        weights=None if weights is None else torch.from_numpy(weights.astype(np.float32)),
        smoothing=smoothing,
    )
    assert float(found) == pytest.approx(total / 5, rel=1e-5)


def test_balanced_weights_even_the_classes_out() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2])
    weights = balanced_weights(labels, ("neutral", "happy", "sad"))
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert weights[labels].mean() == pytest.approx(1)
    with pytest.raises(FerError, match="no training image of sad"):
        balanced_weights(labels[:9], ("neutral", "happy", "sad"))


def factors(epochs: int = 10, steps: int = 4, **how: Any) -> list[float]:
    schedule = Schedule.model_validate(how)
    return [
        rate_factor(schedule, step=step, steps=steps, epochs=epochs, plateau=Plateau())
        for step in range(epochs * steps)
    ]


def test_schedules() -> None:
    assert factors(name="constant") == [1.0] * 40
    cosine = factors(name="cosine", warmup=1.0, min_lr_ratio=0.1)
    assert cosine[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert cosine[22] == pytest.approx(0.55)  # half of what is left after the warm-up
    assert all(later < earlier for earlier, later in pairwise(cosine[4:]))
    assert 0.1 < cosine[-1] < 0.11


def test_the_rate_falls_after_its_epochs_and_on_a_plateau() -> None:
    schedule = Schedule.model_validate({"name": "steps", "epochs": [2, 5], "factor": 0.1})
    rates = [rate_factor(schedule, step=step, steps=3, epochs=9, plateau=Plateau()) for step in range(27)]
    assert rates == pytest.approx([1] * 6 + [0.1] * 9 + [0.01] * 12)
    how = Schedule.model_validate({"name": "plateau", "patience": 2, "factor": 0.5, "min_lr_ratio": 0.3})
    plateau, seen = Plateau(), []
    for loss in (3.0, 2.0, 2.0, 2.1, 1.9, 1.9, 1.9, 1.9, 1.9):
        plateau.update(loss, how)
        seen.append(rate_factor(how, step=0, steps=1, epochs=9, plateau=plateau))
    assert seen == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]


def test_a_limit_keeps_each_class_and_its_share() -> None:
    labels = np.array([0] * 600 + [1] * 300 + [2] * 99 + [3])
    rows = np.arange(5000, 6000)
    assert limited(rows, labels, None, 0) is rows
    assert limited(rows, labels, 1000, 0) is rows
    chosen = limited(rows, labels, 100, 0)
    assert len(set(chosen.tolist())) == 100
    assert (np.diff(chosen) > 0).all()
    counts = np.bincount(labels[chosen - 5000])
    assert abs(counts - np.array([60, 30, 10, 1])).max() <= 1
    assert counts[3] == 1
    assert limited(rows, labels, 100, 0).tolist() == chosen.tolist()
    assert limited(rows, labels, 100, 1).tolist() != chosen.tolist()


def test_changes_replace_what_the_file_says() -> None:
    read = load_recipe(
        LAPTOP, BaselineRecipe, ["optim.lr=2e-4", "model.backbone=resnet18", "data.limit=40", "loss=cross-entropy"]
    )
    assert (read.optim.lr, read.model.backbone, read.data.limit) == (2e-4, "resnet18", 40)
    assert read.loss.name == "cross-entropy"
    assert read.loss.label_smoothing == 0.05, "the other keys stay"
    assert load_recipe(LAPTOP, BaselineRecipe, ["train.epochs=1", "train.epochs=3"]).train.epochs == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optim.lr", "sets nothing"),
        ("=3", "sets nothing"),
        ("optim..lr=3", "sets nothing"),
        ("optim.lr.rate=3", "lr is a value, not a table"),
        ("optim.lr=-1", "optim.lr: input should be greater than 0"),
        ("train.epochs=2.5", "train.epochs: input should be a valid integer"),
        ("train.epochs='3'", "train.epochs"),
        ("model.attention=selfie", "model.attention: input should be 'none', 'se', 'eca', 'cbam', 'aff' or 'psa'"),
        ("new.table=1", "new is not a key of this recipe"),
        ("data.size=1" + "0" * 5000, "data.size"),
    ],
)
def test_a_change_that_cannot_be_is_named(change: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(LAPTOP, BaselineRecipe, [change])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_of_the_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(LAPTOP.read_text().replace("epochs = 12", "epochs = 0"))
    with pytest.raises(FerError, match=r"mine\.toml:\d+: train\.epochs: input should be greater") as caught:
        load_recipe(path, BaselineRecipe, ["optim.lr=1e-3"])
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    ("system", "changes", "words"),
    [
        ("baseline", (), ()),
        ("baseline", ("model.attention=se", "loss=island", "model.frozen=true"), ("se", "island", "frozen")),
        ("conv-cut", (), ()),
        ("conv-cut", ("model.attention=batch", "model.form=paper"), ("batch", "paper-head")),
        ("conv-cut", ("model.attention=none",), ("plain",)),
        ("psa-resnet", (), ()),
        ("psa-resnet", ("model.groups=paper", "model.branch_input=split"), ("paper-groups", "split")),
        ("psa-resnet", ("model.attention=none", "loss=cross-entropy"), ("plain", "cross-entropy")),
        ("slfer", (), ()),
        ("slfer", ("loss.components=0", "model.attention=none"), ("plain", "no-components")),
    ],
)
def test_models_of_one_system_are_told_apart_by_their_names(
    system: str, changes: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert read_recipe(system, None, changes).variant() == words


def test_a_bare_value_is_the_name_of_a_table_and_leaves_the_keys_that_both_losses_have() -> None:
    usual = read_recipe("baseline", None, ()).loss
    island = read_recipe("baseline", None, ("loss=island",)).loss
    common = usual.model_dump(exclude={"name"})
    own = {"island": 0.01, "island_pairs": 10.0, "centre_rate": 0.5, "centre_term": "mean"}
    assert island.model_dump() == {**common, "name": "island", **own}
    assert usual.label_smoothing > 0
    focal = read_recipe("psa-resnet", None, ("loss=focal", "loss.gamma=1.5")).loss
    assert focal.model_dump() == {"name": "focal", "gamma": 1.5, "class_weights": "none", "soft": False}
