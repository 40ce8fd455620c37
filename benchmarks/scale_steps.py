"""The steps that `benchmarks.scale` measures, each in a process of its own, and the data that they need."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

EXPONENT = 1.8  # by which the amplitude of the noise falls with the frequency
COLUMNS = ["Male", *(f"Attribute_{k}" for k in range(39))]
POINTS = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"


def celeba(size: int, step: int, folder: Path) -> Callable[[], object]:
    from eyegender.data.celeba import CelebaReader

    if step < 0:
        _make_celeba(size, folder / "celeba")
        time.sleep(2.5)  # what was found about files that have just changed is not stored
        return lambda: None
    if step == 0:
        shutil.rmtree(folder / "cache", ignore_errors=True)
    return CelebaReader(folder / "celeba", cache=folder / "cache").read


def _make_celeba(faces: int, home: Path) -> None:
    if (home / "list_landmarks_align_celeba.txt").exists():
        return
    (home / "img_align_celeba").mkdir(parents=True)
    buffer = io.BytesIO()
    Image.new("RGB", (178, 218), (120, 90, 70)).save(buffer, "JPEG")
    rng = np.random.default_rng(0)
    names = [f"{k:06d}.jpg" for k in range(1, faces + 1)]
    for name in names:
        (home / "img_align_celeba" / name).write_bytes(buffer.getvalue() + name.encode())
    attributes = rng.integers(0, 2, (faces, 40)) * 2 - 1
    points = np.array([69, 111, 108, 111, 88, 136, 73, 152, 106, 152]) + rng.integers(-3, 4, (faces, 10))
    persons, partition = rng.integers(1, 10_178, faces), rng.integers(0, 3, faces)

    def write(stem: str, heading: list[str], values: np.ndarray) -> None:
        rows = (f"{name} {' '.join(map(str, row))}" for name, row in zip(names, values.tolist(), strict=True))
        (home / f"{stem}.txt").write_text("\n".join([*heading, *rows]) + "\n")

    write("list_attr_celeba", [str(faces), " ".join(COLUMNS)], attributes)
    write("identity_CelebA", [], persons[:, None])
    write("list_eval_partition", [], partition[:, None])
    write("list_landmarks_align_celeba", [str(faces), POINTS], points)


def _samples(size: int, draw: Callable[[int], Image.Image], *, persons: bool) -> object:
    from eyegender.data.readers import Samples

    numbers = range(size)
    return Samples(
        source="made up",
        names=tuple(f"{number:07d}.png" for number in numbers),
        labels=(np.arange(size) // 2 % 2).astype(np.uint8),
        digests=tuple(hashlib.sha256(b"%d" % number).hexdigest() for number in numbers),
        open=draw,
        persons=tuple(f"{number // 2:06d}" for number in numbers) if persons else None,
    )


def start(size: int, step: int, folder: Path) -> Callable[[], object]:
    from eyegender.data.data_module import EyesDataModule

    samples = _samples(size, _small_image, persons=True)
    module = EyesDataModule(_Reader(samples), 8, cache_folder=folder / "cache", on_conflict="keep")

    def setup() -> None:
        module.setup()
        if step < 0:
            return
        module.facts()
        next(iter(module.train_dataloader()))

    return setup


def _small_image(number: int) -> Image.Image:
    return Image.frombytes("L", (8, 8), hashlib.sha512(b"%d" % number).digest())


class _Reader:
    def __init__(self, samples: object) -> None:
        self.samples = samples

    def read(self) -> object:
        return self.samples


def _photographs() -> Callable[[int], np.ndarray]:
    """Gray images (32, 32); every hundredth one is an altered copy of another.

    As of eyes, 48 principal components explain 95% of what varies.
    """
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.rfftfreq(32), indexing="ij"))
    amplitude = 1 / np.maximum(frequencies, 1 / 32) ** EXPONENT

    def draw(number: int) -> np.ndarray:
        copied = number - 50 if number % 100 == 99 else number
        rng = np.random.default_rng(copied)
        noise = rng.normal(size=amplitude.shape) + 1j * rng.normal(size=amplitude.shape)
        image = np.fft.irfft2(noise * amplitude, s=(32, 32))
        image = (image - image.mean()) / image.std()
        if copied != number:
            image = image[:, :: 1 if number % 200 < 100 else -1] * 0.9
            image = image + np.random.default_rng(number).normal(size=image.shape) * 0.15
        return np.clip(128 + 40 * image, 0, 255).astype(np.uint8)

    return draw


def near(size: int, step: int, folder: Path) -> Callable[[], object]:
    from eyegender.data.near_duplicates import find_near_duplicates, image_vectors

    path = folder / "pixels.npy"
    if step < 0:
        draw = _photographs()
        np.save(path, np.stack([draw(number) for number in range(size)]))
        return lambda: None
    vectors = image_vectors(np.load(path))
    return lambda: find_near_duplicates(*vectors)


def audit(size: int, step: int, folder: Path) -> Callable[[], object]:
    from eyegender.data.audit import examine
    from eyegender.data.data_module import EyesDataModule

    draw = _photographs()
    samples = _samples(size, lambda i: Image.fromarray(draw(i)), persons=True)
    module = EyesDataModule(_Reader(samples), 32, cache_folder=folder / "cache", on_bad="skip", on_conflict="keep")

    def run() -> None:
        module.read(to_split=False)
        if step < 0:
            return
        report, _ = examine(module)
        assert len(report.near_pairs) == size // 100, len(report.near_pairs)

    return run


STEPS = {"celeba": celeba, "start": start, "near": near, "audit": audit}


def main() -> None:
    row, size, step, folder = sys.argv[1:]
    run = STEPS[row](int(size), int(step), Path(folder))
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    run()
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": round(seconds, 3), "base": base / 1000, "peak": peak / 1000}))
