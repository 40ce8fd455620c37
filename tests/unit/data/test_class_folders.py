"""Which folders are the classes of `data=folder`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_images import encode, random_image

from eyegender.core.errors import UserError
from eyegender.data import folder as folder_module
from eyegender.data.data_module import EyesDataModule
from eyegender.data.folder import FolderReader


def fill(root: Path, names: dict[str, int]) -> Path:
    """Folders with so many images each."""
    for position, (name, count) in enumerate(names.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{2 * number}.png").write_bytes(encode(random_image(1000 * position + number)))
    return root


@pytest.fixture(autouse=True)
def _mention_again() -> None:
    folder_module._mention.cache_clear()


def test_folders_with_images_are_the_classes_sorted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = fill(tmp_path, {"dogs": 3, "cats": 2, "bears": 2, "empty": 0, ".hidden": 2, "__MACOSX": 2})
    (root / "notes").mkdir()
    (root / "notes" / "readme.txt").write_text("no image")
    (root / "readme.txt").write_text("no folder")
    with caplog.at_level(logging.INFO):
        samples = FolderReader(root).read()
    assert samples.classes == FolderReader(root).class_names() == ("bears", "cats", "dogs")
    assert np.bincount(samples.labels).tolist() == [2, 2, 3]
    assert dict(zip(samples.names, samples.labels, strict=True))["dogs/0.png"] == 2
    assert [line for line in caplog.messages if "empty, notes" in line] == [
        f"{root}: folders without an image are no classes (empty, notes)"
    ]


def test_the_eye_folders_stay_the_two_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = fill(tmp_path, {"maleeyes": 2, "femaleeyes": 2, "cats": 2, "dogs": 2})
    with caplog.at_level(logging.INFO):
        assert FolderReader(root).class_names() == ("femaleeyes", "maleeyes")
        assert FolderReader(root).read().classes == ("femaleeyes", "maleeyes")
    assert len([line for line in caplog.messages if "other folders are ignored (cats, dogs)" in line]) == 1


def test_classes_chooses_orders_and_maps(tmp_path: Path) -> None:
    root = fill(tmp_path, {"tabby": 1, "siamese": 2, "poodle": 2, "0": 2})
    assert FolderReader(root, ["poodle", "siamese"]).read().classes == ("poodle", "siamese")
    assert FolderReader(root, [0, "poodle"]).read().classes == ("0", "poodle")  # YAML reads 0 as a number
    samples = FolderReader(root, {"tabby": "cat", "poodle": "dog", "siamese": "cat"}).read()
    assert samples.classes == ("cat", "dog")
    labels = dict(zip(samples.names, samples.labels.tolist(), strict=True))
    assert (labels["tabby/0.png"], labels["siamese/2.png"], labels["poodle/0.png"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        ({"cats": 2}, None, r"a folder of images per class, two or more, got .* with 1 \(folders there: cats\)"),
        ({}, None, r"with 0 \(folders there: none\); add folders of images, or set data.root"),
        ({"sub/cats": 2, "sub/dogs": 2}, None, r"with 0 \(folders there: sub\); set data.root=.*sub$"),
        ({"cats": 2, "dogs": 1}, None, r"each class needs two images or more .*got one image in .*dogs"),
        ({"a": 2, "b": 2}, {"a": "x", "b": "x"}, "data.classes must map folders to two or more class names"),
        ({"a": 2, "b": 2}, {"a": "x", "c": "y"}, r"without 'c' \(folders there: a, b\)"),
        ({"a": 2, "b": 2}, "a", "data.classes must be two or more different names"),
        ({"a": 2, "b": 2}, {"../a": "x", "b": "y"}, "data.classes must name folders inside data.root"),
    ],
)
def test_what_cannot_be_classes_is_refused(tmp_path: Path, names: dict[str, int], classes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        FolderReader(fill(tmp_path, names), classes).read()
    assert "\n" not in str(refused.value)


def test_a_new_folder_is_noticed_in_one_process(tmp_path: Path) -> None:
    root = fill(tmp_path, {"cats": 2, "dogs": 2})
    assert FolderReader(root).read().classes == ("cats", "dogs")
    fill(root, {"birds": 2})
    assert FolderReader(root).read().classes == ("birds", "cats", "dogs")


def test_three_classes_are_split_and_loaded(tmp_path: Path) -> None:
    root = fill(tmp_path, {"a": 20, "b": 10, "c": 12})
    for kind in ("person", "random"):
        data = EyesDataModule(FolderReader(root), 16, split_by=kind, subset={"c": 10, "a": 10, "b": 10}, batch_size=4)
        data.setup()
        assert data.counts()["test"] == {"a": 2, "b": 2, "c": 2}
        labels = [label for batch in data.train_dataloader() for label in batch.labels.tolist()]
        assert sorted(set(labels)) == [0, 1, 2]
    with pytest.raises(UserError, match=r"a number for each of a, b, c, got \{'a': 2, 'b': 2\}; name each once"):
        EyesDataModule(FolderReader(root), 16, subset={"a": 2, "b": 2}).setup()


def test_an_image_in_two_of_three_classes_is_refused(tmp_path: Path) -> None:
    root = fill(tmp_path, {"a": 4, "b": 4, "c": 4})
    (root / "c" / "9.png").write_bytes((root / "a" / "0.png").read_bytes())
    with pytest.raises(UserError, match=r"got 1 in several \(a/0.png = c/9.png\)"):
        EyesDataModule(FolderReader(root), 16, split_by="random").setup()


def test_more_classes_than_a_byte_can_number(tmp_path: Path) -> None:
    root = fill(tmp_path, {f"{number:03d}": 2 for number in range(258)})
    samples = FolderReader(root).read()
    assert samples.labels.max() == 257
    assert samples.take(np.arange(3)).labels.dtype == np.uint16
