"""The fields of `hydra.sweeper`, read and checked."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .._redaction import raw_overrides, without_secrets
from .._schedulers._spending import Limit
from .._storage import StorageSpec, storage_spec
from .._trial import StudyError

log = logging.getLogger("hydra_plugins.optuna_study")

# Fields of hydra.sweeper with a new name.
_RENAMED_FIELDS = {"patience": "early_stopping_patience", "storage_patience": "storage_retry_minutes"}


@dataclass(frozen=True)
class Settings:
    """The fields of `hydra.sweeper`, checked; config.py describes them."""

    directions: tuple[str, ...]
    storage: StorageSpec
    study_name: str | None
    n_trials: int | None
    budget: Limit | None
    n_jobs: int
    max_failure_rate: float
    params: Mapping[str, Any]
    search_space: Mapping[str, Any]
    custom_search_space: str | None
    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    pruned_objective: int
    timeout: float | None
    early_stopping_patience: int | None
    stop_when: str | None
    max_retries: int
    heartbeat: float
    enqueue: Sequence[Mapping[str, Any]]
    enqueue_from_command_line: bool
    plan: bool | None
    wait: bool
    allow_changes: bool | list[str]
    storage_retry_minutes: float
    callbacks: Sequence[Mapping[str, Any]]
    renamed: Mapping[str, str]


def read_settings(config: DictConfig) -> Settings:
    """Read and check `hydra.sweeper`.

    Raises:
        StudyError: a field is out of its range; the message names it.
    """
    raw = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    if not isinstance(raw, dict):
        raise StudyError("hydra.sweeper must be a mapping")
    fields = {str(key): value for key, value in raw.items()}
    for old, new in _RENAMED_FIELDS.items():
        if fields.get(old) is not None:
            log.warning("hydra.sweeper.%s is now called hydra.sweeper.%s; the old name still works", old, new)
            if not is_from_command_line(config, f"hydra.sweeper.{new}"):
                fields[new] = fields[old]
    if fields.get("n_trials") is None and fields.get("budget") is None:
        raise StudyError("hydra.sweeper.n_trials may be null only with hydra.sweeper.budget, got neither; set one")
    callbacks = fields.get("callbacks") or []
    if isinstance(callbacks, dict):
        callbacks = [callbacks] if "_target_" in callbacks else callbacks.values()
    settings = Settings(
        directions=_directions(fields.get("direction")),
        storage=storage_spec(fields.get("storage")),
        study_name=fields.get("study_name"),
        n_trials=_number(fields, "n_trials", 1, int, optional=fields.get("budget") is not None),
        budget=Limit.parse(fields.get("budget")),
        n_jobs=_number(fields, "n_jobs", 1, int),
        max_failure_rate=_number(fields, "max_failure_rate", 0, float),
        params=_mapping(fields, "params"),
        search_space=_mapping(fields, "search_space"),
        custom_search_space=fields.get("custom_search_space"),
        sampler=_mapping(fields, "sampler"),
        pruner=_mapping(fields, "pruner"),
        scheduler=_mapping(fields, "scheduler"),
        pruned_objective=_number(fields, "pruned_objective", 0, int),
        timeout=_number(fields, "timeout", 0, float, optional=True),
        early_stopping_patience=_number(fields, "early_stopping_patience", 1, int, optional=True),
        stop_when=fields.get("stop_when"),
        max_retries=_number(fields, "max_retries", 0, int),
        heartbeat=_number(fields, "heartbeat", 0.05, float),
        enqueue=_enqueue(fields.get("enqueue")),
        enqueue_from_command_line=is_from_command_line(config, "hydra.sweeper.enqueue"),
        plan=None if fields.get("plan") is None else bool(fields["plan"]),
        wait=bool(fields.get("wait", True)),
        allow_changes=fields.get("allow_changes") or False,
        storage_retry_minutes=_number(fields, "storage_retry_minutes", 0, float),
        callbacks=without_secrets(list(callbacks)),
        renamed=_mapping(fields, "renamed"),
    )
    if settings.max_failure_rate > 1:
        raise StudyError(f"hydra.sweeper.max_failure_rate must be 0..1, got {settings.max_failure_rate}")
    last = len(settings.directions) - 1
    if settings.pruned_objective > last:
        raise StudyError(f"hydra.sweeper.pruned_objective must be 0..{last}, got {settings.pruned_objective}")
    if settings.stop_when not in (None, "noise"):
        raise StudyError(f"hydra.sweeper.stop_when must be null or noise, got {settings.stop_when!r}")
    for name in ("early_stopping_patience", "stop_when"):
        if getattr(settings, name) is not None and last:
            raise StudyError(f"hydra.sweeper.{name} needs one objective, got several; set it to null")
    return settings


def _number(fields: Mapping[str, Any], name: str, least: float, kind: Any, optional: bool = False) -> Any:
    value = fields.get(name)
    if optional and value is None:
        return None
    try:
        number = kind(value)
        if kind is int and float(value) != number:  # type: ignore[arg-type]
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise StudyError(f"hydra.sweeper.{name} must be a number, got {value!r}") from None
    if not number >= least:  # false for NaN, too
        raise StudyError(f"hydra.sweeper.{name} must be at least {least}, got {value}")
    return number


def _mapping(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise StudyError(f"hydra.sweeper.{name} must be a mapping, got {value!r}")
    return {str(key): entry for key, entry in value.items()}


def _directions(value: Any) -> tuple[str, ...]:
    given = list(value) if isinstance(value, list | tuple) else [value]
    names = tuple(str(getattr(each, "name", each)).rpartition(".")[2].lower() for each in given)
    for name in names:
        if name not in ("minimize", "maximize"):
            raise StudyError(f"hydra.sweeper.direction must be minimize or maximize, or a list of them, got '{name}'")
    if not names:
        raise StudyError("hydra.sweeper.direction must name at least one objective, got an empty list")
    return names


def is_from_command_line(config: DictConfig, key: str) -> bool:
    """Whether the command line sets the key, with or without + or ++ before it."""
    lines = raw_overrides(config.hydra, "hydra")
    return any(line.lstrip("+").partition("=")[0].partition("[")[0] == key for line in lines)


def _enqueue(value: Any) -> Sequence[Mapping[str, Any]]:
    entries = [] if value is None else value
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise StudyError(f"hydra.sweeper.enqueue must be a list of mappings from key to value, got {value!r}")
    return entries
