"""What a synthetic face is made of: who it is, which action units are on, and how the picture was taken.

Everything here is a number drawn from a generator that the caller seeds; nothing is drawn anywhere else, so a
:class:`FaceParameters` is the whole truth about a picture. Lengths are in units of half a face's width, angles in
degrees, colours in sRGB from 0 to 255. The action units are those of FACS (Ekman and Friesen); which of them make an
expression follows Zhang and Dong's hierarchy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Colour = tuple[float, float, float]

AU_NAMES: Final = (
    *("AU1", "AU2", "AU4", "AU5", "AU6", "AU7", "AU9", "AU10"),
    *("AU12", "AU14", "AU15", "AU20", "AU24", "AU25", "AU26"),
)
"""The action units that the renderer knows. FACS's AU0, the neutral face, is all of them at zero."""

EXPRESSION_AUS: Final[dict[str, dict[str, float]]] = {
    "neutral": {},
    "happy": {"AU6": 1.0, "AU12": 1.0, "AU25": 0.6},
    "sad": {"AU1": 1.0, "AU15": 1.0, "AU4": 0.4},
    "surprise": {"AU1": 1.0, "AU2": 1.0, "AU5": 1.0, "AU25": 1.0, "AU26": 1.0},
    "fear": {"AU1": 1.0, "AU2": 1.0, "AU4": 1.0, "AU5": 1.0, "AU7": 1.0, "AU20": 1.0, "AU25": 0.6},
    "disgust": {"AU9": 1.0, "AU10": 1.0},
    "anger": {"AU4": 1.0, "AU5": 1.0, "AU24": 1.0, "AU7": 0.5},
    "contempt": {"AU14": 1.0},
}
"""For every expression its action units, each with how often it takes part (1: it defines the expression)."""

HAIR_STYLES: Final = (
    *("bald", "buzz", "crop", "side part", "quiff", "receding"),
    *("fringe", "tied", "bob", "long", "wavy", "curly", "afro"),
)

