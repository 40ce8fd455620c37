from pathlib import Path

import pytest

from hydra_plugins.optuna_study import StudyError, current_trial

from .recording import calls
from .sweeping import load, multirun

RECORDER = "hydra.sweeper.callbacks=[{_target_: tests.unit.optuna_study.recording.Recorder, path: calls.txt}]"


def test_callbacks_see_the_study_start_each_trial_and_its_end_once(sweep, tmp_path):
    sweep(RECORDER, "hydra.sweeper.n_trials=3")
    sweep(RECORDER, "hydra.sweeper.n_trials=3")  # a finished study: only reported
    path = tmp_path / "calls.txt"
    assert calls(path, "start") == [["toy", 0]]
    assert calls(path, "trial") == [[number, "complete", "run-1"] for number in range(3)]
    assert calls(path, "end") == [["toy", 3, False]]
    sweep(RECORDER, "hydra.sweeper.n_trials=4")
    assert calls(path, "start") == [["toy", 0], ["toy", 3]]
    assert calls(path, "end") == [["toy", 3, False], ["toy", 4, False]]


def test_an_end_that_failed_is_called_again_by_the_same_command(sweep, tmp_path):
    failing = RECORDER.replace("path", "fail_once: true, path")
    with pytest.raises(StudyError, match="the same command calls it again: RuntimeError: the first end failed"):
        sweep(failing, "hydra.sweeper.n_trials=1")
    assert calls(tmp_path / "calls.txt", "end") == []
    sweep(failing, "hydra.sweeper.n_trials=1")
    assert calls(tmp_path / "calls.txt", "end") == [["toy", 1, False]]


def test_an_aborted_study_ends_with_that_status(sweep, tmp_path):
    with pytest.raises(SystemExit):
        sweep(RECORDER, "mode=raise")
    assert calls(tmp_path / "calls.txt", "end") == [["toy", 0, True]]


def test_a_callback_that_cannot_be_built_stops_the_sweep(sweep):
    with pytest.raises(StudyError, match=r"callback tests\.nothing cannot be built"):
        sweep("hydra.sweeper.callbacks=[{_target_: tests.nothing}]")
    assert not Path("study.db").exists()


def test_a_callback_can_refuse_what_a_range_ends_in_before_the_study_is_opened(sweep):
    refusing = "hydra.sweeper.callbacks=[{_target_: tests.unit.optuna_study.recording.Refuser, most: 4}]"
    with pytest.raises(ValueError, match=r"x must be at most 4, got 5\.0"):
        sweep(refusing)
    assert not Path("study.db").exists()
    sweep(refusing, "x=interval(-5,3)", "hydra.sweeper.n_trials=1")
    assert len(load().trials) == 1


def test_the_task_sees_its_trial(tmp_path):
    seen = []

    def task(cfg):
        trial = current_trial()
        trial.set_user_attr("run_id", f"run of {trial.number}")
        trial.report(1.0, 0)
        trial.report(2.0, 0)  # a step keeps its first value
        seen.append(
            (trial.number, trial.attempt, trial.is_retry, trial.is_rank_zero, trial.last_step, trial.study_name,
             trial.study_attrs, sorted(trial.params), trial.directory)
        )  # fmt: skip
        return cfg.x

    multirun(task, RECORDER, "hydra.sweeper.n_trials=1", "hydra.sweep.dir=out")
    assert seen == [(0, 0, False, True, 0, "toy", {"parent": "run-1"}, ["x", "y"], str(tmp_path / "out/0"))]
    trial = load().trials[0]
    assert trial.user_attrs["run_id"] == "run of 0"
    assert trial.intermediate_values == {0: 1.0}
    assert current_trial() is None
