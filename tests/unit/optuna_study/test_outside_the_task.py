"""An error around a task fails its trial; workers without progress are not started forever."""

import asyncio
import signal
import sys
from pathlib import Path

import optuna
import pytest

from hydra_plugins.optuna_study import StudyError
from hydra_plugins.optuna_study._launch import Launch, LaunchResult

from .sweeping import load, multirun, states

HERE = "tests.unit.optuna_study.test_outside_the_task."


class BreaksWhileSampling(optuna.samplers.RandomSampler):
    def sample_independent(self, *args, **kwargs):
        raise RuntimeError("the sampler broke")


class BreaksInSpace(optuna.samplers.RandomSampler):
    def infer_relative_search_space(self, *args, **kwargs):
        raise RuntimeError("the sampler broke")


class BreaksAfterwards(optuna.samplers.RandomSampler):
    def after_trial(self, *args, **kwargs):
        raise RuntimeError("the sampler broke")


class BreaksOnce(optuna.samplers.RandomSampler):
    broken = False

    def sample_independent(self, *args, **kwargs):
        if not BreaksOnce.broken:
            BreaksOnce.broken = True
            raise RuntimeError("the sampler broke")
        return super().sample_independent(*args, **kwargs)


def breaking_hook(cfg, trial):
    raise RuntimeError("the hook broke")


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("hydra.sweep.subdir='taken/${hydra.job.num}'",), "NotADirectoryError: [Errno 20]"),
        (("hydra.sweep.subdir=" + "a" * 300 + "$\\{hydra.job.num\\}",), "OSError: [Errno 36] File name too long"),
        (("hydra/sweeper/sampler=random", f"hydra.sweeper.sampler._target_={HERE}BreaksWhileSampling"),
         "RuntimeError: the sampler broke"),
        (("hydra/sweeper/sampler=random", f"hydra.sweeper.sampler._target_={HERE}BreaksInSpace"),
         "RuntimeError: the sampler broke"),
        ((f"hydra.sweeper.custom_search_space={HERE}breaking_hook",), "RuntimeError: the hook broke"),
    ],
)  # fmt: skip
def test_what_fails_around_the_task_fails_its_trial_and_counts(sweep, overrides, reason):
    Path("out").mkdir()
    Path("out/taken").touch()
    with pytest.raises(SystemExit):
        sweep("hydra.sweep.dir=out", "hydra.sweeper.n_trials=10", "hydra.sweeper.max_failure_rate=0.2", *overrides)
    assert states() == ["FAIL"] * 3
    assert all(trial.user_attrs["failure"].startswith(reason) for trial in load().trials)


def test_a_file_with_the_name_of_the_directory_fails_the_trial(sweep):
    Path("out").mkdir()
    Path("out/taken").touch()
    with pytest.raises(SystemExit):
        sweep("hydra.sweep.dir=out", "hydra.sweep.subdir=taken", "hydra.sweeper.n_trials=1",
              "hydra.sweeper.max_failure_rate=0.0")  # fmt: skip
    assert load().trials[0].user_attrs["failure"].startswith("FileExistsError: [Errno 17]")


def test_a_sampler_that_breaks_once_costs_one_trial(sweep):
    sweep("hydra/sweeper/sampler=random", f"hydra.sweeper.sampler._target_={HERE}BreaksOnce",
          "hydra.sweeper.n_trials=3", "hydra.sweeper.max_failure_rate=0.5")  # fmt: skip
    assert states() == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_a_sampler_that_breaks_after_a_trial_costs_no_result(sweep):
    sweep("hydra/sweeper/sampler=random", f"hydra.sweeper.sampler._target_={HERE}BreaksAfterwards",
          "hydra.sweeper.n_trials=3")  # fmt: skip
    assert states() == ["COMPLETE"] * 3


def test_choices_that_optuna_does_not_let_change_fail_their_trials(sweep):
    sweep("hydra.sweeper.n_trials=2", "y=choice(1,2)")
    with pytest.raises(SystemExit):
        sweep("hydra.sweeper.n_trials=4", "y=choice(1,2,3)", "hydra.sweeper.allow_changes=true",
              "hydra.sweeper.max_failure_rate=0.0")  # fmt: skip
    assert states() == ["COMPLETE", "COMPLETE", "FAIL"]
    assert "does not support dynamic value space" in load().trials[2].user_attrs["failure"]


@pytest.mark.parametrize("status", ["1", "0", "'text'"])
def test_a_task_that_ends_its_process_has_failed(status):
    def task(cfg):
        raise SystemExit(eval(status))

    with pytest.raises(SystemExit):
        multirun(task, "hydra.sweeper.n_trials=2", "hydra.sweeper.max_failure_rate=0.0")
    assert states() == ["FAIL"]
    assert load().trials[0].user_attrs["failure"] == f"TaskExited: the task called sys.exit({status})"


