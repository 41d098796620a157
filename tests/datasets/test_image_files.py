"""Picture files: what is decoded and how, and what is refused with which words."""

from __future__ import annotations

import io
import os
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fer_cli.core.errors import FerError
from fer_cli.datasets import image_decoding, image_files
from fer_cli.datasets.image_files import Picture, decode, decode_blocks, probe, probe_all, walk
from tests.kits.fer2013 import fault

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (6, 4), dtype=np.uint8)  # 6 rows, 4 columns
COLOUR = RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8)
EXACT = ("png", "bmp", "tif", "tiff", "ppm")


@pytest.mark.parametrize("suffix", EXACT)
def test_colour_is_decoded_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLOUR).save(path)
    assert probe(path) == Picture(width=4, height=6, grey=False)
    np.testing.assert_array_equal(decode(path, grey=False), COLOUR)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "pgm"])
def test_grey_is_decoded_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(GREY).save(path)
    assert probe(path) == Picture(width=4, height=6, grey=True)
    np.testing.assert_array_equal(decode(path, grey=True), GREY)
    np.testing.assert_array_equal(decode(path, grey=False), np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
def test_lossy_kinds_come_close(tmp_path: Path, suffix: str) -> None:
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 3, axis=2).repeat(64, axis=0)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(ramp).save(path, quality=95)
    assert np.abs(decode(path, grey=False).astype(int) - ramp).max() <= 12


def test_luma_of_colour(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode(tmp_path / "a.png", grey=True) - luma).max() <= 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    """A picture stored under each orientation comes out as it was meant: dark at the top left, bright at the right."""
    upright = np.full((32, 48, 3), 60, dtype=np.uint8)
    upright[:, 24:] = 200
    upright[:16, :24] = 0
    stored = {  # EXIF 2.32, 4.6.5: where row 0 and column 0 of the stored picture lie in the shown one
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {"quality": 95} if suffix == "jpg" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    assert probe(path) == Picture(width=48, height=32, grey=False)
    assert np.abs(decode(path, grey=False).astype(int) - upright).max() <= 30


def test_palette_and_opaque_alpha_are_flattened(tmp_path: Path) -> None:
    rgba = np.dstack([COLOUR, np.full((6, 4), 255, dtype=np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(decode(tmp_path / "rgba.png", grey=False), COLOUR)
    la = Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (4, 6), 255)])
    la.save(tmp_path / "la.png")
    assert probe(tmp_path / "la.png").grey
    np.testing.assert_array_equal(decode(tmp_path / "la.png", grey=True), GREY)
    palette = Image.fromarray(COLOUR).quantize(24)
    palette.save(tmp_path / "p.png")
    assert not probe(tmp_path / "p.png").grey
    np.testing.assert_array_equal(decode(tmp_path / "p.png", grey=False), np.asarray(palette.convert("RGB")))
    ramp = Image.fromarray(GREY)
    greys = ramp.convert("P")
    greys.putpalette([value for value in range(256) for _ in range(3)])
    greys.save(tmp_path / "greys.png")
    assert probe(tmp_path / "greys.png").grey
    np.testing.assert_array_equal(decode(tmp_path / "greys.png", grey=True), GREY)
    ramp.convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(decode(tmp_path / "bits.png", grey=True))) <= {0, 255}


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    """A checkerboard of single pixels shrinks to an even grey; without antialiasing it would stay black and white."""
    board = ((np.indices((64, 64)).sum(axis=0) % 2) * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "a.png")
    small = decode(tmp_path / "a.png", grey=True, size=8)
    assert small.shape == (8, 8)
    assert np.abs(small.astype(int) - 127).max() <= 3


