"""`hydra.sweeper` as the sweep uses it, checked once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ._errors import StudyError
from ._set_aside import written_overrides
from ._spec import StorageSpec, storage_spec


@dataclass(frozen=True)
class Settings:
    """The fields of config.py, with their types settled and their bounds checked."""

    directions: tuple[str, ...]
    storage: StorageSpec
    study_name: str | None
    n_trials: int
    n_jobs: int
    max_failure_rate: float
    params: Mapping[str, Any]
    search_space: Mapping[str, Any]
    custom_search_space: str | None
    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any]
    pruned_objective: int
    timeout: float | None
    patience: int | None
    max_retries: int
    heartbeat: float
    enqueue: Sequence[Mapping[str, Any]]
    enqueue_typed: bool
    wait: bool
    allow_changes: bool
    storage_patience: float
    callbacks: Sequence[Mapping[str, Any]]
    renamed: Mapping[str, str]

    def max_failures(self, n_trials: int) -> int:
        """Failed trials that are more than `max_failure_rate` of so many."""
        return math.floor(self.max_failure_rate * n_trials + 1e-9) + 1  # 0.29 * 100 is less than 29

    @property
    def failures_judged_from(self) -> int:
        """Finished or failed trials before which a share of them says nothing; a rate of 0 allows no failure at all."""
        return 3 if self.max_failure_rate > 0 else 1


def read_settings(config: DictConfig) -> Settings:
    """Raises:
    StudyError: a field is out of its bounds; the message names it.
    """
    raw = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    if not isinstance(raw, dict):
        raise StudyError("hydra.sweeper must be a mapping")
    fields = {str(key): value for key, value in raw.items()}
    callbacks = fields.get("callbacks") or []
    settings = Settings(
        directions=_directions(fields.get("direction")),
        storage=storage_spec(fields.get("storage")),
        study_name=fields.get("study_name"),
        n_trials=_at_least(fields, "n_trials", 1, int),
        n_jobs=_at_least(fields, "n_jobs", 1, int),
        max_failure_rate=_at_least(fields, "max_failure_rate", 0, float),
        params=_mapping(fields, "params"),
        search_space=_mapping(fields, "search_space"),
        custom_search_space=fields.get("custom_search_space"),
        sampler=_mapping(fields, "sampler"),
        pruner=_mapping(fields, "pruner"),
        pruned_objective=_at_least(fields, "pruned_objective", 0, int),
        timeout=_at_least(fields, "timeout", 0, float) if fields.get("timeout") is not None else None,
        patience=_at_least(fields, "patience", 1, int) if fields.get("patience") is not None else None,
        max_retries=_at_least(fields, "max_retries", 0, int),
        heartbeat=_at_least(fields, "heartbeat", 0.05, float),
        enqueue=_enqueue(fields.get("enqueue")),
        enqueue_typed=is_from_command_line(config, "hydra.sweeper.enqueue"),
        wait=bool(fields.get("wait", True)),
        allow_changes=bool(fields.get("allow_changes", False)),
        storage_patience=_at_least(fields, "storage_patience", 0, float),
        renamed=_mapping(fields, "renamed"),
        callbacks=list(callbacks.values())
        if isinstance(callbacks, dict) and "_target_" not in callbacks
        else [callbacks]
        if isinstance(callbacks, dict)
        else list(callbacks),
    )
    if settings.max_failure_rate > 1:
        raise StudyError(f"hydra.sweeper.max_failure_rate must be 0..1, got {settings.max_failure_rate}")
    if settings.pruned_objective >= len(settings.directions):
        raise StudyError(
            f"hydra.sweeper.pruned_objective must be 0..{len(settings.directions) - 1}, got {settings.pruned_objective}"
        )
    if settings.patience is not None and len(settings.directions) > 1:
        raise StudyError("hydra.sweeper.patience needs one objective, got several; set it to null")
    return settings


def _at_least(fields: Mapping[str, Any], name: str, least: float, kind: Any) -> Any:
    value = fields.get(name)
    try:
        number = kind(value)
        if kind is int and float(value) != number:  # type: ignore[arg-type]
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise StudyError(f"hydra.sweeper.{name} must be a number, got {value!r}") from None
    if not number >= least:  # nor is NaN
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
    parts = list(value) if isinstance(value, list | tuple) else [value]
    names = tuple(str(getattr(part, "name", part)).rpartition(".")[2].lower() for part in parts)
    for name in names:
        if name not in ("minimize", "maximize"):
            raise StudyError(f"hydra.sweeper.direction must be minimize or maximize, or a list of them, got '{name}'")
    if not names:
        raise StudyError("hydra.sweeper.direction must name at least one objective, got an empty list")
    return names


def is_from_command_line(config: DictConfig, key: str) -> bool:
    """Whether the command line sets the key, with = or + or ++ before it."""
    lines = written_overrides(config.hydra, "hydra")
    return any(line.lstrip("+").partition("=")[0].partition("[")[0] == key for line in lines)


def _enqueue(value: Any) -> Sequence[Mapping[str, Any]]:
    entries = [] if value is None else value
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise StudyError(f"hydra.sweeper.enqueue must be a list of mappings from key to value, got {value!r}")
    return entries
