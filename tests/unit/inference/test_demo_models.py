"""What the demo says of its models, which it hides, and the examples that it shows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import Dataset, DatasetInput
from PIL import Image

from eyegender.core.errors import UserError
from eyegender.inference import demo_models
from eyegender.inference.demo_models import DemoModel, example_of, find_models
from eyegender.tracking.location import find_location
from eyegender.tracking.predictions import Predictions
from eyegender.tracking.tracking_store import TrackingStore
from tests.stores import give_store


def predicted(accuracy: float, n: int = 200) -> str:
    labels = np.arange(n) % 2
    right = np.arange(n) < accuracy * n
    names = tuple(f"{i}.png" for i in range(n))
    return json.dumps(Predictions(names, names, labels, np.where(right, labels, 1 - labels) * 0.8 + 0.1).to_table())


class Runs:
    """Finished trials in a real store, whose folders look as if they had a checkpoint."""

    def __init__(self, folder: Path) -> None:
        give_store(folder / "mlruns")
        self.folder, location = folder, find_location(None, str(folder / "mlruns"))
        self.client = mlflow.MlflowClient(location.uri)
        self.store = TrackingStore(location, self.client)
        self.client.create_experiment("eyegender")

    def add(
        self,
        name: str,
        accuracy: float | None,
        *,
        part: str = "val",
        classes: tuple[str, ...] = ("female", "male"),
        source: str = "synthetic",
        start: int = 1,
        **tags: str,
    ) -> str:
        experiment = self.client.get_experiment_by_name("eyegender").experiment_id
        tags = {key.replace("_", "."): value for key, value in tags.items()}
        tags = {"trial.number": name, "study.name": "finetune", "data.source": source, **tags}
        run_id: str = self.client.create_run(experiment, start_time=start, tags=tags).info.run_id
        params = {"model.name": "mobilenet_v2", "input_size": "96", "data.color": "gray", "data.root": "/pictures/pets"}
        for key, value in params.items():
            self.client.log_param(run_id, key, value)
        profile = json.dumps({"classes": list(classes)})
        self.client.log_inputs(
            run_id, [DatasetInput(Dataset("d", "-".join(classes)[:36], "local", "x", profile=profile))]
        )
        output = self.folder / run_id
        (output / "checkpoints").mkdir(parents=True)
        (output / "checkpoints" / "best.ckpt").touch()
        (output / "run.json").write_text(json.dumps({"run_id": run_id}))
        self.client.set_tag(run_id, "output_dir", str(output))
        if accuracy is not None:
            self.client.log_text(run_id, predicted(accuracy), f"{part}_predictions.json")
        self.client.set_terminated(run_id)
        return f"runs:/{run_id}"


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_models_are_named_by_what_they_are(runs: Runs) -> None:
    day = 86_400_000
    runs.add("3", 0.9, start=20_000 * day)
    runs.add("4", 0.9, part="test", classes=("cats", "dogs"), source="folder", start=20_001 * day)
    pets, eyes = find_models(runs.store, "eyegender", None).models
    assert eyes.title.startswith("mobilenet_v2 on synthetic eyes, trial 3 of finetune · 90.0% (85.")
    assert "%) in validation · 2024-10-0" in eyes.title
    assert eyes.eyes
    assert eyes.expects == (
        "Expects an image of one eye, cropped closely. Its answer is female or male. The model sees it as 96 x 96 "
        "pixels in gray."
    )
    assert pets.title.startswith("mobilenet_v2 on pets, trial 4 of finetune · 90.0% (85.")
    assert "in validation" not in pets.title
    assert not pets.eyes
    assert "Its answer is always one of its classes: cats or dogs." in pets.expects


def test_models_at_chance_level_are_hidden(runs: Runs) -> None:
    good, bad, unknown = runs.add("1", 0.8), runs.add("2", 0.55), runs.add("3", None)
    offer = find_models(runs.store, "eyegender", None)
    assert {model.reference: model.hidden for model in offer.models} == {good: False, bad: True, unknown: False}
    # One that was asked for is shown.
    assert not find_models(runs.store, "eyegender", [bad]).models[0].hidden


def test_if_all_are_at_chance_level_all_are_shown(runs: Runs) -> None:
    runs.add("1", 0.5)
    assert [model.hidden for model in find_models(runs.store, "eyegender", None).models] == [False]


def test_pruned_trials_and_older_runs_are_counted(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_models, "MAX_MODELS", 2)
    for number in range(5):
        runs.add(str(number), 0.8, start=number + 1)
    for number in (5, 6):
        runs.add(str(number), None, start=number + 1, pruned="true")
    offer = find_models(runs.store, "eyegender", None)
    assert [model.title.partition(" of")[0] for model in offer.models] == [
        "mobilenet_v2 on synthetic eyes, trial 4",
        "mobilenet_v2 on synthetic eyes, trial 3",
    ]
    assert offer.notes == [
        "2 pruned trials are not listed; start the demo with models=[FOLDER/checkpoints/best.ckpt] to try one.",
        "3 older runs are not listed; start the demo with models=[runs:/ID] to try one.",
    ]


def test_equal_titles_end_with_the_id(runs: Runs) -> None:
    references = [runs.add("1", 0.8), runs.add("1", 0.8)]
    titles = {model.reference: model.title for model in find_models(runs.store, "eyegender", None).models}
    assert all(titles[each].endswith(f" · {each.removeprefix('runs:/')[:8]}") for each in references)


def test_no_model_is_a_user_error(runs: Runs) -> None:
    runs.add("1", None, pruned="true")
    with pytest.raises(UserError, match="has no finished run with a model; train first"):
        find_models(runs.store, "eyegender", None)


def test_many_classes_are_cut_in_the_sentence(runs: Runs) -> None:
    runs.add("1", 0.8, classes=tuple(f"c{i}" for i in range(30)))
    (model,) = find_models(runs.store, "eyegender", None).models
    assert "c6, c7 and 22 more." in model.expects


def test_unreadable_artifacts_leave_the_metrics(runs: Runs) -> None:
    reference = runs.add("1", None)
    run_id = reference.removeprefix("runs:/")
    runs.client.log_text(run_id, "{", "val_predictions.json")
    runs.client.log_metric(run_id, "val_best/accuracy", 0.812)
    (model,) = find_models(runs.store, "eyegender", None).models
    assert "· 81.2% in validation ·" in model.title
    assert not model.hidden


def test_a_reference_that_cannot_be_described_is_offered_as_it_is(runs: Runs) -> None:
    for reference in ("runs:/nowhere", "models:/none@champion", "nowhere/best.ckpt"):
        assert find_models(runs.store, "eyegender", [reference]).models[0].title == reference


def test_a_trial_of_eyes_has_a_drawn_eye_as_its_example_and_others_have_none(runs: Runs) -> None:
    eyes = DemoModel(runs.add("1", 0.8), "eyes")
    content = example_of(runs.store, eyes)
    assert content is not None
    assert Image.open(io.BytesIO(content)).size == (96, 96)
    assert example_of(runs.store, DemoModel(eyes.reference, "pets", eyes=False)) is None
