"""A study from its opening to its end: its stored definition, the callbacks of the application, and finalization."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from omegaconf import DictConfig, OmegaConf

from ._budget import (
    DEFINITION,
    ENDED,
    ENDING,
    EXHAUSTED,
    SETTINGS,
    WORKERS,
    Progress,
    count_trials,
    has_too_many_failures,
)
from ._heartbeat import Heartbeat, WorkerId
from ._monitoring._handle import StudyHandle
from ._redaction import one_line, redact_override
from ._schedulers._reopening import is_larger, reopen
from ._search_space._common_settings import methods
from ._search_space._enqueue import enqueued
from ._status import StudyStatus, status_of
from ._trial import StudyError

if TYPE_CHECKING:
    from ._launch import WorkerSpec
    from ._planning._preview import StudyPlan, StudyPreview
    from ._queue import TrialQueue
    from ._search_space._space import Space
    from ._settings._reading import Settings
    from ._storage import Storage

log = logging.getLogger("hydra_plugins.optuna_study")

_LOOK_SECONDS = 0.5


class Callbacks:
    """The objects of `hydra.sweeper.callbacks`, each of which may have any of these methods.

    - `check_config(config)`: called by the command before the study is opened, with the config at both ends of each
      range; its exception ends the command;
    - `plan_study(preview)`: called by the command before it creates a study, with a StudyPreview; returns a StudyPlan
      or None;
    - `on_study_start(study)`: called by the command each time before it starts workers;
    - `on_trial_finished(study, trial)`: called by the worker after each trial that ended for good, not after an
      attempt that will be resumed;
    - `on_study_end(study, status)`: called by exactly one process each time the study completes, and again if the last
      call failed. `status.aborted` says that too many trials failed.

    `study` is a StudyHandle, `trial` a TrialRow and `status` a StudyStatus.

    Args:
        configs: the objects as configs with `_target_`.
        secrets: secrets to redact in messages.

    Raises:
        StudyError: an object cannot be built.
    """

    def __init__(self, configs: Sequence[Mapping[str, Any]], secrets: Sequence[str] = ()) -> None:
        from hydra.utils import instantiate

        self._secrets = tuple(secrets)
        self._objects = []
        for config in configs:
            try:
                self._objects.append(instantiate(dict(config)))
            except Exception as error:
                raise StudyError(f"the callback {config.get('_target_')} cannot be built: {one_line(error)}") from None

    @property
    def follow_trials(self) -> bool:
        """Whether any object has `on_trial_finished`."""
        return any(hasattr(target, "on_trial_finished") for target in self._objects)

    def check_config(self, config: DictConfig) -> None:
        for target in self._objects:
            if hasattr(target, "check_config"):
                target.check_config(config)

    def plan_study(self, preview: "StudyPreview") -> "StudyPlan | None":
        """The plan of the first callback that makes one."""
        plans = (target.plan_study(preview) for target in self._objects if hasattr(target, "plan_study"))
        return next((plan for plan in plans if plan is not None), None)

    def study_start(self, study: StudyHandle) -> None:
        """Call on_study_start.

        Raises:
            StudyError: a callback failed; no trial has started.
        """
        failure = self._call("on_study_start", study)
        if failure is not None:
            raise StudyError(f"on_study_start failed: {failure}")

    def trial_finished(self, *arguments: Any) -> None:
        """Call on_trial_finished. A failure is only logged: the trial is done, and others wait."""
        failure = self._call("on_trial_finished", *arguments)
        if failure is not None:
            log.error("on_trial_finished failed: %s", failure)

    def study_end(self, *arguments: Any) -> str | None:
        """Call on_study_end; returns what failed, or None."""
        return self._call("on_study_end", *arguments)

    def _call(self, name: str, *arguments: Any) -> str | None:
        for target in self._objects:
            try:
                getattr(target, name, lambda *_: None)(*arguments)
            except StudyError:
                raise
            except Exception as error:
                log.debug("%s", name, exc_info=error)
                return one_line(error, self._secrets)
        return None


# ---- opening


def open_study(
    storage: "Storage",
    spec: "WorkerSpec",
    settings: "Settings",
    planned: tuple[Mapping[str, Any], Sequence[Mapping[str, Any]] | None] = ({}, None),
) -> None:
    """Create the study, or check that the existing one has the same definition; then enqueue the first configurations.

    Args:
        storage: storage of the study.
        spec: what the workers get.
        settings: settings of the sweep.
        planned: attributes of a new study, and its first configurations in place of those of the settings.

    Raises:
        StudyError: the existing study differs and `allow_changes` is not set, or an enqueued configuration does not
            fit the search space.
    """
    inner = storage.optuna
    wanted = definition(spec.space, settings.directions, settings.custom_search_space)
    with storage.lock(spec.study_name):
        changes: list[str] = []
        existing = {study.study_name: study for study in inner.get_all_studies()}.get(spec.study_name)
        if existing is not None:
            stored = _with_new_names(existing.system_attrs.get(DEFINITION), settings.renamed)
            directions = [direction.name.lower() for direction in existing.directions]
            changes = differences(stored or {**wanted, "directions": directions}, wanted, settings.allow_changes)
            if directions != list(settings.directions):
                raise StudyError(
                    f"study '{spec.study_name}' has other objectives: {'; '.join(changes)}; choose another study_name"
                )
            if changes and settings.allow_changes is not True:
                raise StudyError(
                    f"study '{spec.study_name}' differs from this sweep: {'; '.join(changes)}; choose another "
                    "study_name, or set hydra.sweeper.allow_changes=true to continue it"
                )
        else:
            optuna.create_study(
                study_name=spec.study_name,
                storage=inner,
                directions=list(settings.directions),  # type: ignore[arg-type]
                load_if_exists=True,
            )
        study_id = inner.get_study_id_from_name(spec.study_name)
        inner.set_study_system_attr(study_id, DEFINITION, wanted)
        if changes:
            inner.set_study_system_attr(study_id, EXHAUSTED, False)
        stored_settings = {
            "n_trials": spec.budget.n_trials,
            "failures_count": spec.budget.failures_use_budget,
            "budget": None if settings.budget is None else settings.budget.text,
            "pruned_objective": settings.pruned_objective,
            "methods": methods(settings),
        }
        # Before the new settings are stored: a process that dies in between leaves it to the next one.
        if settings.scheduler.get("_target_") is not None and is_larger(
            spec.budget, inner.get_study_system_attrs(study_id).get(SETTINGS, {})
        ):
            reopen(inner, study_id)
        inner.set_study_system_attr(study_id, SETTINGS, stored_settings)
        study = optuna.load_study(study_name=spec.study_name, storage=inner)
        if (
            count_trials(study.get_trials(deepcopy=False)).finished < spec.budget.most_trials
        ):  # else no worker would start it
            attrs, first = planned if existing is None else ({}, None)
            for key, value in attrs.items():
                study.set_user_attr(key, value)
            for params in enqueued(spec.space, settings) if first is None else first:
                study.enqueue_trial(dict(params), skip_if_exists=first is None)


def next_worker(storage: "Storage", study_name: str, number: int) -> int:
    """Reserve the indexes of this many new workers; returns the first. No two workers of a study have the same."""
    with storage.lock(study_name):
        study_id = storage.optuna.get_study_id_from_name(study_name)
        first = int(storage.optuna.get_study_system_attrs(study_id).get(WORKERS, 0))
        storage.optuna.set_study_system_attr(study_id, WORKERS, first + number)
    return first


# ---- definition


def definition(space: "Space", directions: tuple[str, ...], custom_search_space: str | None) -> dict[str, Any]:
    """What identifies a study, as plain data without secrets: search space, directions and fixed overrides."""
    return {
        "directions": list(directions),
        "space": space.described(),
        "custom_search_space": custom_search_space,
        "fixed": sorted(redact_override(line) for line in space.shared),
    }


def _with_new_names(stored: Mapping[str, Any] | None, renamed: Mapping[str, str]) -> dict[str, Any] | None:
    """The stored definition with the current names of its keys."""
    if stored is None:
        return None

    def rename(line: str) -> str:
        key, equals, value = line.partition("=")
        bare = key.lstrip("+~")
        return key[: len(key) - len(bare)] + renamed.get(bare, bare) + equals + value

    space = {",".join(map(rename, keys.split(","))): branches for keys, branches in stored.get("space", {}).items()}
    return {**stored, "space": space, "fixed": sorted(map(rename, stored.get("fixed", ())))}


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], allowed: bool | list[str] = False) -> list[str]:
    """Each difference between two definitions in a few words, without the fixed overrides of the allowed keys."""
    free = set(allowed) if isinstance(allowed, list) else set()
    found = []
    if stored.get("directions") != wanted["directions"]:
        before, now = ("+".join(each.get("directions") or ()) or "nothing" for each in (stored, wanted))
        found.append(f"direction was {before}, now {now}")
    old, new = stored.get("space", {}), wanted["space"]
    found += [f"'{key}' was swept, now is not" for key in old if key not in new]
    found += [f"'{key}' was not swept, now is" for key in new if key not in old]
    for key in old:
        if key in new and old[key] != new[key]:
            found.append(f"'{key}' was {range_text(old[key])}, now {range_text(new[key])}")
    name = "custom_search_space"
    if stored.get(name) != wanted[name]:
        found.append(f"{name} was {stored.get(name)}, now {wanted[name]}")
    was, is_now = (
        {line for line in each.get("fixed", ()) if line.lstrip("+~").partition("=")[0] not in free}
        for each in (stored, wanted)
    )
    found += [f"override {line} is gone" for line in sorted(was - is_now)]
    found += [f"override {line} is new" for line in sorted(is_now - was)]
    return found


def range_text(branches: Mapping[str, Any]) -> str:
    parts = []
    for condition, written in branches.items():
        text = str(written)
        if text.startswith("{"):
            shown = json.loads(text)
            attributes = shown["attributes"].items()
            fields = ", ".join(f"{key}={value}" for key, value in attributes if value not in (False, None))
            text = f"{shown['name'].removesuffix('Distribution').lower()}({fields})"
        parts.append(text if condition == "else" else f"{condition}: {text}")
    return "; ".join(parts)


# ---- end


def write_results(status: StudyStatus, sweep_dir: str) -> Path | None:
    """Write `optimization_results.yaml` with hydra-optuna-sweeper's keys; nothing if there is no best trial."""
    if not status.best:
        return None
    if len(status.directions) == 1:
        best = status.best[0]
        results = {"name": "optuna", "best_params": dict(best.params), "best_value": best.values[0]}
    else:
        front = [{"params": dict(row.params), "values": list(row.values)} for row in status.best]
        results = {"name": "optuna", "solutions": front}
    path = Path(sweep_dir) / "optimization_results.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(results), path)
    return path


