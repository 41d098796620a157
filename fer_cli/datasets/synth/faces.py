"""Pictures of synthetic faces with their true masks, drawn from action units.

A face is sketched as outlines on a head that turns in space, painted at four times the size, reduced, and lit through
its relief. The mask comes from the very outlines that made the picture: a pixel holds the region that covers most of
it. This is a test bench with known truth, never a claim about real faces.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from fer_cli.core.labels import REGIONS
from fer_cli.datasets.synth.features import SIDES, Aus, add_brow, add_eye, add_head, add_nose
from fer_cli.datasets.synth.hair import add_back_hair, add_beard, add_clothing, add_front_hair, add_glasses
from fer_cli.datasets.synth.mouth import add_mouth
from fer_cli.datasets.synth.parameters import FaceParameters, Identity
from fer_cli.datasets.synth.shading import shade
from fer_cli.datasets.synth.sketch import PART_REGION, Outlines, Part, Sketch

SUPERSAMPLING: Final = 4
MIN_SIZE: Final = 16
MAX_SIZE: Final = 1024

_EYE: Final = REGIONS.index("eye")
_HAIR: Final = REGIONS.index("hair")
_SOFT: Final = np.array([part in {Part.SKIN, Part.NOSE, Part.EAR, Part.NECK, Part.NECK_SHADOW} for part in Part])
_SOFT_TABLE: Final = [255 if soft else 0 for soft in _SOFT] + [0] * (256 - len(Part))
_BACKDROP_TABLE: Final = [255 if part is Part.BACKGROUND else 0 for part in Part] + [0] * (256 - len(Part))
_WARMTH: Final = np.array([0.9, 1.0, 1.06], np.float32)  # shadows on skin are warmer than the skin


def render_face(face: FaceParameters, size: int = 112) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a face.

    Args:
        face: everything that decides the picture; equal parameters give equal bytes on one machine.
        size: the side of the picture in pixels, from 16 to 1024.

    Returns:
        The picture, (size, size, 3) sRGB, and its mask, (size, size) indices into ``labels.REGIONS``. A mask's pixel
        holds the region that covers most of it, and of equal ones the first. Glasses, lens and frame, belong to the
        eye region, brows too; beards are skin and clothing is background, as in the face-parsing data sets.

    Raises:
        ValueError: ``size`` is out of range.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size is between {MIN_SIZE} and {MAX_SIZE}, not {size}")
    sketch = sketch_face(face)
    parts = _paint(sketch.parts.place(face.scene, size * SUPERSAMPLING), size * SUPERSAMPLING)
    creases = _paint(sketch.creases.place(face.scene, size * SUPERSAMPLING), size * SUPERSAMPLING)
    lenses = _lenses(face, sketch, size * SUPERSAMPLING)
    picture = _light(face, sketch, parts, creases, lenses, size)
    return _photograph(face, picture), majority(regions_of(parts, lenses), SUPERSAMPLING)


def region_truth(face: FaceParameters, size: int = 112) -> NDArray[np.uint8]:
    """Return the supersampled truth behind a mask: (size * SUPERSAMPLING,) * 2 indices into ``labels.REGIONS``."""
    sketch, pixels = sketch_face(face), size * SUPERSAMPLING
    return regions_of(_paint(sketch.parts.place(face.scene, pixels), pixels), _lenses(face, sketch, pixels))


def sketch_face(face: FaceParameters) -> Sketch:
    """Return the outlines of a face, back to front."""
    identity, scene, sketch = face.identity, face.scene, Sketch()
    aus = Aus(face.aus, scene.asymmetry)
    behind, before = _hair(identity)
    sketch.extend(behind)
    add_head(sketch, identity, aus)
    add_clothing(sketch, identity)
    add_beard(sketch, identity, aus)
    add_nose(sketch, identity, aus)
    add_mouth(sketch, identity, aus, face.smirk_side)
    for side in SIDES:
        add_eye(sketch, identity, aus, scene, side)
        add_brow(sketch, identity, aus, side)
    sketch.extend(before)
    add_glasses(sketch, identity)
    return sketch


@lru_cache(maxsize=4)
def _hair(identity: Identity) -> tuple[Sketch, Sketch]:
    """Return the hair behind and before the face: half of all outlines, and the same in all pictures of a person."""
    strands, behind, before = Generator(PCG64(identity.texture)), Sketch(), Sketch()
    add_back_hair(behind, identity, strands)
    add_front_hair(before, identity, strands)
    return behind, before


def _lenses(face: FaceParameters, sketch: Sketch, pixels: int) -> Image.Image | None:
    return _paint(sketch.lenses.place(face.scene, pixels), pixels) if face.identity.glasses else None


def regions_of(parts: Image.Image, lenses: Image.Image | None) -> NDArray[np.uint8]:
    """Return the region of every supersampled pixel; what is seen through a lens belongs to the eye region."""
    regions: NDArray[np.uint8] = PART_REGION[np.asarray(parts)]
    if lenses is not None:
        regions[(np.asarray(lenses) > 0) & (regions != _HAIR)] = _EYE
    return regions


def majority(regions: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Reduce a label image by ``factor``, at most 15: a pixel takes its commonest label, the first of equal ones.

    Eight counters of a byte each share one 64-bit word, so that a pixel's votes are counted by one addition each.
    """
    votes = (np.uint64(1) << (np.arange(len(REGIONS), dtype=np.uint64) * np.uint64(8))).astype("<u8")[regions]
    height, width = regions.shape
    counts = np.zeros((height // factor, width // factor), "<u8")
    for row, column in product(range(factor), repeat=2):
        counts += votes[row::factor, column::factor]
    return np.asarray(counts.view(np.uint8).reshape(*counts.shape, 8).argmax(axis=2), np.uint8)


def _paint(outlines: Outlines, pixels: int) -> Image.Image:
    image = Image.new("L", (pixels, pixels), 0)
    polygon = ImageDraw.Draw(image).polygon
    for (start, end), fill in zip(outlines.ranges, outlines.fills, strict=True):
        polygon(outlines.points[start:end], fill=fill)
    return image


def _palette(face: FaceParameters) -> list[int]:
    """Return the colour of every part before light falls on it, as a flat palette."""
    identity, scene = face.identity, face.scene
    skin, hair, iris, lip = (np.array(colour) for colour in (identity.skin, identity.hair, identity.iris, identity.lip))
    beard = 0.7 * hair + 0.3 * skin
    colours = {
        Part.BACKGROUND: np.zeros(3),  # the backdrop is added later, as a gradient
        Part.CLOTH: np.array(scene.cloth),
        Part.CLOTH_DARK: np.array(scene.cloth) * 0.72,
        Part.NECK: skin * (0.93, 0.89, 0.87),
        Part.NECK_SHADOW: skin * (0.72, 0.63, 0.6),
        Part.EAR: skin * (0.97, 0.9, 0.89),
        Part.EAR_INNER: skin * (0.76, 0.62, 0.59),
        Part.EARRING: np.array([226, 196, 120]),
        Part.SKIN: skin,
        Part.BEARD: beard,
        Part.BEARD_DARK: 0.85 * hair + 0.15 * skin,
        Part.NOSE: skin * (1.0, 0.975, 0.97),
        Part.NOSTRIL: skin * (0.4, 0.27, 0.25),
        Part.SCLERA: np.array([240, 238, 236]),
        Part.SCLERA_SHADE: np.array([190, 184, 184]),
        Part.CARUNCLE: 0.5 * skin + 0.5 * np.array([214, 140, 132]),
        Part.IRIS_RIM: iris * 0.5,
        Part.IRIS: iris,
        Part.IRIS_LIGHT: np.minimum(iris * 1.3 + 8.0, 255.0),
        Part.PUPIL: np.array([14, 11, 12]),
        Part.GLINT: np.array([255, 255, 255]),
        Part.LASH: np.array([30, 22, 22]),
        Part.BROW: np.array(identity.brow),
        Part.LIP_UPPER: lip * (0.86, 0.8, 0.82),
        Part.LIP_LOWER: lip,
        Part.LIP_SHINE: np.minimum(lip * 1.08 + 14.0, 255.0),
        Part.LIP_LINE: lip * (0.48, 0.36, 0.38),
        Part.CAVITY: np.array([58, 18, 22]),
        Part.TONGUE: np.array([188, 88, 90]),
        Part.TEETH: np.array([244, 240, 230]),
        Part.TEETH_LINE: np.array([206, 200, 190]),
        Part.HAIR_BACK: hair * 0.62,
        Part.HAIR: hair,
        Part.HAIR_LIGHT: np.minimum(hair * 1.22 + 10.0, 255.0),
        Part.HAIR_DARK: hair * 0.76,
        Part.FRAME: np.array(identity.frame),
    }
    flat = np.concatenate([colours[part] for part in Part])
    return [round(value) for value in flat.tolist()]


def _light(
    face: FaceParameters,
    sketch: Sketch,
    parts: Image.Image,
    creases: Image.Image,
    lenses: Image.Image | None,
    size: int,
) -> NDArray[np.float32]:
    """Colour, light and crease the painted parts: (size, size, 3), about 0 to 255."""
    scene = face.scene

    def cover(image: Image.Image) -> NDArray[np.float32]:
        return np.asarray(image.reduce(SUPERSAMPLING), np.float32)[:, :, None] / np.float32(255.0)

    skin = cover(parts.point(_SOFT_TABLE))
    empty = cover(parts.point(_BACKDROP_TABLE))
    folds = creases.reduce(SUPERSAMPLING).filter(ImageFilter.GaussianBlur(0.55 * size / 112))
    crease = skin * np.asarray(folds, np.float32)[:, :, None] / np.float32(255.0)
    painted = parts.copy()
    painted.putpalette(_palette(face))
    colour: NDArray[np.floating] = np.asarray(painted.convert("RGB").reduce(SUPERSAMPLING), np.float32)

    lit, red, gloss = (field[:, :, None] for field in shade(sketch.relief, scene, size))
    colour = colour * (1.0 + (lit - 1.0) * _WARMTH)
    colour = colour * (1.0 - crease * np.array([0.62, 0.74, 0.76], np.float32))
    colour = colour * (1.0 - skin * red * np.array([0.0, 0.75, 0.6], np.float32))
    colour = colour + skin * gloss * np.float32(190.0)
    ramp = np.linspace(0.0, 1.0, size, dtype=np.float32)[:, None, None]
    top, bottom = np.array(scene.backdrop_top, np.float32), np.array(scene.backdrop_bottom, np.float32)
    colour = colour + empty * (top + ramp * (bottom - top))
    if lenses is not None:
        glass = cover(lenses)
        slant = np.arange(size, dtype=np.float32) / size
        glare = np.exp(-(((slant[None, :] + slant[:, None] - 0.78) / 0.05) ** 2))[:, :, None]
        colour = colour + glass * (np.float32(6.0) + 46.0 * glare)
    return np.asarray(colour, np.float32)


def _photograph(face: FaceParameters, colour: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Expose, tint, blur and add noise, as a camera does."""
    scene, size = face.scene, colour.shape[0]
    exposed = np.clip(colour * (scene.exposure * np.array(scene.tint, np.float32)) + 0.5, 0.0, 255.0).astype(np.uint8)
    if scene.blur > 0.0:
        exposed = np.asarray(Image.fromarray(exposed).filter(ImageFilter.GaussianBlur(scene.blur * size / 112)))
    if scene.noise > 0.0:
        grain = Generator(PCG64(scene.grain)).standard_normal(exposed.shape, dtype=np.float32)
        exposed = np.clip(exposed + np.float32(scene.noise) * grain + 0.5, 0.0, 255.0).astype(np.uint8)
    return exposed
