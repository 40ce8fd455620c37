"""The synthetic population: the traits of each person, and how each image was taken.

A person has a latent score z, which is normally distributed around -SEPARATION for label 0 and +SEPARATION for label 1,
with standard deviation 1. Every cue that a classifier could use (brow, lashes, lids, make-up, skin) is z plus
independent noise; everything else (skin tone, hair, iris, pose, light) is independent of the label. So the best
classifier reads z itself and is correct for a share Phi(SEPARATION) of persons: see `bayes_accuracy`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

Rgb = tuple[float, float, float]

SEPARATION = 1.6
# Noise of each of the eight cues: a classifier that reads all of them perfectly is correct for a share
# Phi(SEPARATION / sqrt(1 + CUE_NOISE^2 / 8)) of persons, 93.4% instead of 94.5%.
CUE_NOISE = 1.0

_LIGHT_SKIN: Rgb = (0.93, 0.76, 0.66)
_DARK_SKIN: Rgb = (0.42, 0.27, 0.19)
_HAIR: tuple[Rgb, ...] = ((0.07, 0.06, 0.06), (0.16, 0.10, 0.07), (0.30, 0.19, 0.11), (0.50, 0.36, 0.20))
_IRIS: tuple[Rgb, ...] = (
    (0.20, 0.11, 0.05),
    (0.34, 0.20, 0.09),
    (0.40, 0.38, 0.20),
    (0.33, 0.47, 0.58),
    (0.40, 0.45, 0.46),
)


def bayes_accuracy(separation: float = SEPARATION) -> float:
    """Accuracy of the best possible classifier: Phi(separation), 0.945 for the default."""
    return 0.5 * (1.0 + math.erf(separation / math.sqrt(2.0)))


@dataclass(frozen=True)
class Person:
    """The traits of both eyes of a person. Lengths are in half sides of the image, colors and strengths in 0..1."""

    label: int
    latent: float
    skin: Rgb
    hair: Rgb
    iris: Rgb
    eye_width: float
    tilt: float
    iris_radius: float
    crease: float
    age: float
    light_hair: bool
    # The cues.
    brow_thickness: float
    brow_height: float
    brow_arch: float
    lash_length: float
    opening: float
    liner: float
    shadow: float
    roughness: float


@dataclass(frozen=True)
class Shot:
    """Pose, gaze, light and camera of one image."""

    left: bool
    rotation: float
    scale: float
    shift: tuple[float, float]
    gaze: tuple[float, float]
    squint: float
    light: tuple[float, float]
    exposure: float
    contrast: float
    warmth: float
    blur: float
    grain: float
    noise_seed: int


def person(seed: int, number: int, separation: float = SEPARATION) -> Person:
    """Person `number` of the population `seed`; odd numbers have label 1, so every even count is balanced."""
    # A string as seed, random() and gauss() give the same numbers in all Python versions and on all machines.
    rng = Random(f"eye/{seed}/person/{number}")  # noqa: S311
    label = number % 2
    latent = rng.gauss(separation if label else -separation, 1.0)

    def cue(low: float, high: float) -> float:
        """A value from `low` (score -3.5, typical of label 0) to `high` (score +3.5)."""
        score = (latent + rng.gauss(0.0, CUE_NOISE)) / 3.5
        return low + (high - low) * 0.5 * (1.0 + max(-1.2, min(1.2, score)))

    tone = rng.random() ** 1.4
    hair_tone = rng.choice(range(len(_HAIR))) if tone < 0.6 else rng.choice(range(2))
    iris_tone = rng.choice(range(len(_IRIS))) if tone < 0.5 else rng.choice(range(2))
    return Person(
        label=label,
        latent=latent,
        skin=_mix(_vary(rng, _LIGHT_SKIN, 0.03), _DARK_SKIN, tone),
        hair=_vary(rng, _HAIR[hair_tone], 0.03),
        iris=_vary(rng, _IRIS[iris_tone], 0.05),
        eye_width=rng.uniform(0.52, 0.62),
        tilt=rng.gauss(0.03, 0.03),
        iris_radius=rng.uniform(0.215, 0.25),
        crease=rng.uniform(0.05, 0.13),
        age=rng.random(),
        light_hair=hair_tone == len(_HAIR) - 1,
        brow_thickness=max(0.02, cue(0.035, 0.15)),
        brow_height=cue(0.66, 0.44),
        brow_arch=cue(0.20, 0.02),
        lash_length=max(0.02, cue(0.24, 0.03)),
        opening=cue(0.36, 0.22),
        liner=max(0.0, cue(1.0, 0.0)),
        shadow=max(0.0, cue(0.75, -0.15)),
        roughness=max(0.0, cue(0.0, 1.0)),
    )


def shot(seed: int, index: int) -> Shot:
    """How image `index` of the population `seed` was taken; even indices are left eyes, odd ones right eyes."""
    rng = Random(f"eye/{seed}/shot/{index}")  # noqa: S311
    return Shot(
        left=index % 2 == 0,
        rotation=rng.gauss(0.0, 0.07),
        scale=rng.uniform(1.05, 1.35),
        shift=(rng.gauss(0.0, 0.05), rng.gauss(0.0, 0.05)),
        gaze=(rng.gauss(0.0, 0.09), rng.gauss(0.0, 0.03)),
        squint=rng.gauss(1.0, 0.06),
        light=(rng.gauss(0.0, 0.17), rng.gauss(-0.05, 0.10)),
        exposure=rng.uniform(0.80, 1.15),
        contrast=rng.uniform(0.85, 1.15),
        warmth=rng.gauss(0.0, 0.04),
        blur=0.25 + 0.9 * rng.random() ** 2,
        grain=rng.uniform(0.004, 0.02),
        noise_seed=rng.getrandbits(64),
    )


def _mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def _vary(rng: Random, color: Rgb, spread: float) -> Rgb:
    """The color, made randomly lighter or darker and slightly warmer or colder."""
    lighter, warmer = rng.gauss(0.0, spread), rng.gauss(0.0, spread / 3)
    red, green, blue = color
    return (_unit(red + lighter + warmer), _unit(green + lighter), _unit(blue + lighter - warmer))


def _unit(value: float) -> float:
    return max(0.02, min(1.0, value))