@pytest.mark.parametrize("error", [asyncio.CancelledError("from within"), GeneratorExit("from within")])
def test_a_base_exception_of_the_task_fails_its_trial_only(error):
    def task(cfg):
        if float(cfg.x) > 0:
            raise error
        return 1.0

    multirun(task, "hydra.sweeper.enqueue=[{x: 1}, {x: -1}, {x: -2}]", "hydra.sweeper.n_trials=2")
    assert states() == ["FAIL", "COMPLETE", "COMPLETE"]
    assert load().trials[0].user_attrs["failure"] == f"{type(error).__name__}: from within"


def test_a_task_that_handles_ctrl_c_itself_stops_the_sweep_and_releases_its_trial(capsys):
    def task(cfg):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        multirun(task, "hydra.sweeper.n_trials=2")
    assert stopped.value.code == 128 + signal.SIGINT
    assert states() == ["FAIL", "WAITING"]
    assert "stopped by SIGINT; run the same command again to continue the study" in capsys.readouterr().out


def exits(config, trial):
    sys.exit(3)


class ExitsWhileSampling(optuna.samplers.RandomSampler):
    def sample_independent(self, *arguments):
        sys.exit("the sampler left")


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        (f"hydra.sweeper.custom_search_space={HERE}exits", "SystemExit: 3"),
        (f"hydra.sweeper.sampler._target_={HERE}ExitsWhileSampling", "SystemExit: the sampler left"),
    ],
)
def test_an_exit_outside_the_task_fails_its_trial_and_counts(sweep, override, reason):
    with pytest.raises(SystemExit, match="1"):
        sweep("hydra.sweeper.n_trials=4", "hydra/sweeper/sampler=random", override)
    assert states() == ["FAIL"] * 3
    assert load().trials[0].user_attrs["failure"] == reason


@pytest.mark.parametrize(("path", "said"), [(f"{HERE}nowhere", "no attribute"), ("sys.path", "which is not callable")])
def test_a_custom_search_space_that_is_not_a_function_is_refused(sweep, path, said):
    rule = r"hydra\.sweeper\.custom_search_space must name a function, got .*"
    with pytest.raises(StudyError, match=rule + said):
        sweep(f"hydra.sweeper.custom_search_space={path}")
    assert not Path("study.db").exists()


class Workers:
    """Stands for the launcher: each launch ends with the next of these results."""

    def __init__(self, *outcomes: LaunchResult) -> None:
        self.outcomes = list(outcomes)

    def __call__(self, spec, number, store, wait):
        outcome = self.outcomes.pop(0)
        if outcome is REPORTS:
            study = optuna.load_study(study_name=spec.study_name, storage=store.optuna)
            trial = study.ask()
            trial.report(1.0, step=len(self.outcomes))
        return outcome


CRASHED, KILLED, REPORTS = (
    LaunchResult(failure="crashed"),
    LaunchResult(failure="preempted", killed_externally=True),
    LaunchResult(failure="ended after a report"),
)


@pytest.mark.parametrize(
    ("launches", "left"),
    [
        ([CRASHED] * 9, 6),
        ([CRASHED, CRASHED, REPORTS, *[CRASHED] * 6], 3),
        ([KILLED, KILLED, KILLED, KILLED, *[CRASHED] * 5], 2),
        ([CRASHED, KILLED, CRASHED, KILLED, CRASHED, CRASHED], 1),
    ],
)
def test_three_launches_that_crash_without_progress_end_the_sweep(sweep, monkeypatch, launches, left):
    workers = Workers(*launches)
    monkeypatch.setattr(Launch, "start_workers", workers)
    with pytest.raises(StudyError, match="ended 3 times without progress: crashed"):
        sweep("hydra.sweeper.n_trials=2")
    assert len(workers.outcomes) == left


def test_attempts_without_a_result_are_no_progress(sweep, monkeypatch):
    """Requeued trials copy their reports, which are not new."""

    def releases(self, spec, number, store, wait):
        from hydra_plugins.optuna_study._budget import Budget
        from hydra_plugins.optuna_study._heartbeat import WorkerId
        from hydra_plugins.optuna_study._queue import TrialQueue

        queue = TrialQueue(
            store, spec.study_name, Budget(n_trials=2), WorkerId.of_this_process(spec.launch_id, 0, 60.0)
        )
        queue.release(queue.claim(), "stopped")
        return CRASHED

    monkeypatch.setattr(Launch, "start_workers", releases)
    with pytest.raises(StudyError, match="ended 3 times"):
        sweep("hydra.sweeper.n_trials=2")


def test_workers_that_cannot_start_end_the_sweep_after_three_launches(sweep):
    Path("out").mkdir()
    Path("out/.workers").touch()
    with pytest.raises(StudyError, match="ended 3 times without progress: NotADirectoryError"):
        sweep("hydra.sweep.dir=out")
