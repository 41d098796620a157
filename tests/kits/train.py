"""Trainings of tiny networks through the command, and what they leave."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fer_cli.artifacts.store import Store

RECIPES = Path(__file__).parents[2] / "recipes"
LAPTOP = RECIPES / "baseline/laptop.toml"
BASE = {
    "baseline": {"model.backbone": "test_efficientnet", "data.size": "32", "model.drop_path": "0.0"},
    "conv-cut": {"model.backbone": "test_convnext", "data.size": "64", "model.cut": "stage2", "model.detail": "1"},
}
SMALL = {"model.weights": "none", "train.batch": "20", "train.epochs": "1"}

Fer = Callable[..., str]


def files(store: Store) -> set[Path]:
    return {path for path in store.root.glob("[!.]*/**/*") if path.is_file()}


def words(store: Store, system: str = "baseline", *more: object, **settings: str) -> list[object]:
    """Return the command that trains a tiny network; ``a__b="c"`` is ``--set a.b=c``."""
    named = {key.replace("__", "."): value for key, value in settings.items()}
    changes = {**BASE[system], **SMALL, **named}
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    return ["train", system, *more, *sets, "--store", store.root, "--device", "cpu"]


def partial(store: Store) -> list[Path]:
    return sorted(path for path in store.root.glob("model/*/.partial-*/*") if path.name != "history.jsonl")


def checkpoints(store: Store) -> list[Path]:
    return [path for path in partial(store) if path.name.startswith("checkpoint-")]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def assert_matches(said: str, expected: str) -> None:
    assert re.search(expected, said), f"{said!r} does not match {expected!r}"
