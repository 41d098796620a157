"""The mouth of a synthetic face, where most action units act: lips, teeth, the dark between them, the lines around."""

from __future__ import annotations

import numpy as np

from fer_cli.datasets.synth.features import SIDES, Aus
from fer_cli.datasets.synth.parameters import Identity
from fer_cli.datasets.synth.sketch import Array, Part, Sketch, ellipse, stroke

_ACROSS = np.linspace(-1.0, 1.0, 21)


def add_mouth(sketch: Sketch, identity: Identity, aus: Aus, smirk_side: int) -> None:
    """Add the mouth.

    AU12 pulls the corners out and up, AU15 down, AU20 straight outwards; AU14 pulls one corner into a dimple; AU10
    raises the upper lip and squares it; AU24 presses the lips thin; AU25 parts them; AU26 drops the jaw below them.
    """
    smile, frown, stretch = aus["AU12"], aus["AU15"], aus["AU20"]
    press, part, drop, sneer = aus["AU24"], aus["AU25"], aus["AU26"], aus["AU10"]
    corners = {}
    for side in SIDES:
        pull, down = aus.on("AU12", side), aus.on("AU15", side)
        smirk = aus["AU14"] if side == smirk_side else 0.0
        x = identity.mouth_width + 0.12 * pull + 0.12 * stretch + 0.1 * smirk + 0.03 * down + 0.03 * sneer
        x -= 0.065 * drop * (1.0 - pull) + 0.06 * press + 0.015 * part
        y = identity.mouth_y - 0.13 * pull + 0.14 * down + 0.035 * stretch - 0.17 * smirk + 0.05 * drop + 0.06 * sneer
        corners[side] = (x, y)
    gap = (0.075 * part + 0.32 * drop) * (1.0 - 0.7 * press) + 0.06 * sneer * (1.0 - press) + 0.06 * stretch * part
    gap += 0.055 * smile * part
    up = 0.28 * gap + 0.055 * sneer + 0.03 * aus["AU9"]
    down_by = gap - up + 0.01
    middle = identity.mouth_y + 0.02 * smile - 0.035 * frown - 0.03 * sneer - 0.012 * aus["AU14"]

    side_of = np.where(_ACROSS < 0.0, -1, 1)
    reach = np.where(side_of < 0, corners[-1][0], corners[1][0])
    corner_y = np.where(side_of < 0, corners[-1][1], corners[1][1])
    t = np.abs(_ACROSS)
    across = _ACROSS * reach
    bend = 1.7 + 0.9 * frown + 0.8 * aus["AU14"]
    rest = middle + (corner_y - middle) * t**bend
    square = 2.0 + 2.2 * sneer + 2.0 * stretch + 0.6 * smile
    opening = 1.0 - t**square
    top_edge, low_edge = rest - up * opening, rest + down_by * opening

    thin = (1.0 - 0.62 * press) * (1.0 - 0.3 * stretch) * (1.0 - 0.25 * smile)
    bow = (1.0 - t**2.4) * (1.0 + 0.16 * np.exp(-(((t - 0.24) / 0.14) ** 2)) - 0.24 * np.exp(-((t / 0.11) ** 2)))
    top_lip = top_edge - identity.lip_upper * thin * (1.0 - 0.25 * sneer) * bow
    full = (1.0 - t**2.6) ** 0.85
    low_lip = low_edge + identity.lip_lower * thin * (1.0 - 0.15 * drop) * full

    parts = sketch.parts
    parts.add(_between(across, top_lip, low_lip), Part.LIP_LOWER, lift=0.06)
    parts.add(_between(across, top_lip, rest + 0.5 * (low_edge - rest)), Part.LIP_UPPER, lift=0.06)
    parts.add(_between(across, top_edge, low_edge), Part.CAVITY, lift=0.04)
    if gap > 0.03:
        inside = np.abs(_ACROSS) < 0.95
        ix, itop, ilow = across[inside], top_edge[inside], low_edge[inside]
        if gap > 0.12:
            tongue = ellipse(0.0, float(low_edge.max()) + 0.01, 0.6 * identity.mouth_width, 0.6 * (gap - 0.12))
            bounds_top, bounds_low = np.interp(tongue[:, 0], ix, itop), np.interp(tongue[:, 0], ix, ilow)
            tongue[:, 1] = np.clip(tongue[:, 1], bounds_top, bounds_low)
            parts.add(tongue, Part.TONGUE, lift=0.03)
        bared = min((gap - 0.03) / 0.025, 1.0)
        bite = bared * (0.03 + 0.09 * smile + 0.075 * sneer + 0.02 * stretch + 0.03 * drop)
        edge = np.minimum(itop + bite * (1.0 - 0.3 * np.abs(_ACROSS[inside]) ** 2), ilow)
        parts.add(_between(ix, itop, edge), Part.TEETH, lift=0.04)
        for tooth in (-0.225, -0.075, 0.075, 0.225):
            y_top, y_end = np.interp(tooth, ix, itop), np.interp(tooth, ix, edge)
            line = np.array([(tooth, y_top), (tooth, 0.5 * (y_top + y_end)), (tooth, y_end)])
            parts.add(stroke(line, 0.012), Part.TEETH_LINE, lift=0.04)
        parts.add(_between(ix, np.maximum(ilow - 0.05 * stretch * bared, edge), ilow), Part.TEETH, lift=0.04)
    seam = np.stack([across, 0.5 * (top_edge + low_edge)], axis=1)
    if gap < 0.05:
        pen = (0.022 + 0.014 * press) * (1.0 - gap / 0.05)
        parts.add(stroke(seam, np.array([0.3, 1.0, 0.8, 1.0, 0.3]) * pen), Part.LIP_LINE, lift=0.06)
    ends = np.array([(sx * cx, cy) for sx, (cx, cy) in corners.items()])
    for side, end in zip(SIDES, ends.tolist(), strict=True):
        tick = [(-0.045, 0.0), (0.0, 0.0), (0.045, 0.03 * (aus.on("AU15", side) - aus.on("AU12", side)))]
        sketch.crease(tick, [0.0, 0.04, 0.0], 110 + 30 * (frown + smile), side=side, start=(end[0], end[1]))
    sheen = np.abs(_ACROSS) < 0.5
    gleam = np.stack([across[sheen], (low_edge + 0.42 * (low_lip - low_edge))[sheen]], axis=1)
    parts.add(
        stroke(gleam, np.array([0.0, 0.3, 0.34, 0.3, 0.0]) * identity.lip_lower * thin), Part.LIP_SHINE, lift=0.08
    )
    _add_surroundings(sketch, identity, aus, smirk_side, ends, float(low_lip.max()), float(top_lip.min()))


