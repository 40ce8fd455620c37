"""Options that depend on the number of classes, and names of classes in MLflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.core.schema import TrainConfig, parse
from eyegender.core.secrets import redact_config
from eyegender.tracking.names import class_keys
from eyegender.tracking.predictions import Predictions
from eyegender.tracking.stored_config import parse_config
from eyegender.training.classes import class_weights, named_class_metrics, with_classes
from eyegender.training.tracking import flatten
from tests.composing import SMALL, compose_config


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "data" / name / "1.png")
    return tmp_path / "data"


def config(root: Path, *overrides: str) -> TrainConfig:
    return parse(compose_config("data=folder", f"data.root={root}", *SMALL, *overrides))


def test_the_config_names_the_classes_that_were_found(root: Path) -> None:
    cfg = with_classes(config(root))
    dumped = cfg.model_dump(mode="json", by_alias=True)
    assert dumped["data"]["classes"] == dumped["data"]["reader"]["classes"] == ["a", "b", "c"]
    assert cfg.written["data"]["classes"] == ["a", "b", "c"]
    assert with_classes(cfg).data == cfg.data
    (root / "d").mkdir()
    Image.new("L", (8, 8)).save(root / "d" / "1.png")
    assert with_classes(cfg).data.reader.arguments["classes"] == ["a", "b", "c"]


def test_given_classes_need_no_folder() -> None:
    cfg = with_classes(config(Path("nowhere"), "data.classes={x: one, y: two, z: one}"))
    stored = parse_config(yaml.safe_dump(cfg.model_dump(mode="json", by_alias=True)))
    assert stored is not None
    assert stored.spec().classes == ("one", "two")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["monitor=val/tp"], "monitor must be a metric of 3 classes, got val/tp; set val/accuracy"),
        (["objectives=[val/f1,val/fn]"], "objectives must be a metric of 3 classes, got val/fn"),
        (["model.pos_weight=2"], r"pos_weight must be balanced or weights by class for 3 classes, got 2.0; set 'model"),
        (["model.pos_weight={a: 2, x: 1}"], "weights by class for 3 classes, got"),
        (["data.classes=[a,b]", "model.pos_weight={b: 2}"], "the weight of class 'b' or balanced for two classes, got"),
    ],
)
def test_what_other_numbers_of_classes_have_is_refused(root: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        with_classes(config(root, *overrides))
    assert "\n" not in str(refused.value)


def test_weights_of_classes(root: Path) -> None:
    counts = np.array([10, 20, 30])
    assert class_weights(config(root), "abc", counts) == [1, 1, 1]
    assert class_weights(config(root, "model.pos_weight={b: 3}"), "abc", counts) == [1, 3, 1]
    balanced = class_weights(config(root, "model.pos_weight=balanced"), "abc", counts)
    assert balanced == [2, 1, pytest.approx(2 / 3)]
    assert class_weights(config(root, "model.pos_weight=balanced"), "ab", counts[:2]) == 0.5


def test_names_of_classes_become_names_that_mlflow_accepts() -> None:
    from mlflow.utils.validation import _validate_metric_name

    names = ["cats & dogs", "cats + dogs", "café", "a/b", "x" * 400]
    keys = class_keys(names)
    assert len(set(keys)) == len(names)
    for key in keys:
        _validate_metric_name(f"test/specificity/{key}")
    assert list(flatten({"data": {"subset": {"a/b": 3}}})) == ["data.subset.a_b"]


def test_metrics_by_class() -> None:
    scores = np.eye(3)[[0, 1, 2, 2]]
    table = Predictions(tuple("wxyz"), tuple("wxyz"), np.array([0, 1, 2, 1]), scores, classes=("a", "b+", "c"))
    found = named_class_metrics(table)
    assert found["test/recall/b_"] == 0.5
    assert found["test/precision/c"] == 0.5
    assert not named_class_metrics(Predictions(("w",), ("w",), np.array([1]), np.array([0.7])))


def test_a_map_of_classes_is_no_secret() -> None:
    data = {"classes": {"token": "thing", "password": "other"}}
    assert redact_config({"data": data}) == {"data": data}