def final_status(queue: "TrialQueue", progress: "Progress") -> StudyStatus:
    """The status of the study with what only the sweep knows: why it stopped."""
    failed = progress.stopped is not None and has_too_many_failures(progress.counts, queue.budget)
    # If failed trials use budget, a study can be complete without a single result.
    return replace(
        status_of(queue.shared, queue.study_name),
        stopped=progress.stopped,
        aborted=failed or (progress.complete and not progress.counts.finished),
    )


def finalize(queue: "TrialQueue", callbacks: Callbacks, study: StudyHandle, status: StudyStatus) -> None:
    """Call on_study_end, unless it was called for exactly these trials or another process is calling it.

    If a process dies during the call, another one notices it as with a dead worker and repeats the call.

    Raises:
        StudyError: a callback failed.
    """
    storage, study_id, me = queue.storage, queue.study_id, queue.worker_id
    # The last trial that ended, and how many finished, distinguish one completion from another.
    ended = [row.storage_number for row in status.trials if row.state in ("complete", "pruned", "failed")]
    completion = [max(ended, default=-1), status.counts.finished]

    def beat(number: int) -> None:
        storage.set_study_system_attr(study_id, ENDING, {"owner": me.to_stored(), "beat": number})

    while True:
        with queue.shared.lock(queue.study_name):
            attrs = storage.get_study_system_attrs(study_id)
            if attrs.get(ENDED) == completion:
                return
            claim = attrs.get(ENDING) or {}
            holder = WorkerId.from_stored(claim.get("owner"))
            if holder in (None, me) or queue.staleness.is_dead("ending", holder, claim, me.heartbeat):
                beat(0)
                break
        time.sleep(_LOOK_SECONDS)
    heartbeat = Heartbeat(storage, me.heartbeat)
    heartbeat.call(beat)
    with heartbeat.running():
        failure = callbacks.study_end(study, status)
    if failure is None:
        storage.set_study_system_attr(study_id, ENDED, completion)
    storage.set_study_system_attr(study_id, ENDING, None)
    if failure is not None:
        raise StudyError(f"on_study_end failed, the same command calls it again: {failure}")
