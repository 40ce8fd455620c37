"""Three tiny finished runs in one store, trained once for all tests that use finished runs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

from eyegender.training.run import RunResult, train
from tests.composing import tiny_config

# One split for all, so that they share their test pictures.
SAME = ("data.split.seed=0", "trainer.max_epochs=1")
# For README's pictures: some minutes, and curves that look like curves.
LONGER = ("data.split.seed=0", "trainer.max_epochs=5", "data.n=480", "data.size=48", "data.separation=3")


@dataclass(frozen=True)
class TrackedRuns:
    """Two seeds of MobileNet-V2 and one Inception-V3 on the same drawn eyes."""

    folder: Path
    results: dict[str, RunResult]

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlruns' / 'mlflow.db'}"

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri)

    def id(self, name: str) -> str:
        return str(json.loads((self.results[name].output_dir / "run.json").read_text())["run_id"])

    @property
    def where(self) -> str:
        """The override that names their store."""
        return f"tracking.root={self.folder / 'mlruns'}"

    def checkpoint(self, name: str) -> Path:
        return self.results[name].output_dir / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="session")
def tracked(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> TrackedRuns:
    """Shared by all tests, so none of them may add runs to the experiment."""
    return train_runs(tmp_path_factory.mktemp("tracked"), session_cache)


def train_runs(folder: Path, session_cache: Path) -> TrackedRuns:
    """Train them in a store in the folder."""
    wanted = {
        "first": (),
        "second": ("seed=1",),
        "inception": ("model=inception_v3", "model.weights=null", "data.size=75"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EYEGENDER_CACHE", str(session_cache))
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
            patch.delenv(name, raising=False)
        root = f"tracking.root={folder / 'mlruns'}"
        same = LONGER if "EYEGENDER_SCREENSHOTS" in os.environ else SAME
        results = {
            name: train(tiny_config(*same, root, *overrides), folder / name, list(overrides))
            for name, overrides in wanted.items()
        }
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return TrackedRuns(folder, results)
