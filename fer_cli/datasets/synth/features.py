"""The features of a synthetic face: how action units move brows, eyes, nose, mouth and jaw.

Every function adds outlines and relief to a :class:`~fer_cli.datasets.synth.sketch.Sketch`. ``aus`` holds all action
units; a side is -1 (left of the picture) or 1 (right). Displacements follow the descriptions of FACS, their sizes are
ours, chosen so that an intensity of 1 is the strongest picture that still looks like a face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from fer_cli.datasets.synth.parameters import Identity, Scene
from fer_cli.datasets.synth.sketch import Array, Part, Sketch, curve, ellipse, mirrored, stroke

SIDES: Final = (-1, 1)
_FRECKLES: Final = (
    *((0.3, 0.22), (0.37, 0.17), (0.36, 0.29), (0.46, 0.3), (0.53, 0.23), (0.51, 0.37), (0.6, 0.25)),
    *((0.67, 0.19), (0.66, 0.32), (0.4, 0.38), (0.58, 0.44), (0.12, 0.12), (0.1, 0.24)),
)
_ACROSS: Final = np.linspace(-1.0, 1.0, 15)  # along an eye or a mouth, corner to corner


@dataclass(frozen=True, slots=True)
class Aus:
    """Action units at work: ``aus["AU1"]`` on the whole face, ``aus.on("AU1", side)`` on one side of it."""

    values: Mapping[str, float]
    asymmetry: float

    def __getitem__(self, name: str) -> float:
        return self.values.get(name, 0.0)

    def on(self, name: str, side: int) -> float:
        """Return the intensity on one side: faces are never quite symmetric."""
        return min(max(self[name] * (1.0 + side * self.asymmetry), 0.0), 1.0)


def chin_of(identity: Identity, aus: Aus) -> float:
    """Return the y of the chin: AU26 drops the jaw."""
    return identity.chin + 0.17 * aus["AU26"] + 0.015 * aus["AU25"]


def outline_of(identity: Identity, aus: Aus) -> Array:
    """Return the head's outline, scalp and jaw, clockwise from the crown: (n, 2)."""
    chin, width = chin_of(identity, aus), identity.width
    jaw_y = 0.55 + 0.25 * (chin - 0.55) + 0.12 * identity.jaw
    right = [
        (0.42 * width * identity.forehead, -1.29),
        (0.78 * width * identity.forehead, -1.04),
        (0.98 * width * identity.forehead, -0.6),
        (width, -0.1),
        ((0.945 + 0.02 * identity.jaw) * width, 0.3),
        ((0.78 + 0.12 * identity.jaw) * width, jaw_y),
        ((0.47 + 0.17 * identity.jaw) * width, 0.42 * jaw_y + 0.58 * chin),
        ((0.19 + 0.09 * identity.jaw) * width, chin - 0.03),
    ]
    left = [(-x, y) for x, y in reversed(right)]
    return curve([(0.0, -1.36), *right, (0.0, chin), *left])