_SKIN: Final[NDArray[np.float64]] = np.array(
    [
        (250, 220, 200), (241, 200, 172), (228, 178, 143), (203, 147, 110),
        (176, 119, 83), (145, 90, 60), (122, 77, 53), (98, 62, 46),
    ],
    dtype=np.float64,
)  # fmt: skip
_HAIR: Final[dict[str, Colour]] = {
    "black": (34, 29, 30),
    "dark brown": (62, 42, 32),
    "brown": (101, 68, 44),
    "chestnut": (126, 72, 42),
    "red": (168, 84, 42),
    "dark blond": (160, 124, 78),
    "blond": (210, 176, 116),
    "grey": (150, 148, 148),
    "white": (214, 212, 208),
}
_FRAMES: Final[tuple[Colour, ...]] = ((30, 28, 30), (92, 56, 34), (150, 120, 70), (40, 52, 88), (140, 36, 44))
_LIPSTICKS: Final[tuple[Colour, ...]] = ((178, 40, 58), (150, 34, 66), (206, 92, 92))
_IRIS: Final[dict[str, Colour]] = {
    "dark brown": (64, 40, 26),
    "brown": (104, 66, 36),
    "hazel": (132, 104, 54),
    "green": (96, 128, 84),
    "blue": (88, 132, 176),
    "grey": (124, 142, 152),
}


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays with a person from picture to picture."""

    skin: Colour
    hair: Colour
    iris: Colour
    lip: Colour
    brow: Colour
    age: float  # 0 young, 1 old: how deep lines are
    width: float  # half the face's width at the cheekbones
    chin: float  # y of the chin
    jaw: float  # 0 pointed, 1 square
    forehead: float  # half the forehead's width, relative to the face's
    eye_x: float  # distance of an eye's middle from the nose line
    eye_y: float
    eye_width: float  # half an eye's width
    eye_height: float  # opening above the axis between the corners
    eye_tilt: float  # positive: outer corner higher
    eye_crease: float  # 0 single lid, 1 deep fold
    iris_radius: float
    lash: float  # thickness of the upper lash line
    brow_gap: float  # distance from eye to brow
    brow_thickness: float
    brow_arch: float
    brow_tilt: float
    nose_length: float
    nose_width: float
    nose_bridge: float  # how high the bridge stands
    mouth_y: float
    mouth_width: float  # half of it
    lip_upper: float
    lip_lower: float
    ear_size: float
    neck_width: float
    hair_style: str  # one of HAIR_STYLES
    hairline: float  # y of the hairline's middle
    hair_volume: float
    parting: float  # -1 left .. 1 right
    texture: int  # seeds strands and curls
    beard: float  # 0 none, below 0.3 stubble, 1 full
    moustache: float
    glasses: str  # "", "round", "square" or "thin"
    frame: Colour
    freckles: float
    blush: float
    earrings: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """How one picture was taken: pose, light, surroundings, camera."""

    yaw: float = 0.0  # positive: the face turns to the picture's right
    pitch: float = 0.0  # positive: the face looks down
    roll: float = 0.0  # positive: clockwise
    scale: float = 1.0
    shift_x: float = 0.0  # of the face in the picture, in half-face units
    shift_y: float = 0.0
    gaze_x: float = 0.0  # of the irises, as a part of an eye's half width
    gaze_y: float = 0.0
    droop: float = 0.0  # 0 eyes as the identity has them, 1 shut
    asymmetry: float = 0.0  # how much stronger action units are on the right of the picture, relative
    light_x: float = -0.35  # direction towards the light; z, towards the viewer, is 1
    light_y: float = -0.45
    ambient: float = 0.6  # part of the light that comes from everywhere
    exposure: float = 1.0
    tint: Colour = (1.0, 1.0, 1.0)
    backdrop_top: Colour = (176.0, 190.0, 200.0)
    backdrop_bottom: Colour = (120.0, 132.0, 146.0)
    cloth: Colour = (70.0, 90.0, 120.0)
    blur: float = 0.35  # standard deviation in pixels of a 112-pixel picture
    noise: float = 0.0  # standard deviation in grey levels
    grain: int = 0  # seeds the noise


@dataclass(frozen=True, slots=True)
class FaceParameters:
    """The whole truth about one picture. ``aus`` holds intensities in [0, 1]; a missing one is zero."""

    identity: Identity
    aus: Mapping[str, float]
    smirk_side: int = 1  # where AU14 acts: -1 left of the picture, 1 right
    scene: Scene = Scene()

    def __post_init__(self) -> None:
        for name, value in self.aus.items():
            if name not in AU_NAMES or not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}={value}: an action unit is one of {AU_NAMES} with an intensity in [0, 1]")
        if self.smirk_side not in {-1, 1}:
            raise ValueError(f"smirk_side is -1 or 1, not {self.smirk_side}")


def sample_identity(rng: Generator) -> Identity:
    """Draw a person. The same generator state gives the same person."""
    u = rng.uniform
    tone = (len(_SKIN) - 1.0) * u() ** 1.3
    skin = _between(_SKIN, tone) * (1.0 + 0.03 * rng.standard_normal(3))
    soft = u()  # a latent that ties jaw, lips, brows, hair and beard together, so that faces look of a piece
    age = float(rng.beta(1.2, 1.8))
    hair = np.array(_HAIR[_hair_colour(rng, tone, age)]) * u(0.85, 1.15)
    style = _hair_style(rng, soft, age)
    bearded = soft < 0.45 and u() < 0.5
    glasses = str(rng.choice(["round", "square", "thin"])) if u() < 0.22 else ""
    lip_tone = skin * (0.86, 0.62, 0.62) + (14.0, 6.0, 8.0)
    if soft > 0.5 and u() < 0.35:  # lipstick
        lip_tone = 0.45 * lip_tone + 0.55 * np.array(_LIPSTICKS[int(rng.integers(3))])
    eye_height = u(0.095, 0.15)
    return Identity(
        skin=_colour(skin),
        hair=_colour(hair),
        iris=_colour(np.array(_IRIS[_iris_colour(rng, tone)]) * u(0.85, 1.15)),
        lip=_colour(lip_tone),
        brow=_colour(np.minimum(hair * 0.72, skin * 0.6)),
        age=age,
        width=u(0.91, 1.03),
        chin=u(1.29, 1.44) - 0.04 * soft,
        jaw=float(np.clip(0.85 - 0.65 * soft + 0.15 * rng.standard_normal(), 0.0, 1.0)),
        forehead=u(0.86, 0.97),
        eye_x=u(0.395, 0.455),
        eye_y=u(-0.16, -0.08),
        eye_width=u(0.21, 0.255),
        eye_height=eye_height,
        eye_tilt=u(-0.06, 0.16),
        eye_crease=float(np.clip((eye_height - 0.095) * 20.0 + 0.25 * rng.standard_normal(), 0.0, 1.0)),
        iris_radius=u(0.106, 0.128),
        lash=u(0.014, 0.022) + 0.016 * soft,
        brow_gap=u(0.27, 0.35),
        brow_thickness=u(0.06, 0.1) - 0.035 * soft,
        brow_arch=u(0.015, 0.075),
        brow_tilt=u(-0.03, 0.04),
        nose_length=u(0.47, 0.58),
        nose_width=u(0.165, 0.245),
        nose_bridge=u(0.6, 1.1),
        mouth_y=u(0.78, 0.86),
        mouth_width=u(0.32, 0.41),
        lip_upper=u(0.04, 0.075) + 0.02 * soft,
        lip_lower=u(0.065, 0.105) + 0.025 * soft,
        ear_size=u(0.85, 1.12),
        neck_width=u(0.58, 0.74) - 0.08 * soft,
        hair_style=style,
        hairline=u(-1.0, -0.84),
        hair_volume=u(0.6, 1.3),
        parting=float(rng.choice([-1.0, 1.0])) * u(0.2, 0.6),
        texture=int(rng.integers(2**32)),
        beard=u(0.1, 1.0) if bearded else 0.0,
        moustache=u(0.4, 1.0) if bearded and u() < 0.7 else 0.0,
        glasses=glasses,
        frame=_FRAMES[int(rng.integers(len(_FRAMES)))],
        freckles=u(0.3, 1.0) if tone < 2.5 and u() < 0.25 else 0.0,
        blush=u(0.4, 1.4),
        earrings=soft > 0.55 and u() < 0.4,
    )  # fmt: skip


def sample_scene(rng: Generator) -> Scene:
    """Draw the circumstances of one picture: mostly near-frontal, now and then dark, blurred or noisy."""
    u, normal = rng.uniform, rng.standard_normal
    backdrop = u(40.0, 225.0) + 26.0 * normal(3)
    return Scene(
        yaw=float(np.clip(6.0 * normal(), -22.0, 22.0)),
        pitch=float(np.clip(4.5 * normal(), -13.0, 13.0)),
        roll=float(np.clip(4.5 * normal(), -15.0, 15.0)),
        scale=u(1.02, 1.2),
        shift_x=float(np.clip(0.045 * normal(), -0.15, 0.15)),
        shift_y=float(np.clip(0.045 * normal(), -0.15, 0.15)),
        gaze_x=float(np.clip(0.14 * normal(), -0.35, 0.35)),
        gaze_y=float(np.clip(0.012 * normal(), -0.03, 0.03)),
        droop=float(np.clip(0.1 * normal(), 0.0, 0.3)),
        asymmetry=float(np.clip(0.1 * normal(), -0.25, 0.25)),
        light_x=u(-1.1, 1.1),
        light_y=u(-1.0, 0.1),
        ambient=u(0.5, 0.85),
        exposure=u(0.8, 1.12),
        tint=_colour(1.0 + 0.035 * normal(3), high=2.0),
        backdrop_top=_colour(backdrop * u(0.8, 1.2)),
        backdrop_bottom=_colour(backdrop * u(0.55, 1.0)),
        cloth=_colour(u(25.0, 215.0, 3) * (0.55 + 0.45 * u())),
        blur=float(rng.gamma(2.0, 0.18)),
        noise=float(rng.gamma(1.5, 1.3)),
        grain=int(rng.integers(2**32)),
    )


def sample_aus(expression: str, rng: Generator) -> dict[str, float]:
    """Draw the action units of one picture of an expression: ``{name: intensity}`` for all of :data:`AU_NAMES`.

    The strength of the whole expression varies from weak to full and each unit varies around it; now and then one of
    several defining units is absent; up to two units that do not belong twitch a little. So the classes overlap,
    as they do in the wild.
    """
    strength = rng.uniform(0.6, 1.0)
    aus = dict.fromkeys(AU_NAMES, 0.0)
    members = EXPRESSION_AUS[expression]
    for name, share in members.items():
        if rng.uniform() < share:
            aus[name] = float(np.clip(strength * rng.uniform(0.8, 1.2), 0.2, 1.0))
    defining = [name for name, share in members.items() if share == 1.0]
    if len(defining) > 1 and rng.uniform() < 0.08:
        aus[defining[int(rng.integers(len(defining)))]] = 0.0
    for name in rng.choice(AU_NAMES, size=int(rng.integers(0, 3)), replace=False):
        if name not in members:
            aus[str(name)] = float(rng.uniform(0.05, 0.25))
    return aus


def _between(anchors: NDArray[np.float64], position: float) -> NDArray[np.float64]:
    low = min(int(position), len(anchors) - 2)
    return np.asarray(anchors[low] + (position - low) * (anchors[low + 1] - anchors[low]))


def _colour(values: NDArray[np.float64], high: float = 255.0) -> Colour:
    red, green, blue = np.clip(values, 0.0, high).tolist()
    return red, green, blue


def _hair_colour(rng: Generator, tone: float, age: float) -> str:
    if rng.uniform() < 0.8 * (age - 0.45):
        return str(rng.choice(["grey", "white"]))
    names = list(_HAIR)[:7]
    light = np.array([0.12, 0.2, 0.22, 0.14, 0.08, 0.12, 0.12])
    dark = np.array([0.7, 0.24, 0.06, 0.0, 0.0, 0.0, 0.0])
    mix = float(np.clip((tone - 0.8) / 2.2, 0.0, 1.0))
    weights = (1.0 - mix) * light + mix * dark
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _iris_colour(rng: Generator, tone: float) -> str:
    mix = float(np.clip((tone - 0.8) / 2.2, 0.0, 1.0))
    weights = (1.0 - mix) * np.array([0.1, 0.26, 0.16, 0.14, 0.24, 0.1]) + mix * np.array([0.66, 0.3, 0.04, 0, 0, 0])
    return list(_IRIS)[int(rng.choice(len(_IRIS), p=weights / weights.sum()))]


def _hair_style(rng: Generator, soft: float, age: float) -> str:
    short = dict.fromkeys(("buzz", "crop", "side part", "quiff", "curly"), 1.0)
    short |= {"bald": 0.3 + 0.7 * age, "receding": 0.2 + 1.6 * age, "fringe": 0.5, "afro": 0.4}
    full = {"fringe": 1.0, "tied": 1.0, "bob": 1.2, "long": 1.5, "wavy": 1.2, "curly": 0.8, "afro": 0.6, "crop": 0.4}
    weights = np.array([(1.0 - soft) * short.get(s, 0.0) + soft * full.get(s, 0.0) for s in HAIR_STYLES])
    sharpened = weights**1.5
    return HAIR_STYLES[int(rng.choice(len(HAIR_STYLES), p=sharpened / sharpened.sum()))]
