from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.core.schema import DataSection
from eyegender.inference.class_names import ClassNames
from eyegender.inference.labeled_images import read_labeled_images
from eyegender.models.saved_network import Card

CARD = Card("eyegender.models.mobilenet_v2.MobileNetV2", "linear", 0, 32, "gray", ("female", "male"))


def data(root: Path, first: str, second: str) -> DataSection:
    for k, name in enumerate((first, second)):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(2 + k):
            noise = np.random.default_rng(10 * k + number).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(noise).save(root / name / f"{number}.png")
    return DataSection.model_validate(
        {
            "reader": {"_target_": "eyegender.data.folder.FolderReader", "root": str(root), "classes": [first, second]},
            "size": 32,
            "color": "gray",
            "subset": None,
            "split": {"by": "random", "test": 0.2, "val": 0.2, "file": None, "seed": 0},
            "augment": {"enabled": False}
            | dict.fromkeys(("flip", "shift", "scale", "brightness", "rotate", "erase"), 0),
            "on_bad": "error",
        }
    )


def labels(section: DataSection, **of: str) -> dict[str, int]:
    samples = read_labeled_images(section, "all", 0, CARD, ClassNames(CARD.classes, of)).samples
    assert samples.classes == CARD.classes
    return {name.partition("/")[0]: int(label) for name, label in zip(samples.names, samples.labels, strict=True)}


def test_names_and_not_their_order_say_which_class_is_which(tmp_path: Path) -> None:
    assert labels(data(tmp_path, "female", "male")) == {"female": 0, "male": 1}
    assert labels(data(tmp_path, "male", "female")) == {"female": 0, "male": 1}


def test_classes_of_other_names_are_mapped(tmp_path: Path) -> None:
    assert labels(data(tmp_path, "women", "men"), women="female", men="male") == {"women": 0, "men": 1}
    assert labels(data(tmp_path, "men", "women"), women="female", men="male") == {"women": 0, "men": 1}
    assert labels(data(tmp_path, "men", "female"), men="male") == {"female": 0, "men": 1}


@pytest.mark.parametrize(
    "of",
    [{}, {"cats": "female"}, {"cats": "male", "dogs": "male"}, {"cats": "female", "dogs": "man"}, {"x": "female"}],
)
def test_data_of_other_classes_are_refused_before_a_picture_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: dict[str, str]
) -> None:
    monkeypatch.setattr("eyegender.data.folder.decode", lambda *_, **__: pytest.fail("decoded"))
    said = r"must have the model's classes, female and male, got cats and dogs.*'classes={cats: female, dogs: male}'"
    with pytest.raises(UserError, match=said):
        labels(data(tmp_path, "cats", "dogs"), **of)
