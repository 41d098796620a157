"""What grows on a synthetic head and what it wears: hair, beard, glasses, clothing."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from fer_cli.datasets.synth.features import SIDES, Aus, chin_of, outline_of
from fer_cli.datasets.synth.parameters import Identity
from fer_cli.datasets.synth.sketch import Array, Part, Sketch, curve, ellipse, mirrored, stroke

_HANGING = {"bob": 1.05, "long": 2.3, "wavy": 2.2}


def add_back_hair(sketch: Sketch, identity: Identity, rng: Generator) -> None:
    """Add the hair behind the neck: painted first."""
    style, wide = identity.hair_style, identity.width + 0.1 + 0.12 * identity.hair_volume
    if style in _HANGING:
        end = _HANGING[style] + 0.15 * (identity.hair_volume - 1.0)
        right = [
            (0.75 * wide, -1.2),
            (1.06 * wide, -0.5),
            (1.12 * wide, 0.3),
            (1.16 * wide, 0.85 * end),
            (0.8 * wide, end),
        ]
        if style == "wavy":
            right[3:3] = [(1.28 * wide, 0.7), (1.12 * wide, 1.05)]
        shape = curve([(0.0, -1.42), *right, (0.0, end), *[(-x, y) for x, y in reversed(right)]])
        sketch.parts.add(shape, Part.HAIR_BACK, onto=0.0, lift=-0.35)
    elif style in {"curly", "afro"}:
        size = (0.26 if style == "afro" else 0.12) * identity.hair_volume
        low = 1.75 if style == "afro" else 1.45
        for angle in np.linspace(-low, low, 19):
            radius = 0.2 + size * (0.5 + 0.2 * rng.uniform())
            x, y = _scalp(identity, angle, 0.02 + 0.55 * size)
            sketch.parts.add(ellipse(x, y, radius, radius, 14), Part.HAIR_BACK, onto=0.0, lift=-0.25)


def _scalp(identity: Identity, angle: float, out: float) -> tuple[float, float]:
    """Return a point on the hair's outer contour: 0 is the crown, positive angles go to the right."""
    x = (identity.width + 0.4 * out) * np.sin(angle)
    return float(x), float(-0.32 - (1.04 + out) * np.cos(angle))


def _front_line(identity: Identity, style: str) -> Array:
    """Return the hairline from the left temple to the right: (n, 2)."""
    x = np.array([1.0, 0.9, 0.78, 0.55, 0.28, 0.0])
    y = np.array([-0.42, -0.58, -0.74, 0.0, 0.0, 0.0])
    line = identity.hairline
    y[3:] = line + np.array([0.07, 0.0, 0.0])
    if style == "receding":
        y[1:] = [-0.62, -0.86, line - 0.22, line - 0.14, line - 0.04]
    elif style == "buzz":
        y[2] = -0.84
    x = x * identity.width * np.array([1.0, 1.0, identity.forehead + 0.04, identity.forehead, 1.0, 1.0])
    right = np.stack([x, y], axis=1)
    if style == "side part":  # the parted side lies open, the other is swept down
        swept = right.copy()
        swept[2:5, 1] += [0.03, 0.1, 0.06]
        right[2:5, 1] -= [0.05, 0.03, 0.03]
        left, right = (swept, right) if identity.parting > 0 else (right, swept)
    else:
        left = right
    return np.concatenate([left[:-1] * (-1.0, 1.0), right[-1:], right[-2::-1]])


