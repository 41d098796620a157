"""What is made of a parsing network's logits, with planted networks; and how a parser is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fer_cli.artifacts.summaries import WeightsRecord
from fer_cli.core.labels import REGIONS
from fer_cli.faces.parsers import NetworkParser
from fer_cli.faces.regions import BISENET_ORDER, PARTS, Grouping, grouping
from fer_cli.faces.template import MOST, chosen_rows, make_template
from fer_cli.models.backbones import Preprocessing
from tests.kits.celebamask import drawn_face
from tools.train_parser.celebamask import Face
from tools.train_parser.scores import score_parser

BACKGROUND, SKIN, EYE, EAR, NOSE, MOUTH, NECK, HAIR = range(8)
LEVEL = 12
"""Grey level of each class of a planted picture: class k is painted 12 k."""


class Planted(nn.Module):
    """Reads the class of a pixel off its grey level; ``place`` may change what it reads, by place."""

    def __init__(self, classes: int, place: Callable[[torch.Tensor], torch.Tensor] = lambda level: level) -> None:
        super().__init__()
        self.classes, self.place = classes, place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        level = self.place(x.mean(1, keepdim=True) * 255 / LEVEL)
        number = torch.arange(self.classes, dtype=x.dtype).view(1, -1, 1, 1)
        return -200 * (level - number) ** 2


class Fixed(nn.Module):
    """Says the same of every picture: (classes, h, w) shares."""

    def __init__(self, shares: torch.Tensor) -> None:
        super().__init__()
        self.logits = shares.clamp_min(1e-9).log()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1, -1, -1)


def parser_of(
    network: nn.Module,
    order: tuple[str, ...] = PARTS,
    mirror: bool = False,
    size: int = 32,
    of: Grouping | None = None,
) -> NetworkParser:
    plain = Preprocessing(size=size, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bilinear")
    return NetworkParser("planted", network.eval(), order, of or grouping(), plain, WEIGHTS, mirror, "cpu")


def columns(order: tuple[str, ...], *names: tuple[str, int], height: int = 8) -> torch.Tensor:
    """Return shares (classes, height, sum of widths) of columns of one class each."""
    row = torch.cat([torch.full((width,), order.index(name)) for name, width in names])
    return nn.functional.one_hot(row, len(order)).T[:, None].expand(-1, height, -1).float()


WEIGHTS = WeightsRecord(kind="file", source="file", pretraining="?", sha256="0", file="w")
BLANK = np.zeros((2, 16, 16), np.uint8)


@pytest.mark.parametrize("order", [PARTS, BISENET_ORDER], ids=["parts", "bisenet"])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("colour", [False, True])
def test_classes_become_regions_in_their_places(order: tuple[str, ...], mirror: bool, colour: bool) -> None:
    classes = np.random.default_rng(0).integers(0, len(order), (3, 32, 32))
    images = (classes * LEVEL).astype(np.uint8)
    parsed = parser_of(Planted(len(order)), order, mirror).parse(np.stack([images] * 3, -1) if colour else images)
    assert parsed.maps.dtype == np.uint8
    np.testing.assert_array_equal(parsed.maps, grouping().table(order)[classes])
    np.testing.assert_allclose(parsed.confidence, 1, atol=1e-4)
    assert parsed.confidence.dtype == parsed.agreement.dtype == np.float32
    np.testing.assert_array_equal(parsed.agreement, np.full(3, 1.0 if mirror else np.nan))


def test_colour_counts() -> None:
    parser = parser_of(Planted(len(PARTS), lambda level: level))
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[..., 1] = 3 * LEVEL * PARTS.index("nose")  # the mean over the channels is the nose's level
    assert (parser.parse(image).maps == NOSE).all()


@pytest.mark.parametrize("shape", [(48, 20), (20, 48), (33, 64), (7, 5)])
def test_maps_have_their_pictures_size(shape: tuple[int, int]) -> None:
    images = np.full((2, *shape), LEVEL * PARTS.index("skin"), np.uint8)
    images[0, : shape[0] // 2] = 0
    images[1, :, shape[1] // 2 :] = LEVEL * PARTS.index("hair")
    maps = parser_of(Planted(len(PARTS))).parse(images).maps
    assert maps.shape == (2, *shape)
    expected = grouping().table()[images // LEVEL]
    assert (maps[0] != expected[0]).any(1).sum() <= 4  # but at the edge itself, where levels blend
    assert (maps[1] != expected[1]).any(0).sum() <= 4
    for region in (BACKGROUND, SKIN):
        assert (maps[0] == region).mean() > 0.3
    for region in (SKIN, HAIR):
        assert (maps[1] == region).mean() > 0.3


@pytest.mark.parametrize(
    ("names", "agreement", "confidence"),
    [
        ((("nose", 8),), 1.0, 1.0),
        ((("skin", 4), ("hair", 4)), 0.0, 0.5),
        ((("nose", 2), ("skin", 6)), 0.5, 0.75),
        ((("background", 2), ("skin", 4), ("background", 2)), 1.0, 1.0),  # the background on both sides tells nothing
        ((("background", 2), ("skin", 6)), 0.5, 0.75),
        ((("brow", 4), ("eye", 4)), 1.0, 1.0),
    ],
)
def test_agreement_with_the_mirror_image(names: Any, agreement: float, confidence: float) -> None:
    parsed = parser_of(Fixed(columns(PARTS, *names)), mirror=True).parse(BLANK)
    np.testing.assert_allclose(parsed.agreement, agreement, atol=1e-6)
    np.testing.assert_allclose(parsed.confidence, confidence, atol=1e-4)
    alone = parser_of(Fixed(columns(PARTS, *names))).parse(BLANK)
    assert np.isnan(alone.agreement).all()
    np.testing.assert_allclose(alone.confidence, 1, atol=1e-4)


def test_without_a_person_there_is_no_agreement() -> None:
    parsed = parser_of(Fixed(columns(PARTS, ("background", 8))), mirror=True).parse(BLANK)
    assert np.isnan(parsed.agreement).all()


def test_sides_are_merged_before_the_mirror_images_mean() -> None:
    sided = columns(BISENET_ORDER, ("left eye", 4), ("right eye", 4))
    parsed = parser_of(Fixed(sided), BISENET_ORDER, mirror=True).parse(BLANK)
    assert (parsed.maps == EYE).all()
    np.testing.assert_allclose(parsed.agreement, 1)
    np.testing.assert_allclose(parsed.confidence, 1, atol=1e-4)


def test_the_map_is_that_of_the_mean_of_both_views() -> None:
    shares = 0.6 * columns(PARTS, ("skin", 4), ("hair", 4)) + 0.4 * columns(PARTS, ("nose", 8))
    assert (parser_of(Fixed(shares)).parse(BLANK).maps[:, :, :4] == SKIN).all()
    parsed = parser_of(Fixed(shares), mirror=True).parse(BLANK)
    assert (parsed.maps == NOSE).all()
    np.testing.assert_allclose(parsed.confidence, 0.4, atol=1e-4)


def test_a_region_is_the_sum_of_its_parts() -> None:
    shares = sum(weight * columns(PARTS, (name, 8)) for name, weight in (("skin", 0.4), ("mouth", 0.3), ("lip", 0.3)))
    assert isinstance(shares, torch.Tensor)
    assert (parser_of(Fixed(shares)).parse(BLANK).maps == MOUTH).all()
    assert (parser_of(Fixed(shares), of=grouping(["mouth=neck"])).parse(BLANK).maps == SKIN).all()


def test_shrinking_weighs_all_pixels() -> None:
    """Where one in four is sampled at the edge of two stripes, a plain sample would see the narrow one alone."""
    narrow = 0.6 * columns(PARTS, ("hair", 1)) + 0.4 * columns(PARTS, ("skin", 1))
    stripes = torch.cat([columns(PARTS, ("skin", 1)), narrow, narrow, columns(PARTS, ("skin", 1))] * 16, 2)
    assert (parser_of(Fixed(stripes)).parse(BLANK).maps == SKIN).all()


def test_what_decides_the_answers_is_recorded() -> None:
    records = [
        parser_of(Fixed(columns(PARTS, ("skin", 8))), **changes).record()
        for changes in ({}, {"mirror": True}, {"size": 64}, {"of": grouping(["hat=hair"])})
    ]
    records.append(replace(parser_of(Fixed(columns(PARTS, ("skin", 8)))), precision="bfloat16").record())
    assert len({repr(record) for record in records}) == 5
    assert records[0]["weights"] == "0"


# ---- scores


def planted_face(parts: NDArray[Any], name: str = "1") -> Face:
    return Face(name, np.stack([(parts * LEVEL).astype(np.uint8)] * 3, -1), parts.astype(np.uint8))


def some_parts(seed: int = 0) -> NDArray[Any]:
    """Return parts in blocks of 8 px."""
    blocks = np.random.default_rng(seed).integers(0, len(PARTS), (8, 8))
    return np.asarray(blocks.repeat(8, 0).repeat(8, 1))


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_perfect_parser_has_no_confusion(grey: bool, mirror: bool) -> None:
    parser = parser_of(Planted(len(PARTS)), mirror=mirror, size=64)
    parts = [some_parts(seed) for seed in range(2)]
    scores = score_parser(parser, [planted_face(one) for one in parts], size=64, grey=grey)
    np.testing.assert_array_equal(scores.iou, np.ones(8))
    assert scores.miou == 1
    counts = np.bincount(grouping().table()[np.stack(parts)].ravel(), minlength=8)
    np.testing.assert_array_equal(scores.confusion, np.diag(counts))


def test_a_known_confusion_has_its_known_iou() -> None:
    parts = np.full((64, 64), PARTS.index("skin"))
    parts[:16] = PARTS.index("nose")
    parts[48:] = PARTS.index("hair")

    def blind(level: torch.Tensor) -> torch.Tensor:  # takes noses for skin
        return torch.where(
            (level - PARTS.index("nose")).abs() < 0.4, torch.full_like(level, PARTS.index("skin")), level
        )

    scores = score_parser(
        parser_of(Planted(len(PARTS), blind), size=64), [planted_face(parts)] * 3, size=64, grey=False
    )
    expected = np.zeros((8, 8), np.int64)
    expected[NOSE, SKIN], expected[SKIN, SKIN], expected[HAIR, HAIR] = 3 * 1024, 3 * 2048, 3 * 1024
    np.testing.assert_array_equal(scores.confusion, expected)
    np.testing.assert_allclose(scores.iou, [np.nan, 2 / 3, np.nan, np.nan, 0, np.nan, np.nan, 1])
    assert scores.miou == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_the_grouping_of_the_parser_is_that_of_the_truth() -> None:
    parser = parser_of(Planted(len(PARTS)), size=64, of=grouping(["hat=hair", "brow=skin"]))
    scores = score_parser(parser, [planted_face(np.full((64, 64), PARTS.index("hat")))], size=64, grey=False)
    assert scores.confusion[HAIR, HAIR] == scores.confusion.sum() == 4096


def test_small_pictures_are_judged_at_the_truths_size() -> None:
    picture, regions = drawn_face(0, 64)
    parts = np.array([PARTS.index(name if name in PARTS else "lip") for name in REGIONS], np.uint8)[regions]
    face = planted_face(parts)
    assert picture.shape == face.image.shape
    coarse, fine = (
        score_parser(parser_of(Planted(len(PARTS)), size=64), [face], size=size, grey=True) for size in (16, 64)
    )
    assert coarse.confusion.sum() == fine.confusion.sum() == 64 * 64
    assert 0.05 < coarse.miou < fine.miou == 1


# ---- the template


def test_a_template_is_the_mean_map_and_its_mirror_image() -> None:
    images = np.zeros((3, 32, 32), np.uint8)
    images[:, :, :8] = LEVEL * PARTS.index("hair")
    images[2] = LEVEL * PARTS.index("nose")
    told: list[int] = []
    template = make_template(parser_of(Planted(len(PARTS))), images, np.array([0, 1]), 1, told.append)
    assert told == [1, 1]
    assert template.images == 2
    np.testing.assert_allclose(template.shares.sum(0), 1)
    np.testing.assert_allclose(template.shares[HAIR, 0], [*[0.5] * 8, *[0.0] * 16, *[0.5] * 8])
    np.testing.assert_array_equal(template.shares, template.shares[..., ::-1])
    assert template.map.dtype == np.uint8
    assert (template.map == template.shares.argmax(0)).all()


@pytest.mark.parametrize("n", [1, MOST, MOST + 1, 3 * MOST])
def test_rows_of_a_template_are_spread_over_all(n: int) -> None:
    rows = chosen_rows(np.arange(n) * 2)
    assert len(rows) == min(n, MOST) == len(set(rows.tolist()))
    assert rows[0] == 0
    assert rows[-1] == 2 * (n - 1)
