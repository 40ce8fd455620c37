from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eyegender.tracking.predictions import Predictions
from tests.unit.comparison.example_runs import shuffled, table


def test_predictions_from_columns() -> None:
    columns = {
        "name": ["a", "b"], "digest": ["2", "1"], "person": ["p", "p"], "label": [0, 1], "probability": [0.25, None],
        "Young": [1, -1],
    }  # fmt: skip
    found = Predictions.from_columns(columns).sorted()
    assert found.names == ("b", "a")
    assert np.isnan(found.probabilities[0])
    assert found.persons == ("p", "p")
    assert found.attributes["Young"].tolist() == [-1, 1]
    plain = Predictions.from_columns({"name": ["a"], "label": [1], "probability": [0.9], "person": [""]})
    assert (plain.keys, plain.persons) == (("a",), None)
    assert plain.confusion_matrix.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": ["a"], "label": [1]}, "no column probability; it has name, label"),
        ({"name": ["a"], "label": [1], "probability": []}, "different lengths"),
    ],
)
def test_invalid_columns_are_refused(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictions.from_columns(columns)


def test_fingerprint_depends_on_images_and_labels_only() -> None:
    one = table(1, 1.0)
    assert one.fingerprint == shuffled(table(2, 2.0)).fingerprint
    assert one.fingerprint != replace(one, labels=1 - one.labels).fingerprint


def test_table_contains_what_the_columns_did() -> None:
    predictions = table(1, 1.0)
    stored = predictions.to_table()
    columns = dict(zip(stored["columns"], zip(*stored["data"], strict=True), strict=True))  # type: ignore[call-overload]
    found = Predictions.from_columns(columns)
    assert (found.names, found.keys, found.persons) == (predictions.names, predictions.keys, predictions.persons)
    assert found.labels.tolist() == predictions.labels.tolist()
    assert found.probabilities == pytest.approx(predictions.probabilities, rel=1e-8)
    assert {name: values.tolist() for name, values in found.attributes.items()} == {
        name: values.tolist() for name, values in predictions.attributes.items()
    }
