"""Faces brought to a template: the transform, the pixels, and which face of a picture is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fer_cli.core.errors import FerError, UsageError
from fer_cli.faces.alignment import (
    NO_FACE,
    SEVERAL,
    TEMPLATE,
    TINY_FACE,
    Aligner,
    Taken,
    align,
    centre,
    open_aligner,
    similarity,
)
from fer_cli.faces.detection import TINY, Faces, main_face
from tests.kits.faces import NONE, ReportExtras, faces_at, one_face, spots, turned

RNG = np.random.default_rng(5)


def umeyama(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The paper's solution by singular values: scaled rotation (2, 2) and shift (2,)."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    u, d, vt = np.linalg.svd((y - mean_y).T @ (x - mean_x) / len(x))
    signs = np.diag([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    scaled = u @ signs @ vt * np.trace(np.diag(d) @ signs) / ((x - mean_x) ** 2).sum(1).mean()
    return scaled, mean_y - scaled @ mean_x


def test_the_template_is_an_upright_face_inside_its_square() -> None:
    left, right, nose, mouth_left, mouth_right = TEMPLATE
    assert left[1] == right[1] < nose[1] < mouth_left[1] == mouth_right[1]
    np.testing.assert_allclose([left[0] + right[0], 2 * nose[0], mouth_left[0] + mouth_right[0]], 1)
    assert right[0] - left[0] == pytest.approx(0.32)


@given(
    degrees=st.floats(-180, 180),
    scale=st.floats(5, 2000),
    shift=st.tuples(st.floats(-500, 4000), st.floats(-500, 4000)),
)
def test_a_known_rotation_scale_and_shift_is_found(degrees: float, scale: float, shift: tuple[float, float]) -> None:
    a, b = similarity(turned(degrees, scale, shift), TEMPLATE * 112)
    assert abs(a) == pytest.approx(112 / scale, rel=1e-9)
    assert np.exp(1j * np.angle(a)) == pytest.approx(np.exp(-1j * np.deg2rad(degrees)), abs=1e-9)
    assert a * complex(*shift) + b == pytest.approx(56 + 56j, abs=1e-6)


def test_points_that_fit_no_similarity_get_the_best_one() -> None:
    for _ in range(50):
        points = turned(RNG.uniform(-180, 180), 100, (50, 50)) + RNG.normal(0, 8, (5, 2))
        a, b = similarity(points, TEMPLATE * 48)
        scaled, shift = umeyama(points, TEMPLATE * 48)
        np.testing.assert_allclose([[a.real, -a.imag], [a.imag, a.real]], scaled, atol=1e-10)
        np.testing.assert_allclose([b.real, b.imag], shift, atol=1e-9)
    mirrored = (1 - TEMPLATE) * (1, -1) * 100  # no reflection: left stays left
    a, _ = similarity(mirrored, TEMPLATE * 48)
    np.testing.assert_allclose([[a.real, -a.imag], [a.imag, a.real]], umeyama(mirrored, TEMPLATE * 48)[0], atol=1e-10)


@pytest.mark.parametrize("size", [48, 112, 224])
@pytest.mark.parametrize("degrees", [0, 25, -40, 180])
@pytest.mark.parametrize("scale", [90.0, 224.0, 700.0])
def test_the_points_of_a_face_come_to_the_templates(degrees: float, scale: float, size: int) -> None:
    width, height = 900, 760
    points = turned(degrees, scale, (470.3, 381.8))
    aligned = align(spots(points, width, height, scale / 50), points, size)
    assert aligned.shape == (size, size, 3)
    assert aligned.dtype == np.uint8
    bright = aligned[..., 0].astype(float) - 20
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    for px, py in TEMPLATE * size:
        near = np.where((abs(x - px) < 0.07 * size) & (abs(y - py) < 0.07 * size), np.maximum(bright, 0), 0)
        found = (near * x).sum() / near.sum(), (near * y).sum() / near.sum()
        assert found == pytest.approx((px, py), abs=0.12)  # Pillow's cubic shifts by up to 0.1 px


def test_a_face_that_is_in_place_keeps_its_pixels() -> None:
    picture = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(align(picture, TEMPLATE * 64, 64), picture)
    upright = align(np.rot90(picture, 2).copy(), 64 - TEMPLATE * 64, 64)  # the same, standing on its head
    np.testing.assert_allclose(upright.astype(int), picture.astype(int), atol=1)


@pytest.mark.parametrize("degrees", [0, 30])
def test_what_shrinks_is_averaged_not_skipped(degrees: float) -> None:
    x, y = np.meshgrid(np.arange(1200), np.arange(1200))
    lattice = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    aligned = align(lattice, turned(degrees, 800, (600, 600)), 48)
    assert abs(aligned.astype(float) - 127.5).max() < 6


def test_what_lies_outside_is_black() -> None:
    white = np.full((50, 100, 3), 255, dtype=np.uint8)
    aligned = align(white, TEMPLATE * 100, 100)
    assert (aligned[:49] == 255).all()
    assert (aligned[51:] == 0).all()
    far = align(white, np.array([[-9e3, 0], [9e3, 0], [0, 8e3], [-7e3, 1e4], [7e3, 1e4]]), 64)  # larger than memory
    assert far.shape == (64, 64, 3)


@pytest.mark.parametrize(("width", "height"), [(90, 50), (50, 90), (51, 50), (50, 50), (1, 40)])
def test_the_centre_is_the_largest_square(width: int, height: int) -> None:
    picture = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = min(width, height)
    expected = Image.fromarray(picture).transform(
        (side, side), Image.Transform.AFFINE, (1, 0, (width - side) / 2, 0, 1, (height - side) / 2)
    )
    found = centre(picture, side)
    if (width - side) % 2 == (height - side) % 2 == 0:
        np.testing.assert_array_equal(found, np.asarray(expected))
    assert centre(picture, 20).shape == (20, 20, 3)


def test_the_largest_face_counts_weighted_by_how_central_it_is() -> None:
    central, corner = (60.0, 60.0, 140.0, 140.0), (0.0, 0.0, 80.0, 80.0)
    assert main_face(faces_at(corner, central), 200, 200) == 1
    assert main_face(faces_at(central, corner), 200, 200) == 0
    assert main_face(faces_at((40, 40, 160, 160), (60, 60, 140, 140)), 200, 200) == 0
    # 120 px in the corner, 0.4 of the way to the middle gone: 120^2 x 0.6 = 8640 against 80^2 = 6400
    assert main_face(faces_at(central, (0, 0, 120, 120)), 200, 200) == 1
    assert main_face(faces_at((500, 500, 600, 600)), 200, 200) == 0  # beyond the border, and the only one
    assert main_face(NONE, 200, 200) is None
    just = TINY
    assert main_face(faces_at((90, 90, 90 + just, 100)), 200, 200) == 0
    assert main_face(faces_at((90, 90, 90 + just - 0.1, 100)), 200, 200) is None
    assert main_face(faces_at((90, 90, 110, 110), (0, 0, 30, 30)), 200, 200) == 1


def taken(faces: Faces, without: str = "centre", again: Faces = NONE) -> tuple[Taken, NDArray[np.uint8]]:
    """Align a picture with these faces; in the upright one the detector then finds ``again``."""
    picture = RNG.integers(0, 256, (150, 200, 3), dtype=np.uint8)
    detector = ReportExtras(lambda seen: faces if seen.shape == picture.shape else again)
    (result,) = Aligner(detector, 48, without).take([picture])
    return result, picture


def test_one_face_is_taken_without_a_word() -> None:
    face = one_face(turned(10, 90, (100, 80)))
    result, picture = taken(face)
    assert result.flags == ()
    np.testing.assert_array_equal(result.pixels, align(picture, face.points[0], 48))


def test_the_points_are_looked_for_again_where_the_face_is_upright() -> None:
    true, rough = turned(30, 90, (100, 80)), turned(12, 75, (97, 84))
    a, b = similarity(rough, ((TEMPLATE - 0.5) * 0.6 + 0.5) * 320)  # how the upright picture was made
    near = a * (true @ (1, 1j)) + b
    upright = one_face(np.stack([near.real, near.imag], 1))
    result, picture = taken(one_face(rough), again=upright)
    assert result.pixels is not None
    expected = align(picture, true, 48)
    assert abs(result.pixels.astype(int) - expected).max() <= 1
    assert abs(result.pixels.astype(int) - align(picture, rough, 48)).mean() > 20
    several = faces_at((0, 0, 80, 80), (200, 200, 280, 280))
    assert taken(one_face(rough), again=several)[0].flags == ()  # neighbours are counted in the picture alone


def test_a_larger_neighbour_does_not_take_the_place_of_the_upright_face() -> None:
    picture = RNG.integers(0, 256, (150, 200, 3), dtype=np.uint8)
    first = one_face(turned(5, 90, (100, 80)))
    here = ((TEMPLATE - 0.5) * 0.6 + 0.5) * 320 + (3, -2)
    face, beside = one_face(here), one_face(here * 1.5 + (150, -40))
    both = Faces(np.concatenate([beside.boxes, face.boxes]), np.concatenate([beside.points, face.points]), np.ones(2))

    def pixels(again: Faces) -> NDArray[np.uint8]:
        (found,) = Aligner(ReportExtras(lambda seen: first if len(seen) == 150 else again), 48).take([picture])
        assert found.pixels is not None
        return found.pixels

    np.testing.assert_array_equal(pixels(both), pixels(face))
    np.testing.assert_array_equal(pixels(beside), pixels(NONE))
    assert not np.array_equal(pixels(face), pixels(NONE))


def test_the_upright_face_is_what_the_detector_sees() -> None:
    points = turned(-70, 300, (400, 300))
    picture = spots(points, 800, 600, 8)
    seen: list[NDArray[np.uint8]] = []

    def answer(shown: NDArray[np.uint8]) -> Faces:
        seen.append(shown)
        return one_face(points) if len(shown) == 600 else NONE

    Aligner(ReportExtras(answer), 48).take([picture, picture])
    assert [shown.shape for shown in seen] == [(600, 800, 3)] * 2 + [(320, 320, 3)] * 2
    for x, y in ((TEMPLATE - 0.5) * 0.6 + 0.5) * 320:
        assert seen[2][round(y - 0.5), round(x - 0.5)].min() > 200


def test_of_several_faces_one_is_taken_and_it_is_said() -> None:
    faces = faces_at((0, 0, 40, 40), (60, 40, 150, 130), (150, 0, 160, 10))
    result, picture = taken(faces)
    assert result.flags == (SEVERAL,)
    np.testing.assert_array_equal(result.pixels, align(picture, faces.points[1], 48))
    assert taken(faces_at((60, 40, 150, 130), (150, 0, 160, 10)))[0].flags == ()  # the other is tiny


@pytest.mark.parametrize(("faces", "flag"), [(NONE, NO_FACE), (faces_at((90, 70, 105, 85)), TINY_FACE)])
def test_without_a_face_the_middle_is_kept_or_the_picture_dropped(faces: Faces, flag: str) -> None:
    result, picture = taken(faces)
    assert result.flags == (flag,)
    np.testing.assert_array_equal(result.pixels, centre(picture, 48))
    assert taken(faces, "drop")[0] == Taken(None, (flag,))


def test_words_that_are_not_known() -> None:
    with pytest.raises(UsageError, match="--no-face 'refuse' is unknown; take centre or drop"):
        open_aligner(size=48, without="refuse")
    with pytest.raises(UsageError, match="--detector 'mtcnn' is unknown; take auto, retinaface-resnet50 or"):
        open_aligner(size=48, detector="mtcnn")
    with pytest.raises(
        UsageError,
        match="does not say which detector it belongs to, and this is none of the published ones; add --detector",
    ):
        open_aligner(size=48, weights=__file__)
    with pytest.raises(FerError, match=r"some.pth: no such file"):
        open_aligner(size=48, weights="some.pth")


def test_no_weights_no_aligner() -> None:
    assert open_aligner(size=48) is None
