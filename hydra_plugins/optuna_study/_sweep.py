"""The command's side of a sweep: open the study, start workers, follow them, end the study once."""

import os
import platform
import signal
import time
from dataclasses import replace
from pathlib import Path

import optuna
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from ._attrs import OWNER
from ._console import Follower, say, summary
from ._ending import end_once, ended_status
from ._errors import StudyError
from ._hooks import Hooks
from ._job import hide_all
from ._launch import Launch, is_in_process, is_submitit, launcher_name
from ._ledger import Ledger, Standing
from ._opening import open_study, take_workers
from ._owner import Owner
from ._plan import Plan
from ._preparation import Preparation
from ._pruning import reports_of
from ._results import write_results
from ._secrets import one_line
from ._settings import Settings
from ._status import StudyStatus, status_of
from ._store import Store
from ._study import StudyHandle
from ._vigil import Stopped, Vigil

# Launches in a row that leave the study exactly as it was, after which the command gives up.
_FRUITLESS_LAUNCHES = 3


class Sweep:
    def __init__(self, context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context = context
        self.task_function = task_function
        self.config = config

    def run(self, arguments: list[str]) -> StudyStatus:
        """Check everything, then run the study to its end or to its stop."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        preparation = Preparation(self.context, self.config)
        settings = preparation.settings()
        space = preparation.space(settings, arguments)
        examples = preparation.composed(space)
        store = Store(settings.storage, settings.storage_patience)
        try:
            plan = preparation.plan(settings, space)
            open_study(store, plan, settings)
            owner = Owner.here(plan.launch, -1, settings.heartbeat)
            ledger = Ledger(store, plan.study_name, plan.rules, owner)
            self._save_multirun(plan)
            return self._through(store, plan, settings, ledger, [*space.fixed, *examples[0]])
        except Stopped as stopped:
            say(f"stopped by {stopped}; the same command goes on with the study")
            raise SystemExit(128 + stopped.signum) from None
        except (StudyError, SystemExit):
            raise
        except Exception as error:
            if _is_storage_error(error):
                # "from None": SQLAlchemy's own message may show the URL.
                text = one_line(error.__cause__ or error, settings.storage.secrets)
                raise StudyError(f"storage {settings.storage.shown} failed: {text}") from None
            raise
        finally:
            store.close()

    def _save_multirun(self, plan: Plan) -> None:
        """Hydra's sweepers leave the command's config in the sweep directory."""
        shown = self.config.copy()
        hide_all(shown, plan.storage)
        Path(plan.sweep_dir).mkdir(parents=True, exist_ok=True)
        OmegaConf.save(shown, Path(plan.sweep_dir) / "multirun.yaml")

    def _through(self, store: Store, plan: Plan, settings: Settings, ledger: Ledger, example: list[str]) -> StudyStatus:
        handle = StudyHandle(store, plan.study_name, plan.directions, plan.sweep_dir)
        hooks = Hooks(plan.callbacks, plan.storage.secrets)
        standing = ledger.standing()
        if not standing.complete:
            say(_opening(plan, settings, standing, launcher_name(self.config)))
            hooks.study_start(handle)
            launch = Launch(self.context, self.task_function, self.config, example)
            if not settings.wait:
                first = take_workers(store, plan.study_name, settings.n_jobs)
                outcome = launch.workers(replace(plan, first_worker=first), settings.n_jobs, store, wait=False)
                say(f"submitted {len(outcome.jobs)} workers: {' '.join(outcome.jobs)}")
                return status_of(store, plan.study_name)
            follower = Follower(ledger, plan.directions, lambda row: hooks.trial_finished(handle, row))
            with follower:
                self._follow(store, plan, settings, ledger, launch)
            standing = ledger.standing()
        status = ended_status(ledger, standing)
        for line in summary(status, standing):
            say(line)
        if not standing.over:
            say(f"time is up ({settings.timeout:g} s); the same command goes on with the study")
        written = write_results(status, plan.sweep_dir)
        if written is not None:
            say(f"results: {written}")
        if standing.over:
            self._end(ledger, hooks, handle, status)
        if status.gave_up:
            raise SystemExit(1)
        return status

    def _follow(self, store: Store, plan: Plan, settings: Settings, ledger: Ledger, launch: Launch) -> None:
        """Start workers until the study is over; workers that died are replaced."""
        workers = 1 if is_in_process(self.config) else settings.n_jobs
        fruitless, deadline = 0, None if plan.timeout is None else time.monotonic() + plan.timeout
        while True:
            before = _traces(ledger)
            first = take_workers(store, plan.study_name, workers)
            vigil = Vigil(store.storage, settings.heartbeat, beats=False, on_signal=ledger.note_stop)
            try:
                if is_in_process(self.config):
                    outcome = launch.workers(replace(plan, first_worker=first), workers, store, wait=True)
                else:
                    with vigil.kept():
                        outcome = launch.workers(replace(plan, first_worker=first), workers, store, wait=True)
            except Stopped as stopped:
                if is_submitit(self.config):
                    say("the submitted jobs go on; scancel stops them")
                else:
                    _stop_workers(ledger, stopped.signum)
                raise
            if outcome.signum is not None:
                raise Stopped(outcome.signum)
            if isinstance(outcome.error, StudyError):
                raise outcome.error
            standing = ledger.standing()
            late = deadline is not None and time.monotonic() >= deadline
            if standing.over or late:
                return
            fruitless = fruitless + 1 if _traces(ledger) == before else 0
            if fruitless >= _FRUITLESS_LAUNCHES:
                raise StudyError(
                    f"workers of study '{plan.study_name}' ended {fruitless} times without doing anything: "
                    f"{outcome.broken or 'no reason known'}"
                )
            say(f"workers ended early ({outcome.broken or 'no reason known'}); starting them again")

    def _end(self, ledger: Ledger, hooks: Hooks, handle: StudyHandle, status: StudyStatus) -> None:
        failed = end_once(ledger, hooks, handle, status)
        if failed is not None:
            raise StudyError(f"on_study_end failed, the same command calls it again: {failed}")


def _traces(ledger: Ledger) -> tuple[int, int, int]:
    """What changes when a worker does anything: trials begun, trials ended, values reported."""
    trials = ledger.trials()
    ended = sum(trial.state.is_finished() for trial in trials)
    return len(trials), ended, sum(len(reports_of(trial)) for trial in trials)


def _stop_workers(ledger: Ledger, signum: int) -> None:
    """Ask this launch's workers on this machine to give their trials back, and do it for those already gone."""
    deadline = time.monotonic() + 10
    asked: set[int] = set()
    while time.monotonic() < deadline:
        mine = [(trial, owner) for trial, owner in _running(ledger) if owner.launch == ledger.owner.launch]
        here = [(trial, owner) for trial, owner in mine if owner.place == ledger.owner.place]
        if not here:
            return
        for trial, owner in here:
            if owner.is_gone():
                ledger.interrupt(trial, f"stopped by {signal.Signals(signum).name}", counted=False)
            elif owner.pid not in asked and owner.pid != os.getpid():
                asked.add(owner.pid)
                os.kill(owner.pid, signal.SIGTERM)
        time.sleep(0.1)


def _running(ledger: Ledger) -> list[tuple[int, Owner]]:
    owners = [
        (trial._trial_id, Owner.read(trial.system_attrs.get(OWNER)))
        for trial in ledger.trials()
        if trial.state == TrialState.RUNNING
    ]
    return [(trial_id, owner) for trial_id, owner in owners if owner is not None]


def _opening(plan: Plan, settings: Settings, standing: Standing, launcher: str) -> str:
    workers = 1 if launcher == "basic" else settings.n_jobs
    return (
        f"study '{plan.study_name}' in {plan.storage.shown}: {standing.counts.finished} of {plan.rules.n_trials} "
        f"trials, {workers} worker(s) through {launcher} on {platform.node()}"
    )


def _is_storage_error(error: BaseException) -> bool:
    module = type(error).__module__
    return module.startswith(("sqlalchemy", "optuna.exceptions", "psycopg2", "grpc"))
