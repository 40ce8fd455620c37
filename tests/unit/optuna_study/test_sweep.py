"""Whole sweeps in this process, judged by the state of every stored trial."""

import contextlib
import datetime
import math
import shutil
import time
from pathlib import Path

import optuna
import pytest
import yaml

from hydra_plugins.optuna_study import StudyError, current_trial, load_study, study_status
from hydra_plugins.optuna_study._launch import Launch

from .sweeping import HERE, load, multirun, states


@pytest.mark.parametrize("storage", ["sqlite:///study.db", "journal://study.log", "null"])
def test_exactly_n_trials_complete(sweep, storage):
    status = sweep("hydra.sweeper.n_trials=5", f"hydra.sweeper.storage={storage}")
    assert [row.state for row in status.trials] == ["complete"] * 5
    assert status.complete


def test_the_same_command_again_only_reports_and_a_larger_one_continues(sweep, capsys):
    sweep("hydra.sweeper.n_trials=3")
    before = [trial.datetime_complete for trial in load().trials]
    sweep("hydra.sweeper.n_trials=3")
    assert [trial.datetime_complete for trial in load().trials] == before
    sweep("hydra.sweeper.n_trials=5")
    assert states() == ["COMPLETE"] * 5
    # One line per finished trial, each once.
    lines = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("trial ")]
    assert lines == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("raise", "RuntimeError: the toy fails"),
        ("not_a_number", "the objective is nan, which no study can compare"),
        ("text", "the task must return a number per objective, got 'seven'"),
        ("two", "the task must return 1 value(s), got 2"),
    ],
)
def test_a_failed_trial_has_its_reason_and_no_values(sweep, mode, reason, capsys):
    with pytest.raises(SystemExit) as stopped:
        sweep(f"mode={mode}", "hydra.sweeper.max_failure_rate=0.2")
    assert stopped.value.code == 1
    # 0.2 of 10: the third failure is one too many.
    assert states() == ["FAIL"] * 3
    for trial in load().trials:
        assert trial.values is None
        assert trial.user_attrs["failure"] == reason
    out = capsys.readouterr().out
    assert "stopped: 3 trials failed" in out
    assert reason in out


def test_a_study_in_which_every_trial_failed_ends_with_its_summary(sweep, capsys):
    with pytest.raises(SystemExit):
        sweep("mode=raise", "hydra.sweeper.max_failure_rate=1", "hydra.sweeper.n_trials=4")
    assert states() == ["FAIL"] * 4
    assert "0 complete, 0 pruned, 4 failed" in capsys.readouterr().out


