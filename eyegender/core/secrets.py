"""Passwords stay out of configs, logs and stores: URLs lose theirs, keys that name a secret their value.

What a config names by `${oc.env:NAME}` and what looks like a secret is hidden by its value, wherever it turns up.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from hydra_plugins.optuna_study import hide_in_urls, hide_override, hide_secrets, is_name_key, is_secret_key

HIDDEN = "***"

# Keys with a choice of words. By the time that a run is written down, its value has been accepted as one of them: it is
# no secret, though a password may be the same word, and without it nobody could test or repeat the run.
_CHOICES = re.compile(
    r"(^|\.)(head|on_bad|on_conflict|on_oom|precision|channels_last|compile|progress|pos_weight|classes|eyes)$"
)


def redact(text: str) -> str:
    """`text` with the password of every URL in it, and every secret that the config names, replaced."""
    return hide_secrets(text)


def redact_urls(text: str) -> str:
    """`text`, a name or an address, with the password of every URL in it replaced, and otherwise as it is."""
    return hide_in_urls(text)


def redact_config(config: Any, key: str = "") -> Any:
    """A nested config of mappings, lists and values without its secrets; what its keys call a name stays a name."""
    if isinstance(config, Mapping):
        return {name: redact_config(value, str(name)) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [redact_config(value, key) for value in config]
    if isinstance(config, str):
        if config and is_secret_key(key):
            return HIDDEN
        return redact_urls(config) if is_name_key(key) or _CHOICES.search(key) else redact(config)
    return config


def redact_override(override: str) -> str:
    """One command-line override (`key=value`) without its secret."""
    return hide_override(override)


class HideInLog(logging.Filter):
    """Redacts what a handler is about to write, tracebacks included."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True


def hide_in_logs() -> None:
    """Let no handler of the root logger write a secret."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, HideInLog) for known in handler.filters):
            handler.addFilter(HideInLog())
