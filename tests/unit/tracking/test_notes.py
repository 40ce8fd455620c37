from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eyegender.tracking.location import Location
from eyegender.tracking.model_logging import model_name
from eyegender.tracking.notes import NOTE, accuracy_text, artifact_links, link, note_comparison
from eyegender.tracking.predictions import Predictions
from eyegender.tracking.writer import RunWriter


@pytest.fixture
def writer(location: Location, tmp_path: Path) -> RunWriter:
    found = RunWriter(location.uri, location.artifacts, tmp_path)
    tags = {"mlflow.parentRunId": "parent", "study.name": "a [b]", "trial.number": "3"}
    found.apply({"op": "run", "key": "k", "experiment": "e", "name": "n", "tags": tags, "time": 1})
    return found


def note(writer: RunWriter) -> str:
    return str(writer.client.get_run(str(writer.run_id)).data.tags[NOTE])


def test_links_lead_to_the_run_and_its_study_and_not_to_a_model_that_is_not_there(writer: RunWriter) -> None:
    text = f"first {artifact_links(['figures/roc.png'])}\nModel: [n]({{model}})"
    writer.apply({"op": "note", "text": text})
    runs = f"#/experiments/{writer.experiment_id}/runs"
    assert note(writer).split("\n") == [
        f"first [roc]({runs}/{writer.run_id}/artifacts/figures/roc.png)",
        "",
        f"Trial 3 of the study [a \\[b\\]]({runs}/parent).",
    ]
    model = writer.client.create_logged_model(str(writer.experiment_id), name="n", source_run_id=writer.run_id)
    writer.client.finalize_logged_model(model.model_id, "READY")
    writer.apply({"op": "note", "text": text})
    assert f"Model: [n](#/experiments/{writer.experiment_id}/models/{model.model_id})" in note(writer)


def test_a_description_that_somebody_has_edited_stays(writer: RunWriter) -> None:
    writer.apply({"op": "note", "text": "ours"})
    writer.client.set_tag(str(writer.run_id), NOTE, "mine")
    writer.apply({"op": "note", "text": "ours again"})
    note_comparison(writer.client, [str(writer.run_id)], writer.client.get_run(str(writer.run_id)))
    assert note(writer) == "mine"


def test_the_latest_comparison_is_linked_once(writer: RunWriter) -> None:
    writer.apply({"op": "note", "text": "ours"})
    for name in ("first", "second"):
        comparison = writer.client.create_run(str(writer.experiment_id), run_name=name)
        note_comparison(writer.client, [str(writer.run_id)], comparison)
    assert note(writer).count("Compared in") == 1
    assert note(writer).startswith("ours\n\nTrial 3")
    assert f"Compared in [second](#/experiments/{writer.experiment_id}/runs/{comparison.info.run_id})" in note(writer)


def test_the_accuracy_has_an_interval_over_persons() -> None:
    labels = np.array([0, 1] * 20)
    right = np.array([True] * 30 + [False] * 10)
    predictions = Predictions(
        names=tuple(map(str, range(40))), keys=tuple(map(str, range(40))), labels=labels,
        probabilities=np.where(right, labels, 1 - labels) * 0.8 + 0.1, persons=tuple(str(i // 2) for i in range(40)),
    )  # fmt: skip
    assert accuracy_text(predictions, ("cats", "dogs")).endswith(" on 40 images of 20 image groups")
    text = accuracy_text(predictions, ("female", "male"))
    assert text.startswith("**75.0%** (95% interval ")
    assert text.endswith(" on 40 images of 20 persons")
    low, high = (float(part) for part in text.partition("interval ")[2].partition("%")[0].split(" to "))
    assert 40 < low < 75 < high < 100


def test_a_model_is_named_after_its_run_as_far_as_mlflow_allows() -> None:
    assert model_name("trial 3 · lr 1.3e-3") == "trial 3 · lr 1_3e-3"
    assert link("a]b", "x") == "[a\\]b](x)"
