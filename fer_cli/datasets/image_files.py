"""Picture files: finding them in a folder, looking at their headers, and decoding them, none of it on trust.

A picture comes out as its viewer would show it (EXIF orientation applied), 8 bits a channel, opaque, grey or RGB.
Whatever cannot be shown so without a guess (transparency, CMYK, 16 bits, several frames) is refused.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fer_cli.core.errors import FerError
from fer_cli.core.progress import note
from fer_cli.datasets import image_decoding
from fer_cli.datasets.image_hash import decoded_hash

SUFFIXES: Final = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
        *(".pbm", ".pgm", ".ppm", ".pnm"),
    }
)
"""What a picture's name ends with, in lower case."""
OTHER_FILES: Final = {
    **dict.fromkeys((".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".tga", ".svg", ".psd"), "convert it to PNG"),
    **dict.fromkeys((".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".ico", ".pcx", ".exr"), "convert it to PNG"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".mpg", ".mpeg", ".wmv", ".webm"), "save its frames as PNG"),
    **dict.fromkeys((".npy", ".npz", ".mat", ".pkl", ".h5", ".pdf"), "save its images as PNG"),
    **dict.fromkeys((".zip", ".rar", ".7z", ".tar", ".gz", ".xz", ".tgz"), "unpack it"),
}
"""What a file's name ends with -> what to do about it in a folder of images."""
_MAGIC: Final = (
    *((b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp")),
    *((b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"RIFF", ".webp")),
)
_GREY_MODES: Final = frozenset({"1", "L", "LA"})
_COLOUR_MODES: Final = frozenset({"P", "PA", "RGB", "RGBA", "RGBX"})
_ORIENTATION: Final = 0x0112  # the EXIF tag
_TRANSPOSE: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
JUNK: Final = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
"""Names of files and folders that systems leave behind, in lower case."""
_DEPTH: Final = 3  # split/class/picture
_WORKERS: Final = min(4, os.cpu_count() or 1)  # each may hold one picture of MAX_PIXELS
_BLOCK_BYTES: Final = 64 << 20
_BLOCK_ROWS: Final = 256

_HANDED: Final = 4096  # items that wait for a thread
_TOLD: Final = 20  # files at fault that are listed

S = TypeVar("S")
T = TypeVar("T")

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are the first column and row outside."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture's header says: its size in pixels as it is shown, and whether it has no colour."""

    width: int
    height: int
    grey: bool


def refuse(faults: Sequence[FerError], *, listed: bool = True) -> None:
    """Raise the first fault, if there is one, with the number of the others; the first twenty are listed before it."""
    if faults:
        first, others = faults[0], len(faults) - 1
        for fault in faults[: _TOLD if others and listed else 0]:
            note(f"at fault: {FerError(fault.what, path=fault.path, line=fault.line)}")
        more = "" if not others else f" (and {others:,} more {'is' if others == 1 else 'are'} at fault)"
        raise FerError(first.what + more, hint=first.hint, path=first.path, line=first.line)


def not_an_image(path: Path) -> FerError:
    """Return the fault of a file whose name is not an image's; the hint never throws away what could be read."""
    hint = OTHER_FILES.get(path.suffix.lower())
    if hint is None:
        try:
            with path.open("rb") as file:
                head = file.read(8)
        except OSError:
            head = b""
        suffix = next((suffix for magic, suffix in _MAGIC if head.startswith(magic)), None)
        hint = (
            "move it out of the class folder" if suffix is None else f"it begins like an image: rename it to {suffix}"
        )
    return FerError("not an image by its name", hint=hint, path=path)


def portable(path: str) -> str:
    """Return a path as text that is the same on every machine: UTF-8 whatever the locale, composed (NFC)."""
    if path.isascii():
        return path
    return unicodedata.normalize("NFC", os.fsencode(path).decode("utf-8", "surrogateescape"))


def native(root: Path, path: str) -> str:
    """Return a path below ``root`` as this machine writes it, given as text: composed (NFC), decomposed, or as it is.

    A path that does not exist comes back as it is.
    """
    if path.isascii():
        return path
    place = ""
    for part in path.split("/"):
        spelled = [part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD"))]
        names = [place + os.fsdecode(name.encode("utf-8", "surrogateescape")) for name in spelled]
        place = next((name for name in names if (root / name).exists()), names[0]) + "/"
    return place.rstrip("/")


def name_fault(name: str) -> str | None:
    """Say what is wrong with a file's name, or return None. Names go into tables, pages and terminals: all must hold.

    Refused are control characters, line breaks of any kind, and bytes that are not UTF-8 (Python shows them as
    surrogates).
    """
    kinds = {unicodedata.category(char) for char in name}
    if "Cs" in kinds:
        return "the file's name is not UTF-8"
    if kinds & {"Cc", "Zl", "Zp"}:
        return "the file's name holds a line break or a control character"
    return None


def walk(root: Path, depth: int = _DEPTH) -> list[str]:
    """Return the files under ``root`` as sorted relative paths with ``/``, without hidden files and known junk.

    Links are followed.

    Args:
        root: a folder.
        depth: names in a path, by default those of split/class/picture.

    Raises:
        FerError: a name that cannot be kept, a link that leads nowhere or in a circle, something that is not a file,
            or folders that nest deeper.
    """
    files: list[str] = []
    faults: list[FerError] = []
    top = _stat(root)
    pending = [("", frozenset({(top.st_dev, top.st_ino)}))]
    while pending:
        prefix, above = pending.pop()
        try:
            names = sorted(os.listdir(root / prefix))  # noqa: PTH208  # a Path would lose nothing but time
        except OSError as error:
            raise FerError(f"cannot be read: {error.strerror}", hint="check the folder", path=root / prefix) from None
        for name in names:
            if name.startswith(".") or name.lower() in JUNK:
                continue
            relative = f"{prefix}{name}"
            try:
                folder = _folder_id(root / relative, above, depth - 1 - prefix.count("/"))
            except FerError as error:
                faults.append(error)
                continue
            if folder is None:
                files.append(relative)
            else:
                pending.append((f"{relative}/", above | {folder}))
    refuse(sorted(faults, key=lambda fault: str(fault.path)))
    return sorted(files)


def _folder_id(path: Path, above: frozenset[tuple[int, int]], below: int) -> tuple[int, int] | None:
    """Return what identifies a folder on this machine, or None for a file; refuse what is neither or leads astray."""
    if what := name_fault(portable(path.name)):
        raise FerError(what, hint="rename it", path=path)
    info = _stat(path)
    if stat.S_ISREG(info.st_mode):
        return None
    if not stat.S_ISDIR(info.st_mode):
        raise FerError("is neither a file nor a folder", hint="remove it", path=path)
    if (info.st_dev, info.st_ino) in above:
        raise FerError("the link points to a folder above it", hint="remove it", path=path)
    if below < 1:
        raise FerError("a folder inside a class folder", hint="put the images into the class folder", path=path)
    return info.st_dev, info.st_ino


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FerError("the link is circular", hint="remove it", path=path) from None
        if path.is_symlink():
            raise FerError("the link is broken", hint="repair or remove it", path=path) from None
        raise FerError(f"cannot be read: {error.strerror}", hint="check the path", path=path) from None


def probe(path: Path) -> Picture:
    """Read a picture's header.

    Raises:
        FerError: it is not a picture of a kind that can be kept without a guess.
    """
    with _opened(path) as image:
        _check(image, path)
        width, height = image.size
        # A TIFF's size is told after its orientation. A PNG's EXIF may stand after its pixels: decode() then sees it.
        if image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info) and _orientation(image) >= 5:
            width, height = height, width
        return Picture(width, height, _is_grey(image))


def decode(path: Path, *, grey: bool, size: int | None = None, box: Box | None = None) -> NDArray[np.uint8]:
    """Return the pixels of :func:`decode_hashed`."""
    return decode_hashed(path, grey=grey, size=size, box=box)[0]


def decode_hashed(
    path: Path, *, grey: bool, size: int | None = None, box: Box | None = None
) -> tuple[NDArray[np.uint8], str]:
    """Decode a picture.

    Args:
        path: the file.
        grey: one channel (ITU-R 601 luma of a coloured picture), else RGB.
        box: the part of the picture to take, within it; by default all of it.
        size: side of the square to resize to in pixels (bicubic, antialiased; the aspect ratio is not kept), or None
            for the picture's own size.

    Returns:
        (H, W) or (H, W, 3), and the :func:`decoded_hash` of what was decoded, before its colour was taken or it was
        resized.

    Raises:
        FerError: it is cut short, not opaque, or not a picture that :func:`probe` accepts.
    """
    with _opened(path) as opened:
        _check(opened, path)
        image_decoding.check_scans(opened, path)
        opened.load()
        image: Image.Image = opened
        method = _TRANSPOSE.get(_orientation(image))
        if method is not None:  # flipping left to right is 0
            image = image.transpose(method)
        if box is not None:
            image = image.crop(box)
        if "transparency" in image.info or image.mode in {"LA", "PA", "RGBA"}:
            image = image.convert("RGBA")
            if np.asarray(image)[..., 3].min() < 255:
                raise FerError("the image is partly transparent", hint="flatten it onto a background", path=path)
        whole = image.convert("L" if image.mode in _GREY_MODES else "RGB")
        pixels = decoded_hash(np.asarray(whole, dtype=np.uint8))
        wanted = "L" if grey else "RGB"
        image = whole if whole.mode == wanted else image.convert(wanted)
        if size is not None:
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        return np.asarray(image, dtype=np.uint8), pixels


def probe_all(paths: Sequence[Path], *, jobs: int | None = None) -> list[Picture]:
    """Read the headers of all pictures; the error names the first that is at fault and counts the others."""
    return _in_threads(probe, paths, jobs)


def decode_all(paths: Sequence[Path], *, grey: bool, jobs: int | None = None) -> list[NDArray[np.uint8]]:
    """Decode pictures, each at its own size; the error names the first that is at fault and counts the others."""
    return _in_threads(lambda path: decode(path, grey=grey), paths, jobs)


def decode_blocks(
    paths: Sequence[Path],
    *,
    grey: bool,
    shape: tuple[int, int],
    resize: bool,
    boxes: Sequence[Box | None] | None = None,
    jobs: int | None = None,
) -> Iterator[tuple[NDArray[np.uint8], list[str]]]:
    """Decode pictures in order, in blocks of at most 64 MiB.

    Args:
        paths: the files.
        grey: one channel, else RGB.
        shape: (H, W) of every picture that comes out.
        resize: resize to ``shape``, which is square then; else every picture must have it.
        boxes: the part to take of each picture, None for all of it.
        jobs: threads that decode; by default one a core, at most four.

    Yields:
        (n, H, W) or (n, H, W, 3), and of each picture the :func:`decoded_hash` before it was resized.

    Raises:
        FerError: as :func:`decode`, for the first picture at fault, with the number of others in the same block.
    """

    def one(listed: tuple[Path, Box | None]) -> tuple[NDArray[np.uint8], str]:
        path, box = listed
        array, pixels = decode_hashed(path, grey=grey, size=shape[0] if resize else None, box=box)
        if array.shape[:2] != shape:
            raise FerError(
                f"the image is {array.shape[1]}x{array.shape[0]} pixels where its header said {shape[1]}x{shape[0]}",
                hint="save it again without an orientation tag",
                path=path,
            )
        return array, pixels

    rows = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // (shape[0] * shape[1] * (1 if grey else 3))))
    for start in range(0, len(paths), rows):
        chunk = slice(start, start + rows)
        some = paths[chunk]
        decoded = _in_threads(one, list(zip(some, boxes[chunk] if boxes else [None] * len(some), strict=True)), jobs)
        yield np.stack([array for array, _ in decoded]), [pixels for _, pixels in decoded]


def _in_threads(work: Callable[[S], T], items: Sequence[S], jobs: int | None) -> list[T]:
    """Apply ``work`` to all items (Pillow releases the GIL where it matters), then raise what went wrong, counted."""

    def attempt(item: S) -> T | FerError:
        try:
            return work(item)
        except FerError as error:
            return error

    # Pillow warns about oddities of a file on stderr; what matters is checked here, and what breaks raises.
    with warnings.catch_warnings(), ThreadPoolExecutor(jobs or _WORKERS) as pool:
        warnings.simplefilter("ignore")
        # In parts: the pool keeps some kilobytes for everything that was handed to it.
        parts = range(0, len(items), _HANDED)
        results = [result for start in parts for result in pool.map(attempt, items[start : start + _HANDED])]
    refuse([result for result in results if isinstance(result, FerError)])
    return [result for result in results if not isinstance(result, FerError)]


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture; whatever Pillow raises in the body, too, becomes one FerError that names the file."""
    try:
        with image_decoding.opened(path) as image:
            yield image
    except (FerError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise FerError(
            f"is not an image of a supported format ({', '.join(image_decoding.FORMATS)})",
            hint="convert it to PNG",
            path=path,
        ) from None
    except Image.DecompressionBombError:
        raise image_decoding.too_large(path) from None
    except OSError as error:
        if error.errno is not None:
            raise FerError(f"cannot be read: {error.strerror}", hint="check the file", path=path) from None
        raise _damaged(path, error) from None
    except Exception as error:  # Pillow's plugins raise whatever their parsers stumble over: all of it is the file's
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> FerError:
    reason = str(error) or type(error).__name__
    return FerError(f"the image is damaged or truncated ({reason})", hint="copy it again or remove it", path=path)


def _check(image: Image.Image, path: Path) -> None:
    if image.width * image.height > image_decoding.MAX_PIXELS:
        raise image_decoding.too_large(path)
    # A phone's MPO is a JPEG with more pictures behind it (a depth map, a second view); the first is the photograph.
    several = image_decoding.has_next_page(image) if image.format == "TIFF" else getattr(image, "n_frames", 1) > 1
    if image.format != "MPO" and several:
        raise FerError("the image has several frames", hint="save the one that counts as PNG", path=path)
    if image.mode.startswith(("I", "F")) or _channel_bits(image) > 8:
        raise FerError("the image has 16 or more bits a channel", hint="convert it to 8 bits", path=path)
    if image.mode not in _GREY_MODES | _COLOUR_MODES:
        raise FerError(f"the image's colours are {image.mode}", hint="convert it to RGB or grey", path=path)


def _channel_bits(image: Image.Image) -> int:
    """Return the bits a channel has in the file: Pillow shows 16-bit colour as 8-bit RGB without a word."""
    tiles: Iterable[tuple[object, ...]] = getattr(image, "tile", ())
    for _, _, _, args in tiles:
        parts = args if isinstance(args, tuple) else (args,)
        if image.format in {"PNG", "TIFF"} and isinstance(parts[0], str) and ";16" in parts[0]:
            return 16
        if image.format == "PPM" and len(parts) == 2 and isinstance(parts[1], int) and parts[1] > 255:
            return 16
    return 8


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) else 1


def _is_grey(image: Image.Image) -> bool:
    if image.mode != "P":
        return image.mode in _GREY_MODES
    colours = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())
