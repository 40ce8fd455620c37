"""A study on a local Ray. Its launcher cannot share an environment with joblib 1.6: `make test-ray` makes its own."""

import os
import subprocess
import sys

import pytest

from tests.unit.optuna_study.sweeping import TOY, load

pytestmark = pytest.mark.cluster


@pytest.mark.timeout(500)
def test_two_workers_on_ray_run_the_exact_budget():
    pytest.importorskip("ray", reason="Ray is not installed; make test-ray runs this")
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="hydra-ray-launcher is not installed")
    # Trials long enough for the second worker to come before the first has run them all.
    line = [
        sys.executable, str(TOY), "-m", "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2",
        "+hydra.launcher.ray.init.include_dashboard=false", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=6",
        "hydra.sweeper.heartbeat=20", "mode=slow", "steps=40", "seconds=0.1",
    ]  # fmt: skip
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 worker(s) through ray" in done.stdout
    trials = load().trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
    assert len({trial.params["x"] for trial in trials}) == 6
    assert {trial.system_attrs["optuna_study:owner"]["worker"] for trial in trials} == {0, 1}
    assert len({trial.system_attrs["optuna_study:owner"]["pid"] for trial in trials}) == 2
