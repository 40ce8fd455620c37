"""The command's side of a sweep: open the study, start workers, follow them, end the study once."""

import math
import os
import platform
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import optuna
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from ._attrs import INTERRUPTED, OWNER
from ._budget import first_number, is_interrupted
from ._console import Follower, say, summary
from ._ending import end_once, ended_status
from ._errors import StudyError
from ._hooks import Hooks
from ._job import as_hydra_config, hide_all
from ._launch import Launch, Outcome, is_in_process, is_submitit, launcher_name, workers_are_children
from ._ledger import Ledger, Standing
from ._opening import open_study, take_workers
from ._owner import Owner, registered
from ._plan import WORKERS_FOLDER, Plan
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
# Looks of the follower, two a second, for which workers without a trial may end by themselves after a signal.
_LOOKS_BEFORE_END = 3


class Sweep:
    def __init__(self, context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context = context
        self.task_function = task_function
        self.config = config

    def run(self, arguments: list[str]) -> StudyStatus:
        """Check everything, then run the study to its end or to its stop."""
        # Kept from the first check to the last line, so that no signal falls between two launches.
        self.vigil = Vigil(None, heartbeat=60.0, beats=False)
        try:
            with self.vigil.kept():
                return self._run(arguments)
        except Stopped as stopped:
            say(f"stopped by {stopped}; the same command goes on with the study")
            raise SystemExit(128 + stopped.signum) from None

    def _run(self, arguments: list[str]) -> StudyStatus:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Not for longer: launchers pickle HydraConfig, and this one may hold passwords.
        with as_hydra_config(self.config):
            preparation = Preparation(self.context, self.config)
            settings = preparation.settings()
            space = preparation.space(settings, arguments)
            examples = preparation.examples(settings, space)
            plan = preparation.plan(settings, space)
        store = Store(settings.storage, settings.storage_patience)
        try:
            open_study(store, plan, settings)
            owner = Owner.here(plan.launch, -1, settings.heartbeat)
            ledger = Ledger(store, plan.study_name, plan.rules, owner)
            self.vigil.on_signal = ledger.note_stop
            self._save_multirun(plan)
            return self._through(store, plan, settings, ledger, [*space.fixed, *examples[0]])
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
        try:
            Path(plan.sweep_dir).mkdir(parents=True, exist_ok=True)
            OmegaConf.save(shown, Path(plan.sweep_dir) / "multirun.yaml")
        except OSError as error:
            raise StudyError(f"hydra.sweep.dir must be a folder that can be written to: {one_line(error)}") from None

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
            follower = Follower(
                ledger,
                plan.directions,
                lambda row: hooks.trial_finished(handle, row),
                _Forwarder(ledger, self.vigil, Path(plan.sweep_dir) / WORKERS_FOLDER),
            )
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
            before = _progress(ledger)
            first = take_workers(store, plan.study_name, workers)
            outcome = self._launched(launch, replace(plan, first_worker=first), workers, store, ledger)
            if isinstance(outcome.error, StudyError):
                raise outcome.error
            with store.lock(plan.study_name):
                ledger.take_over()
            standing = ledger.standing()
            late = deadline is not None and time.monotonic() >= deadline
            if standing.over or late:
                return
            reason = outcome.broken or "no reason known"
            if _progress(ledger) != before:
                fruitless = 0
            elif not outcome.from_outside:
                fruitless += 1
                if fruitless >= _FRUITLESS_LAUNCHES:
                    raise StudyError(
                        f"workers of study '{plan.study_name}' ended {fruitless} times without doing anything: {reason}"
                    )
            say(f"workers ended early ({reason}); starting them again")

    def _launched(self, launch: Launch, plan: Plan, workers: int, store: Store, ledger: Ledger) -> Outcome:
        """Start workers and wait until all have ended.

        Raises:
            Stopped: a signal asked for it. Workers on this machine are asked to stop, too, and waited for.
        """
        children = workers_are_children(self.config)
        if children:
            # joblib kills its workers when their command's wait is broken off: the follower forwards the signal, and
            # the wait ends when they have written their checkpoints. A second signal breaks it off.
            self.vigil.defer(math.inf)
        try:
            outcome = launch.workers(plan, workers, store, wait=True)
        except (Stopped, KeyboardInterrupt) as stopped:
            # The latter comes from a task that handles Ctrl-C itself.
            signum = stopped.signum if isinstance(stopped, Stopped) else signal.SIGINT
            if is_submitit(self.config) and not children:
                say("the submitted jobs go on; scancel stops them")
            elif not is_in_process(self.config):
                _stop_workers(ledger, signum)
            raise Stopped(signum) from None
        finally:
            self.vigil.defer(None)
        self.vigil.check()
        if outcome.signum is not None:
            raise Stopped(outcome.signum)
        return outcome

    def _end(self, ledger: Ledger, hooks: Hooks, handle: StudyHandle, status: StudyStatus) -> None:
        failed = end_once(ledger, hooks, handle, status)
        if failed is not None:
            raise StudyError(f"on_study_end failed, the same command calls it again: {failed}")


class _Forwarder:
    """Asks the workers of this machine to stop when the command was asked to, and ends its wait when all have saved.

    Called again and again; workers that come up late are asked, too.
    """

    def __init__(self, ledger: Ledger, vigil: Vigil, folder: Path) -> None:
        self.ledger = ledger
        self.vigil = vigil
        self.folder = folder
        self._asked: set[int] = set()
        self._looks_without_busy = 0

    def __call__(self) -> None:
        if self.ledger.stopping is None:
            return
        launch = self.ledger.owner.launch
        workers = [(owner.pid, busy) for owner, busy in registered(self.folder) if owner.launch == launch]
        for pid in {pid for pid, _ in workers} - self._asked:
            self._asked.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._looks_without_busy = 0 if any(busy for _, busy in workers) else self._looks_without_busy + 1
        if self._looks_without_busy == _LOOKS_BEFORE_END:
            self.vigil.end_deferral()


def _progress(ledger: Ledger) -> tuple[int, int, int]:
    """What changes when a launch does anything: trials that ended for good, values reported, counted retries."""
    trials = ledger.trials()
    ended = sum(trial.state.is_finished() and not is_interrupted(trial) for trial in trials)
    reports = len({(first_number(trial), step) for trial in trials for step in reports_of(trial)})
    notes = (trial.system_attrs.get(INTERRUPTED) or {} for trial in trials)
    return ended, reports, sum(bool(note.get("counted")) for note in notes)


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
