"""Each reason to doubt a region map, and sound faces that give none, at any resolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from fer_cli.core.labels import REGIONS
from fer_cli.faces.quality import REASONS, QualityThresholds, Scores, score
from tests.kits.celebamask import drawn_face

Map = NDArray[np.uint8]
BACKGROUND, SKIN, EYE, EAR, NOSE, MOUTH, NECK, HAIR = range(8)


def sound() -> Map:
    one = np.full((64, 64), HAIR, np.uint8)
    one[10:54, 14:50] = SKIN
    one[20:25, 18:28] = one[20:25, 36:46] = EYE
    one[28:36, 29:35] = NOSE
    one[42:47, 24:40] = MOUTH
    one[54:, 24:40] = NECK
    one[24:34, 10:14] = EAR
    return one


def without(region: int) -> Map:
    one = sound()
    one[one == region] = SKIN
    return one


def painted(region: int, rows: slice, columns: slice) -> Map:
    one = sound()
    one[rows, columns] = region
    return one


def nothing(region: int = BACKGROUND) -> Map:
    return np.full((64, 64), region, np.uint8)


def scores_of(*maps: Map, agreement: Any = 1.0, confidence: Any = 1.0, bar: QualityThresholds | None = None) -> Scores:
    stack = np.stack(maps)
    wide = [np.broadcast_to(np.float32(values), len(stack)).astype(np.float32) for values in (agreement, confidence)]
    return score(stack, wide[0], wide[1], bar or QualityThresholds())


CASES: list[tuple[str, Map, dict[str, float], list[str]]] = [
    ("sound", sound(), {}, []),
    ("at the bar", sound(), {"agreement": 0.70, "confidence": 0.70}, []),
    ("empty", nothing(), {}, ["no face"]),
    ("hair alone", nothing(HAIR), {"agreement": 0.1}, ["no face"]),
    ("far away", painted(HAIR, slice(0, 54), slice(18, 64)), {}, ["no face"]),
    ("no eye", without(EYE), {}, ["no eye"]),
    ("no nose", without(NOSE), {}, ["no nose"]),
    ("no mouth", without(MOUTH), {}, ["no mouth"]),
    ("skin alone", nothing(SKIN), {}, ["no eye", "no nose", "no mouth"]),
    ("a crumb of an eye", painted(SKIN, slice(20, 25), slice(19, 64)), {}, ["no eye"]),
    ("two faces", painted(HAIR, slice(0, 64), slice(32, 38)), {}, ["in pieces"]),
    ("cut mouth", sound()[:47], {}, ["cut"]),
    ("cut eyes", sound()[22:], {}, ["cut"]),
    ("mirror", sound(), {"agreement": 0.69}, ["mirror"]),
    ("unsure", sound(), {"confidence": 0.69}, ["unsure"]),
    ("many", without(NOSE), {"agreement": 0.0, "confidence": 0.2}, ["no nose", "mirror", "unsure"]),
    ("nothing said", sound(), {"agreement": np.nan, "confidence": np.nan}, []),
    ("nothing said, no eye", without(EYE), {"agreement": np.nan, "confidence": 0.1}, ["no eye", "unsure"]),
]


@pytest.mark.parametrize("zoom", [1, 4])
@pytest.mark.parametrize(("one", "sure", "reasons"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_reasons_at_any_scale(one: Map, sure: dict[str, Any], reasons: list[str], zoom: int) -> None:
    scores = scores_of(one.repeat(zoom, 0).repeat(zoom, 1), **sure)
    assert scores.reasons == [reasons]
    assert set(reasons) <= REASONS.keys()
    assert np.isfinite(scores.doubt).all()


def test_every_reason_has_a_case() -> None:
    assert {reason for *_, reasons in CASES for reason in reasons} == set(REASONS)


def test_the_mirror_image_has_the_same_scores() -> None:
    maps = [one for _, one, _, _ in CASES if one.shape == (64, 64)]
    straight, mirrored = scores_of(*maps), scores_of(*(one[:, ::-1] for one in maps))
    assert straight.reasons == mirrored.reasons
    np.testing.assert_array_equal(straight.doubt, mirrored.doubt)


def test_numbers_behind_the_reasons() -> None:
    one = nothing()
    one[:10, :10] = SKIN
    one[:2, :5] = EYE  # six of its ten pixels are in the top row or the left column
    one[20:25, 20:30] = NOSE
    scores = scores_of(one)
    assert scores.face[0] == pytest.approx(150 / 4096)
    assert scores.outside[0] == pytest.approx(50 / 150)
    assert scores.cut[0] == pytest.approx(6 / np.sqrt(10))
    assert scores.missing == [["mouth"]]
    assert scores.shares[0].tolist() == pytest.approx([3946 / 4096, 90 / 4096, 10 / 4096, 0, 50 / 4096, 0, 0, 0])


def test_an_eye_that_is_whole_does_not_hide_a_cut_one() -> None:
    one = sound()
    one[20:25, 36:46] = SKIN
    one[18:27, 58:64] = EYE
    assert scores_of(one).cut[0] == pytest.approx(9 / np.sqrt(54))
    assert scores_of(one).reasons == [["cut"]]
    one[18:27, 58:64] = SKIN
    one[20:23, 63] = EYE  # a speck
    assert scores_of(one).cut[0] == 0


def test_corners_connect_and_hair_does_not() -> None:
    one = nothing(HAIR)
    one[:32, :32] = one[32:, 32:] = SKIN
    assert scores_of(one).outside[0] == 0
    one[32:, 32] = HAIR
    assert scores_of(one).outside[0] == pytest.approx(32 * 31 / (32 * 31 + 32 * 32))


@pytest.mark.parametrize("size", [48, 112, 224])
def test_drawn_faces_give_no_reason(size: int) -> None:
    maps = [drawn_face(seed, size)[1] for seed in range(4)]
    assert scores_of(*maps, agreement=0.9, confidence=np.nan).reasons == [[]] * 4


def test_doubt_sorts_from_the_best_to_the_most_doubtful() -> None:
    worst = np.full((64, 64), HAIR, np.uint8)  # every reason at once, but that there is a face
    worst[:, :14] = worst[:, 50:] = SKIN
    worst[:2, :14] = MOUTH
    order: list[tuple[Map, float, float]] = [
        (sound(), np.nan, np.nan),
        (sound(), 0.9, np.nan),
        (sound(), 0.99, 0.8),
        (sound(), 0.71, 0.75),
        (without(EYE), 1, 1),
        (without(EYE), 0.8, 1),
        (sound(), 0.1, 0.9),
        (without(EYE), 1, 0.5),
        (without(NOSE), 0.0, 0.0),
        (worst, 0, 0),
        (nothing(), 1, 1),
        (nothing(), np.nan, 0),
    ]
    scores = scores_of(
        *(one for one, *_ in order), agreement=[a for _, a, _ in order], confidence=[c for *_, c in order]
    )
    assert {"in pieces", "cut", "mirror", "unsure", "no eye"} <= set(scores.reasons[9])
    assert (np.diff(scores.doubt) > 0).all(), scores.doubt
    whole = [len(found) for found in scores.reasons[:10]]
    assert np.floor(scores.doubt[:10]).tolist() == whole


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (2, 1)])
def test_few_and_tiny_maps(n: int, shape: tuple[int, int]) -> None:
    given = np.full(n, np.nan, np.float32)
    scores = score(np.zeros((n, *shape), np.uint8), given, given, QualityThresholds())
    assert scores.reasons == [["no face"]] * n
    assert scores.shares.shape == (n, len(REGIONS))
    columns = pa.table(scores.columns())
    assert columns.num_rows == n
    assert columns["reasons"].type == pa.list_(pa.string())
    assert columns["agreement"].null_count == columns["confidence"].null_count == n
    for name in ("doubt", "face", "outside", "cut"):
        assert columns[name].type == pa.float32()
        assert columns[name].null_count == 0


def test_the_bar_is_what_decides() -> None:
    one = sound()
    assert scores_of(one, bar=QualityThresholds(part=0.2)).reasons == [["no eye", "no nose", "no mouth"]]
    assert scores_of(one, bar=QualityThresholds(face=0.99)).reasons == [["no face"]]
    assert scores_of(one, agreement=0.8, bar=QualityThresholds(agreement=0.9)).reasons == [["mirror"]]
    assert QualityThresholds().record() == {
        **{"face": 0.10, "part": 0.008, "outside": 0.10, "cut": 0.8},
        **{"agreement": 0.70, "confidence": 0.70},
    }