def add_front_hair(sketch: Sketch, identity: Identity, rng: Generator) -> None:
    """Add the hair over the forehead and beside the face: painted over the features."""
    style, volume = identity.hair_style, identity.hair_volume
    if style == "bald":
        sketch.bump(0.15, -1.08, 0.3, 0.16, shine=0.2)
        return
    inner = curve(_front_line(identity, style), closed=False)
    rise = {"buzz": 0.0, "receding": 0.02, "quiff": 0.22, "tied": 0.03, "afro": 0.2, "curly": 0.12}.get(style, 0.09)
    angles = np.linspace(-1.5, 1.5, len(inner))
    lifted = (
        rise * volume
        + 0.02
        + (0.12 * np.exp(-(((angles + 0.5 * identity.parting) / 0.5) ** 2)) if style == "quiff" else 0.0)
    )
    outer = np.stack(
        [(identity.width + 0.35 * lifted + 0.015) * np.sin(angles), -0.32 - (1.04 + lifted) * np.cos(angles)], axis=1
    )
    outer[0], outer[-1] = inner[0] * (1.03, 1.0), inner[-1] * (1.03, 1.0)
    onto = np.concatenate([np.full(len(outer), 0.0), np.full(len(inner), 0.85)])
    fall = np.concatenate([outer, inner[::-1] + np.array([0.0, 0.075])])
    sketch.creases.add(fall, 75, onto=onto)
    sketch.parts.add(np.concatenate([outer, inner[::-1]]), Part.HAIR, onto=onto)
    if style in {"curly", "afro"}:
        _add_curls(sketch, identity, rng, inner, outer)
    else:
        _add_strands(sketch, rng, inner, outer, count=10 if style == "buzz" else 34)
    if style == "fringe":
        _add_fringe(sketch, identity, rng)
    if style in _HANGING:
        for side in SIDES:
            _add_lock(sketch, identity, rng, side)
    elif style in {"crop", "side part", "quiff", "receding", "buzz", "fringe", "tied"}:
        for side in SIDES:
            burn = [(1.0, -0.7), (1.025, -0.3), (0.995, 0.0), (0.965, 0.02), (0.945, -0.25), (0.9, -0.6)]
            sketch.parts.add(mirrored(curve(np.array(burn) * (identity.width, 1.0)), side), Part.HAIR, onto=0.25)


def _add_strands(sketch: Sketch, rng: Generator, inner: Array, outer: Array, count: int) -> None:
    """Comb strands from the hairline to the crown, or along it, in lighter and darker tones."""
    draws = rng.uniform(size=(count, 4))
    for one, (where, long, depth, tone) in enumerate(draws.tolist()):
        start = int(where * (len(inner) - 8))
        steps = np.arange(start, min(start + 6 + int(long * 16), len(inner)))
        across = np.linspace(0.1 + 0.75 * depth, 0.25 + 0.7 * depth, len(steps))[:, None]
        line = inner[steps] + across * (outer[steps] - inner[steps])
        part = Part.HAIR_LIGHT if tone < 0.5 else Part.HAIR_DARK
        onto = np.tile(0.85 * (1.0 - across[:, 0]), 2)
        onto[len(steps) :] = onto[: len(steps)][::-1]
        sketch.parts.add(stroke(line, [0.0, 0.03 + 0.01 * (one % 2), 0.0]), part, onto=onto)


def _add_curls(sketch: Sketch, identity: Identity, rng: Generator, inner: Array, outer: Array) -> None:
    size = 0.085 if identity.hair_style == "afro" else 0.12
    for row in np.linspace(0.95, 0.08, 5):
        for index in range(0, len(inner), 3):
            place = inner[index] + row * (outer[index] - inner[index]) + size * 0.5 * (rng.uniform(size=2) - 0.5)
            radius = size * rng.uniform(0.7, 1.15)
            tone = Part.HAIR_LIGHT if rng.uniform() < 0.18 else Part.HAIR
            onto = 0.85 * (1.0 - row)
            sketch.parts.add(ellipse(place[0], place[1], radius, radius, 12), Part.HAIR_DARK, onto=onto)
            curl = ellipse(place[0] - 0.1 * radius, place[1] - 0.14 * radius, 0.82 * radius, 0.8 * radius, 12)
            sketch.parts.add(curl, tone, onto=onto)


