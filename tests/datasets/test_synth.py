"""The embedded data set: its truth (action units, subjects, masks) is exact, and its bytes depend on nothing else."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.typing import NDArray

from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS, REGIONS
from fer_cli.datasets.records import SPLITS, Loader
from fer_cli.datasets.synth.faces import SUPERSAMPLING, majority, region_truth, render_face
from fer_cli.datasets.synth.loader import BY_FREQUENCY, ImageEntry, Synth, draw_items, face_of, plan
from fer_cli.datasets.synth.parameters import (
    AU_NAMES,
    EXPRESSION_AUS,
    HAIR_STYLES,
    FaceParameters,
    Identity,
    Scene,
    sample_aus,
    sample_identity,
    sample_scene,
)

PERSON = dataclasses.replace(
    sample_identity(default_rng(7)), glasses="", hair_style="crop", beard=0.0, moustache=0.0, parting=0.3
)
STILL = Scene(light_x=0.0, blur=0.0)


def drawn(aus: dict[str, float], who: Identity = PERSON, scene: Scene = STILL, side: int = 1) -> NDArray[np.int64]:
    return render_face(FaceParameters(who, aus, side, scene), 112)[0].astype(np.int64)


def region(name: str, mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray(mask == REGIONS.index(name))


def centre_y(part: NDArray[np.bool_]) -> float:
    return float(np.nonzero(part)[0].mean())


# -- determinism ------------------------------------------------------------------------------------------------------


def test_a_picture_depends_on_seed_subject_and_number_alone() -> None:
    alone = draw_items([ImageEntry("train", 5, 11)], 3, 48, False)
    crowd = draw_items([ImageEntry("test", 2, 1), ImageEntry("test", 5, 3), ImageEntry("test", 5, 11)], 3, 48, False)
    np.testing.assert_array_equal(alone[0], crowd[0][2:])
    np.testing.assert_array_equal(alone[1], crowd[1][2:])
    np.testing.assert_array_equal(alone[2], crowd[2][2:])
    for other in (ImageEntry("train", 5, 19), ImageEntry("train", 6, 11)):
        assert not np.array_equal(alone[0], draw_items([other], 3, 48, False)[0])
    assert not np.array_equal(alone[0], draw_items([ImageEntry("train", 5, 11)], 4, 48, False)[0])


def test_the_number_of_pictures_and_the_balance_do_not_change_a_picture() -> None:
    def by_id(loader: Synth) -> dict[str, bytes]:
        return {
            row.id: image.tobytes()
            for block in loader.blocks()
            for row, image in zip(block.rows, block.images, strict=True)
        }

    small = by_id(Synth(images=60, subjects=6, size=24, imbalance=2.0))
    large = by_id(Synth(images=90, subjects=6, size=24, imbalance=1.0))
    shared = small.keys() & large.keys()
    assert len(shared) >= 40
    assert all(small[name] == large[name] for name in shared)


def test_processes_change_nothing() -> None:
    one = list(Synth(images=140, subjects=10, size=32, jobs=1, imbalance=3.0).blocks())
    two = list(Synth(images=140, subjects=10, size=32, jobs=2, imbalance=3.0).blocks())
    assert [block.rows for block in one] == [block.rows for block in two]
    for a, b in zip(one, two, strict=True):
        assert a.masks is not None
        assert b.masks is not None
        assert a.images.tobytes() == b.images.tobytes()
        assert a.masks.tobytes() == b.masks.tobytes()


def test_a_script_without_a_main_guard_still_gets_every_picture(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from fer_cli.datasets.synth.loader import Synth\n"
        "loader = Synth(images=140, subjects=10, size=16, imbalance=3.0, jobs=2)\n"
        "print(sum(len(block.rows) for block in loader.blocks()))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["140"]


# -- the plan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "imbalance", "classes"), [(1600, 10.0, 7), (1600, 1.0, 8), (3001, 25.0, 8)])
def test_plan(images: int, imbalance: float, classes: int) -> None:
    items = plan(images, 80, imbalance, BY_FREQUENCY[:classes])
    assert len(items) == len(set(items)) == images
    subjects = {split: {item.subject for item in items if item.split == split} for split in SPLITS}
    assert [len(subjects[split]) for split in SPLITS] == [56, 8, 16]
    assert len(set().union(*subjects.values())) == 80
    for split in SPLITS:
        numbers = [item.number for item in items if item.split == split]
        counts = Counter(EXPRESSIONS[number % 8] for number in numbers)
        assert abs(len(numbers) - images * len(subjects[split]) / 80) < 1
        ordered = [counts[name] for name in BY_FREQUENCY[:classes]]
        assert ordered == sorted(ordered, reverse=True)
        smallest, largest = ordered[-1], ordered[0]
        assert (largest - 1) / (smallest + 1) <= imbalance <= (largest + 1) / max(smallest - 1, 0.5)
        hands = Counter(item.subject for item in items if item.split == split)
        assert max(hands.values()) - min(hands.values()) <= 1


def test_three_subjects_are_one_a_split() -> None:
    assert {(item.split, item.subject) for item in plan(90, 3, 2.0, BY_FREQUENCY)} == set(
        zip(SPLITS, range(3), strict=True)
    )


def test_every_subject_shows_several_expressions() -> None:
    shown: dict[int, set[int]] = {}
    for item in plan(1600, 80, 10.0, BY_FREQUENCY[:7]):
        shown.setdefault(item.subject, set()).add(item.number % 8)
    assert min(len(expressions) for expressions in shown.values()) >= 5


# -- the loader -------------------------------------------------------------------------------------------------------


def test_blocks_rows_and_report() -> None:
    loader: Loader = Synth(images=80, subjects=8, size=40, imbalance=2.0, contempt=True)
    blocks = list(loader.blocks())
    report = loader.report()
    rows = [row for block in blocks for row in block.rows]
    assert (loader.name, loader.files, loader.expected_rows, len(rows)) == ("synth-contempt", {}, 80, 80)
    assert len({row.id for row in rows}) == 80
    assert report.classes == EXPRESSIONS
    assert report.label_rule == "synthetic AUs"
    assert {row.label for row in rows} == set(EXPRESSIONS)
    for block in blocks:
        assert block.masks is not None
        assert block.aus is not None
        count = len(block.rows)
        assert block.images.shape == (count, 40, 40, 3)
        assert block.masks.shape == (count, 40, 40)
        assert block.aus.shape == (count, len(report.au_columns))
        assert [a.dtype.name for a in (block.images, block.masks, block.aus)] == ["uint8", "uint8", "float32"]
        for row, aus in zip(block.rows, block.aus, strict=True):
            subject, number = row.id.removeprefix("synth-s").split("-")
            assert row.subject == f"s{subject}"
            truth = face_of(0, int(subject), int(number))
            assert row.label == EXPRESSIONS[int(number) % 8]
            np.testing.assert_array_equal(aus, np.array([truth.aus[name] for name in report.au_columns], np.float32))


def test_grey_is_the_luma_of_the_colour_pictures() -> None:
    colour = next(Synth(images=60, subjects=6, size=24, imbalance=2.0).blocks())
    loader = Synth(images=60, subjects=6, size=24, imbalance=2.0, grey=True)
    grey = next(loader.blocks())
    assert loader.name == "synth-grey"
    assert grey.images.shape == colour.images.shape[:3]
    luma = colour.images @ np.array([0.299, 0.587, 0.114])
    assert np.abs(luma - grey.images).max() <= 1.0


def test_config_names_what_changes_the_result() -> None:
    base = Synth()
    assert base.config == Synth(jobs=2).config
    for change in ({"images": 1700}, {"size": 48}, {"subjects": 40}, {"imbalance": 5.0}, {"seed": 1}):
        assert Synth(**change).config != base.config
    assert Synth(contempt=True).config != base.config != Synth(grey=True).config


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size": 8}, "--size 8 is out of range"),
        ({"size": 5000}, "--size 5000 is out of range"),
        ({"subjects": 2}, "--subjects 2 is out of range"),
        ({"images": 100}, "--images 100 is out of range"),
        ({"imbalance": 0.5}, "--imbalance 0.5 is out of range"),
        ({"imbalance": float("nan")}, "--imbalance nan is out of range"),
        ({"seed": -1}, "--seed -1 is out of range"),
        ({"jobs": 0}, "--jobs 0 is out of range"),
        ({"images": 200, "imbalance": 100.0}, "--images 200 with --imbalance 100 leaves no"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, float], says: str) -> None:
    with pytest.raises(FerError, match="; give") as error:
        Synth(**settings)  # type: ignore[arg-type]
    assert str(error.value).startswith(says)


def test_the_hint_for_too_few_pictures_is_enough() -> None:
    with pytest.raises(FerError) as error:
        Synth(images=200, imbalance=100.0)
    enough = int(error.value.hint.split()[2])
    assert Synth(images=enough, imbalance=100.0).expected_rows == enough


# -- action units -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_are_made_of_their_action_units(expression: str) -> None:
    rng = default_rng(1)
    samples = np.array([list(sample_aus(expression, rng).values()) for _ in range(400)])
    members = EXPRESSION_AUS[expression]
    assert ((samples >= 0.0) & (samples <= 1.0)).all()
    for name, values in zip(AU_NAMES, samples.T, strict=True):
        if name in members:
            assert members[name] - 0.12 <= (values >= 0.2).mean() <= members[name] + 0.1
            assert 0.45 < values[values > 0.0].mean() < 0.95
            assert values[values > 0.0].min() >= np.float32(0.2)  # absent, or to be seen
        else:
            assert values.max() <= 0.25  # no more than a twitch
            assert (values > 0.0).mean() < 0.15


# Where each action unit must act: the regions that hold most of what it changes, by the bounds of the face frame.
BANDS = {
    "brows": ("AU1", "AU2", "AU4"),
    "eyes": ("AU5", "AU6", "AU7"),
    "nose": ("AU9",),
    "mouth": ("AU10", "AU12", "AU14", "AU15", "AU20", "AU24", "AU25", "AU26"),
}


@pytest.mark.parametrize(("band", "name"), [(band, name) for band, names in BANDS.items() for name in names])
def test_an_action_unit_moves_its_part_of_the_face(band: str, name: str) -> None:
    rest = drawn({})
    change = np.abs(drawn({name: 1.0}) - rest).sum(axis=2)
    eye = 56 + (PERSON.eye_y - 0.1) * 112 / 3.3
    mouth = 56 + (PERSON.mouth_y - 0.1) * 112 / 3.3
    top, bottom = {
        "brows": (0.0, eye - 3),
        "eyes": (eye - 9, eye + 16),
        "nose": (eye - 14, mouth - 3),
        "mouth": (eye + 14, 112.0),
    }[band]
    rows = np.arange(112)
    inside = change[(rows >= top) & (rows < bottom)].sum()
    assert inside > 0.7 * change.sum()
    assert (change > 30).sum() >= 15  # a change that can be seen
    half = np.abs(drawn({name: 0.5}) - rest).sum()
    assert 0.2 * change.sum() < half < change.sum()


@pytest.mark.parametrize("name", AU_NAMES)
def test_an_action_unit_acts_continuously(name: str) -> None:
    rest = drawn({})
    full = np.abs(drawn({name: 1.0}) - rest).sum()
    steps = [drawn({name: value}) for value in np.linspace(0.0, 1.0, 21)]
    jumps = [np.abs(after - before).sum() for before, after in pairwise(steps)]
    assert max(jumps) < 0.35 * full


def test_directions() -> None:
    def masks(aus: dict[str, float]) -> NDArray[np.uint8]:
        return render_face(FaceParameters(PERSON, aus, 1, STILL), 112)[1]

    def brows(mask: NDArray[np.uint8]) -> float:
        upper = region("eye", mask)
        upper[round(56 + (PERSON.eye_y - 0.1 - 0.17) * 112 / 3.3) :] = False
        return centre_y(upper)

    def opening(mask: NDArray[np.uint8]) -> int:
        return int(region("eye", mask).sum())

    def corners(mask: NDArray[np.uint8]) -> tuple[float, float]:
        rows, columns = np.nonzero(region("mouth", mask))
        outer = np.abs(columns - columns.mean()) > 0.4 * np.ptp(columns)
        return float(rows[outer].mean()), float(np.ptp(columns))

    rest = masks({})
    assert brows(masks({"AU1": 1.0, "AU2": 1.0})) < brows(rest) - 2 < brows(rest) + 1 < brows(masks({"AU4": 1.0}))
    assert max(brows(masks({"AU1": 1.0})), brows(masks({"AU2": 1.0}))) < brows(rest) - 0.8
    assert opening(masks({"AU5": 1.0})) > opening(rest) > opening(masks({"AU7": 1.0}))
    assert opening(rest) > opening(masks({"AU6": 1.0}))
    assert corners(masks({"AU12": 1.0}))[0] < corners(rest)[0] < corners(masks({"AU15": 1.0}))[0]
    assert corners(masks({"AU12": 1.0}))[1] > corners(rest)[1] < corners(masks({"AU20": 1.0}))[1]
    mouth = [int(region("mouth", masks({name: 1.0})).sum()) for name in ("AU26", "AU25", "AU24")]
    assert mouth[0] > mouth[1] > int(region("mouth", rest).sum()) > mouth[2]


def test_a_smirk_is_on_one_side_and_mirrors() -> None:
    rest = drawn({})
    right, left = (np.abs(drawn({"AU14": 1.0}, side=side) - rest).sum(axis=2) for side in (1, -1))
    assert right[:, 56:].sum() > 3 * right[:, :56].sum()
    assert left[:, :56].sum() > 3 * left[:, 56:].sum()


def test_a_mirrored_scene_is_the_mirrored_picture() -> None:
    bald = dataclasses.replace(PERSON, hair_style="bald")
    aus = {"AU12": 0.8, "AU1": 0.5, "AU9": 0.3}
    turned = Scene(yaw=12.0, roll=7.0, light_x=0.6, gaze_x=0.2, asymmetry=0.2, shift_x=0.1, blur=0.0)
    mirror = dataclasses.replace(turned, yaw=-12.0, roll=-7.0, light_x=-0.6, gaze_x=-0.2, asymmetry=-0.2, shift_x=-0.1)
    one, other = drawn(aus, bald, turned), drawn(aus, bald, mirror)
    apart = np.abs(one - other[:, ::-1])
    assert (
        apart[:, :, 1].mean() < 3.0
    )  # polygons are filled half a fine pixel to the right; glare and shine are not moved
    assert apart.mean() < 0.2 * np.abs(one - drawn(aus, bald, STILL)).mean()


def test_a_head_turns_in_space() -> None:
    def nose(scene: Scene) -> tuple[float, float]:
        rows, columns = np.nonzero(region("nose", render_face(FaceParameters(PERSON, {}, 1, scene), 112)[1]))
        return float(rows.mean()), float(columns.mean())

    down, across = nose(STILL)
    assert nose(dataclasses.replace(STILL, pitch=10.0))[0] > down + 2 > down - 2 > nose(Scene(pitch=-10.0))[0]
    assert nose(dataclasses.replace(STILL, yaw=15.0))[1] > across + 4 > across - 4 > nose(Scene(yaw=-15.0))[1]


def test_light_stays_where_it_is_when_the_head_rolls() -> None:
    bald, grey = dataclasses.replace(PERSON, hair_style="bald"), (120.0, 120.0, 120.0)
    still = dataclasses.replace(STILL, backdrop_top=grey, backdrop_bottom=grey, ambient=0.3)
    from_left = drawn({}, bald, dataclasses.replace(still, light_x=-1.0, light_y=0.0))
    assert from_left[:, :56].mean() > from_left[:, 56:].mean() + 5
    from_above = drawn({}, bald, dataclasses.replace(still, light_x=0.0, light_y=-1.0))
    for upright, light_x, light_y in ((from_left, 0.0, -1.0), (from_above, 1.0, 0.0)):
        lying = drawn({}, bald, dataclasses.replace(still, roll=90.0, light_x=light_x, light_y=light_y))
        assert np.abs(lying - np.rot90(upright, -1)).mean() < 2.5


# -- masks ------------------------------------------------------------------------------------------------------------


def test_majority_against_a_brute_count() -> None:
    fine = default_rng(0).integers(0, len(REGIONS), (24, 36)).astype(np.uint8)
    for factor in (2, 3, 4):
        coarse = majority(fine, factor)
        for row, column in np.ndindex(coarse.shape):
            block = fine[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            assert coarse[row, column] == np.bincount(block.ravel(), minlength=len(REGIONS)).argmax()


@pytest.mark.parametrize("number", range(6))
def test_a_mask_holds_the_region_that_covers_most_of_each_pixel(number: int) -> None:
    face = face_of(0, number, number)
    truth = region_truth(face, 48)
    assert truth.shape == (48 * SUPERSAMPLING,) * 2
    votes = np.stack([truth == index for index in range(len(REGIONS))], axis=-1)
    blocks = votes.reshape(48, SUPERSAMPLING, 48, SUPERSAMPLING, len(REGIONS)).sum(axis=(1, 3))
    np.testing.assert_array_equal(render_face(face, 48)[1], blocks.argmax(axis=2))


def test_a_frontal_face_shows_all_eight_regions_where_they_belong() -> None:
    mask = render_face(FaceParameters(PERSON, {}, 1, STILL), 112)[1]
    shares = np.bincount(mask.ravel(), minlength=len(REGIONS)) / mask.size
    assert (shares > 0.003).all(), dict(zip(REGIONS, shares, strict=True))
    assert shares[REGIONS.index("skin")] > 0.15
    order = [centre_y(region(name, mask)) for name in ("hair", "eye", "nose", "mouth", "neck")]
    assert order == sorted(order)
    assert abs(np.nonzero(region("nose", mask))[1].mean() - 55.5) < 1.5


def test_mask_and_picture_share_their_outlines() -> None:
    colours = dataclasses.replace(PERSON, lip=(255.0, 0.0, 0.0), skin=(200.0, 200.0, 200.0), blush=0.0, freckles=0.0)
    picture, mask = render_face(FaceParameters(colours, {}, 1, STILL), 112)
    red = picture[:, :, 0].astype(int) - picture[:, :, 1] > 100
    mouth = region("mouth", mask)
    assert (red & mouth).sum() > 0.85 * max(red.sum(), mouth.sum())


def test_glasses_are_eye_and_hair_covers_them() -> None:
    bare = render_face(FaceParameters(PERSON, {}, 1, STILL), 112)[1]
    worn_by = dataclasses.replace(PERSON, glasses="round")
    worn = render_face(FaceParameters(worn_by, {}, 1, STILL), 112)[1]
    assert region("eye", worn).sum() > 1.5 * region("eye", bare).sum()
    assert not (region("eye", bare) & ~region("eye", worn)).any()
    fringe = dataclasses.replace(PERSON, hair_style="fringe", hair_volume=0.5, brow_gap=0.15)
    hair = region("hair", render_face(FaceParameters(fringe, {}, 1, STILL), 112)[1])
    fringe_and_glasses = dataclasses.replace(fringe, glasses="round")
    both = render_face(FaceParameters(fringe_and_glasses, {}, 1, STILL), 112)[1]
    behind = hair & region("eye", worn) & ~region("eye", bare)  # less the brows
    assert behind.sum() > 40
    assert region("hair", both)[behind].mean() > 0.4  # the frame alone is over the hair


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_hair_styles(style: str) -> None:
    who = dataclasses.replace(PERSON, hair_style=style)
    mask = render_face(FaceParameters(who, {}, 1, STILL), 112)[1]
    hair = region("hair", mask)
    assert hair.any() == (style != "bald")
    covered = region("ear", mask).sum() < 20
    assert covered == (style in {"bob", "long", "wavy"})


# -- people and parameters --------------------------------------------------------------------------------------------


def test_people_differ_and_are_their_own_in_every_picture() -> None:
    people = [sample_identity(default_rng(seed)) for seed in range(200)]
    assert len({who.hair_style for who in people}) == len(HAIR_STYLES)
    brightness = [sum(who.skin) / 3 for who in people]
    assert min(brightness) < 100
    assert max(brightness) > 210
    assert 0.1 < np.mean([bool(who.glasses) for who in people]) < 0.35
    assert face_of(0, 3, 1).identity == face_of(0, 3, 9).identity != face_of(0, 4, 1).identity
    assert face_of(0, 3, 1).scene != face_of(0, 4, 1).scene
    assert face_of(0, 3, 1).aus != face_of(0, 4, 1).aus


def test_scenes_stay_where_faces_stay_in_the_picture() -> None:
    rng = default_rng(5)
    for _ in range(40):
        mask = render_face(FaceParameters(PERSON, {"AU26": 1.0}, 1, sample_scene(rng)), 32)[1]
        assert {REGIONS.index(name) for name in ("skin", "eye", "nose", "mouth")} <= set(np.unique(mask).tolist())


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="AU3"):
        FaceParameters(PERSON, {"AU3": 0.5})
    with pytest.raises(ValueError, match=r"AU4=1\.5"):
        FaceParameters(PERSON, {"AU4": 1.5})
    with pytest.raises(ValueError, match="smirk_side"):
        FaceParameters(PERSON, {}, smirk_side=0)
    with pytest.raises(ValueError, match="size"):
        render_face(FaceParameters(PERSON, {}), 8)
