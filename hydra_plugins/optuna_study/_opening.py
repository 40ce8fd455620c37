"""Opening the study: a new one, or the one there is if it is the same."""

from collections.abc import Iterator, Mapping
from typing import Any

import optuna

from ._attrs import DEFINITION, EXHAUSTED, SETTINGS, WORKERS
from ._budget import count
from ._conditions import bare_key, comparable
from ._console import say
from ._definition import definition, differences, with_new_names
from ._errors import StudyError
from ._grammar import value_text
from ._plan import Plan
from ._settings import Settings
from ._space import Space
from ._store import Store


def open_study(store: Store, plan: Plan, settings: Settings) -> None:
    """Raises:
    StudyError: the study was another one and nobody said to go on with it, or an enqueued config does not fit.
    """
    storage = store.storage
    wanted = definition(plan.space, plan.directions, plan.custom_search_space)
    with store.lock(plan.study_name):
        changed: list[str] = []
        known = {study.study_name: study for study in storage.get_all_studies()}
        if plan.study_name in known:
            found = known[plan.study_name]
            stored = with_new_names(found.system_attrs.get(DEFINITION), settings.renamed)
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
        if changed:
            storage.set_study_system_attr(study_id, EXHAUSTED, False)
        kept = {"n_trials": plan.rules.n_trials, "failures_count": plan.rules.failures_count}
        storage.set_study_system_attr(study_id, SETTINGS, kept)
        study = optuna.load_study(study_name=plan.study_name, storage=storage)
        if count(study.get_trials(deepcopy=False)).finished < plan.rules.n_trials:  # else nobody would ever try it
            for params in _enqueued(plan.space, settings):
                study.enqueue_trial(params, skip_if_exists=True)


class _EntryError(StudyError):
    """An enqueued config sets a key that is not swept, or to a value outside its range."""

    def __init__(self, message: str, key: str, *, swept: bool) -> None:
        super().__init__(message)
        self.key = key
        self.swept = swept


def _enqueued(space: Space, settings: Settings) -> Iterator[dict[str, Any]]:
    """The configs to try first. Those of a file that do not fit what was typed are left out, and a line says so."""
    declared = {bare_key(part) for key in (*settings.params, *settings.search_space) for part in str(key).split(",")}
    for entry in settings.enqueue:
        try:
            yield _by_parameter(space, entry)
        except _EntryError as error:
            excused = error.key in (space.typed if error.swept else declared)
            if settings.enqueue_typed or not excused:
                raise
            say(f"not tried first: {error}")


def _by_parameter(space: Space, entry: Mapping[str, Any]) -> dict[str, Any]:
    """An enqueued config by the sampler's parameter names, in which a condition is part of the name."""
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
                    said = f"hydra.sweeper.enqueue sets '{key}' to {value}, outside its range {distribution}"
                    raise _EntryError(said, key, swept=True)
                found[branch.name] = value
    if wanted:
        key = next(iter(wanted))
        raise _EntryError(f"hydra.sweeper.enqueue sets '{key}', which this study does not sweep", key, swept=False)
    return found


def take_workers(store: Store, study_name: str, number: int) -> int:
    """The index of the first of so many new workers; no two workers of a study ever have the same."""
    with store.lock(study_name):
        study_id = store.storage.get_study_id_from_name(study_name)
        first = int(store.storage.get_study_system_attrs(study_id).get(WORKERS, 0))
        store.storage.set_study_system_attr(study_id, WORKERS, first + number)
    return first
