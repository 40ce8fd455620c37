"""Passwords stay out of configs, logs and stores: URLs lose theirs, and keys that name a secret their value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"

_URL_PASSWORD = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.\-]*://)(?P<user>[^\s:/@]*):(?P<password>[^\s@]+)@")
_URL_QUERY = re.compile(
    r"(?P<name>[?&](?:password|passwd|pwd|token|secret|api_?key|access_?key)=)[^&\s]+", re.IGNORECASE
)
# Whole words only: `cls_token` of a vision transformer or `tokens` of a budget are no secrets.
_SECRET_KEY = re.compile(
    r"(^|[._-])(password|passwd|pwd|secret|api_?key|access_?key|auth_?token|credentials?)$", re.IGNORECASE
)


def redact(text: str) -> str:
    """`text` with the password of every URL in it replaced."""
    text = _URL_PASSWORD.sub(lambda m: f"{m['scheme']}{m['user']}:{HIDDEN}@", text)
    return _URL_QUERY.sub(lambda m: f"{m['name']}{HIDDEN}", text)


def redact_config(config: Any, key: str = "") -> Any:
    """A nested config of mappings, lists and values without its secrets."""
    if isinstance(config, Mapping):
        return {name: redact_config(value, str(name)) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [redact_config(value, key) for value in config]
    if isinstance(config, str):
        return HIDDEN if config and _SECRET_KEY.search(key) else redact(config)
    return config


def redact_override(override: str) -> str:
    """One command-line override (`key=value`) without its secret."""
    key, equals, value = override.partition("=")
    return f"{key}{equals}{redact_config(value, key.lstrip('+~'))}"
