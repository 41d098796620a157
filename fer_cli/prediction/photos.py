"""Photos as people have them: shown as a viewer would show them, whatever their format holds.

Where a data set's loader refuses what cannot be kept without a guess, a prediction takes the usual guess and says so:
transparency lies on white, 16 bits are scaled to 8, of an animation the first frame counts.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fer_cli.core.errors import FerError
from fer_cli.datasets import image_decoding

FIRST_FRAME: Final = "first-frame"
"""The flag of an animation, of which only the first frame was looked at."""
_MORE_FORMATS: Final = ("AVIF", "HEIF", "JPEG2000", "MPO")
_WIDE: Final = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})


@dataclass(frozen=True, slots=True)
class Photo:
    """The pixels of a photo, uint8 (H, W, 3), and what is to be said of them."""

    pixels: NDArray[np.uint8]
    flags: tuple[str, ...] = ()


def read_photo(path: Path) -> Photo:
    """Read a photo as a viewer shows it: EXIF orientation applied, 8 bits, RGB, opaque.

    Raises:
        FerError: it cannot be read as an image, or is too large.
    """
    try:
        # Pillow's remarks on a file are for programmers, and the limits here are stricter than those that it warns at.
        with warnings.catch_warnings(action="ignore"), image_decoding.opened(path, _formats()) as image:
            if image.width * image.height > image_decoding.MAX_PIXELS:
                raise image_decoding.too_large(path)
            image_decoding.check_scans(image, path)
            flags = (FIRST_FRAME,) if _moves(image) else ()
            image.load()
            return Photo(np.asarray(_opaque(ImageOps.exif_transpose(image)), dtype=np.uint8), flags)
    except (FerError, MemoryError):
        raise
    except UnidentifiedImageError:
        hint = "install pillow-heif" if path.suffix.lower() in {".heic", ".heif"} else "convert it to PNG"
        raise FerError("is not an image of a format that can be read", hint=hint, path=path) from None
    except Image.DecompressionBombError:
        raise image_decoding.too_large(path) from None
    except OSError as error:
        what = f"cannot be read: {error.strerror}" if error.errno is not None else f"is damaged or truncated ({error})"
        raise FerError(what, hint="check the file", path=path) from None
    except Exception as error:  # Pillow's plugins raise whatever their parsers stumble over: all of it is the file's
        raise FerError(f"is damaged ({str(error) or type(error).__name__})", hint="check the file", path=path) from None


def _formats() -> tuple[str, ...]:
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    return (*image_decoding.FORMATS, *(name for name in _MORE_FORMATS if name in Image.OPEN))


def _moves(image: Image.Image) -> bool:
    """Tell of an animation; a TIFF's further pages and an MPO's further views are other images."""
    return image.format in {"GIF", "WEBP", "PNG", "AVIF"} and getattr(image, "n_frames", 1) > 1


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode in _WIDE:
        values = np.asarray(image, dtype=np.float64)
        most = 65_535.0 if image.mode != "F" else max(1.0, float(values.max(initial=0.0)))
        return Image.fromarray(np.clip(np.nan_to_num(values) * (255 / most), 0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info or image.mode in {"LA", "PA", "RGBA", "La", "RGBa"}:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
