"""`LoadedModel.predict` and `probabilities`: what they accept, and that the table is the command's."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.inference import prediction
from eyegender.inference.load import LoadedModel
from eyegender.inference.prediction import find_image_files, row_writer
from eyegender.models.saved_network import ModelSpec, untrained

BACKBONE = "eyegender.models.mobilenet_v2.MobileNetV2"


def random_model(*classes: str) -> LoadedModel:
    spec = ModelSpec(BACKBONE, "linear", 0, 32, "rgb", classes)
    return LoadedModel(untrained(spec), spec, "random")


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return random_model("ant", "bee", "cow", "dog")


def picture(folder: Path, name: str = "a.png") -> Path:
    colors = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(colors).save(folder / name)
    return folder / name


@pytest.mark.parametrize("classes", [("ant", "bee"), ("ant", "bee", "cow"), ("female", "male")])
def test_the_columns_are_those_of_the_command(classes: tuple[str, ...], tmp_path: Path) -> None:
    model, path = random_model(*classes), picture(tmp_path)
    with_eyes = classes == ("female", "male")
    with row_writer(tmp_path / "rows.csv", classes, with_eyes=with_eyes) as write:
        for rows in prediction.predict(model, [path], min_confidence=0.0):
            write(rows)
    with (tmp_path / "rows.csv").open() as file:
        (written,) = csv.DictReader(file)
    table = model.predict(path)
    assert list(table.columns) == list(written)
    assert {name: str(value) for name, value in table.iloc[0].items()} == written


def test_every_image_has_a_label_unless_a_confidence_is_asked_for(model: LoadedModel, tmp_path: Path) -> None:
    path = picture(tmp_path)
    (likely,) = model.predict(path)["probability"]
    assert likely < 0.5  # of four classes by random weights
    assert list(model.predict(path)["label"]) != [""]
    assert list(model.predict(path, min_confidence=0.5)["note"]) == ["abstained"]
    with pytest.raises(UserError, match=r"min_confidence must be 0\.\.1 or None, got 50"):
        model.predict(path, min_confidence=50)


def test_images_in_memory_are_predicted_as_their_files_are(model: LoadedModel, tmp_path: Path) -> None:
    path = picture(tmp_path)
    expected = model.predict(path).iloc[0, 1:].to_list()
    with Image.open(path) as image:
        array = np.array(image)
        for given in (image, array, [image], [array], array[None], [str(path)], (one for one in [path])):
            assert model.predict(given).iloc[0, 1:].to_list() == expected
        mixed = model.predict([array, path, image])
    assert list(mixed["path"]) == ["[0]", str(path), "[2]"]
    assert [row[1:] for row in mixed.itertuples(index=False, name=None)] == [tuple(expected)] * 3


def test_gray_and_transparent_images_in_memory(model: LoadedModel) -> None:
    clear = np.zeros((9, 9, 4), np.uint8)  # all transparent, and therefore white
    white = np.full((9, 9), 255, np.uint8)
    table = model.predict([clear, white, white[:, :, None], Image.fromarray(white).convert("P")])
    assert table.drop(columns="path").drop_duplicates().shape[0] == 1


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (None, "got NoneType"),
        (7, "got int"),
        (b"abc", "got bytes"),
        ({"a": 1}, "got dict"),
        ([], "got none; give one or more"),
        ([3.5], "got float"),
        (np.zeros((5, 5, 3)), r"an array of float64 and shape \(5, 5, 3\)"),
        (np.zeros((5, 5, 2), np.uint8), r"an array of uint8 and shape \(5, 5, 2\)"),
        ([np.zeros((0, 5, 3), np.uint8)], r"shape \(0, 5, 3\)"),
        ("x" * 5000, r"got x{200}\.\.\. \(File name too long\)"),
    ],
)
def test_what_is_no_image_is_refused(images: Any, got: str, model: LoadedModel) -> None:
    with pytest.raises(UserError, match=f"images must be .*{got}"):
        model.predict(images)


@pytest.mark.parametrize("pixels", [["a.png"], np.zeros((64, 64, 3), np.uint8), np.zeros((1, 3, 32, 32))])
def test_probabilities_take_pixels_of_the_models_size_only(pixels: Any, model: LoadedModel) -> None:
    with pytest.raises(UserError, match=r"pixels must be a uint8 array \(N, 3, 32, 32\), got .*use predict"):
        model.probabilities(pixels)
    assert model.probabilities(np.zeros((2, 3, 32, 32), np.uint8)).shape == (2, 4)


@pytest.mark.parametrize(("error", "warns"), [(FileNotFoundError, False), (PermissionError, True)])
def test_a_subfolder_that_cannot_be_listed_stops_nothing(
    error: type[OSError], warns: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "lost").mkdir()
    path = picture(tmp_path)
    scandir = os.scandir

    def scan(folder: Any) -> Any:
        if isinstance(folder, str | Path) and Path(folder).name == "lost":
            raise error(13, "reason", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    assert find_image_files([str(tmp_path)]) == [path]
    assert (f"{tmp_path / 'lost'} cannot be listed" in caplog.text) == warns
    with pytest.raises(UserError, match=r"images must be readable, got .*lost \(reason\); correct images="):
        find_image_files([str(tmp_path / "lost")])
