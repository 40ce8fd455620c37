"""What holds for every trial holds for a paused one: dying workers, retries, signals, ranks, several objectives."""

import signal
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from hydra_plugins.optuna_study import PromotionScheduler, TrialInterrupted, study_status
from hydra_plugins.optuna_study._budget import Budget, is_interrupted, is_paused, reports_of
from hydra_plugins.optuna_study._heartbeat import Stopped, WorkerId
from hydra_plugins.optuna_study._optuna import id_of
from hydra_plugins.optuna_study._queue import Claim, TrialQueue
from hydra_plugins.optuna_study._storage import Storage, storage_spec
from tests.processes import run as run_script

from .sweeping import HERE, load, run
from .test_schedulers import PROMOTION, STEPS, checkpointed

# The first configuration is the best one: it pauses, because it is alone, and continues later.
PAUSES = ("mode=pauses", f"steps={STEPS}", *PROMOTION, "hydra.sweeper.enqueue=[{x: 5, y: 5}]")


# ---- the queue


def queue(tmp_path: Path, name: str, heartbeat: float = 60.0, **rules: int) -> TrialQueue:
    store = Storage(storage_spec(f"sqlite:///{tmp_path}/study.db"))
    optuna.create_study(study_name="toy", storage=store.optuna, load_if_exists=True)
    owner = WorkerId(name, 0, "h", 1, host_id=f"elsewhere-{name}", started="1", heartbeat=heartbeat)
    budget = Budget(n_trials=1, max_failures=99, **rules)
    return TrialQueue(store, "toy", budget, owner, scheduler=PromotionScheduler(1, 3))


def paused_once(worker: TrialQueue) -> int:
    """The id of a trial that paused after step 1."""
    trial_id = worker.claim()
    assert isinstance(trial_id, int)
    worker.storage.set_trial_intermediate_value(trial_id, 1, 0.5)
    worker.paused.pause(trial_id)
    assert is_paused(worker.storage.get_trial(trial_id))
    return trial_id


def test_two_workers_never_continue_one_paused_trial(tmp_path):
    first, second = queue(tmp_path, "a"), queue(tmp_path, "b")
    paused = paused_once(first)
    assert second.claim() == paused
    assert first.claim() is Claim.WAIT


def test_a_paused_trial_whose_worker_dies_after_it_continued_is_retried_from_its_reports(tmp_path):
    first, second = queue(tmp_path, "a"), queue(tmp_path, "b", heartbeat=0.05)
    paused_once(first)
    assert isinstance(second.claim(), int)
    assert first.claim() is Claim.WAIT
    time.sleep(0.3)  # silent for more than three heartbeats
    again = first.claim()
    assert isinstance(again, int)
    dead, retry = first.trials()
    assert (is_interrupted(dead), retry.state, retry.intermediate_values) == (True, TrialState.RUNNING, {1: 0.5})
    assert not is_paused(retry)


def test_a_paused_trial_that_kills_its_workers_too_often_fails_and_the_study_continues(tmp_path):
    first, second = queue(tmp_path, "a", max_retries=0), queue(tmp_path, "b", heartbeat=0.05, max_retries=0)
    paused_once(first)
    assert isinstance(second.claim(), int)
    assert first.claim() is Claim.WAIT
    time.sleep(0.3)
    assert isinstance(first.claim(), int)  # a new configuration
    assert [trial.state for trial in first.trials()] == [TrialState.FAIL, TrialState.RUNNING]
    assert not is_interrupted(first.trials()[0])


def test_a_worker_that_dies_while_a_trial_waits_takes_nothing_with_it(tmp_path):
    first, second = queue(tmp_path, "a", heartbeat=0.05), queue(tmp_path, "b")
    paused = paused_once(first)
    second.requeue_stale()
    time.sleep(0.3)
    assert not second.requeue_stale()
    assert second.claim() == paused


@pytest.mark.parametrize("write", [0, 1, 2, 3])
def test_a_signal_while_a_trial_pauses_loses_nothing(tmp_path, monkeypatch, write):
    worker = queue(tmp_path, "a")
    trial_id = worker.claim()
    worker.storage.set_trial_intermediate_value(trial_id, 1, 0.5)
    writes = []

    def stops_at(original):
        def write_or_stop(*arguments):
            if len(writes) == write:
                raise Stopped(signal.SIGTERM)
            writes.append(arguments)
            return original(*arguments)

        return write_or_stop

    with monkeypatch.context() as patched:
        for name in ("set_trial_system_attr", "set_trial_state_values"):
            patched.setattr(worker.storage, name, stops_at(getattr(worker.storage, name)))
        with pytest.raises(Stopped):
            worker.paused.pause(trial_id)
    # As the worker's loop does then.
    worker.release(trial_id, "stopped by SIGTERM")
    worker.release_own("stopped by SIGTERM")
    later = queue(tmp_path, "b")
    again = later.claim()
    assert isinstance(again, int)
    trial = later.storage.get_trial(again)
    assert (trial.state, trial.intermediate_values) == (TrialState.RUNNING, {1: 0.5})
    assert sum(trial.state == TrialState.RUNNING for trial in later.trials()) == 1


# ---- sweeps