def _add_fringe(sketch: Sketch, identity: Identity, rng: Generator) -> None:
    """Hang a fringe over the forehead, at times over the brows."""
    low = identity.eye_y - identity.brow_gap + 0.09 - 0.22 * identity.hair_volume
    count = 11
    tips = (np.linspace(-0.86, 0.86, count) + 0.05 * (rng.uniform(size=count) - 0.5)) * identity.width
    ends = low + 0.07 * rng.uniform(size=count) + 0.12 * np.abs(tips) ** 3 + 0.06 * tips * np.sign(identity.parting)
    gaps = np.stack(
        [0.5 * (tips[1:] + tips[:-1]), 0.5 * (ends[1:] + ends[:-1]) - 0.09 * rng.uniform(size=count - 1)], axis=1
    )
    teeth = np.empty((2 * count - 1, 2))
    teeth[::2], teeth[1::2] = np.stack([tips, ends], axis=1), gaps
    root = curve(
        [(0.9 * identity.width, -0.6), (0.62, -1.18), (0.0, -1.3), (-0.62, -1.18), (-0.9 * identity.width, -0.6)],
        closed=False,
    )
    shape = np.concatenate([teeth, root])
    sketch.creases.add(shape + np.array([0.0, 0.06]), 80)
    sketch.parts.add(shape, Part.HAIR, lift=0.06)
    for tip, end, tone in zip(tips.tolist(), ends.tolist(), rng.uniform(size=count).tolist(), strict=True):
        line = curve([(0.55 * tip, -1.2), (0.92 * tip, -0.92), (tip, end - 0.03)], closed=False)
        part = Part.HAIR_LIGHT if tone < 0.5 else Part.HAIR_DARK
        sketch.parts.add(stroke(line, [0.0, 0.03, 0.034, 0.0]), part, lift=0.06)


def _add_lock(sketch: Sketch, identity: Identity, rng: Generator, side: int) -> None:
    """Hang a lock of long hair beside the face, over ear and shoulder."""
    wide, end = identity.width + 0.06 + 0.1 * identity.hair_volume, _HANGING[identity.hair_style]
    part = 0.5 * identity.parting * side  # positive: the parting lies on this side
    inner = [(part, identity.hairline - 0.04), (0.5 + 0.2 * part, -0.8), (0.83, -0.5), (0.91, 0.0), (0.92, 0.55)]
    outer = [(part, -1.4), (0.6 + 0.2 * part, -1.24), (0.98, -0.75), (1.06, 0.0), (1.08, 0.55)]
    inner += [(0.84, end - 0.2), (0.78, end)] if identity.hair_style == "bob" else [(0.9, 0.75 * end), (0.86, end)]
    outer += (
        [(1.1, end - 0.2), (0.98, end + 0.02)] if identity.hair_style == "bob" else [(1.14, 0.75 * end), (1.0, end)]
    )
    near, far = np.array(inner) * (identity.width, 1.0), np.array(outer) * (wide, 1.0)
    if identity.hair_style == "wavy":
        ripple = 0.07 * np.sin(np.array([0.0, 0.5, 1.8, 3.4, 5.0, 6.8, 8.4])) * (0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0)
        near[:, 0] += 0.8 * ripple
        far[:, 0] += ripple
    near, far = curve(near, closed=False), curve(far, closed=False)
    on_head = np.clip(1.0 - np.linspace(0.0, 2.2, len(near)), 0.35, 1.0)
    onto = np.concatenate([np.zeros(len(far)), on_head[::-1]])
    shape = np.concatenate([far, near[::-1]])
    sketch.creases.add(mirrored(shape + np.array([-0.06, 0.03]), side), 75, onto=onto)
    sketch.parts.add(mirrored(shape, side), Part.HAIR, onto=onto)
    for share, tone in rng.uniform(0.05, 0.95, size=(12, 2)).tolist():
        line = near + share * (far - near)
        depth = (1.0 - share) * on_head
        strand = stroke(line, [0.0, 0.03, 0.03, 0.024, 0.0])
        sketch.parts.add(
            mirrored(strand, side),
            Part.HAIR_LIGHT if tone < 0.5 else Part.HAIR_DARK,
            onto=np.concatenate([depth, depth[::-1]]),
        )