def add_head(sketch: Sketch, identity: Identity, aus: Aus) -> None:
    """Add neck, ears and the head itself, with the cheeks that AU6 and AU12 raise."""
    parts, neck, chin = sketch.parts, identity.neck_width, chin_of(identity, aus)
    collar = [(neck, 0.6), (neck * 0.98, 1.3), (neck * 1.12, 1.62), (neck * 1.9, 2.3)]
    parts.add(np.array([*collar, *[(-x, y) for x, y in reversed(collar)]]), Part.NECK, onto=0.0, lift=-0.25)
    shade = outline_of(identity, aus) * np.array([0.97, 1.0]) + np.array([0.0, 0.17])
    shade[:, 0] = np.clip(shade[:, 0], -neck, neck)
    parts.add(shade, Part.NECK_SHADOW, onto=0.0, lift=-0.25)
    for side in SIDES:
        _add_ear(sketch, identity, side)
    parts.add(outline_of(identity, aus), Part.SKIN, onto=0.0)
    for side in SIDES:
        strength = aus.on("AU6", side) * 0.55 + aus["AU12"] * 0.6
        sketch.bump(side * 0.56, 0.3 - 0.06 * strength, 0.26, 0.22, height=0.05 + 0.09 * strength)
        sketch.bump(side * 0.58, 0.33, 0.24, 0.18, red=0.1 * identity.blush + 0.08 * aus["AU12"])
        sketch.bump(side * 0.5, 0.2, 0.12, 0.1, shine=0.05 + 0.08 * strength)
        sketch.bump(side * 0.95, 0.75, 0.2, 0.4, dark=0.1)
        for x, y in _FRECKLES if identity.freckles else ():
            sketch.creases.add(ellipse(side * x, y, 0.018, 0.016, 8), int(110 * identity.freckles))
    sketch.bump(0.0, -0.72, 0.4, 0.22, height=0.03, shine=0.07)
    sketch.bump(0.0, chin - 0.2, 0.17, 0.12, height=0.06 + 0.03 * aus["AU15"], shine=0.03)
    sketch.bump(0.0, chin - 0.38, 0.22, 0.05, height=-0.04, dark=0.07)


def _add_ear(sketch: Sketch, identity: Identity, side: int) -> None:
    size, x, y = identity.ear_size, identity.width, -0.02
    shape = [(-0.1, -0.3), (0.06, -0.34), (0.16, -0.22), (0.13, 0.02), (0.07, 0.24), (-0.02, 0.34), (-0.1, 0.2)]
    inner = [(0.0, -0.2), (0.07, -0.24), (0.1, -0.14), (0.06, 0.04), (0.0, 0.14), (0.02, -0.02)]
    for part, points in ((Part.EAR, shape), (Part.EAR_INNER, inner)):
        ear = curve(np.array(points) * size + (x, y))
        sketch.parts.add(mirrored(ear, side), part, onto=0.0, lift=-0.2)
    if identity.earrings:
        drop = ellipse(side * (x - 0.01), y + 0.4 * size, 0.045, 0.055, 12)
        sketch.parts.add(drop, Part.EARRING, onto=0.0, lift=-0.15)


def add_brow(sketch: Sketch, identity: Identity, aus: Aus, side: int) -> None:
    """Add a brow: AU1 lifts its inner end, AU2 its outer half, AU4 lowers all of it and draws it inwards."""
    raise_inner, raise_outer = aus.on("AU1", side), aus.on("AU2", side)
    lower = aus.on("AU4", side)
    top = identity.eye_y - identity.brow_gap
    x = identity.eye_x - 0.24 + np.array([0.0, 0.11, 0.24, 0.37, 0.49])
    arch = np.array([0.02, -0.25, -0.75, -1.0, 0.1]) * identity.brow_arch
    slope = np.array([-0.5, -0.2, 0.0, 0.2, 0.5]) * -2.0 * identity.brow_tilt
    y = top + arch + slope
    y = y - 0.19 * raise_inner * np.array([1.0, 0.72, 0.28, 0.04, 0.0])
    y = y - 0.18 * raise_outer * np.array([0.06, 0.4, 0.9, 1.0, 0.55])
    pressed = lower * (1.0 - 0.85 * max(raise_inner, raise_outer))  # in fear, brows are drawn together, not down
    y = y + 0.19 * pressed * np.array([1.0, 0.8, 0.46, 0.2, 0.08])
    y = y - 0.07 * min(raise_inner, lower) * np.array([1.0, 0.55, 0.15, 0.0, 0.0])
    x = x - 0.085 * lower * np.array([1.0, 0.8, 0.5, 0.2, 0.05])
    y = y + 0.075 * aus["AU9"] * np.array([1.0, 0.75, 0.45, 0.15, 0.0])
    line = mirrored(curve(np.stack([x, y], axis=1), closed=False), side)
    sketch.parts.add(stroke(line, np.array([0.75, 1.0, 0.95, 0.72, 0.2]) * identity.brow_thickness), Part.BROW)
    sketch.bump(side * float(x[2]), float(y[2]) + 0.06, 0.24, 0.08, height=0.035 + 0.04 * lower)
    inner_x, inner_y = float(x[0]), float(y[0])
    furrow = [(0.055, inner_y - 0.12), (0.075, inner_y), (0.06, inner_y + 0.12)]
    sketch.crease(furrow, [0.0, 0.05, 0.0], 200 * lower * (1.0 - 0.4 * raise_inner), side=side)
    sketch.bump(side * inner_x, inner_y + 0.09, 0.1, 0.07, dark=0.16 * lower)
    reach = 0.2 + 0.4 * max(raise_outer, 0.5 * identity.age)
    start = 0.42 if raise_outer > 2 * raise_inner else 0.0
    for row, share in enumerate((1.0, 0.8, 0.5)):
        strength = max(min(raise_inner, raise_outer), 0.7 * raise_inner, 0.7 * raise_outer)
        strength = share * (strength + 0.35 * max(identity.age - 0.45, 0.0))
        level = top - 0.2 - 0.1 * row - 0.05 * raise_inner
        wrinkle = [(start, level), (start + 0.5 * reach, level - 0.015), (start + reach, level + 0.03)]
        sketch.crease(wrinkle, [0.025, 0.03, 0.0], 130 * strength, side=side)


