"""Figures of region maps: the colours they are drawn in, what they say, and that nothing collides or is cut."""

from __future__ import annotations

import subprocess
import sys
import warnings
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray

from fer_cli.core.labels import REGIONS
from fer_cli.datasets.synth.faces import render_face
from fer_cli.datasets.synth.parameters import FaceParameters, sample_identity
from fer_cli.plots.masks import MaskedFace, compare_figure, masks_figure, mean_map_figure
from fer_cli.reporting.style import REGION_COLOURS, save_figure, styled

Bytes = NDArray[np.uint8]
RGB = {name: 255 * np.array(to_rgb(colour)) for name, colour in REGION_COLOURS.items()}


def texts(figure: Figure) -> list[str]:
    return [one.get_text() for one in figure.findobj(Text) if one.get_text()]


def pictures(figure: Figure) -> list[AxesImage]:
    return list(figure.axes[0].images)


def drawn(figure: Figure) -> NDArray[np.int64]:
    """Render a figure at the resolution in which its page counts: (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(200)
    with styled():
        canvas.draw()  # type: ignore[no-untyped-call]
    rgba = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return rgba[:, :, :3].astype(np.int64)


def pixel(page: NDArray[np.int64], image: AxesImage, row: float, column: float) -> NDArray[np.int64]:
    """Return the colour drawn at a place of a picture, counted in its own pixels."""
    left, right, bottom, top = image.get_extent()
    height, width = np.asarray(image.get_array()).shape[:2]
    y, x = top + row * (bottom - top) / height, left + column * (right - left) / width
    return np.asarray(page[int(y), int(x)])


def blank(shape: tuple[int, ...], value: int = 100) -> Bytes:
    return np.full(shape, value, np.uint8)


def face(caption: str = "id", height: int = 10, width: int = 8) -> MaskedFace:
    regions = np.zeros((height, width), np.uint8)
    regions[2:6, 2:6] = REGIONS.index("skin")
    return MaskedFace(blank((height, width)), regions, caption)


@pytest.fixture(scope="module")
def synth() -> tuple[Bytes, Bytes]:
    return render_face(FaceParameters(sample_identity(np.random.default_rng(4)), {}), 48)


@pytest.mark.parametrize("shape", [(12, 32), (12, 32, 3)], ids=["grey", "colour"])
def test_regions_are_laid_over_the_picture(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    regions = np.zeros((12, 32), np.uint8)
    for k in range(1, 8):
        regions[3:9, 4 * k : 4 * k + 3] = k
    figure = masks_figure({"all": [MaskedFace(image, regions, "")]}, "", "")
    page = drawn(figure)
    plain, laid = pictures(figure)
    rgb = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    for row, column in product(range(12), range(32)):
        np.testing.assert_allclose(pixel(page, plain, row + 0.5, column + 0.5), rgb[row, column], atol=1)
        expected = rgb[row, column].astype(float)
        if regions[row, column]:
            expected = 0.5 * expected + 0.5 * RGB[REGIONS[regions[row, column]]]
        np.testing.assert_allclose(pixel(page, laid, row + 0.5, column + 0.5), expected, atol=1)
    for k in range(1, 8):  # on the edge, the region's own colour
        np.testing.assert_allclose(pixel(page, laid, 6, 4 * k), RGB[REGIONS[k]], atol=25)


def test_outline_follows_the_pixels_but_not_the_border() -> None:
    regions = np.zeros((6, 5), np.uint8)
    regions[1:3, 1:4] = REGIONS.index("eye")
    regions[4:, 0] = REGIONS.index("hair")
    figure = masks_figure({"all": [MaskedFace(blank((6, 5)), regions, "")]}, "", "")
    left, right, bottom, top = pictures(figure)[1].get_extent()
    found: dict[str, list[list[list[float]]]] = {}
    for patch in figure.findobj(PathPatch):
        assert isinstance(patch, PathPatch)
        lines = (np.asarray(patch.get_path().vertices) - (left, top)) / ((right - left) / 5, (bottom - top) / 6)
        assert patch.get_path().codes is not None
        assert np.asarray(patch.get_path().codes).tolist() == [1, 2] * (len(lines) // 2)
        if len(lines):
            found[to_hex(patch.get_edgecolor())] = sorted(np.round(lines, 6).reshape(-1, 2, 2).tolist())
    assert found == {
        REGION_COLOURS["eye"]: [[[1, 1], [1, 3]], [[1, 1], [4, 1]], [[1, 3], [4, 3]], [[4, 1], [4, 3]]],
        REGION_COLOURS["hair"]: [[[0, 4], [1, 4]], [[1, 4], [1, 6]]],
    }


def test_where_regions_meet_the_smaller_one_is_outlined() -> None:
    regions = np.full((10, 10), REGIONS.index("skin"), np.uint8)
    regions[4:6, 4:6] = REGIONS.index("eye")
    figure = masks_figure({"all": [MaskedFace(blank((10, 10)), regions, "")]}, "", "")
    np.testing.assert_allclose(pixel(drawn(figure), pictures(figure)[1], 4, 5), RGB["eye"], atol=25)


@pytest.mark.parametrize("side", [48, 64])
def test_pixels_are_equally_wide(side: int) -> None:
    figure = masks_figure({"all": [face(width=side, height=side)] * 5}, "", "")
    for image in pictures(figure):
        left, right, bottom, top = image.get_extent()
        assert ((right - left) / side).is_integer()
        assert left == int(left)
        assert top == int(top)
        assert (right - left) * side == (bottom - top) * side
        assert image.get_interpolation() == "none"


def test_large_pictures_are_averaged() -> None:
    figure = masks_figure({"all": [face(width=300, height=300)] * 5}, "", "")
    assert {image.get_interpolation() for image in pictures(figure)} == {"antialiased"}


@pytest.mark.parametrize("which", ["masks", "compare"])
def test_legend_names_every_region_beside_its_colour(which: str) -> None:
    one = face()
    figure = (
        masks_figure({"best": [one]}, "", "")
        if which == "masks"
        else compare_figure([one.image], {"truth": [one.map]}, "", "")
    )
    said = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() in REGIONS]
    assert [text.get_text() for text in said] == list(REGIONS)
    swatches = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert [to_hex(swatch.get_facecolor()) for swatch in swatches] == [
        REGION_COLOURS.get(name, "#ffffff") for name in REGIONS
    ]
    for text, swatch in zip(said, swatches, strict=True):
        assert 0 < text.get_position()[0] - swatch.get_x() - swatch.get_width() < 20
        assert swatch.get_y() < text.get_position()[1] < swatch.get_y() + swatch.get_height()


NASTY = (
    "a $\\frac{ b_c^",
    "<script>alert(1)</script>\n<b>no mouth</b>",
    "x" * 3000 + ".png\n" + "y" * 3000,
    "train/a folder with blanks/" + "0123456789" * 9 + ".jpg\nno eye, no nose\nno mouth, in pieces, " + "word " * 90,
    "面部/001 é.jpg\n理由",
    "tab\tbell\x07 \x1b[31m\r\x00 \udcff",
    "turned \u202e round",  # the font has this one, and it would reverse what follows
    "",
    "\nonly a reason",
)


def test_any_caption_is_written_and_fits(tmp_path: Path) -> None:
    faces = [face(caption) for caption in NASTY]
    figure = masks_figure({"$\\frac{ " * 60: faces}, "Title $\\frac{\n" + "ill " * 200, "subtitle $" + "w" * 400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that the font does not have
        check_layout(figure)
        for suffix in (".png", ".svg", ".pdf"):
            save_figure(figure, tmp_path / f"a{suffix}", dpi=50)
    said = texts(figure)
    for text in (
        "a $\\frac{ b_c^",
        "<script>alert(1)</script>",
        "<b>no mouth</b>",
        "\\u9762\\u90e8/001 é.jpg",
        "\\u7406\\u7531",
        "tab\\tbell\\x07 \\x1b[31m\\r\\x00 \\udcff",
        "turned \\u202e round",
        "only a reason",
    ):
        assert text in said, text
    shortened = [text for text in said if "…" in text]
    assert next(text for text in shortened if text.startswith("xxx")).endswith("x.png"), "an id keeps its end"
    assert next(text for text in shortened if text.startswith("train/a fol")).endswith("789.jpg")
    assert next(text for text in shortened if text.startswith("yyy")).endswith("y…")
    reasons = said.index("no eye, no nose no mouth, in pieces,")
    assert said[reasons + 1].startswith("word word")
    assert said[reasons + 1].endswith("…")
    assert len([text for text in said if text.startswith("Title $\\frac{\\nill")]) == 1
    assert not any(text.get_parse_math() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text())


def check_layout(figure: Figure) -> None:
    """Assert that texts and pictures lie on the page and none on another."""
    figure.set_dpi(200)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    width, height = figure.bbox.size
    boxes = {
        f"{one.get_text()!r} {k}": one.get_window_extent(renderer)
        for k, one in enumerate(figure.findobj(Text))
        if isinstance(one, Text) and one.get_text()
    }
    boxes |= {f"picture {k}": one.get_window_extent(renderer) for k, one in enumerate(pictures(figure))}
    for name, box in boxes.items():
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= width, name
        assert box.y1 <= height, name
    for (one, first), (other, second) in combinations(boxes.items(), 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        down = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across <= 0 or down <= 0.5, f"{one} and {other} overlap"


PORTRAIT, SQUARE, LANDSCAPE = (12, 7), (8, 8), (6, 10)


@pytest.mark.parametrize(
    ("counts", "size"),
    [
        *(((1,), size) for size in (PORTRAIT, SQUARE, LANDSCAPE)),
        *((counts, SQUARE) for counts in ((), (0,), (2, 0), (3, 1), (4,), (24, 24))),
        *((counts, PORTRAIT) for counts in ((5, 0, 5), (3, 13))),
        *((counts, LANDSCAPE) for counts in ((2,), (5, 7))),
    ],
)
def test_any_number_of_faces(counts: tuple[int, ...], size: tuple[int, int]) -> None:
    caption = "a rather long id of an image.jpg\nno eye, no nose, no mouth, in pieces, cut, mirror, unsure"
    groups = {f"group {k}": [face(caption, *size)] * count for k, count in enumerate(counts)}
    figure = masks_figure(groups, "Region maps", "of what")
    check_layout(figure)
    assert len(pictures(figure)) == 2 * sum(counts)
    assert texts(figure).count("none") == counts.count(0)
    assert [text for text in texts(figure) if text in groups] == list(groups)
    for image in pictures(figure):
        left, right, bottom, top = image.get_extent()
        assert (right - left) / (bottom - top) == pytest.approx(size[1] / size[0])
    if sum(counts):
        across = len({image.get_extent()[0] for image in pictures(figure)}) // 2
        assert across == max(counts) if max(counts) <= 4 else 4 <= across <= 8
    width, height = figure.get_size_inches()
    assert 6.5 <= width < 18
    assert height < 1.5 * width + 2


def test_pairs_stand_under_their_heading_in_order() -> None:
    shades = [blank((8, 8), 10 * k) for k in range(12)]
    faces = [MaskedFace(image, np.zeros((8, 8), np.uint8), f"id {k}") for k, image in enumerate(shades)]
    figure = masks_figure({"first": faces[:5], "second": faces[5:]}, "", "")
    found = pictures(figure)
    places = [(image.get_extent()[3], image.get_extent()[0]) for image in found]
    assert places == sorted(places), "row by row, from the left"
    for k, (plain, laid) in enumerate(zip(found[::2], found[1::2], strict=True)):
        assert np.all(np.asarray(plain.get_array()) == 10 * k)
        assert np.all(np.asarray(laid.get_array()) == 10 * k), "the background stays as it is"
        assert 0 < laid.get_extent()[0] - plain.get_extent()[1] < 10
    at = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    for k, plain in enumerate(found[::2]):
        x, y = at[f"id {k}"]
        assert x == plain.get_extent()[0]
        assert 0 < y - plain.get_extent()[2] < 20
    assert at["first"][1] < found[0].get_extent()[3] < at["second"][1] < found[10].get_extent()[3]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_each_time(tmp_path: Path, suffix: str, synth: tuple[Bytes, Bytes]) -> None:
    image, regions = synth

    def figures() -> list[Figure]:
        shares = np.stack([regions == k for k in range(8)]).astype(np.float64)
        return [
            masks_figure({"best": [MaskedFace(image, regions, "id\nunsure")]}, "Maps", "of synth"),
            compare_figure([image], {"compact": [regions], "truth": [regions]}, "Maps", "of synth"),
            mean_map_figure(shares, "Mean", "of synth"),
        ]

    for one, other in zip(figures(), figures(), strict=True):
        first = save_figure(one, tmp_path / f"a{suffix}", dpi=50).read_bytes()
        assert first == save_figure(other, tmp_path / f"b{suffix}", dpi=50).read_bytes()
        assert len(first) > 5000


def test_mean_map_shows_the_shares() -> None:
    maps = np.zeros((4, 6, 5), np.uint8)
    maps[:, 0] = REGIONS.index("hair")
    maps[:3, 1] = REGIONS.index("skin")
    maps[:2, 2, 2:] = REGIONS.index("nose")
    maps[:3, 3, 0] = REGIONS.index("mouth")
    shares = np.stack([(maps == k).mean(axis=0) for k in range(8)])
    figure = mean_map_figure(shares, "Mean", "of what")
    most, *panels, bar = pictures(figure)
    assert len(panels) == 7
    for k, panel in enumerate(panels, 1):
        np.testing.assert_array_equal(np.asarray(panel.get_array()), shares[k])
        assert panel.get_clim() == bar.get_clim() == (0, 1)
        assert panel.get_cmap() == bar.get_cmap()
    assert np.asarray(bar.get_array())[[0, -1], 0].tolist() == [1, 0], "the bar's upper end is 100%"
    colours = np.asarray(most.get_array()).astype(float)
    np.testing.assert_allclose(colours[0], np.tile(RGB["hair"], (5, 1)), atol=1)
    np.testing.assert_allclose(colours[1, 3], 255 + 0.75 * (RGB["skin"] - 255), atol=1)
    np.testing.assert_allclose(colours[3, 0], 255 + 0.75 * (RGB["mouth"] - 255), atol=1)
    assert np.ptp(colours[5, 3]) < 10, "the background is grey"
    said = texts(figure)
    shown = ["hair  16.7%", "skin  12.5%", "nose  5.0%", "mouth  2.5%", "eye  0.0%", "ear  0.0%", "neck  0.0%"]
    for text in (*shown, "background  63.3%", "0%", "100%"):
        assert text in said, text
    tops = {text.get_text().split()[0]: text.get_position() for text in figure.axes[0].texts}
    for k, panel in enumerate(panels, 1):
        x, y = tops[REGIONS[k]]
        left, _, _, top = panel.get_extent()
        assert 0 < x - left < 60, "the name stands over its panel"
        assert 0 < top - y < 60


@pytest.mark.parametrize("size", [(48, 48), (224, 224), (90, 60), (40, 120), (3, 2)])
def test_mean_map_of_any_size(size: tuple[int, int]) -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(8), size).transpose(2, 0, 1)
    figure = mean_map_figure(shares, "Mean " * 90, "of what " * 90)
    check_layout(figure)
    for image in pictures(figure)[:8]:
        left, right, bottom, top = image.get_extent()
        assert (right - left) / (bottom - top) == pytest.approx(size[1] / size[0], rel=0.01)


@pytest.mark.parametrize("count", [0, 1, 3, 8, 9, 20])
def test_parsers_side_by_side(count: int) -> None:
    names = ("compact", "truth $_{")
    images = [blank((8, 8), 5 * k) for k in range(count)]
    maps = {name: [np.full((8, 8), 1 + (k + n) % 7, np.uint8) for k in range(count)] for n, name in enumerate(names)}
    figure = compare_figure(images, maps, "Maps", "of what")
    check_layout(figure)
    rows = max(-(-count // 8), 0)
    for name in ("image", *names):
        assert texts(figure).count(name) == rows
    assert texts(figure).count("none") == (count == 0)
    found = {
        (image.get_extent()[0], image.get_extent()[3]): np.asarray(image.get_array()).reshape(64, -1)
        for image in pictures(figure)
    }
    assert len(found) == 3 * count
    tops = sorted({top for _, top in found})
    for k in range(count):
        left, top = next(at for at, pixels in found.items() if pixels.shape[1] == 1 and pixels[0, 0] == 5 * k)
        for n in range(2):
            below = found[left, tops[tops.index(top) + 1 + n]][0]
            np.testing.assert_allclose(below, 2.5 * k + 0.5 * RGB[REGIONS[1 + (k + n) % 7]], atol=1)


def test_real_shapes_are_demanded() -> None:
    image, regions = blank((6, 5)), np.zeros((6, 5), np.uint8)
    for picture, region_map in (
        (image, regions.T),
        (image, regions[:5]),
        (blank((6, 5, 4)), regions),
        (image, np.full((6, 5), 8, np.uint8)),
    ):
        with pytest.raises(AssertionError):
            masks_figure({"best": [MaskedFace(picture, region_map, "")]}, "", "")
        with pytest.raises(AssertionError):
            compare_figure([picture], {"truth": [region_map]}, "", "")
    with pytest.raises(AssertionError, match="one map an image"):
        compare_figure([image], {"truth": [regions, regions]}, "", "")
    for shares in (np.zeros((7, 6, 5)), np.zeros((8, 6)), np.full((8, 6, 5), 1.5), np.full((8, 6, 5), np.nan)):
        with pytest.raises(AssertionError):
            mean_map_figure(shares, "", "")


def test_neither_pyplot_nor_early_imports() -> None:
    code = """
