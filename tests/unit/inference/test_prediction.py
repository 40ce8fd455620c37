import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.inference import prediction
from eyegender.inference.load import LoadedModel
from eyegender.inference.prediction import (
    PredictionRow,
    count_labels,
    decode_batches,
    find_image_files,
    predict,
    row_writer,
)
from eyegender.models.saved_network import ModelSpec, untrained

SPEC = ModelSpec("eyegender.models.mobilenet_v2.MobileNetV2", "linear", 0, 32, "gray", ("female", "male"))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return LoadedModel(untrained(SPEC), SPEC, "random")


def images(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.new("L", (20, 20), 10 * i).save(path)
    return paths


def test_folders_are_searched_and_files_used_as_given(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    inside = images(tmp_path / "below", 2)
    (tmp_path / "below" / ".hidden.png").write_bytes(b"")
    odd = tmp_path / "image.dat"
    odd.write_bytes(b"")
    assert find_image_files([str(odd), str(tmp_path), str(inside[0])]) == [odd, *inside]
    with pytest.raises(UserError, match="images must exist, got nowhere"):
        find_image_files(["nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image"):
        find_image_files([str(tmp_path / "empty")])


def test_batches_keep_the_order_and_bad_files_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "BATCH_SIZE", 3)
    paths = images(tmp_path, 7)
    paths[4].write_bytes(b"not an image")
    paths.append(tmp_path / "missing.png")
    batches = list(decode_batches(paths))
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert [one.path for batch in batches for one in batch] == paths
    bad = {one.path.name: one.reason for batch in batches for one in batch if one.image is None}
    assert bad == {"4.png": "not a JPEG, PNG, BMP or WebP image", "missing.png": "No such file or directory"}


def test_the_model_abstains_below_the_confidence(model: LoadedModel, tmp_path: Path) -> None:
    paths = images(tmp_path, 2)
    (confident,) = predict(model, paths, min_confidence=0.5)
    assert {row.note for row in confident} == {""}
    (abstained,) = predict(model, paths, min_confidence=1.0)
    assert {(row.label, row.note) for row in abstained} == {("", "abstained")}
    assert [row.probability for row in abstained] == [row.probability for row in confident]


def test_a_batch_of_bad_files_only(model: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (rows,) = predict(model, [tmp_path / "a.png"], min_confidence=0.5)
    assert rows == [PredictionRow(str(tmp_path / "a.png"), "", None, "", "unreadable: empty file")]
    assert count_labels(rows) == {"unreadable": 1}


def test_file_names_that_are_not_utf8_are_written(tmp_path: Path) -> None:
    row = PredictionRow("odd\udcff,name\n.png", "", 0.25, "female", "")
    with row_writer(tmp_path / "out" / "a.csv") as write:
        write([row])
    assert b'"odd\xff,name\n.png",,0.25,female,' in (tmp_path / "out" / "a.csv").read_bytes()
    with row_writer(tmp_path / "a.jsonl") as write:
        write([row])
    assert json.loads((tmp_path / "a.jsonl").read_text())["path"] == row.path
    with pytest.raises(UserError, match="cannot write"), row_writer(tmp_path):
        pass


def test_probabilities_do_not_depend_on_the_batch(model: LoadedModel) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32), dtype=np.uint8)
    one_by_one = np.concatenate([model.probabilities(pixels[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(model.probabilities(pixels), one_by_one, atol=1e-6)
    assert model.probabilities(pixels[:0]).shape == (0,)