def test_failed_trials_are_replaced_until_the_budget_is_full(sweep):
    sweep("mode=raise_some", "hydra.sweeper.max_failure_rate=1", "hydra.sweeper.n_trials=3",
          "hydra.sweeper.enqueue=[{x: -1}, {x: 1}, {x: 2}, {x: -2}, {x: -3}]")  # fmt: skip
    assert states() == ["COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]


def test_after_too_many_failures_the_same_command_tries_again(sweep):
    with pytest.raises(SystemExit):
        sweep("mode=raise", "hydra.sweeper.n_trials=2", "hydra.sweeper.max_failure_rate=0")
    sweep("mode=ok", "hydra.sweeper.n_trials=2", "hydra.sweeper.allow_changes=true")
    assert states() == ["FAIL", "COMPLETE", "COMPLETE"]


def test_a_pruner_of_the_config_prunes(sweep):
    sweep("mode=prune", "hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=2",
          "hydra.sweeper.sampler.seed=1")  # fmt: skip
    assert set(states()) == {"COMPLETE", "PRUNED"}
    assert len(states()) == 10
    pruned = next(trial for trial in load().trials if trial.state.name == "PRUNED")
    assert pruned.value == pruned.intermediate_values[pruned.last_step]


@pytest.mark.parametrize("pruner", ["median", "hyperband", "successive_halving", "percentile"])
def test_pruning_works_with_several_objectives(sweep, pruner):
    sweep("mode=two_pruned", "hydra.sweeper.direction=[minimize,maximize]", f"hydra/sweeper/pruner={pruner}",
          "steps=9", "hydra.sweeper.n_trials=12", "hydra.sweeper.sampler.seed=1")  # fmt: skip
    assert set(states()) == {"COMPLETE", "PRUNED"}
    rows = study_status("sqlite:///study.db", "toy").trials
    # A pruned trial keeps its reports, and no value that would make it part of the front.
    assert all(row.reported and not row.values for row in rows if row.state == "pruned")


def test_a_job_at_its_time_limit_releases_its_trial(sweep):
    pytest.importorskip("submitit")
    sweep("mode=out_of_time", "hydra.sweeper.n_trials=2")
    assert states().count("COMPLETE") == 2
    released = [trial for trial in load().trials if trial.state.name == "FAIL"]
    assert [trial.system_attrs["optuna_study:interrupted"]["counted"] for trial in released] == [False, False]


def test_a_released_trial_resumes_with_its_values(sweep):
    sweep("mode=release", "hydra.sweeper.n_trials=2")
    rows = study_status("sqlite:///study.db", "toy").trials
    assert [(row.number, row.attempt, row.state) for row in rows] == [(0, 1, "complete"), (2, 1, "complete")]
    trials = load().trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE", "FAIL", "COMPLETE"]
    assert trials[1].params == trials[0].params
    assert trials[1].user_attrs["saved"] == "half of it"
    assert trials[1].user_attrs["job_dir"] == trials[0].user_attrs["job_dir"]


def test_early_stopping_ends_the_study(sweep):
    sweep("mode=ok", "hydra.sweeper.early_stopping_patience=3", "hydra.sweeper.n_trials=200",
          "hydra.sweeper.sampler.seed=1", "hydra/sweeper/sampler=random")  # fmt: skip
    values = [trial.value for trial in load().trials]
    assert values.index(min(values)) == len(values) - 4


@pytest.mark.parametrize("storage", ["sqlite:///study.db", "journal://study.log"])
def test_early_stopping_uses_the_order_of_ends_and_not_the_clocks_of_workers(sweep, storage, monkeypatch):
    from optuna.storages._rdb import storage as rdb
    from optuna.storages.journal import _storage as journal

    class Backwards(datetime.datetime):
        """A clock that is an hour earlier each time it is looked at, like those of many machines together."""

        looks = 0

        @classmethod
        def now(cls, tz=None):
            cls.looks += 1
            return datetime.datetime(2026, 1, 20, tzinfo=tz) - datetime.timedelta(hours=cls.looks)

    for module in (rdb, journal):
        monkeypatch.setattr(module, "datetime", Backwards)
    status = sweep(
        "hydra.sweeper.n_trials=20",
        "hydra.sweeper.early_stopping_patience=3",
        f"hydra.sweeper.storage={storage}",
        "hydra.sweeper.enqueue=[{x: 3, y: 0}, {x: 1, y: 0}, {x: 2, y: 0}, {x: 2, y: 1}, {x: 2, y: 2}]",
    )
    trials = load_study(storage, "toy").trials
    assert trials[0].datetime_complete > trials[-1].datetime_complete
    assert status.counts.complete == 5
    assert [trial.system_attrs["optuna_study:completion"] for trial in trials] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("storage", ["sqlite:///study.db", "journal://study.log"])
def test_workers_in_different_time_zones_agree_on_the_order_of_ends(sweep, storage, monkeypatch):
    zones = iter(["Pacific/Pago_Pago", "Pacific/Kiritimati"] * 10)

    def task(cfg):
        monkeypatch.setenv("TZ", next(zones))
        time.tzset()
        return [3.0, 1.0, 2.0, 2.0, 2.0][current_trial().number]

    try:
        status = multirun(task, "hydra.sweeper.n_trials=20", "hydra.sweeper.early_stopping_patience=3",
                          f"hydra.sweeper.storage={storage}")  # fmt: skip
    finally:
        monkeypatch.undo()
        time.tzset()
    assert status.counts.complete == 5


def test_the_grid_is_tried_once(sweep):
    over = ("hydra/sweeper/sampler=grid", "x=range(0,3)", "y=choice(0,1)", "hydra.sweeper.n_trials=50")
    sweep(*over)
    seen = [(trial.params["x"], trial.params["y"]) for trial in load().trials]
    assert sorted(seen) == [(x, y) for x in range(3) for y in range(2)]


def test_a_failed_cell_of_a_grid_is_not_tried_again(sweep):
    sweep("hydra/sweeper/sampler=grid", "x=range(-1,2)", "y=choice(0,1)", "mode=raise_some",
          "hydra.sweeper.max_failure_rate=1")  # fmt: skip
    assert sorted(states()) == ["COMPLETE"] * 4 + ["FAIL"] * 2


CONDITIONAL = """
defaults: [config, _self_, override hydra/sweeper/sampler: brute_force]
hydra:
  sweeper:
    n_trials: 50
    params:
      x:
        shape=round: range(0, 3)
        shape=square: choice(7, 8)
      y: 1
      shape: choice(round, square)
"""


def test_a_sweep_says_once_what_its_sampler_samples_at_random(sweep, tmp_path, capsys):
    import toy

    shutil.copytree(HERE / "conf", tmp_path / "conf")
    (tmp_path / "conf/conditional.yaml").write_text(CONDITIONAL)
    sampler = "hydra/sweeper/sampler=nsgaii"
    multirun(
        toy.main.__wrapped__, sampler, "hydra.sweeper.n_trials=2", config_dir=tmp_path / "conf", name="conditional"
    )
    said = "NSGAIISampler samples conditional parameters at random: x (shape=round), x (shape=square); "
    assert capsys.readouterr().out.count(said) == 1


def test_a_conditional_space_needs_only_its_config(tmp_path):
    import toy

    shutil.copytree(HERE / "conf", tmp_path / "conf")
    (tmp_path / "conf/conditional.yaml").write_text(CONDITIONAL)
    multirun(toy.main.__wrapped__, config_dir=tmp_path / "conf", name="conditional")
    sampled = {(trial.params["shape"], trial.params[f"x (shape={trial.params['shape']})"]) for trial in load().trials}
    assert states() == ["COMPLETE"] * 5
    assert sampled == {("round", 0), ("round", 1), ("round", 2), ("square", 7), ("square", 8)}
    for trial in load().trials:
        config = yaml.safe_load((Path(trial.user_attrs["job_dir"]) / ".hydra/config.yaml").read_text())
        assert config["shape"]["depth"] == {"round": 1, "square": 2}[trial.params["shape"]]


def test_workers_with_one_seed_sample_differently_yet_reproducibly(sweep):
    def first_values(name: str) -> list[float]:
        sweep(f"hydra.sweeper.study_name={name}", "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.seed=7")
        sweep(f"hydra.sweeper.study_name={name}", "hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.seed=7")
        return [trial.params["x"] for trial in load(name).trials]

    assert first_values("a") == first_values("b")
    assert len(set(first_values("c"))) == 4


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("hydra.sweeper.n_trials=0", "n_trials must be at least 1, got 0"),
        ("hydra.sweeper.max_failure_rate=2", "max_failure_rate must be 0..1"),
        ("hydra.sweeper.direction=up", "direction must be minimize or maximize"),
        ("hydra.sweeper.storage=study.db", "storage must be a URL"),
        ("hydra.sweeper.wait=false", "needs a launcher that submits"),
        ("hydra.sweeper.pruned_objective=1", r"must be 0\.\.0"),
        ("hydra.sweeper.enqueue=[{x: 99}]", "outside its range"),
        ("hydra.sweeper.enqueue=[{depth: 99}]", "does not sweep"),
        ("hydra/sweeper/sampler=motpe", "use hydra/sweeper/sampler=tpe"),
        ("hydra/sweeper/sampler=grid", "use range or choice"),
        ("hydra/sweeper/pruner=threshold", "cannot be built"),
        ("x=interval(5,1)", "swap them"),
        ("sed=range(0,3)", "did you mean.*seconds|does not fit the config.*sed"),
        ("shape=choice(round,sqare)", "does not fit the config.*sqare"),
        ("shape.corners=range(0,3)", "does not fit the config.*corners"),
    ],
)
def test_a_mistake_stops_the_sweep_before_its_first_trial(sweep, override, rule):
    with pytest.raises(StudyError, match=rule) as caught:
        sweep(override)
    assert "\n" not in str(caught.value)
    with contextlib.suppress(KeyError):  # the study was not even created
        assert not load().trials


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("x=interval(-5,6)", r"'x' was float\(low=-5.0, high=5.0.*now float\(low=-5.0, high=6.0"),
        ("y=1", "'y' was swept, now is not"),
        ("seconds=2", "override seconds=2 is new"),
        ("hydra.sweeper.direction=maximize", "direction was minimize, now maximize"),
        ("hydra.sweeper.direction=[minimize,minimize]", r"direction was minimize, now minimize\+minimize"),
    ],
)
def test_a_study_with_another_definition_is_refused_with_the_differences(sweep, override, rule):
    sweep("hydra.sweeper.n_trials=1")
    with pytest.raises(StudyError, match=rule):
        sweep("hydra.sweeper.n_trials=2", override)
    assert len(load().trials) == 1


