"""The shapes of an eye in its own frame of reference, and the position of that frame in the image.

The frame spans -1..1 in both directions, with y downwards, the nose at negative x and the middle of the lids at
(0, MIDDLE). A left eye is mirrored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from random import Random

    from numpy.typing import NDArray

    from eyegender.data.synthetic.traits import Person, Shot

    Points = NDArray[np.float64]
    Plane = NDArray[np.float32]  # (H, W)

SUPERSAMPLING = 3
MIDDLE = 0.18


class Lids:
    """The lines of the lids in one image, each as 25 points (x, y) from the inner to the outer corner."""

    def __init__(self, who: Person, how: Shot) -> None:
        t = np.linspace(0.0, 1.0, 25)
        height = max(0.08, who.opening * how.squint)
        self.t = t
        self.height = height
        self.x = who.eye_width * (2.0 * t - 1.0)
        self.base = MIDDLE + 0.04 - who.tilt * (2.0 * t - 1.0)
        self.upper = np.stack([self.x, self.base - height * np.sin(np.pi * t**0.88) ** 0.8], axis=1)
        self.lower = np.stack([self.x, self.base + 0.42 * height * np.sin(np.pi * t**1.15) ** 0.9], axis=1)

    def outline(self) -> Points:
        return np.concatenate([self.upper, self.lower[::-1]])

    def crease_line(self, distance: float) -> Points:
        lift = distance * (0.55 + 0.45 * np.sin(np.pi * self.t))
        return np.stack([self.x * 1.03, self.upper[:, 1] - lift], axis=1)

    def lid_area(self, distance: float) -> Points:
        return np.concatenate([self.crease_line(distance), self.upper[::-1]])

    def bag_line(self) -> Points:
        sag = 0.10 + 0.07 * np.sin(np.pi * self.t)
        return np.stack([self.x * 0.85, self.lower[:, 1] + sag], axis=1)


class Frame:
    """The position of the eye's frame in the image; draws masks in it, as float32 of (size, size) in 0..1."""

    def __init__(self, how: Shot, size: int) -> None:
        self.size = size
        self.fine = size * SUPERSAMPLING
        turn = np.array(
            [[math.cos(how.rotation), -math.sin(how.rotation)], [math.sin(how.rotation), math.cos(how.rotation)]]
        )
        mirror = np.diag([-1.0 if how.left else 1.0, 1.0])
        self.matrix = how.scale * turn @ mirror
        self.shift = np.array(how.shift)

    def grid(self) -> tuple[Plane, Plane]:
        """x and y in the eye's frame at every pixel."""
        steps = (np.arange(self.size) + 0.5) * (2.0 / self.size) - 1.0
        across, down = np.meshgrid(steps - self.shift[0], steps - self.shift[1])
        back = np.linalg.inv(self.matrix)
        x = back[0, 0] * across + back[0, 1] * down
        y = back[1, 0] * across + back[1, 1] * down
        return x.astype(np.float32), y.astype(np.float32)

    def polygon(self, points: Points, soften: float = 0.0) -> Plane:
        canvas, pen = self._canvas()
        pen.polygon(self._place(points), fill=255)
        return self._mask(canvas, soften)

    def strokes(self, lines: list[tuple[Points, float]], soften: float = 0.0) -> Plane:
        """Lines, each with its constant width."""
        canvas, pen = self._canvas()
        for points, width in lines:
            pen.line(self._place(points), fill=255, width=max(1, round(width * self.fine / 2)), joint="curve")
        return self._mask(canvas, soften)

    def hairs(self, tapers: Points) -> Plane:
        """Thin triangles of (K, 3, 2): two points at the root, one at the tip."""
        canvas, pen = self._canvas()
        placed = self._place(tapers.reshape(-1, 2))
        for start in range(0, len(placed), 6):
            pen.polygon(placed[start : start + 6], fill=255)
        return self._mask(canvas, 0.0)

    def _canvas(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        canvas = Image.new("L", (self.fine, self.fine))
        return canvas, ImageDraw.Draw(canvas)

    def _place(self, points: Points) -> list[float]:
        placed = points @ self.matrix.T + self.shift
        flat: list[float] = ((placed + 1.0) * (self.fine / 2)).ravel().tolist()
        return flat

    def _mask(self, canvas: Image.Image, soften: float) -> Plane:
        small = canvas.reduce(SUPERSAMPLING)
        if soften:
            small = small.filter(ImageFilter.GaussianBlur(soften * self.size / 2))
        return np.asarray(small, dtype=np.float32) / 255.0


class Brow:
    """The brow: a soft area and single hairs, from the nose (t = 0) to the temple (t = 1)."""

    def __init__(self, who: Person) -> None:
        self.who = who

    def middle(self, t: Points) -> Points:
        x = _span(self.who, t)
        y = MIDDLE - self.who.brow_height - self.who.brow_arch * np.sin(np.pi * t**1.35) + 0.16 * (t - 0.35) ** 2
        return np.stack([x, y], axis=-1)

    def half_width(self, t: Points) -> Points:
        taper: Points = self.who.brow_thickness * (0.72 + 0.5 * np.sin(np.pi * np.sqrt(t))) * np.sqrt(1.02 - t)
        return taper

    def area(self) -> Points:
        t = np.linspace(0.0, 1.0, 16)
        middle, half = self.middle(t), 0.8 * self.half_width(t)
        up, down = middle.copy(), middle.copy()
        up[:, 1] -= half
        down[:, 1] += half
        return np.concatenate([up, down[::-1]])

    def hairs(self, rng: Random) -> Points:
        """Hairs with roots in the whole area; they are upright at the nose and follow the brow further out."""
        count = 70 + round(700 * self.who.brow_thickness)
        t = np.array([rng.random() for _ in range(count)])
        across = np.array([rng.uniform(-1.0, 0.9) for _ in range(count)])
        root = self.middle(t)
        root[:, 1] += across * self.half_width(t)
        angle = -1.25 + 1.45 * np.sqrt(t) + 0.25 * across + np.array([rng.gauss(0.0, 0.16) for _ in range(count)])
        length = np.array([rng.uniform(0.07, 0.13) for _ in range(count)])
        return _tapers(root, angle, length, np.full(count, 0.016))


def _span(who: Person, t: Points) -> Points:
    """The x of brow position t; the brow starts above the inner corner and ends beyond the outer one."""
    span: Points = -who.eye_width * 1.05 + t * who.eye_width * 2.35
    return span


def lashes(rng: Random, who: Person, lids: Lids) -> Points:
    """Upper lashes spread outwards and are longer towards the temple; lower ones are short and sparse."""
    upper = _fan(rng, lids.t, lids.upper, count=44, length=who.lash_length, up=True)
    lower = _fan(rng, lids.t, lids.lower, count=20, length=0.38 * who.lash_length, up=False)
    return np.concatenate([upper, lower])


def _fan(rng: Random, grid: Points, lid: Points, *, count: int, length: float, up: bool) -> Points:
    t = np.array([0.10 + 0.90 * (k + rng.random()) / count for k in range(count)])
    root = np.stack([np.interp(t, grid, lid[:, 0]), np.interp(t, grid, lid[:, 1])], axis=-1)
    lean = (t - 0.40) * 1.5 + np.array([rng.gauss(0.0, 0.14) for _ in range(count)])
    angle = -np.pi / 2 + lean if up else np.pi / 2 - lean
    long = length * (0.5 + 0.7 * t) * np.array([rng.uniform(0.7, 1.1) for _ in range(count)])
    return _tapers(root, angle, long, np.full(count, 0.018 if up else 0.013))


def _tapers(root: Points, angle: Points, length: Points, width: Points) -> Points:
    """Triangles of (K, 3, 2) with the given width at the root."""
    along = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    side = np.stack([-along[:, 1], along[:, 0]], axis=-1) * (width / 2)[:, None]
    return np.stack([root - side, root + side, root + along * length[:, None]], axis=1)
