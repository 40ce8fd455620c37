"""Trials log no model: their runs are used from their checkpoints, and one that is promoted catches up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import optuna
import pytest

from eyegender.core.errors import UserError
from eyegender.inference.demo_models import find_models
from eyegender.inference.load import load_model
from eyegender.models.intervals import standard_error
from eyegender.registry.promotion import promote
from eyegender.tracking.predictions import Predictions
from eyegender.tracking.run_artifacts import logged_model
from eyegender.tracking.tracking_store import TrackingStore, open_store
from hydra_plugins.optuna_study import study_status
from tests.composing import tiny_config
from tests.integration.test_sweep import sweep

if TYPE_CHECKING:
    from eyegender.core.schema import TrackingSection

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models")
    sweep(found, "+sweeps=finetune", "hydra.sweeper.n_trials=3", "trainer.max_epochs=1", "data.split.seed=0")
    return found


def tracking(folder: Path) -> TrackingSection:
    return tiny_config(f"tracking.root={folder / 'mlruns'}").tracking


def store(folder: Path) -> TrackingStore:
    return open_store(tracking(folder))


def runs_by_rank(folder: Path) -> list[str]:
    """The runs of the trials, the best first; the first of those that tie is the winner."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("eyegender").experiment_id
    ids = {
        run.data.tags["trial.number"]: run.info.run_id
        for run in client.search_runs([experiment])
        if "trial.number" in run.data.tags
    }
    return [ids[str(t.number)] for t in study_status(f"sqlite:///{folder}/mlruns/optuna.db", "finetune").best]


def test_only_the_winner_logs_a_model_and_every_trial_can_be_used(folder: Path) -> None:
    ranked = runs_by_rank(folder)
    assert [logged_model(store(folder), run_id) is not None for run_id in ranked] == [True, False, False]
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    for run_id in ranked:
        run = store(folder).run(run_id)
        model = load_model(f"runs:/{run_id}", tracking(folder))
        assert model.run_id == run_id
        assert model.config is not None
        checkpoint = load_model(f"{run.data.tags['output_dir']}/checkpoints/best.ckpt", tracking(folder))
        np.testing.assert_array_equal(model.probabilities(pixels), checkpoint.probabilities(pixels))
    offered = {model.reference for model in find_models(store(folder), "eyegender", None).models}
    assert offered == {f"runs:/{run_id}" for run_id in ranked}


def test_every_trial_keeps_the_predictions_of_its_best_validation(folder: Path) -> None:
    for run_id in runs_by_rank(folder):
        output = Path(store(folder).run(run_id).data.tags["output_dir"])
        table = json.loads((output / "val_predictions.json").read_text())
        found = Predictions.from_columns(dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True)))
        accuracy = json.loads((output / "metrics.json").read_text())["metrics"]["val/accuracy"]
        assert found.correct.mean() == pytest.approx(accuracy)


def test_every_trial_says_the_standard_error_of_its_accuracy_over_persons(folder: Path) -> None:
    study = next(iter(optuna.get_all_study_summaries(f"sqlite:///{folder}/mlruns/optuna.db")))
    trials = optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{folder}/mlruns/optuna.db").trials
    assert trials
    for each in trials:
        table = json.loads((Path(each.user_attrs["job_dir"]) / "val_predictions.json").read_text())
        found = Predictions.from_columns(dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True)))
        expected = standard_error(found.correct, found.persons)
        assert each.system_attrs["optuna_study:standard_error"] == pytest.approx(expected)


def test_after_the_winner_was_deleted_the_second_best_is_promoted(folder: Path) -> None:
    winner, second, third = runs_by_rank(folder)
    client = store(folder).client
    shutil.rmtree(client.get_run(winner).data.tags["output_dir"])
    client.delete_run(winner)
    assert "test/accuracy" not in client.get_run(second).data.metrics
    before = load_model(f"runs:/{second}", tracking(folder))
    done = promote(store(folder), second, name="eyes", alias="champion", force=False)
    assert done.version == "1"
    parent = client.get_run(client.get_run(second).data.tags["mlflow.parentRunId"]).data.tags
    number = client.get_run(second).data.tags["trial.number"]
    assert parent["best.selection_bias"].startswith("Trial ")
    assert f"Trial {number} of study finetune. {parent['best.selection_bias']}" in done.card
    run = client.get_run(second)
    assert run.data.tags["tested.by"] == "promote"
    assert run.info.status == "FINISHED"
    assert "test/accuracy" in run.data.metrics
    assert "figures" in {item.path for item in client.list_artifacts(second)}
    champion = load_model("models:/eyes@champion", tracking(folder))
    assert champion.run_id == second
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    np.testing.assert_array_equal(champion.probabilities(pixels), before.probabilities(pixels))
    # Without its checkpoint, a trial without a model cannot be used.
    gone = client.get_run(third).data.tags["output_dir"]
    (Path(gone) / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(UserError, match=r"logged no model, and this machine has no checkpoints/best.ckpt of it in"):
        load_model(f"runs:/{third}", tracking(folder))
    with pytest.raises(UserError, match="run the command where that folder is"):
        promote(store(folder), third, name="eyes", alias="champion", force=True)