def add_eye(sketch: Sketch, identity: Identity, aus: Aus, scene: Scene, side: int) -> None:
    """Add an eye: AU5 lifts the upper lid, AU7 and AU6 narrow the opening, AU6 and AU12 push the lower lid up."""
    au = {name: aus.on(name, side) for name in ("AU1", "AU4", "AU5", "AU6", "AU7", "AU9", "AU12")}
    width, tilt = identity.eye_width, identity.eye_tilt
    open_up = identity.eye_height * (1.0 - 0.22 * au["AU7"]) * (1.0 - 0.32 * au["AU9"]) * (1.0 - 0.14 * au["AU6"])
    open_up = open_up * (1.0 - scene.droop) * (1.0 - 0.12 * au["AU4"]) + 0.105 * au["AU5"] * (1.0 - 0.15 * au["AU7"])
    open_low = 0.075 * (1.0 - 0.6 * au["AU6"]) * (1.0 - 0.4 * au["AU7"]) * (1.0 - 0.45 * au["AU9"])
    open_low = open_low * (1.0 - 0.3 * au["AU12"]) + 0.015 * au["AU5"]
    sad = max(aus["AU1"] - aus["AU2"], 0.0)  # the inner brow alone pulls the lid's inner end up

    def upper(u: Array) -> Array:
        arch = (1.0 - np.abs(u) ** 2.3) ** 0.8 * (1.0 - 0.14 * u - 0.22 * sad * u)
        return np.asarray(identity.eye_y - tilt * width * u - open_up * arch)

    def lower(u: Array) -> Array:
        return np.asarray(identity.eye_y - tilt * width * u + open_low * (1.0 - u**2) ** 0.85 * (1.0 + 0.2 * u))

    def on_face(u: Array, y: Array) -> Array:
        return np.stack([side * (identity.eye_x + width * u), y], axis=1)

    def clipped(x: float, y: float, radius: float) -> Array:
        disc = ellipse(x / width, y, radius / width, radius, 24)
        u = np.clip(disc[:, 0], -0.98, 0.98)
        return on_face(u, np.clip(disc[:, 1], upper(u), lower(u)))

    parts, u = sketch.parts, _ACROSS
    rim, floor = upper(u), lower(u)
    parts.add(np.concatenate([on_face(u, rim), on_face(u, floor)[::-1]]), Part.SCLERA)
    under = np.minimum(rim + 0.028, floor)
    parts.add(np.concatenate([on_face(u, rim), on_face(u, under)[::-1]]), Part.SCLERA_SHADE)
    inner = np.linspace(-1.0, -0.8, 4)
    parts.add(np.concatenate([on_face(inner, upper(inner)), on_face(inner, lower(inner))[::-1]]), Part.CARUNCLE)
    look_x, look_y = side * scene.gaze_x * width, identity.eye_y - 0.016 + scene.gaze_y
    radius = identity.iris_radius
    parts.add(clipped(look_x, look_y, radius), Part.IRIS_RIM)
    parts.add(clipped(look_x, look_y, 0.84 * radius), Part.IRIS)
    parts.add(clipped(look_x, look_y + 0.3 * radius, 0.52 * radius), Part.IRIS_LIGHT)
    parts.add(clipped(look_x, look_y, (0.44 + 0.08 * au["AU5"]) * radius), Part.PUPIL)
    glint_x = 0.36 * radius * (1.0 if scene.light_x > 0 else -1.0)
    parts.add(clipped(look_x + side * glint_x, look_y - 0.34 * radius, 0.27 * radius), Part.GLINT)
    parts.add(clipped(look_x - side * glint_x, look_y + 0.4 * radius, 0.12 * radius), Part.GLINT)
    lashes = np.linspace(-1.0, 1.1, 15)
    line = on_face(lashes, upper(np.minimum(lashes, 1.0)) - 0.08 * np.maximum(lashes - 1.0, 0.0))
    thickness = identity.lash * np.array([0.3, 0.9, 1.1, 1.3, 1.5, 0.2])
    parts.add(stroke(line, thickness), Part.LASH)
    along = u[::3]
    sketch.crease(on_face(along, floor[::3] + 0.004), [0.0, 0.016, 0.022, 0.02], 95)

    above = (0.045 + 0.02 * identity.eye_crease - 0.015 * au["AU5"]) * (1.0 - 0.35 * along**2)
    sketch.crease(on_face(along, rim[::3] - above), [0.0, 0.024, 0.03, 0.026, 0.0], 40 + 125 * identity.eye_crease)
    x = side * identity.eye_x
    sketch.bump(x, identity.eye_y - 0.13, 0.22, 0.09, height=-0.045, dark=0.07)
    sketch.bump(side * 0.2, identity.eye_y - 0.06, 0.07, 0.12, height=-0.05, dark=0.14)
    tired = 0.25 + 0.75 * identity.age
    sketch.bump(x - side * 0.04, identity.eye_y + 0.17, 0.17, 0.05, dark=0.07 * tired, height=0.02 * identity.age)
    pouch = max(0.8 * au["AU6"], 0.6 * au["AU7"], 0.25 * identity.age, 0.3 * au["AU9"])
    below = np.linspace(-0.8, 0.9, 4)
    sketch.crease(on_face(below, identity.eye_y + 0.145 - 0.03 * below**2), [0.0, 0.03, 0.03, 0.0], 130 * pouch)
    sketch.bump(x, identity.eye_y + 0.1, 0.18, 0.045, height=0.035 * pouch)
    crow = au["AU6"] * (0.5 + 0.5 * identity.age)
    corner = (side * (identity.eye_x + width + 0.045), identity.eye_y - tilt * width)
    for angle in (-0.5, 0.0, 0.5):
        ray = np.linspace(0.03, 0.16, 3)[:, None] * np.array([np.cos(angle), np.sin(angle)])
        sketch.crease(ray, [0.0, 0.026, 0.0], 150 * crow, side=side, start=corner)