import sys
import numpy as np
import fer_cli.plots.masks
assert not {"matplotlib", "torch", "pyarrow"} & set(sys.modules)
fer_cli.plots.masks.mean_map_figure(np.full((8, 4, 4), 0.125), "", "")
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# Machado, Oliveira & Fernandes 2009, severity 1.
SIGHTS = {
    "normal": np.eye(3),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
TOUCHING = (
    *(("skin", name) for name in REGION_COLOURS if name != "skin"),
    *(("hair", name) for name in ("eye", "ear", "neck")),
    *(("nose", "eye"), ("nose", "mouth"), ("neck", "ear"), ("neck", "mouth")),
)
UNDER = (
    *((v, v, v) for v in (30, 80, 128, 180, 225)),
    *((250, 220, 200), (228, 178, 143), (176, 119, 83), (98, 62, 46)),  # skin
    *((62, 42, 32), (150, 60, 60)),  # hair, lip
)


def difference(one: NDArray[np.float64], other: NDArray[np.float64], sight: NDArray[np.float64]) -> float:
    """Return the distance in CIELAB of two sRGB colours from 0 to 255."""
    rgb = np.stack([one, other]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ sight.T
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(linear, 0, 1) @ matrix.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    return float(np.linalg.norm(lab[0] - lab[1]))


@pytest.mark.parametrize("sight", SIGHTS)
def test_region_colours_can_be_told_apart(sight: str) -> None:
    assert tuple(REGION_COLOURS) == REGIONS[1:]
    seen = np.asarray(SIGHTS[sight])
    assert min(difference(one, other, seen) for one, other in combinations(RGB.values(), 2)) >= 32
    blended = (
        difference((RGB[one] + np.array(under)) / 2, (RGB[other] + np.array(under)) / 2, seen)
        for (one, other), under in product(TOUCHING, UNDER)
    )
    assert min(blended) >= 20