def test_allow_changes_continues_a_changed_study(sweep):
    sweep("hydra.sweeper.n_trials=1")
    sweep("hydra.sweeper.n_trials=2", "x=interval(-5,6)", "hydra.sweeper.allow_changes=true")
    assert states() == ["COMPLETE"] * 2


def test_results_are_written_as_hydra_optuna_sweeper_does(sweep, tmp_path):
    sweep("hydra.sweep.dir=out", "hydra.sweeper.n_trials=3")
    results = yaml.safe_load((tmp_path / "out/optimization_results.yaml").read_text())
    assert results["name"] == "optuna"
    assert results["best_value"] == load().best_value
    assert results["best_params"] == load().best_params


def test_each_trial_has_its_own_hydra_job(sweep, tmp_path):
    sweep("hydra.sweep.dir=out", "hydra.sweeper.n_trials=2")
    for trial in load().trials:
        folder = tmp_path / "out" / str(trial.number)
        assert trial.user_attrs["job_dir"] == str(folder)
        config = yaml.safe_load((folder / ".hydra/config.yaml").read_text())
        assert math.isclose(config["x"], trial.params["x"])
        assert yaml.safe_load((folder / ".hydra/hydra.yaml").read_text())["hydra"]["job"]["num"] == trial.number


def test_optuna_itself_reads_the_study(sweep):
    sweep("hydra.sweeper.n_trials=4")
    assert isinstance(optuna.importance.get_param_importances(load()), dict)