def add_nose(sketch: Sketch, identity: Identity, aus: Aus) -> None:
    """Add the nose: AU9 wrinkles its root, widens and lifts its wings; AU9, 10 and 12 cut the folds beside it."""
    wrinkle, lift = aus["AU9"], 0.07 * aus["AU9"] + 0.03 * aus["AU10"]
    wing = identity.nose_width * (1.0 + 0.14 * wrinkle + 0.06 * aus["AU12"] + 0.05 * aus["AU10"])
    base = identity.eye_y + identity.nose_length
    right = [
        (0.085, identity.eye_y - 0.08),
        (0.09, identity.eye_y + 0.15),
        (0.6 * wing, base - 0.2),
        (0.95 * wing, base - 0.1 - lift),
        (wing, base - 0.015 - lift),
        (0.72 * wing, base + 0.04 - lift),
        (0.3 * wing, base + 0.065 - 0.5 * lift),
    ]
    outline = curve([*right, *[(-x, y) for x, y in reversed(right)]])
    stand_out = np.interp(outline[:, 1], [identity.eye_y, base], [0.05, 0.16])
    sketch.parts.add(outline, Part.NOSE, lift=stand_out)
    for side in SIDES:
        hole = curve([(0.12, 0.0), (0.38, -0.035), (0.66, -0.01), (0.6, 0.03), (0.3, 0.035)]) * (wing, 1.0)
        place = np.array([0.0, base + 0.012 - 0.8 * lift])
        sketch.parts.add(mirrored(hole + place, side), Part.NOSTRIL, lift=0.17)
        sketch.bump(side * 0.82 * wing, base - 0.06 - lift, 0.075, 0.07, height=0.09, lift=0.1)
        alar = [(0.92 * wing, -0.13), (1.1 * wing, -0.04), (0.98 * wing, 0.04)]
        sketch.crease(alar, [0.0, 0.034, 0.02], 120 + 70 * wrinkle, side=side, start=(0.0, base - lift))
        sketch.bump(side * 0.16, identity.eye_y + 0.2, 0.06, 0.17, height=-0.03, lift=0.05)
        for row in range(3):
            y = identity.eye_y - 0.03 + 0.085 * row
            line = [(0.0, y - 0.02), (0.07, y - 0.005), (0.13 + 0.015 * row, y - 0.06)]
            darkness = 225 * wrinkle * (1.0 - 0.15 * row)
            sketch.crease(line, [0.03, 0.044, 0.0], darkness, side=side, lift=0.08)
    for step in range(6):
        share = step / 5
        y = identity.eye_y - 0.05 + share * (identity.nose_length - 0.1)
        ridge = (0.06 + 0.05 * share) * identity.nose_bridge
        sketch.bump(0.0, y, 0.065 + 0.035 * share, 0.1, height=ridge, lift=0.05 + 0.17 * share)
    sketch.bump(0.0, base - 0.06 - 0.4 * lift, 0.1, 0.085, height=0.17, shine=0.2, red=0.05 * identity.blush, lift=0.25)
    sketch.bump(0.0, identity.eye_y + 0.16, 0.035, 0.2, shine=0.08 * identity.nose_bridge, lift=0.12)
    sketch.bump(0.0, base + 0.11, 0.17, 0.05, dark=0.16, height=-0.03, lift=0.05)
    for side, strength in zip(SIDES, _folds(identity, aus), strict=True):
        corner_x = identity.mouth_width + 0.11 * aus.on("AU12", side) + 0.09
        end = identity.mouth_y - 0.03 - 0.03 * aus["AU12"]
        middle = (0.5 * (wing + corner_x) + 0.06, 0.55 * base + 0.45 * end)
        fold = [(wing + 0.045, base - 0.1 - lift), middle, (corner_x, end)]
        sketch.crease(fold, [0.02, 0.05, 0.045, 0.0], 175 * strength, side=side)


def _folds(identity: Identity, aus: Aus) -> tuple[float, float]:
    lines = 0.12 + 0.4 * identity.age
    left, right = (
        lines + 0.6 * aus.on("AU12", side) + 0.55 * aus.on("AU9", side) + 0.5 * aus.on("AU10", side) for side in SIDES
    )
    return left, right
