import pytest

from hydra_plugins.optuna_study import StudyError
from hydra_plugins.optuna_study._trial import rank_message
from hydra_plugins.optuna_study.sweeper import check_started_once
from tests.processes import run

from .sweeping import HERE, load


@pytest.mark.integration
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_all_ranks_of_a_trial_share_its_config_and_none_starts_a_sweep(launcher, tmp_path):
    over = (f"hydra/launcher={launcher}", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=out",
            "hydra/sweeper/sampler=grid", "x=choice(1, 3)", "y=choice(0)",
            "hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.upper=4")  # fmt: skip
    done = run(str(HERE / "ddp_toy.py"), "-m", *over)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = load().trials
    assert {trial.params["x"]: trial.state.name for trial in trials} == {1: "COMPLETE", 3: "PRUNED"}
    for trial in trials:
        said = [(tmp_path / "out" / str(trial.number) / f"rank{rank}").read_text().strip() for rank in (0, 1)]
        assert said[0] == said[1]
        assert said[0].split()[0] == str(trial.number)
        assert said[0].endswith("True")
    assert "Traceback" not in done.stderr
    assert done.stdout.count("of 2 trials") == 2  # the opening and the summary of the one sweep


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
        check_started_once()


def test_a_sweep_started_once_is_accepted(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    check_started_once()
    assert rank_message() is None