def _png16(path: Path) -> None:
    """Write a 16-bit RGB PNG by hand: Pillow reads such files, but does not write them."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + os.urandom(4 * 6) for _ in range(6))
    head = struct.pack(">IIBBBBB", 4, 6, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def _cut(path: Path, share: float = 0.6) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}[path.suffix])
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])


def _frames(path: Path) -> None:
    frames = [Image.fromarray(np.roll(COLOUR, shift, axis=1)) for shift in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _half_clear(path: Path) -> None:
    Image.fromarray(np.dstack([COLOUR, np.full((6, 4), 254, dtype=np.uint8)])).save(path)


def _clear_colour(path: Path) -> None:
    Image.fromarray(COLOUR).save(path, transparency=tuple(COLOUR[0, 0].tolist()))


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "0 bytes": ("a.png", lambda path: path.write_bytes(b""), "the file is empty (0 bytes)"),
    "text": ("a.png", lambda path: path.write_text("not a picture\n"), "is not an image of a supported format"),
    "icon": ("a.png", lambda path: Image.fromarray(GREY).save(path, "ICO"), "is not an image of a supported format"),
    "cut png": ("a.png", _cut, "damaged or truncated"),
    "cut jpeg": ("a.jpg", _cut, "damaged or truncated"),
    "cut webp": ("a.webp", _cut, "damaged or truncated"),
    "cut bmp": ("a.bmp", _cut, "damaged or truncated"),
    "cut header": ("a.png", lambda path: _cut(path, 0.002), "a.png"),
    "16-bit grey": ("a.png", lambda path: Image.fromarray(GREY.astype(np.uint16)).save(path), "16 or more bits"),
    "16-bit colour": ("a.png", _png16, "16 or more bits"),
    "16-bit ppm": ("a.ppm", lambda path: path.write_bytes(b"P6 2 1 65535\n" + b"\1\2" * 6), "16 or more bits"),
    "float tiff": ("a.tif", lambda path: Image.fromarray(GREY.astype(np.float32)).save(path), "16 or more bits"),
    "cmyk": ("a.jpg", lambda path: Image.fromarray(COLOUR).convert("CMYK").save(path), "colours are CMYK"),
    "animated png": ("a.png", _frames, "several frames"),
    "animated webp": ("a.webp", _frames, "several frames"),
    "tiff pages": ("a.tif", _frames, "several frames"),
    "half clear": ("a.png", _half_clear, "partly transparent"),
    "clear colour": ("a.png", _clear_colour, "partly transparent"),
    "a folder": ("a.png", lambda path: path.mkdir(), "cannot be read: Is a directory"),
    "missing": ("a.png", lambda path: None, "cannot be read: No such file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pictures_are_refused(tmp_path: Path, case: str) -> None:
    name, write, words = BAD[case]
    write(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fault(lambda: decode(tmp_path / name, grey=False), words, at=f"{tmp_path / name}: ")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "a.png"
    Image.fromarray(COLOUR).save(small)
    monkeypatch.setattr(image_decoding, "MAX_PIXELS", 23)  # it has 24
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    fault(lambda: decode(small, grey=False), "the image has more than", at=f"{small}: ")
    huge = bytearray(small.read_bytes())
    huge[16:24] = struct.pack(">II", 60_000, 60_000)
    huge[29:33] = struct.pack(">I", zlib.crc32(bytes(huge[12:29])))
    small.write_bytes(huge)
    fault(lambda: probe(small), "the image has more than", at=f"{small}: ")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=64), st.integers(0, 400), st.sampled_from(["png", "jpg", "webp", "tif", "bmp", "ppm"]))
@example(b"", 0, "png")
def test_any_bytes_decode_or_are_refused(tmp_path: Path, patch: bytes, at: int, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLOUR).save(path)
    good = path.read_bytes()
    for data in (patch, good[:at] + patch + good[at + len(patch) :], good[:at] + patch):
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture = probe(path)
                image = decode(path, grey=picture.grey)
        except FerError as error:
            assert str(error).startswith(f"{path}: ")
            continue
        assert image.dtype == np.uint8
        assert picture.width * picture.height <= image_decoding.MAX_PIXELS


def test_many_faults_are_counted(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(44)]
    for index, path in enumerate(paths):
        if index in {0, 1}:
            Image.fromarray(GREY).save(path)
        else:
            path.write_bytes(b"nonsense")
    fault(lambda: probe_all(paths), "supported format", "(and 41 more are at fault)", at=f"{paths[2]}: ")
    fault(lambda: probe_all(paths[:4]), "(and 1 more is at fault)")
    fault(lambda: next(decode_blocks(paths[:3], grey=True, shape=(6, 4), resize=False)), at=f"{paths[2]}: ")


def test_blocks_keep_the_order_and_the_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "_BLOCK_ROWS", 8)
    images = RNG.integers(0, 256, (21, 6, 4), dtype=np.uint8)
    paths = [tmp_path / f"{index:02d}.png" for index in range(21)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    blocks: list[NDArray[np.uint8]] = [
        block for block, _ in decode_blocks(paths, grey=True, shape=(6, 4), resize=False)
    ]
    assert [len(block) for block in blocks] == [8, 8, 5]
    np.testing.assert_array_equal(np.concatenate(blocks), images)
    monkeypatch.setattr(image_files, "_BLOCK_BYTES", 3 * 10 * 10 * 5)
    sizes = [len(block) for block, _ in decode_blocks(paths, grey=False, shape=(10, 10), resize=True)]
    assert sizes == [5, 5, 5, 5, 1]
    fault(
        lambda: list(decode_blocks(paths, grey=True, shape=(4, 6), resize=False)),
        "the image is 4x6 pixels where its header said 6x4",
    )


def test_walk_sorts_and_leaves_out_junk(tmp_path: Path) -> None:
    for name in ("b/happy/2.png", "a/sad/x.png", "b/happy/10.png", "top.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for junk in (".DS_Store", "b/Thumbs.db", "b/happy/desktop.ini", "__MACOSX/happy/1.png", "a/.hidden/1.png"):
        (tmp_path / junk).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / junk).touch()
    assert walk(tmp_path) == ["a/sad/x.png", "b/happy/10.png", "b/happy/2.png", "top.txt"]


def test_walk_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "1.png").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "happy").symlink_to(store, target_is_directory=True)
    assert walk(root) == ["happy/1.png"]
    (store / "again").symlink_to(root, target_is_directory=True)
    fault(lambda: walk(root), "points to a folder above it", at=f"{root / 'happy/again'}: ")
    (store / "again").unlink()
    (root / "self").symlink_to(root / "self")
    fault(lambda: walk(root), "the link is circular", at=f"{root / 'self'}: ")
    (root / "self").unlink()
    (root / "gone").symlink_to(tmp_path / "nowhere")
    fault(lambda: walk(root), "the link is broken", at=f"{root / 'gone'}: ")


@pytest.mark.skipif(sys.platform == "win32", reason="such names cannot be made there")
@pytest.mark.parametrize(
    ("name", "shown", "words"),
    [
        (b"a\nb.png", "a\\nb.png", "line break or a control character"),
        (b"a\x1b[31m.png", "a\\x1b[31m.png", "line break or a control character"),
        ("a\u2028b.png".encode(), "a\\u2028b.png", "line break or a control character"),
        (b"caf\xe9.png", "caf\\udce9.png", "not UTF-8"),
    ],
)
def test_names_that_break_a_line_are_refused(tmp_path: Path, name: bytes, shown: str, words: str) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    except OSError:
        pytest.skip("the file system does not take such names")
    (tmp_path / "fine 😀 é.png").touch()
    fault(lambda: walk(tmp_path), words, at=f"{tmp_path}/{shown}: ")


def test_walk_refuses_what_is_no_file_and_what_lies_too_deep(tmp_path: Path) -> None:
    (tmp_path / "train/happy/more").mkdir(parents=True)
    fault(lambda: walk(tmp_path), "a folder inside a class folder", at=f"{tmp_path / 'train/happy/more'}: ")
    (tmp_path / "train/happy/more").rmdir()
    os.mkfifo(tmp_path / "train/happy/pipe.png")
    fault(lambda: walk(tmp_path), "neither a file nor a folder", at=f"{tmp_path / 'train/happy/pipe.png'}: ")
    fault(lambda: walk(tmp_path / "absent"), "cannot be read: No such file", at=f"{tmp_path / 'absent'}: ")
