"""Labeled images of any data source, with the classes of a model."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.core.schema import DataSection
from eyegender.inference.labeled_images import ClassMapping, read_labeled_images
from eyegender.models.saved_network import ModelSpec

SPEC = ModelSpec("eyegender.models.mobilenet_v2.MobileNetV2", "linear", 0, 32, "gray", ("female", "male"))


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
@pytest.mark.parametrize("split", ["all", "train"])
def test_images_in_both_classes_are_reported_and_not_refused(
    tmp_path: Path, on_conflict: str, count: int, conflicts: int, split: str
) -> None:
    for label, name in enumerate(SPEC.classes):
        (tmp_path / name).mkdir()
        for number in range(0, 8, 2):
            (tmp_path / name / f"{number}.png").write_bytes(png(0 if number == 0 else 10 * label + number))
    reader = {"_target_": "eyegender.data.folder.FolderReader", "root": str(tmp_path), "classes": list(SPEC.classes)}
    images = read_labeled_images(section(reader, on_conflict=on_conflict), split, 0, SPEC)
    if split == "all":
        assert (len(images), len(images.conflicts)) == (count, conflicts)
    else:
        here = set(images.samples.names)
        assert len(images.conflicts) == bool(conflicts and here & {"female/0.png", "male/0.png"})


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
    images = read_labeled_images(section(reader), "all", 0, SPEC)
    assert images.persons is not None
    assert len(images) == 12
    assert len(set(images.persons)) == 6


def class_folders(root: Path, first: str, second: str) -> DataSection:
    for k, name in enumerate((first, second)):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(2 + k):
            (root / name / f"{number}.png").write_bytes(png(10 * k + number, 8))
    reader = {"_target_": "eyegender.data.folder.FolderReader", "root": str(root), "classes": [first, second]}
    return section(reader, split={"by": "random", "test": 0.2, "val": 0.2, "file": None, "seed": 0})


def labels(data: DataSection, **renamed: str) -> dict[str, int]:
    samples = read_labeled_images(data, "all", 0, SPEC, ClassMapping(SPEC.classes, renamed)).samples
    assert samples.classes == SPEC.classes
    return {name.partition("/")[0]: int(label) for name, label in zip(samples.names, samples.labels, strict=True)}


def test_class_names_decide_and_not_their_order(tmp_path: Path) -> None:
    assert labels(class_folders(tmp_path, "female", "male")) == {"female": 0, "male": 1}
    assert labels(class_folders(tmp_path, "male", "female")) == {"female": 0, "male": 1}


def test_classes_with_other_names_are_mapped(tmp_path: Path) -> None:
    assert labels(class_folders(tmp_path, "women", "men"), women="female", men="male") == {"women": 0, "men": 1}
    assert labels(class_folders(tmp_path, "men", "women"), women="female", men="male") == {"women": 0, "men": 1}
    assert labels(class_folders(tmp_path, "men", "female"), men="male") == {"female": 0, "men": 1}


@pytest.mark.parametrize(
    ("renamed", "example"),
    [
        ({}, "{cats: NAME, dogs: NAME}', each NAME one of female and male"),
        ({"cats": "male", "dogs": "male"}, "{cats: NAME, dogs: NAME}', each NAME one of female and male"),
        ({"x": "female"}, "{cats: NAME, dogs: NAME}', each NAME one of female and male"),
        ({"cats": "female"}, "{cats: female, dogs: male}'"),
        ({"cats": "male", "dogs": "man"}, "{cats: male, dogs: female}'"),
    ],
)
def test_other_classes_are_refused_before_an_image_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: dict[str, str], example: str
) -> None:
    monkeypatch.setattr("eyegender.data.folder.decode", lambda *_, **__: pytest.fail("decoded"))
    message = f"the model's classes, female and male, got cats and dogs.* with 'classes={re.escape(example)}$"
    with pytest.raises(UserError, match=message):
        labels(class_folders(tmp_path, "cats", "dogs"), **renamed)


@pytest.mark.parametrize(
    ("data", "renamed", "repair"),
    [
        (("ant", "bee", "fly"), {}, "or map the class names with 'classes={fly: wasp}'"),
        (("ant", "fly", "wasp"), {}, "or map the class names with 'classes={fly: bee}'"),
        (("ant", "bee", "wasp"), {"ant": "bee"}, "; remove classes=, because these names are already the model's"),
        (("ant", "bee", "wasp"), {"x": "ant"}, "; remove classes=, because these names are already the model's"),
        (("bee", "wasp"), {}, "; give other data (ant missing) or another model"),
        (("bee", "fly"), {}, "; give other data (ant and wasp missing, fly unknown to the model) or another model"),
        (("ant", "bee", "fly", "wasp"), {}, "; give other data (fly unknown to the model) or another model"),
    ],
)
def test_equal_names_are_never_mapped_to_others(data: tuple[str, ...], renamed: dict[str, str], repair: str) -> None:
    with pytest.raises(UserError, match=f"{re.escape(repair)}$") as refused:
        ClassMapping(("ant", "bee", "wasp"), renamed).check(data)
    assert "\n" not in str(refused.value)