def _between(x: Array, top: Array, bottom: Array) -> Array:
    return np.concatenate([np.stack([x, top], axis=1), np.stack([x, bottom], axis=1)[::-1]])


def _add_surroundings(
    sketch: Sketch, identity: Identity, aus: Aus, smirk_side: int, ends: Array, bottom: float, top: float
) -> None:
    """Add philtrum, the shadow below the lower lip, dimples and the lines that a pulled corner makes."""
    middle = identity.mouth_y
    sketch.bump(0.0, middle, 0.32, 0.2, height=0.05)
    sketch.bump(0.0, bottom + 0.06, 0.2, 0.045, dark=0.16, height=-0.02)
    sketch.bump(0.0, top - 0.07, 0.035, 0.05, height=-0.025, dark=0.06)
    frown, press = aus["AU15"], aus["AU24"]
    sketch.bump(0.0, bottom + 0.09, 0.25, 0.05, height=0.04 * press, dark=0.06 * press)
    for side, (x, y) in zip(SIDES, ends.tolist(), strict=True):
        outward = float(side)
        smirk = aus["AU14"] if side == smirk_side else 0.0
        dent = smirk + 0.4 * aus["AU12"]
        sketch.bump(x + outward * 0.05, y, 0.05, 0.06, height=-0.05 * dent, dark=0.12 * smirk + 0.05 * press)
        lines: tuple[tuple[float, list[tuple[float, float]], list[float]], ...] = (
            (210 * smirk, [(0.07, -0.13), (0.115, -0.02), (0.075, 0.11)], [0.0, 0.06, 0.0]),
            (185 * frown, [(0.045, 0.0), (0.085, 0.09), (0.075, 0.2)], [0.02, 0.05, 0.0]),
            (150 * aus["AU20"], [(0.055, -0.09), (0.085, 0.0), (0.06, 0.1)], [0.0, 0.04, 0.0]),
            (150 * press, [(0.04, -0.06), (0.055, 0.0), (0.04, 0.06)], [0.0, 0.04, 0.0]),
        )
        for darkness, points, widths in lines:
            sketch.crease(points, widths, darkness, side=side, start=(x, y))
        sketch.bump(x + outward * 0.16, y - 0.1, 0.12, 0.14, height=0.06 * smirk)
        sketch.bump(x - outward * 0.02, y + 0.1, 0.07, 0.06, height=0.04 * frown)
