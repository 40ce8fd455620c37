"""Draws an eye of a Person in a Shot: `geometry` has the shapes, light and color are added here."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from eyegender.data.synthetic.geometry import MIDDLE, Brow, Frame, Lids, lashes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eyegender.data.synthetic.traits import Person, Rgb, Shot

    Plane = NDArray[np.floating[Any]]  # (H, W), or (3, H, W) in color

_NOISE_SIDE = 96  # noise is generated at one size and resized, so that a larger image shows the same skin


def draw_eye(who: Person, how: Shot, size: int) -> Image.Image:
    """The image as RGB of `size` x `size`; a function of its arguments only."""
    rng = Random(how.noise_seed)  # noqa: S311
    noise = _Noise(how.noise_seed, size)
    frame, lids, brow = Frame(how, size), Lids(who, how), Brow(who)
    x, y = frame.grid()

    # From back to front.
    image = _skin(who, noise, x, y, lids)
    lid = frame.polygon(lids.lid_area(who.crease + 0.08), soften=0.06)
    _blend(image, lid * (0.6 * who.shadow), _times(who.hair, 1.1))
    crease = frame.strokes([(lids.crease_line(who.crease), 0.02 + 0.02 * who.age)], soften=0.012)
    _blend(image, crease * 0.55, _times(who.skin, 0.42))
    _blend(image, frame.strokes([(lids.bag_line(), 0.03)], soften=0.03) * (0.5 * who.age), _times(who.skin, 0.5))

    _blend(image, frame.polygon(lids.outline()), _eyeball(who, how, lids, rng, (x, y)))
    _blend(image, frame.strokes([(lids.lower, 0.024)], soften=0.008) * 0.6, _times(who.skin, 0.62))

    dark = _times(who.hair, 0.5)
    edge = 0.03 + 0.055 * who.liner
    rim = lids.upper - np.array([0.0, edge / 3])
    _blend(image, frame.strokes([(rim, edge)]) * (0.7 + 0.28 * min(1.0, who.liner)), dark)
    _blend(image, frame.hairs(lashes(rng, who, lids)) * 0.9, dark)
    _blend(image, frame.polygon(brow.area(), soften=0.03) * 0.45, who.hair)
    _blend(image, frame.hairs(brow.hairs(rng)) * 0.8, _times(who.hair, 0.85))
    return _develop(image, how, noise)


class _Noise:
    """Noise in -1..1 from raw PCG64 words, whose stream never changes, unlike that of NumPy's distributions."""

    def __init__(self, seed: int, size: int) -> None:
        self.words = np.random.PCG64(seed)
        self.size = size

    def plane(self, side: int) -> Plane:
        """Noise with grains of 1 / side of the image."""
        raw = self.words.random_raw((side * side + 7) // 8).astype("<u8").view(np.uint8)[: side * side]
        grains = Image.fromarray(raw.reshape(side, side)).resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(grains, dtype=np.float32) / 127.5 - 1.0


def _skin(who: Person, noise: _Noise, x: Plane, y: Plane, lids: Lids) -> Plane:
    """Skin with the shadow at the nose, the hollow under the brow and the light on the cheekbone."""
    nose = np.exp(-(((x + 1.15) / 0.42) ** 2) - ((y - 0.1) / 0.9) ** 2)
    hollow = np.exp(-((x / 0.75) ** 2) - ((y - (MIDDLE - lids.height - 0.14)) / 0.20) ** 2)
    cheek = np.exp(-(((x - 0.35) / 0.8) ** 2) - ((y - 0.85) / 0.35) ** 2)
    light = 1.0 - 0.36 * nose - 0.20 * hollow + 0.10 * cheek
    pores = 0.5 * noise.plane(_NOISE_SIDE) + 0.5 * noise.plane(_NOISE_SIDE // 2)
    light += 0.035 * noise.plane(6) + (0.008 + 0.085 * who.roughness) * pores
    return light * _planes(who.skin)


def _eyeball(who: Person, how: Shot, lids: Lids, rng: Random, grid: tuple[Plane, Plane]) -> Plane:
    """White, iris, pupil and highlight under the shadow of the upper lid."""
    x, y = grid
    size = len(x)
    ball = np.empty((3, size, size), dtype=np.float32)
    ball[:] = _planes((0.90, 0.87, 0.85))
    corner = np.exp(-(((x + who.eye_width) / 0.12) ** 2))
    _blend(ball, corner * 0.7, (0.72, 0.45, 0.40))
    ball *= 1.0 - 0.45 * np.clip(np.abs(x) / who.eye_width, 0.0, 1.0) ** 3

    radius = who.iris_radius
    across, down = x - how.gaze[0], y - (MIDDLE + 0.04 - 0.36 * lids.height + how.gaze[1])
    far = np.sqrt(across**2 + down**2) / radius
    sharp = radius * size / 2
    rays = np.array([rng.uniform(0.72, 1.28) for _ in range(40)], dtype=np.float32)
    angle = (np.arctan2(down, across) / (2 * np.pi) + 0.5) * 40
    fibres = np.interp(angle, np.arange(41), np.append(rays, rays[0])).astype(np.float32)
    tone = fibres * (0.75 + 0.55 * far) * np.where(far > 0.82, 1.0 - 2.6 * (far - 0.82), 1.0)
    _blend(ball, np.clip((1.0 - far) * sharp + 0.5, 0.0, 1.0), tone * _planes(who.iris))
    _blend(ball, np.clip((0.42 - far) * sharp + 0.5, 0.0, 1.0), (0.02, 0.02, 0.02))

    under_lid = y - np.interp(x, lids.x, lids.upper[:, 1]).astype(np.float32)
    ball *= 1.0 - 0.62 * np.exp(-((np.maximum(under_lid, 0.0) / 0.10) ** 2))

    # The lamp is not mirrored or rotated with the eye: both eyes of a face reflect the same one.
    side = -1.0 if how.left else 1.0
    spot_x, spot_y = across - side * (0.07 + 0.4 * how.light[0]), down + 0.075 - 0.3 * how.light[1]
    spot = np.sqrt(spot_x**2 + (0.85 * spot_y) ** 2)
    _blend(ball, np.clip((0.048 - spot) * size / 2 + 0.5, 0.0, 1.0) * 0.95, (1.0, 1.0, 0.98))
    return ball


def _develop(image: Plane, how: Shot, noise: _Noise) -> Image.Image:
    """Apply light direction, exposure, contrast, color temperature, lens and sensor."""
    size = noise.size
    steps = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    falloff = 1.0 + how.light[0] * steps[None, :] + how.light[1] * steps[:, None]
    balance = _planes((1.0 + how.warmth, 1.0, 1.0 - how.warmth))
    lit = image * (falloff * how.exposure) * balance
    lit = 0.5 + (lit - 0.5) * how.contrast
    seen = Image.fromarray(_to_bytes(lit)).filter(ImageFilter.GaussianBlur(how.blur * size / 96))
    grain = noise.plane(_NOISE_SIDE) * (1.7 * how.grain)
    return Image.fromarray(_to_bytes(np.asarray(seen, dtype=np.float32).transpose(2, 0, 1) / 255.0 + grain))


def _to_bytes(values: Plane) -> NDArray[np.uint8]:
    """(3, H, W) in 0..1 as PIL's (H, W, 3)."""
    return np.ascontiguousarray((np.clip(values, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def _blend(image: Plane, mask: Plane, color: Rgb | Plane) -> None:
    """Blend `color` into the image in place, where the mask is above 0."""
    layer = _planes(color) if isinstance(color, tuple) else color
    image += mask * (layer - image)


def _planes(color: Rgb) -> Plane:
    """A color as (3, 1, 1): images are channel first, so that NumPy processes whole rows."""
    return np.array(color, dtype=np.float32).reshape(3, 1, 1)


def _times(color: Rgb, factor: float) -> Rgb:
    return (min(1.0, color[0] * factor), min(1.0, color[1] * factor), min(1.0, color[2] * factor))
