"""Archives of CelebAMask-HQ's layout: read right, and refused in one line where they are not that."""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_cli.core.errors import FerError
from fer_cli.core.labels import REGIONS
from fer_cli.faces.regions import PARTS, grouping
from tests.kits.celebamask import drawn_face, drawn_members, encoded, write_archive, write_tar
from tests.kits.parsers import refusal
from tools.train_parser.celebamask import MAX_BYTES, ids_of, read_faces
from tools.train_parser.recipe import split_ids, training_arrays

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
MASK = (np.arange(600) % 19).astype(np.uint8).reshape(20, 30)
GOOD = {"images/7.jpg": encoded(IMAGE, "JPEG"), "masks/7.png": encoded(MASK)}

# Ids 0 to 18 of the data set, by hand.
IN_ORDER = [
    *("background", "skin", "nose", "glasses", "eye", "eye", "brow", "brow", "ear", "ear", "mouth", "lip", "lip"),
    *("hair", "hat", "earring", "necklace", "neck", "cloth"),
]


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


@pytest.mark.parametrize("prefix", ["", "./", "celebamask-800/", "a/b/"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_faces_come_in_order_with_the_truth(tmp_path: Path, prefix: str, mode: str) -> None:
    members = drawn_members(3, 48, prefix)
    source = write_tar(tmp_path / "faces.tar", dict(reversed(members.items())), mode)
    faces = list(read_faces(source))
    assert [face.id for face in faces] == ids_of(source) == ["00000", "00001", "00002"]
    for seed, face in enumerate(faces):
        picture, regions = drawn_face(seed, 48)
        np.testing.assert_array_equal(grouping().table()[face.parts], regions)
        assert np.abs(face.image.astype(int) - picture).mean() < 6
        assert face.image.dtype == face.parts.dtype == np.uint8


@pytest.mark.parametrize("mode", [None, "P"])
def test_each_class_is_its_part(tmp_path: Path, mode: str | None) -> None:
    source = write_tar(tmp_path / "a.tar", {**GOOD, "masks/7.png": encoded(MASK, mode=mode)})
    (face,) = read_faces(source)
    assert [PARTS[part] for part in face.parts.ravel()[:19]] == IN_ORDER
    assert len(REGIONS) == len(set(grouping().table()[face.parts].ravel().tolist()))


def test_only_wanted_faces_are_decoded(tmp_path: Path) -> None:
    members = {**GOOD, "images/8.jpg": b"no picture", "masks/8.png": b"nor this"}
    source = write_tar(tmp_path / "a.tar", members)
    assert [face.id for face in read_faces(source, ["7"])] == ["7"]
    assert "has no face 9" in refusal(lambda: list(read_faces(source, ["7", "9"])))
    assert "images/8.jpg is not an intact image" in refusal(lambda: list(read_faces(source)))
    assert list(read_faces(source, [])) == []


def test_what_is_beside_the_pictures_is_ignored(tmp_path: Path) -> None:
    beside = {"README.txt": b"x", "images/._7.jpg": b"x", "masks/.DS_Store": b"x", "other/9.jpg": b"x"}
    assert ids_of(write_tar(tmp_path / "a.tar", {**beside, **GOOD})) == ["7"]


def png(pixels: Any, mode: str | None = None) -> dict[str, bytes]:
    return {**GOOD, "masks/7.png": encoded(np.asarray(pixels), mode=mode)}


def four_bits(pixels: Any) -> bytes:
    """Return a grey PNG of four bits a pixel, which Pillow reads but does not write."""
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 4, 0, 0, 0, 0)
    lines = b"".join(b"\0" + (row[::2] << 4 | row[1::2]).astype(np.uint8).tobytes() for row in pixels)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def wrong_crc(data: bytes) -> bytes:
    at = data.index(b"IDAT") + 8
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


MEMBERS: dict[str, tuple[dict[str, bytes], str]] = {
    "empty": ({}, "holds no images/ID.jpg with masks/ID.png"),
    "other folders": ({"pictures/7.jpg": b"", "truth/7.png": b""}, "holds no images/"),
    "no mask": ({**GOOD, "images/8.jpg": b""}, "8 has an image or a mask, not both"),
    "no picture": ({**GOOD, "masks/8.png": b""}, "8 has an image or a mask, not both"),
    "other ids": ({"images/1.jpg": b"", "masks/2.png": b""}, "1 has an image or a mask"),
    "a name of two lines": ({**GOOD, "images/a\nb.jpg": b""}, "a\\nb has an image"),
    "mask of another size": (png(MASK[:, :15]), "masks/7.png is (20, 15) of 8-bit values, its picture (20, 30)"),
    "turned mask": (png(MASK.T), "masks/7.png is (30, 20)"),
    "mask in colour": (png(np.stack([MASK] * 3, -1)), "masks/7.png is (20, 30, 3)"),
    "mask with alpha": (png(MASK, "LA"), "masks/7.png is (20, 30, 2)"),
    "mask of 16 bits": (png(MASK.astype(np.uint16)), "of 16-bit values"),
    "mask of four bits": ({**GOOD, "masks/7.png": four_bits(MASK % 16)}, "masks/7.png is (20, 30) of 4-bit values"),
    "mask of one bit": (png(MASK > 9), "of 1-bit values"),
    "class 19": (png(np.where(MASK == 3, 19, MASK).astype(np.uint8)), "masks/7.png holds class 19"),
    "class 255": (png(np.full_like(MASK, 255)), "masks/7.png holds class 255"),
    "half a jpeg": ({**GOOD, "images/7.jpg": GOOD["images/7.jpg"][:300]}, "images/7.jpg is not an intact image"),
    "half a png": ({**GOOD, "masks/7.png": GOOD["masks/7.png"][:90]}, "masks/7.png is not an intact image"),
    "a broken png": ({**GOOD, "masks/7.png": wrong_crc(GOOD["masks/7.png"])}, "masks/7.png is not an intact"),
    "an empty picture": ({**GOOD, "images/7.jpg": b""}, "images/7.jpg is not an intact image"),
    "a gif": ({**GOOD, "images/7.jpg": encoded(MASK, "GIF")}, "images/7.jpg is not an intact image"),
    "huge": ({**GOOD, "images/8.jpg": bytes(MAX_BYTES + 1)}, "images/8.jpg takes 33,554,433 bytes"),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_wrong_members_are_refused(tmp_path: Path, case: str) -> None:
    members, words = MEMBERS[case]
    source = write_tar(tmp_path / "a.tar", members)
    message = refusal(lambda: list(read_faces(source)))
    assert message.startswith(f"{source}: ")
    assert words in message


@pytest.mark.parametrize("second", ["images/7.png", "other/images/7.jpg"])
def test_two_pictures_of_one_id_are_refused(tmp_path: Path, second: str) -> None:
    source = write_tar(tmp_path / "a.tar", {**GOOD, second: encoded(255 - IMAGE)})
    assert "7" in refusal(lambda: list(read_faces(source)))


def test_a_lossy_mask_is_refused(tmp_path: Path) -> None:
    mask = np.zeros_like(MASK)
    mask[5:15, 8:22] = 16
    source = write_tar(tmp_path / "a.tar", {**GOOD, "masks/7.png": encoded(mask, "JPEG")})
    assert "masks/7.png" in refusal(lambda: list(read_faces(source)))


def other_file(folder: Path) -> Path:
    path = folder / "a.tar"
    path.write_bytes(GOOD["images/7.jpg"])
    return path


def empty_file(folder: Path) -> Path:
    path = folder / "a.tar"
    path.touch()
    return path


@pytest.mark.parametrize("make", [other_file, empty_file, lambda folder: folder])
@pytest.mark.parametrize("read", [ids_of, lambda source: list(read_faces(source))])
def test_what_is_no_tar_is_refused(tmp_path: Path, make: Callable[[Path], Path], read: Callable[[Path], Any]) -> None:
    assert "not a tar archive" in refusal(lambda: read(make(tmp_path)))
    assert "no such file; give a tar of images/" in refusal(lambda: read(tmp_path / "missing.tar"))


@pytest.mark.parametrize(
    ("read", "mode"),
    [
        ("ids", "w"),
        ("faces", "w"),
        ("ids", "w:gz"),
        ("faces", "w:gz"),
    ],
)
def test_a_cut_archive_is_refused_wherever_it_is_cut(tmp_path: Path, read: str, mode: str) -> None:
    path = write_tar(tmp_path / "a.tar", GOOD, mode)
    whole = path.read_bytes()
    end = (
        512 + -(-len(GOOD["images/7.jpg"]) // 512) * 512 + 512 + len(GOOD["masks/7.png"]) if mode == "w" else len(whole)
    )
    for length in range(0, end, 61):
        path.write_bytes(whole[:length])
        message = refusal(lambda: ids_of(path) if read == "ids" else [face.id for face in read_faces(path)])
        assert message.startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["../images/9.jpg", "{tmp}/out/images/9.jpg", "images/../images/9.jpg"])
def test_no_path_of_a_member_is_ever_written(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source = write_tar(
        folder / "a.tar", {**GOOD, name.format(tmp=tmp_path): GOOD["images/7.jpg"], "masks/9.png": GOOD["masks/7.png"]}
    )
    assert [face.id for face in read_faces(source)] == ["7", "9"]
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.tar"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
@pytest.mark.parametrize("to", ["/etc/passwd", "../secret.jpg", "images/7.jpg"])
def test_links_and_devices_are_no_pictures(tmp_path: Path, kind: bytes, to: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(GOOD["images/7.jpg"])
    source = tmp_path / "in" / "a.tar"
    source.parent.mkdir()
    write_tar(source, GOOD, extra=(link("images/8.jpg", to, kind), link("masks/8.png", to, kind)))
    assert ids_of(source) == ["7"]
    write_tar(source, {**GOOD, "masks/8.png": b""}, extra=(link("images/8.jpg", to, kind),))
    assert "8 has an image or a mask, not both" in refusal(lambda: list(read_faces(source)))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "in", "secret.jpg"]


def test_damaged_pictures_give_a_face_or_a_refusal(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    refused = 0
    for turn in range(120):
        name = ("images/7.jpg", "masks/7.png")[turn % 2]
        data = bytearray(GOOD[name])
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        source = write_tar(tmp_path / "a.tar", {**GOOD, name: bytes(data)})
        try:
            (face,) = read_faces(source)
            assert face.image.shape == (20, 30, 3)
        except FerError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 10 < refused < 120


def test_a_picture_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert "images/7.jpg is not an intact image" in refusal(
        lambda: list(read_faces(write_tar(tmp_path / "a.tar", GOOD)))
    )


def test_grey_pictures_become_colour(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "a.tar", {**GOOD, "images/7.jpg": encoded(IMAGE[..., 0], "JPEG")})
    (face,) = read_faces(source)
    assert face.image.shape == (20, 30, 3)
    assert (face.image == face.image[..., :1]).all()


def test_every_so_many_ids_are_kept_aside(tmp_path: Path) -> None:
    mask, image = encoded(MASK), GOOD["images/7.jpg"]
    ids = [f"{number:02}" for number in range(11)]
    members = {f"{kind}/{name}.x": data for name in ids for kind, data in (("masks", mask), ("images", image))}
    source = write_tar(tmp_path / "a.tar", members)
    wanted, aside = split_ids(source, 4)
    assert aside == ["03", "07"]
    assert sorted(wanted + aside) == ids == sorted(ids)
    assert not set(wanted) & set(aside)


def test_training_arrays_keep_classes_and_places(tmp_path: Path) -> None:
    source = write_archive(tmp_path / "a.tar", 2, 64)
    faces = {face.id: face for face in read_faces(source)}
    images, parts = training_arrays(source, ["00001"], 128)
    assert images.shape == (1, 128, 128, 3)
    np.testing.assert_array_equal(parts[0], faces["00001"].parts.repeat(2, 0).repeat(2, 1))
    small, truth = training_arrays(source, ["00001", "00000"], 32)
    assert small.shape == (2, 32, 32, 3)
    assert set(np.unique(truth)) <= set(np.unique(np.stack([face.parts for face in faces.values()])))
    mean = faces["00001"].image.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(small[0] - mean).mean() < 6