@pytest.mark.parametrize("directions", ["[maximize,minimize]", "[minimize,maximize]"])
def test_with_several_objectives_the_reported_one_decides(sweep_task, directions):
    ran = []
    one = checkpointed(ran)
    index = directions.strip("[]").split(",").index("maximize")

    def task(cfg):
        value = one(cfg)
        return [value, 0.0] if index == 0 else [0.0, value]

    study = sweep_task(
        task, *PROMOTION[:1], "hydra.sweeper.n_trials=9", f"hydra.sweeper.direction={directions}",
        f"hydra.sweeper.pruned_objective={index}",
    )  # fmt: skip
    assert len(ran) == len(set(ran)) < 9 * STEPS
    assert (study.counts.finished, study.counts.paused) == (9, 0)
    assert max(study.trials, key=lambda trial: trial.params["x"]).state == "complete"
    assert study.pruned_objective == index


def test_a_paused_trial_that_is_interrupted_after_it_continued_repeats_no_step(sweep_task):
    ran, stopped = [], []
    task = checkpointed(ran)

    def released_once(cfg):
        from hydra_plugins.optuna_study import current_trial

        if current_trial().last_step == 1 and not stopped:
            stopped.append(current_trial().number)
            raise TrialInterrupted
        return task(cfg)

    study = sweep_task(released_once, *PROMOTION, "hydra.sweeper.enqueue=[{x: 5}]")
    assert stopped == [0]
    assert len(ran) == len(set(ran))
    assert study.counts.finished == 9
    assert study.best[0].number == 0
    assert study.best[0].attempt == 1


@pytest.mark.parametrize("again", [12, 20])
def test_a_larger_number_of_trials_continues_the_study_with_new_ones(sweep_task, again):
    ran = []
    sweep_task(checkpointed(ran), *PROMOTION, "hydra.sweeper.n_trials=6")
    study = sweep_task(checkpointed(ran), *PROMOTION, f"hydra.sweeper.n_trials={again}")
    assert (study.counts.finished, study.counts.paused) == (again, 0)
    assert len(ran) == len(set(ran))


# ---- processes


@pytest.mark.integration
def test_any_worker_continues_a_paused_trial_also_after_kill_9(tmp_path):
    run(
        *PAUSES, "hydra/launcher=joblib", "hydra.sweeper.n_jobs=2", "hydra.sweeper.heartbeat=0.5",
        f"hydra.sweep.dir={tmp_path}/sweep",
    )  # fmt: skip
    assert Path("signalled").read_text() == "0"
    assert_no_step_is_repeated(tmp_path / "sweep")


@pytest.mark.integration
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_after_a_signal_the_same_command_continues_what_was_paused(tmp_path, signum):
    command = (*PAUSES, f"signal={signum.value}", f"hydra.sweep.dir={tmp_path}/sweep")
    done = run(*command, check=128 + signum)
    assert "run the same command again to continue the study" in done.stdout
    trials = load().get_trials(deepcopy=False)
    assert is_interrupted(trials[0])
    paused = [trial for trial in trials if is_paused(trial)]
    assert len(paused) == 2  # they wait in the storage, and no process is theirs
    run(*command)
    assert_no_step_is_repeated(tmp_path / "sweep")
    after = {id_of(trial): trial for trial in load().get_trials(deepcopy=False)}
    assert all(after[id_of(trial)].state.is_finished() for trial in paused)


@pytest.mark.integration
def test_all_ranks_of_a_trial_pause_together(tmp_path):
    over = ("steps=3", *PROMOTION[:2], "hydra.sweeper.scheduler.reduction_factor=2", "hydra.sweeper.n_trials=2",
            "hydra.sweep.dir=out", "hydra.sweeper.enqueue=[{x: 1}, {x: 3}]")  # fmt: skip
    done = run_script(str(HERE / "ddp_toy.py"), "-m", *over)
    assert done.returncode == 0, done.stdout + done.stderr
    study = study_status("sqlite:///study.db", "toy")
    assert [(trial.state, max(trial.reported)) for trial in study.trials] == [("pruned", 1), ("complete", 3)]
    for trial in study.trials:
        said = [(tmp_path / f"out/{trial.number}/rank{rank}").read_text().splitlines() for rank in (0, 1)]
        assert said[0] == said[1]
        # One line for each time that it started: the better one paused once.
        assert len(said[0]) == (2 if trial.state == "complete" else 1)
    assert "Traceback" not in done.stderr


def assert_no_step_is_repeated(folder: Path) -> None:
    study = study_status("sqlite:///study.db", "toy")
    assert (study.counts.finished, study.counts.paused, study.counts.running) == (9, 0, 0)
    assert study.best[0].number == 0
    processes = {}
    for trial in study.trials:
        lines = (folder / str(trial.number) / "steps").read_text().splitlines()
        assert [int(line.split()[0]) for line in lines] == list(range(1, max(trial.reported) + 1))
        processes[trial.number] = {line.split()[-1] for line in lines}
    assert len(processes[0]) > 1
    # A worker that joblib kills along with another one may not have reported yet.
    assert all(reports_of(trial) for trial in load().get_trials(deepcopy=False) if not is_interrupted(trial))
