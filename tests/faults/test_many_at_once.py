"""Eight runs that start in the same moment with a tracking store that none of them has seen before."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from eyegender.tracking.sender import pending
from tests.composing import TINY
from tests.processes import Command

pytestmark = pytest.mark.integration

RUNS = 8


def test_eight_runs_at_once_on_one_sqlite_store(tmp_path: Path) -> None:
    same = (
        *TINY, "trainer.max_epochs=1", "data.n=40", "model.finetune_depth=0", "run_test=false", "trainer.threads=1",
        "tracking.close_timeout=300",  # eight of them on a busy machine
    )  # fmt: skip
    commands = [
        Command("eyegender.train", *same, f"seed={number}", f"hydra.run.dir=out/{number}", cwd=tmp_path)
        for number in range(RUNS)
    ]
    outputs = [command.communicate(timeout=400)[0] for command in commands]
    assert [command.returncode for command in commands] == [0] * RUNS, outputs
    assert pending(tmp_path / "out") == []
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    [experiment] = [found for found in client.search_experiments() if found.name == "eyegender"]
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == [str(number) for number in range(RUNS)]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert len(client.get_metric_history(run.info.run_id, "loss/val")) == 1
        assert len(run.outputs.model_outputs) == 1
        assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {
            "config.yaml",
            "metrics.json",
            "figures",
        }
