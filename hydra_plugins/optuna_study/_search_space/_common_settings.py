"""The settings that the trials of a study share: a study that is continued with others would mix their results."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf

from .._budget import COMMON, JOB_DIR
from .._redaction import is_secret_key, redact

if TYPE_CHECKING:
    from .._settings._reading import Settings
    from .._storage import Storage

log = logging.getLogger("hydra_plugins.optuna_study")

_SHOWN = 8  # keys in the warning


def common_settings(configs: Sequence[DictConfig]) -> dict[str, str]:
    """Each key that has one value in all these configs, as text; without Hydra's keys and without secrets."""
    first, *others = (_flat(OmegaConf.to_container(config, resolve=False)) for config in configs)
    return {
        key: text
        for key, text in first.items()
        if all(other.get(key) == text for other in others) and not is_secret_key(key) and redact(text) == text
    }


def methods(settings: "Settings") -> dict[str, Any]:
    """How the study searches, as plain data without seeds and secrets: its sampler, pruner and scheduler."""
    found = {"sampler": settings.sampler, "pruner": settings.pruner, "scheduler": settings.scheduler}
    return {
        name: {
            key: json.loads(json.dumps(value, default=str))
            for key, value in chosen.items()
            if key != "seed" and not is_secret_key(key)
        }
        for name, chosen in found.items()
    }


def warn_of_other_settings(
    storage: "Storage", study_name: str, settings: "Settings", configs: Sequence[DictConfig]
) -> None:
    """Store the settings with a new study; log a warning if an existing one began with others.

    A difference of search spaces and overrides is refused elsewhere. This is about the rest: config files, defaults of
    another version, and what `allow_changes` permits. A study of a version that stored no settings has them in the
    folder of its first trial, if this machine has it.

    Args:
        storage: storage of the study, which exists.
        study_name: name of the study.
        settings: settings of the sweep.
        configs: the composed configs at both ends of each range.
    """
    inner, now = storage.optuna, common_settings(configs)
    study_id = inner.get_study_id_from_name(study_name)
    before = inner.get_study_system_attrs(study_id).get(COMMON)
    if before is None:
        trials = inner.get_all_trials(study_id, deepcopy=False)
        folder = next((trial.user_attrs[JOB_DIR] for trial in trials if JOB_DIR in trial.user_attrs), None)
        before = None if folder is None else _settings_of_trial(Path(folder))
        if before is None:
            if folder is None:  # no trial began yet
                inner.set_study_system_attr(study_id, COMMON, now)
            return
    changes = _changes(before, now, settings)
    if changes:
        more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        log.warning(
            "study '%s' goes on with other settings than it began with, so its trials may not be comparable: %s%s; set "
            "the former values, or choose another hydra.sweeper.study_name",
            study_name, "; ".join(changes[:_SHOWN]), more,
        )  # fmt: skip


def _changes(before: Mapping[str, str], now: Mapping[str, str], settings: "Settings") -> list[str]:
    """Each difference in a few words: keys with another value first, then those that are new."""
    free = set(settings.allow_changes) if isinstance(settings.allow_changes, list) else set()
    renamed = {settings.renamed.get(key, key): text for key, text in before.items()}
    other = {key: text for key, text in now.items() if renamed.get(key) != text and key not in free}
    changed = [f"{key} was {renamed[key]}, now {text}" for key, text in other.items() if key in renamed]
    return changed + [f"{key} was not there, now {text}" for key, text in other.items() if key not in renamed]


def _settings_of_trial(folder: Path) -> dict[str, str] | None:
    try:
        return _flat(yaml.safe_load((folder / ".hydra" / "config.yaml").read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _flat(node: Any, path: str = "") -> dict[str, str]:
    """The values of nested mappings as text, by dotted keys; a list is one value."""
    if not isinstance(node, dict):
        return {path: node if isinstance(node, str) else json.dumps(node, default=str)}
    found: dict[str, str] = {}
    for key, value in node.items():
        if path or key != "hydra":
            found |= _flat(value, f"{path}.{key}" if path else str(key))
    return found
