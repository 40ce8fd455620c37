"""Dicts in overrides whose keys Hydra's grammar cannot read, such as names of classes in other scripts.

Hydra knows no quotes around keys. Such a dict travels as the text `${eyegender.json:ENCODED}`, and is a dict again
before anything else reads the config.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, unquote

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf, flag_override

from eyegender.core.errors import UserError

RESOLVER = "eyegender.json"
_PREFIX = f"${{{RESOLVER}:"
_ENCODED = re.compile(re.escape(_PREFIX) + r"([^{}]*)\}")
_DICT = re.compile(r"([+~]*[\w./@]+=)(\{.*\})", re.DOTALL)


def as_interpolation(value: Any) -> str:
    """Plain data as a text that our resolver reads; it needs no quotes in either grammar, Hydra's or OmegaConf's."""
    return f"{_PREFIX}{quote(json.dumps(value), safe='').replace('~', '%7E')}}}"


def from_interpolation(text: str) -> Any:
    """What our resolver makes of the text."""
    return json.loads(unquote(text))


def shown(override: str) -> str:
    """An override for people, which `readable` accepts as well."""
    return _ENCODED.sub(lambda found: json.dumps(from_interpolation(found[1]), ensure_ascii=False), override)


def settle(config: Any) -> None:
    """Replace the texts by their dicts in a composed config."""
    raw = OmegaConf.to_container(config, resolve=False)
    with flag_override(config, ["struct", "readonly"], [False, False]):
        _settle(config, raw)


def _settle(node: Any, raw: Any) -> None:
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if isinstance(value, str) and value.startswith(_PREFIX):
            node[key] = node[key]  # read through the resolver
        elif isinstance(value, dict | list):
            _settle(node[key], value)


def readable(override: str) -> str:
    """An override that Hydra can read.

    A dict with other keys than Hydra's is read as YAML has it, with or without quotes and spaces.

    Raises:
        UserError: Hydra cannot read it.
    """
    if _parses(override):
        return override
    found = _DICT.fullmatch(override)
    value = _yaml_dict(found[2]) if found else None
    if found and value is not None:
        return f"{found[1]}{as_interpolation(value)}"
    if not override.strip():
        raise UserError(f"overrides must be KEY=VALUE, got {override!r}; remove it")
    if "=" not in override:
        repair = f"write {override}=VALUE" if re.fullmatch(r"[\w./@+~-]+", override) else "correct or remove it"
        raise UserError(f"overrides must be KEY=VALUE, got {override!r}; {repair}")
    key = override.partition("=")[0]
    raise UserError(
        f"overrides must be KEY=VALUE as Hydra reads them, got {override!r}; close brackets and quotes, or put a text "
        f"with special characters into quotes, {key}=\"'TEXT'\""
    )


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _yaml_dict(text: str) -> dict[str, Any] | None:
    for written in (text, re.sub(r":(?=\S)", ": ", text)):
        try:
            value = yaml.safe_load(written)
        except yaml.YAMLError:
            return None
        if isinstance(value, dict) and all(isinstance(each, str | int | float | bool) for each in value.values()):
            return {str(key): each for key, each in value.items()}
    return None
