"""A small data set in CelebA's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from random_images import encode, random_image

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = [f"Attribute_{k}" for k in range(39)]
COLUMNS.insert(20, "Male")
POINTS = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
N = 24


def make_celeba(home: Path) -> None:
    """Faces 1..24 of persons 0..11; even numbers are male."""
    (home / "img_align_celeba").mkdir(parents=True)
    names = [f"{k:06d}.jpg" for k in range(1, N + 1)]
    for k, name in enumerate(names, 1):
        (home / "img_align_celeba" / name).write_bytes(encode(random_image(k, 100), "JPEG"))
    attributes = [" ".join("1" if c == "Male" and k % 2 == 0 else "-1" for c in COLUMNS) for k in range(1, N + 1)]
    write(home / "list_attr_celeba.txt", [str(N), " ".join(COLUMNS)], names, attributes)
    write(home / "list_landmarks_align_celeba.txt", [str(N), POINTS], names, ["30 40 70  40 50 60 40 80 60 80"] * N)
    write(home / "identity_CelebA.txt", [], names, [str(k // 4 * 2 + k % 2) for k in range(1, N + 1)])
    write(home / "list_eval_partition.txt", [], names, [str(k // 4 % 3) for k in range(N)])


def write(path: Path, heading: list[str], names: list[str], values: list[str]) -> None:
    path.write_text("\n".join([*heading, *(f"{n} {v}" for n, v in zip(names, values, strict=True))]) + "\n")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
