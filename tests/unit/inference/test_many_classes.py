"""Predictions and labels of models with more than two classes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.data.readers import Samples
from eyegender.inference.labeled_images import ClassMapping
from eyegender.inference.prediction import ABSTAINED, PredictionRow, predict, row_writer

CLASSES = ("ant", "bee", "cow")


def model(*probabilities: list[float]) -> Any:
    spec = SimpleNamespace(size=8, color="gray", classes=CLASSES, outputs=3)
    return SimpleNamespace(spec=spec, probabilities=lambda pixels: np.array(probabilities, np.float32)[: len(pixels)])


def test_a_row_has_the_most_likely_class_and_all_probabilities(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    paths = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "gone.png"]
    scores = ([0.3, 0.4, 0.3], [0.1, 0.2, 0.7])
    (rows,) = predict(model(*scores), paths, min_confidence=0.0)
    assert [(row.label, row.probability) for row in rows] == [("bee", 0.4), ("cow", 0.7), ("", None)]
    assert rows[0].probabilities == (0.3, 0.4, 0.3)
    (rows,) = predict(model(*scores), paths[:2], min_confidence=0.5)
    assert [(row.label, row.note) for row in rows] == [("", ABSTAINED), ("cow", "")]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_column_per_class_and_none_for_eyes(tmp_path: Path, name: str) -> None:
    rows = [PredictionRow("a.png", "", 0.5, "bee", "", (0.3, 0.5, 0.2)), PredictionRow("b.png", "", None, "", "why")]
    with row_writer(tmp_path / name, CLASSES, with_eyes=False) as write:
        write(rows)
    lines = (tmp_path / name).read_text().splitlines()
    if name.endswith("csv"):
        assert lines == [
            "path,probability,label,note,probability: ant,probability: bee,probability: cow",
            "a.png,0.5,bee,,0.3,0.5,0.2",
            "b.png,,,why,,,",
        ]
    else:
        assert json.loads(lines[0])["probability: bee"] == 0.5
        assert json.loads(lines[1])["probability: bee"] is None


def test_names_decide_on_the_labels_of_three_classes() -> None:
    names = tuple("wxyz")
    samples = Samples("folder", names, np.array([0, 1, 2, 1], np.uint8), names, lambda _: None, ("cow", "bug", "bee"))  # type: ignore[arg-type, return-value]
    relabeled = ClassMapping(CLASSES, {"bug": "ant"}).relabel(samples)
    assert relabeled.classes == CLASSES
    assert [CLASSES[label] for label in relabeled.labels] == ["cow", "ant", "bee", "ant"]
    with pytest.raises(UserError, match="classes, ant, bee and cow, got cow, bug and bee; give other data"):
        ClassMapping(CLASSES, {}).check(samples.classes)
    with pytest.raises(UserError, match="classes, ant, bee and cow, got ant and bee"):
        ClassMapping(CLASSES, {}).check(("ant", "bee"))