@pytest.mark.parametrize(
    ("overrides", "workers"),
    [
        ((), 1),
        (("hydra.launcher.n_jobs=-1",), 1),
        (("hydra.launcher.n_jobs=3",), 3),
        (("hydra.launcher.n_jobs=3", "hydra.sweeper.n_jobs=3"), 3),
        (("hydra.sweeper.n_jobs=4",), 4),
    ],
)
def test_the_number_of_workers_may_be_given_as_joblibs(sweep, overrides, workers, monkeypatch, capsys):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launched = []

    def workers_launched(self, spec, number, store, wait):
        launched.append(number)
        raise StudyError("far enough")

    monkeypatch.setattr(Launch, "start_workers", workers_launched)
    with pytest.raises(StudyError, match="far enough"):
        sweep("hydra/launcher=joblib", *overrides)
    assert launched == [workers]
    printed = "hydra.launcher.n_jobs=3 sets hydra.sweeper.n_jobs: 3 workers" in capsys.readouterr().out
    assert printed == (overrides == ("hydra.launcher.n_jobs=3",))


@pytest.mark.parametrize("given", [("2", "3"), ("1", "3"), ("1", "0"), ("1", "-2")])
def test_two_different_numbers_of_workers_are_refused(sweep, given):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    ours, joblibs = given
    with pytest.raises(
        StudyError, match=rf"one number of workers, got .*n_jobs={ours} and .*launcher\.n_jobs={joblibs}"
    ):
        sweep("hydra/launcher=joblib", f"hydra.sweeper.n_jobs={ours}", f"hydra.launcher.n_jobs={joblibs}")
