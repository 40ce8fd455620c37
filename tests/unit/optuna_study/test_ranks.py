import subprocess
import sys

import pytest

from hydra_plugins.optuna_study import StudyError
from hydra_plugins.optuna_study._ranks import trial_of_this_rank

from .sweeping import HERE, load


@pytest.mark.integration
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_all_ranks_of_a_trial_share_its_config_and_none_sweeps(launcher, tmp_path):
    over = (f"hydra/launcher={launcher}", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=out",
            "hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.upper=4")  # fmt: skip
    done = subprocess.run([sys.executable, str(HERE / "ddp_toy.py"), "-m", *over], capture_output=True, text=True,
                          timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    trials = load().trials
    assert len(trials) == 3
    for trial in trials:
        assert trial.state.name == ("PRUNED" if trial.params["x"] ** 2 > 4 else "COMPLETE")
        said = [(tmp_path / "out" / str(trial.number) / f"rank{rank}").read_text() for rank in (0, 1)]
        assert said[0] == said[1]
        assert said[0].split()[0] == str(trial.number)
        assert said[0].endswith("True")
    assert "Traceback" not in done.stderr
    assert done.stdout.count("of 3 trials") == 2  # the opening and the summary of the one sweep


@pytest.mark.parametrize(
    ("variables", "rule"),
    [
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "WORLD_SIZE=2; start it without torchrun"),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "WORLD_SIZE=2"),
        ({"SLURM_PROCID": "1"}, "Slurm task 1"),
    ],
)
def test_a_sweep_started_once_per_rank_is_refused(monkeypatch, variables, rule):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StudyError, match=rule):
        trial_of_this_rank()


def test_a_sweep_started_once_is_no_rank(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert trial_of_this_rank() is None