def add_beard(sketch: Sketch, identity: Identity, aus: Aus) -> None:
    """Add beard and moustache; both are skin to a mask, as in face-parsing data sets. Painted below the lips."""
    if identity.beard >= 0.3:
        chin, edge = chin_of(identity, aus), outline_of(identity, aus)
        jaw = edge[(edge[:, 1] > 0.3)] * (1.005, 1.012)
        jaw = jaw[np.argsort(np.arctan2(jaw[:, 0], jaw[:, 1]))]
        low = 0.35 + 0.3 * (1.0 - identity.beard)
        left_x, right_x = float(jaw[:, 0].min()), float(jaw[:, 0].max())
        mouth = identity.mouth_y + 0.04
        right = [(right_x, low), (0.8 * right_x, low + 0.24), (0.5, mouth - 0.07), (0.3, mouth + 0.02)]
        left = [(-0.3, mouth + 0.02), (-0.5, mouth - 0.07), (0.8 * left_x, low + 0.24), (left_x, low)]
        top = curve([*right, (0.0, mouth + 0.02), *left], closed=False)
        shape = np.concatenate([jaw, top])
        sketch.parts.add(shape, Part.BEARD, onto=np.concatenate([np.zeros(len(jaw)), np.full(len(top), 0.9)]))
        sketch.bump(0.0, chin - 0.1, 0.4, 0.12, dark=0.12)
    elif identity.beard > 0.0:
        for x, y, spread in ((0.0, 1.13, 0.3), (0.0, 0.66, 0.24), (0.5, 1.0, 0.22), (0.76, 0.62, 0.14)):
            for side in SIDES if x else (1,):
                sketch.bump(side * x, y, spread, 0.16, dark=0.55 * identity.beard)
    if identity.moustache > 0.0:
        base, under_nose = identity.mouth_y - 0.05, identity.eye_y + identity.nose_length + 0.045
        reach = identity.mouth_width * (1.02 + 0.1 * identity.moustache) + 0.08 * aus["AU12"]
        drop = -0.1 * aus["AU12"] + 0.1 * aus["AU15"]
        raised = 0.08 * aus["AU10"] + 0.03 * aus["AU26"]
        right = [
            (0.35 * reach, under_nose - 0.005),
            (0.8 * reach, 0.6 * under_nose + 0.4 * base + 0.6 * drop),
            (1.12 * reach, base + 0.04 + drop),
            (1.06 * reach, base + 0.1 + drop),
            (0.6 * reach, base + 0.05 + 0.5 * drop),
        ]
        shape = curve([(0.0, under_nose + 0.02), *right, (0.0, base + 0.04), *[(-x, y) for x, y in reversed(right)]])
        sketch.parts.add(shape - (0.0, raised), Part.BEARD_DARK, lift=0.05)


def add_glasses(sketch: Sketch, identity: Identity) -> None:
    """Add glasses: frames as parts, lenses as a layer of their own, for what is behind them stays visible."""
    if not identity.glasses:
        return
    y = identity.eye_y + 0.02
    thick = 0.022 if identity.glasses == "thin" else 0.05
    wide, high, power = {"round": (0.34, 0.29, 1.0), "square": (0.355, 0.25, 0.5), "thin": (0.335, 0.22, 0.7)}[
        identity.glasses
    ]
    for side in SIDES:
        rim = ellipse(0.0, 0.0, 1.0, 1.0, 28)
        rim = np.sign(rim) * np.abs(rim) ** power * (wide, high) + (side * (identity.eye_x + 0.015), y)
        sketch.lenses.add(rim, 255, lift=0.12)
        loop = np.concatenate([rim, rim[:2]])
        sketch.parts.add(stroke(loop, thick), Part.FRAME, lift=0.12)
        hinge = identity.eye_x + wide
        temple = np.array([(hinge, y - 0.06), (0.5 * (hinge + identity.width), y - 0.07), (identity.width, y - 0.08)])
        onto = np.array([0.9, 0.6, 0.0, 0.0, 0.6, 0.9])
        sketch.parts.add(mirrored(stroke(temple, thick * 0.9), side), Part.FRAME, onto=onto)
    bridge = curve(
        [(-identity.eye_x + wide, y - 0.04), (0.0, y - 0.09), (identity.eye_x - wide, y - 0.04)], closed=False
    )
    sketch.parts.add(stroke(bridge, thick), Part.FRAME, lift=0.12)


def add_clothing(sketch: Sketch, identity: Identity) -> None:
    """Add shoulders and a collar."""
    neck = identity.neck_width
    shoulders = [(0.8 * neck, 1.66), (neck * 1.14, 1.56), (1.35, 1.78), (1.9, 2.1), (2.2, 2.9)]
    body = [(0.0, 1.9), *shoulders, *[(-x, y) for x, y in reversed(shoulders)]]
    sketch.parts.add(curve(body), Part.CLOTH, onto=0.0, lift=-0.2)
    neckline = [(-1.16, 1.54), (-0.62, 1.74), (0.0, 1.88), (0.62, 1.74), (1.16, 1.54)]
    collar = curve(np.array(neckline) * (neck, 1.0), closed=False)
    sketch.parts.add(stroke(collar, 0.07), Part.CLOTH_DARK, onto=0.0, lift=-0.2)
