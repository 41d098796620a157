"""``python -m tools.train_parser``: a recipe and an archive in, weights out that ``fer parse-masks`` takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from safetensors import safe_open

from fer_cli.artifacts.atomic_io import sha256_file
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import FerError
from fer_cli.core.labels import REGIONS
from fer_cli.stages.parse_masks import parse_masks
from tests.kits.celebamask import write_archive
from tests.kits.toy import toy_dataset
from tools.train_parser.train import TrainedParser, scores_table, train_parser

RECIPE = Path(__file__).parents[2] / "tools" / "train_parser" / "recipes" / "augmented.toml"
SMALL = {
    **{"aside = 8": "aside = 4", "side = 320": "side = 64", "steps = 6000": "steps = 2", "batch = 24": "batch = 4"},
    **{"sizes = [[96], [96, 128], [128], [128, 160], [128, 160, 192], [160, 192, 224]]": "sizes = [[64]]"},
}


def small_recipe(folder: Path, changes: Mapping[str, str]) -> Path:
    text = RECIPE.read_text()
    for old, new in {**SMALL, **changes}.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "small.toml"
    path.write_text(text)
    return path


def trained(
    folder: Path,
    name: str = "weights.safetensors",
    start: Path | None = None,
    changes: Mapping[str, str] = MappingProxyType({}),
) -> TrainedParser:
    source = folder / "faces.tar"
    if not source.is_file():
        write_archive(source, 8, 64)
    return train_parser(recipe=small_recipe(folder, changes), source=source, out=folder / name, start=start)


def test_weights_come_with_their_origin_and_scores_and_parse(tmp_path: Path, store: Store) -> None:
    first = trained(tmp_path)
    assert first.aside == 2
    assert first.sha256 == sha256_file(first.path)
    rows = scores_table(first.scores)
    assert [(row["px"], row["colour"]) for row in rows] == [
        (px, colour) for colour in ("colour", "grey") for px in (512, 224, 112, 64, 48)
    ]
    assert all(0 <= row[name] <= 1 for row in rows for name in ("miou", *REGIONS))
    with safe_open(first.path, "pt") as file:
        origin = json.loads(file.metadata()["fer"])
    assert origin["recipe"]["training"]["steps"] == 2
    assert origin["start"]["sha256"]
    assert "non-commercial" in origin["licence"]
    assert not list(tmp_path.glob(".*"))

    again = trained(tmp_path, "again.safetensors")
    assert again.sha256 == first.sha256
    assert scores_table(again.scores) == rows
    other = trained(tmp_path, "other.safetensors", changes={"seed = 0": "seed = 1"})
    assert other.sha256 != first.sha256

    toy_dataset(store, images=20)
    masks = parse_masks(store=store, parser="compact", weights=str(first.path), size=32).artifact
    assert masks.manifest.summary["weights"]["sha256"] == first.sha256


def test_going_on_mixes_in_what_it_started_from(tmp_path: Path) -> None:
    first = trained(tmp_path)
    mixed = trained(tmp_path, "mixed.safetensors", first.path, {"start_share = 0.0": "start_share = 0.25"})
    onward = trained(tmp_path, "onward.safetensors", first.path)
    with (
        safe_open(first.path, "pt") as one,
        safe_open(mixed.path, "pt") as two,
        safe_open(onward.path, "pt") as three,
    ):
        assert json.loads(two.metadata()["fer"])["start"]["sha256"] == first.sha256
        begun, between, ended = (file.get_tensor("head.bias") for file in (one, two, three))
    assert not begun.equal(ended)
    torch.testing.assert_close(between, 0.25 * begun + 0.75 * ended)


def test_what_cannot_be_trained_is_refused_before_the_training(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, str], str, str]] = [
        ({}, "weights.bin", r"weights\.bin: is not a place for weights"),
        ({}, "none/weights.safetensors", "is not a place for weights"),
        ({"aside = 8": "aside = 9"}, "w.safetensors", r"faces\.tar: holds 8 faces: too few .* one in 9"),
        ({"start_share = 0.0": "start_share = 0.5"}, "w.safetensors", r"small\.toml: training\.start_share .*--start"),
        ({'encoder = "auto"': 'encoder = "none.safetensors"'}, "w.safetensors", "no such file"),
    ]
    for changes, name, message in cases:
        with pytest.raises(FerError, match=message):
            trained(tmp_path, name, changes=changes)
    with pytest.raises(FerError, match="no such file"):
        train_parser(recipe=small_recipe(tmp_path, {}), source=tmp_path / "no.tar", out=tmp_path / "w.safetensors")
    (tmp_path / "foreign.safetensors").write_bytes(b"none")
    with pytest.raises(FerError, match=r"foreign\.safetensors: .*safetensors"):
        trained(tmp_path, start=tmp_path / "foreign.safetensors")
    assert not list(tmp_path.glob("*w*.safetensors"))
