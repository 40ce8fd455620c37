"""Keeps passwords out of configs, logs and stores. Everything that eyegender does with secrets is in this module.

URLs lose their password and keys that name a secret lose their value. A value that a config takes from the environment
with `${oc.env:NAME}`, and that looks like a secret, is hidden wherever it occurs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from hydra_plugins.optuna_study import (
    is_name_key,
    is_secret_key,
    move_secrets_to_environment,
    override_without_secrets,
    redact,
    redact_override,
    redact_urls,
    register,
    register_secrets,
)

__all__ = [
    "HIDDEN",
    "RedactingFilter",
    "move_secrets_to_environment",
    "override_without_secrets",
    "redact",
    "redact_config",
    "redact_logs",
    "redact_override",
    "redact_urls",
    "register_secret",
    "register_secrets",
]

HIDDEN = "***"

# Keys whose values are one of a few fixed words. When a run is recorded, the value has been accepted as one of them, so
# it is no secret, even if a password is the same word; and without it nobody could test or repeat the run.
_CHOICES = re.compile(
    r"(^|\.)(head|on_bad|on_conflict|on_oom|precision|channels_last|compile|progress|pos_weight|classes|eyes)$"
)


def redact_config(config: Any, key: str = "") -> Any:
    """A copy of a nested config without secrets; values whose keys say that they are names stay as they are."""
    if isinstance(config, Mapping):
        # A map of `data.classes` has folders as keys, which say nothing about the values.
        return {name: redact_config(value, key if key == "classes" else str(name)) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [redact_config(value, key) for value in config]
    if isinstance(config, str):
        if config and is_secret_key(key):
            return HIDDEN
        return redact_urls(config) if is_name_key(key) or _CHOICES.search(key) else redact(config)
    return config


def register_secret(secret: str) -> None:
    """Redact this value from now on in everything that this process writes; one below 4 characters is ignored."""
    register([secret])


class RedactingFilter(logging.Filter):
    """Redacts each record before its handler writes it, including tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True


def redact_logs() -> None:
    """Add a `RedactingFilter` to every handler of the root logger."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, RedactingFilter) for known in handler.filters):
            handler.addFilter(RedactingFilter())
