"""What an evaluation reads of any data source."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eyegender.core.schema import DataSection
from eyegender.inference.labeled_images import read_labeled_images
from eyegender.models.saved_network import Card

CARD = Card("eyegender.models.mobilenet_v2.MobileNetV2", "linear", 0, 32, "gray", ("female", "male"))


def png(seed: int, side: int = 60) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    Image.fromarray(noise).resize((side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def section(reader: dict[str, Any], **options: Any) -> DataSection:
    return DataSection.model_validate(
        {
            "reader": reader,
            "size": 32,
            "color": "gray",
            "subset": None,
            "split": {"by": "person", "test": 0.2, "val": 0.2, "file": None, "seed": 0},
            "augment": dict.fromkeys(("enabled", "flip", "shift", "scale", "brightness", "rotate", "erase"), 0),
            "on_bad": "error",
            **options,
        }
    )


@pytest.mark.parametrize(("on_conflict", "count", "conflicts"), [("error", 8, 1), ("keep", 8, 1), ("drop", 6, 0)])
@pytest.mark.parametrize("part", ["all", "train"])
def test_pictures_in_both_classes_stop_no_evaluation_and_are_known(
    tmp_path: Path, on_conflict: str, count: int, conflicts: int, part: str
) -> None:
    for label, name in enumerate(CARD.classes):
        (tmp_path / name).mkdir()
        for number in range(0, 8, 2):
            (tmp_path / name / f"{number}.png").write_bytes(png(0 if number == 0 else 10 * label + number))
    reader = {"_target_": "eyegender.data.folder.FolderReader", "root": str(tmp_path), "classes": list(CARD.classes)}
    pictures = read_labeled_images(section(reader, on_conflict=on_conflict), part, 0, CARD)
    if part == "all":
        assert (len(pictures), len(pictures.conflicts)) == (count, conflicts)
    else:
        here = set(pictures.samples.names)
        assert len(pictures.conflicts) == bool(conflicts and here & {"female/0.png", "male/0.png"})


def test_both_eyes_of_an_unknown_face_count_as_one_person(tmp_path: Path) -> None:
    (tmp_path / "img_align_celeba").mkdir()
    names = [f"{number:06d}.png" for number in range(6)]
    for number, name in enumerate(names):
        (tmp_path / "img_align_celeba" / name).write_bytes(png(number))
    columns = " ".join(["Male", *(f"a{k}" for k in range(39))])
    attributes = [f"{name} {'1 ' if k % 2 else '-1 '}{'1 ' * 39}" for k, name in enumerate(names)]
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(["6", columns, *attributes]))
    landmarks = [f"{name} 20 20 40 20 30 30 20 40 40 40" for name in names]
    points = " ".join(f"p{k}" for k in range(10))
    (tmp_path / "list_landmarks_align_celeba.txt").write_text("\n".join(["6", points, *landmarks]))
    reader = {"_target_": "eyegender.data.celeba.CelebaReader", "root": str(tmp_path)}
    pictures = read_labeled_images(section(reader), "all", 0, CARD)
    assert pictures.persons is not None
    assert len(pictures) == 12
    assert len(set(pictures.persons)) == 6
