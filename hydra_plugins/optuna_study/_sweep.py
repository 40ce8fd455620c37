"""The command's side of a sweep: open the study, start workers, follow them, end the study once."""

import difflib
import os
import platform
import re
import secrets
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ._attrs import DEFINITION, SETTINGS, WORKERS
from ._budget import Rules
from ._console import Follower, say, summary
from ._definition import definition, differences
from ._ending import end_once
from ._errors import StudyError
from ._hooks import Hooks
from ._job import hide_storage
from ._launch import Launch, check_launcher, is_in_process, is_submitit, launcher_name
from ._ledger import Ledger, Standing
from ._legacy import params_of
from ._owner import Owner
from ._plan import Plan
from ._results import write_results
from ._samplers import build_pruner, build_sampler, is_finite
from ._secrets import one_line
from ._settings import Settings, read_settings
from ._space import Space, build_space
from ._status import StudyStatus, status_of
from ._store import Store
from ._study import StudyHandle
from ._vigil import Stopped, Vigil

# Launches in a row that end without a single trial more, after which the command gives up.
_FRUITLESS_LAUNCHES = 3


class Sweep:
    def __init__(self, context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context = context
        self.task_function = task_function
        self.config = config

    def run(self, arguments: list[str]) -> StudyStatus:
        """Check everything, then run the study to its end or to its stop."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        settings = self._checked_settings()
        space = self._space(settings, arguments)
        examples = self._composed(space)
        store = Store(settings.storage, settings.storage_patience)
        try:
            plan = self._plan(settings, space)
            self._open_study(store, plan, settings)
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

    def _checked_settings(self) -> Settings:
        settings = read_settings(self.config)
        in_process = is_in_process(self.config)
        if settings.storage.kind == "memory" and not in_process:
            raise StudyError(
                f"storage=null keeps the study in this process, which workers of launcher {launcher_name(self.config)} "
                "cannot see; set hydra.sweeper.storage, for example to sqlite:///study.db"
            )
        if not settings.wait and not is_submitit(self.config):
            raise StudyError(
                f"wait=false needs a launcher that submits jobs, got {launcher_name(self.config)}; "
                "use hydra/launcher=submitit_slurm"
            )
        check_launcher(self.config)
        return settings

    def _space(self, settings: Settings, arguments: list[str]) -> Space:
        params: dict[str, Any] = {**params_of(settings.search_space), **settings.params}
        choices = self.config.hydra.runtime.choices or {}

        def lookup(key: str) -> str | None:
            if key in choices:
                return str(choices[key])
            value = OmegaConf.select(self.config, key, throw_on_missing=False)
            return None if value is None or OmegaConf.is_config(value) else str(value)

        space = build_space(params, arguments, lookup, self.context.config_loader)
        if not space.parameters and settings.custom_search_space is None:
            raise StudyError("nothing to sweep: give hydra.sweeper.params or a range on the command line")
        # Both are built in each worker; here they are built to see that they can be.
        build_sampler(settings.sampler, space, 0)
        build_pruner(settings.pruner)
        return space

    def _composed(self, space: Space) -> list[tuple[str, ...]]:
        """Compose the config with the ends of every range, so that a typo stops the sweep before its first trial."""
        examples = space.examples()
        for example in examples:
            try:
                self.context.config_loader.load_sweep_config(self.config, [*space.fixed, *example])
            except HydraException as error:
                said = " ".join(f"{error} {error.__cause__ or ''}".split())
                raise StudyError(f"the search space does not fit the config: {said}{self._suggestion(said)}") from None
        return examples

    def _suggestion(self, message: str) -> str:
        unknown = re.search(r"[Kk]ey '([^']+)'", message)
        keys = [str(key) for key in _all_keys(self.config)]
        close = difflib.get_close_matches(unknown[1], keys, n=3) if unknown else []
        return f"; did you mean {' or '.join(close)}?" if close else ""

    def _plan(self, settings: Settings, space: Space) -> Plan:
        finite = is_finite(settings.sampler)
        n_trials = settings.n_trials
        if finite and settings.custom_search_space is None:
            size = space.finite_size()
            if size is None:
                raise StudyError("this sampler tries every combination, which an interval has no end of; use range")
            n_trials = min(n_trials, size)
        name = settings.study_name or f"{self.config.hydra.job.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        main = getattr(sys.modules["__main__"], "__spec__", None)
        launch = secrets.token_hex(8)
        return Plan(
            study_name=name,
            storage=settings.storage,
            directions=settings.directions,
            rules=Rules(
                n_trials=n_trials,
                failures_count=finite,
                max_failures=settings.max_failures,
                patience=settings.patience,
                max_retries=settings.max_retries,
            ),
            space=space,
            sampler=settings.sampler,
            pruner=settings.pruner,
            launch=launch,
            pruned_objective=settings.pruned_objective,
            timeout=settings.timeout,
            heartbeat=settings.heartbeat,
            storage_patience=settings.storage_patience,
            custom_search_space=settings.custom_search_space,
            callbacks=settings.callbacks,
            sweep_dir=str(Path(str(self.config.hydra.sweep.dir)).absolute()),
            argv=() if is_in_process(self.config) else tuple(sys.argv),
            main=getattr(main, "name", None),
            command_pid=os.getpid(),
            command_place=Owner.here(launch, -1, 1.0).place,
        )

    def _open_study(self, store: Store, plan: Plan, settings: Settings) -> None:
        storage = store.storage
        wanted = definition(plan.space, plan.directions, plan.custom_search_space)
        with store.lock(plan.study_name):
            known = {study.study_name: study for study in storage.get_all_studies()}
            if plan.study_name in known:
                found = known[plan.study_name]
                stored = found.system_attrs.get(DEFINITION)
                directions = [direction.name.lower() for direction in found.directions]
                changed = differences(stored or {**wanted, "directions": directions}, wanted)
                if directions != list(plan.directions):
                    raise StudyError(
                        f"study '{plan.study_name}' has other objectives: {'; '.join(changed)}; take another study_name"
                    )
                if changed and not settings.allow_changes:
                    raise StudyError(
                        f"study '{plan.study_name}' was another one: {'; '.join(changed)}; take another study_name, or "
                        "set hydra.sweeper.allow_changes=true to go on with it"
                    )
            else:
                optuna.create_study(
                    study_name=plan.study_name,
                    storage=storage,
                    directions=list(plan.directions),  # type: ignore[arg-type]
                    load_if_exists=True,
                )
            study_id = storage.get_study_id_from_name(plan.study_name)
            storage.set_study_system_attr(study_id, DEFINITION, wanted)
            kept = {"n_trials": plan.rules.n_trials, "failures_count": plan.rules.failures_count}
            storage.set_study_system_attr(study_id, SETTINGS, kept)
            study = optuna.load_study(study_name=plan.study_name, storage=storage)
            for entry in settings.enqueue:
                study.enqueue_trial(_by_parameter(plan.space, entry), skip_if_exists=True)

    def _save_multirun(self, plan: Plan) -> None:
        """Hydra's sweepers leave the command's config in the sweep directory."""
        shown = self.config.copy()
        hide_storage(shown, plan.storage)
        Path(plan.sweep_dir).mkdir(parents=True, exist_ok=True)
        OmegaConf.save(shown, Path(plan.sweep_dir) / "multirun.yaml")

    def _through(
        self, store: Store, plan: Plan, settings: Settings, ledger: Ledger, example: list[str]
    ) -> StudyStatus:
        handle = StudyHandle(store, plan.study_name, plan.directions, plan.sweep_dir)
        hooks = Hooks(plan.callbacks, plan.storage.secrets)
        standing = ledger.standing()
        if not standing.complete:
            say(_opening(plan, settings, standing, launcher_name(self.config)))
            hooks.study_start(handle)
            launch = Launch(self.context, self.task_function, self.config, example)
            if not settings.wait:
                first = _take_workers(store, plan.study_name, settings.n_jobs)
                outcome = launch.workers(replace(plan, first_worker=first), settings.n_jobs, store, wait=False)
                say(f"submitted {len(outcome.jobs)} workers: {' '.join(outcome.jobs)}")
                return status_of(store, plan.study_name)
            self._follow(store, plan, settings, ledger, launch)
            standing = ledger.standing()
        status = status_of(store, plan.study_name)
        for line in summary(status, standing):
            say(line)
        written = write_results(status, plan.sweep_dir)
        if written is not None:
            say(f"results: {written}")
        if standing.complete or standing.stopped:
            self._end(ledger, hooks, handle, status)
        if standing.stopped and standing.counts.failed >= plan.rules.max_failures:
            raise SystemExit(1)
        return status

    def _follow(self, store: Store, plan: Plan, settings: Settings, ledger: Ledger, launch: Launch) -> None:
        """Start workers until the study is over; workers that died are replaced."""
        workers = 1 if is_in_process(self.config) else settings.n_jobs
        fruitless, deadline = 0, None if plan.timeout is None else time.monotonic() + plan.timeout
        with Follower(ledger, plan.directions):
            while True:
                before = ledger.standing().counts.finished
                first = _take_workers(store, plan.study_name, workers)
                vigil = Vigil(store.storage, settings.heartbeat, beats=False, on_signal=ledger.note_stop)
                try:
                    if is_in_process(self.config):
                        outcome = launch.workers(replace(plan, first_worker=first), workers, store, wait=True)
                    else:
                        with vigil.kept():
                            outcome = launch.workers(replace(plan, first_worker=first), workers, store, wait=True)
                except Stopped as stopped:
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
                fruitless = 0 if standing.counts.finished > before else fruitless + 1
                if fruitless >= _FRUITLESS_LAUNCHES:
                    raise StudyError(
                        f"workers of study '{plan.study_name}' ended {fruitless} times without a trial more: "
                        f"{outcome.broken or 'no reason known'}"
                    )
                say(f"workers ended early ({outcome.broken or 'no reason known'}); starting them again")

    def _end(self, ledger: Ledger, hooks: Hooks, handle: StudyHandle, status: StudyStatus) -> None:
        failed = end_once(ledger, hooks, handle, status)
        if failed is not None:
            raise StudyError(f"on_study_end failed, the same command calls it again: {failed}")


def _take_workers(store: Store, study_name: str, number: int) -> int:
    """The index of the first of so many new workers; no two workers of a study ever have the same."""
    with store.lock(study_name):
        study_id = store.storage.get_study_id_from_name(study_name)
        first = int(store.storage.get_study_system_attrs(study_id).get(WORKERS, 0))
        store.storage.set_study_system_attr(study_id, WORKERS, first + number)
    return first


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
    from ._attrs import OWNER

    owners = [
        (trial._trial_id, Owner.read(trial.system_attrs.get(OWNER)))
        for trial in ledger.trials()
        if trial.state == optuna.trial.TrialState.RUNNING
    ]
    return [(trial_id, owner) for trial_id, owner in owners if owner is not None]


def _by_parameter(space: Space, entry: Any) -> dict[str, Any]:
    """An enqueued config by the sampler's parameter names, in which a condition is part of the name."""
    from ._conditions import bare_key, comparable
    from ._grammar import value_text

    wanted = {bare_key(str(key)): value for key, value in entry.items()}
    values = {**space.fixed_values, **{key: comparable(value_text(value)) for key, value in wanted.items()}}
    found: dict[str, Any] = {}
    for parameter in space.parameters:
        branch = parameter.branch(values)
        for key in map(bare_key, parameter.keys):
            if key in wanted and branch is not None and branch.domain is not None:
                value = wanted.pop(key)
                distribution = branch.domain.distribution
                try:
                    inside = distribution._contains(distribution.to_internal_repr(value))
                except (TypeError, ValueError):
                    inside = False
                if not inside:
                    raise StudyError(f"hydra.sweeper.enqueue sets '{key}' to {value}, outside its range {distribution}")
                found[branch.name] = value
    if wanted:
        raise StudyError(f"hydra.sweeper.enqueue sets '{next(iter(wanted))}', which this study does not sweep")
    return found


def _opening(plan: Plan, settings: Settings, standing: Standing, launcher: str) -> str:
    workers = 1 if launcher == "basic" else settings.n_jobs
    return (
        f"study '{plan.study_name}' in {plan.storage.shown}: {standing.counts.finished} of {plan.rules.n_trials} trials, "
        f"{workers} worker(s) through {launcher} on {platform.node()}"
    )


def _all_keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for key in config:
        if prefix == "" and key == "hydra":
            continue
        keys.append(f"{key}")
        child = config._get_node(str(key))
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            keys += _all_keys(child, f"{prefix}{key}.")
    return keys


def _is_storage_error(error: BaseException) -> bool:
    module = type(error).__module__
    return module.startswith(("sqlalchemy", "optuna.exceptions", "psycopg2", "grpc"))
