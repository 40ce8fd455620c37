"""Overrides as Python values: a list of strings as on the command line, or a dict, nested or with dotted keys."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from eyegender.core.command_line.dict_values import as_interpolation
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omegaconf import DictConfig

Overrides = Sequence[str] | Mapping[str, Any] | None


def as_lines(overrides: Overrides, composed: Callable[[list[str]], DictConfig], *, ranges: bool = False) -> list[str]:
    """The overrides as on the command line.

    A dict may be nested, and its keys may be dotted: `{"model.lr": 0.01, "trainer": {"max_epochs": 3}}`. Values are
    Python's: None, bool, int, float, str, a path, or a list or dict of them. A text stays a text, whatever it looks
    like. Where the config has a plain value, such as null, a dict is that value and no further level.

    Args:
        overrides: what the user gave.
        composed: the config that some lines select; called only for nested dicts.
        ranges: whether a text may be a range of a sweep, such as `interval(1e-4, 1e-2)`.

    Raises:
        UserError: a type that no override has.
    """
    if overrides is None:
        return []
    if isinstance(overrides, Mapping):
        return _mapping_as_lines(overrides, composed, ranges=ranges)
    if isinstance(overrides, Sequence) and not isinstance(overrides, str | bytes):
        if wrong := [line for line in overrides if not isinstance(line, str)]:
            raise UserError(f"overrides must be a list of strings key=value, or a dict, got {wrong[0]!r} in the list")
        return list(overrides)
    raise UserError(f"overrides must be a list of strings key=value, or a dict, got {overrides!r}; write it so")


def _mapping_as_lines(
    overrides: Mapping[str, Any], composed: Callable[[list[str]], DictConfig], *, ranges: bool
) -> list[str]:
    if wrong := [key for key in overrides if not isinstance(key, str) or not key]:
        raise UserError(f"the keys of overrides must be texts, got {wrong[0]!r}")
    plain = {key: value for key, value in overrides.items() if not isinstance(value, Mapping)}
    lines = {key: f"{key}={_as_text(value, key, ranges=ranges)}" for key, value in plain.items()}
    if len(plain) < len(overrides):
        # What a nested dict means depends on the options of the groups, which the plain entries choose.
        choices = [line for key, line in lines.items() if "." not in key and not is_range(line)]
        config = composed(choices)
        for key, value in overrides.items():
            if isinstance(value, Mapping):
                pairs = _leaves(key, value, config)
                lines |= {inner: f"{inner}={_as_text(leaf, inner, ranges=ranges)}" for inner, leaf in pairs}
    # In the order in which they were given; a nested one where its outermost key is.
    return [lines[key] for outer in overrides for key in lines if key == outer or key.startswith(f"{outer}.")]


def _leaves(key: str, value: Any, config: DictConfig) -> Iterator[tuple[str, Any]]:
    name = key.lstrip("+~")
    section = OmegaConf.is_dict(_node(config, name)) or name.split(".")[0] == "hydra"
    if not (isinstance(value, Mapping) and section):
        yield key, value
        return
    for inner, leaf in value.items():
        yield from _leaves(f"{key}.{inner}", leaf, config)


def _node(config: DictConfig, name: str) -> Any:
    return OmegaConf.select(config, name, throw_on_missing=False, throw_on_resolution_failure=False)


def _as_text(value: Any, key: str, *, ranges: bool) -> str:
    """A value in the grammar of Hydra's overrides."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a number of NumPy
        value = value.item()
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, str):
        text = _quoted(value, key, ranges=ranges)
    elif isinstance(value, Mapping):
        names = {name: _key(name) for name in value}
        if None in names.values():
            text = as_interpolation(_plain(value, key))
        else:
            text = "{" + ",".join(f"{names[name]}:{_item(inner, key)}" for name, inner in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ",".join(_item(item, key) for item in value) + "]"
    elif isinstance(value, int | float):
        text = repr(value)  # inf and nan, too, are what Hydra calls them
    else:
        raise UserError(
            f"{key} must be None, bool, int, float, text, a path, or a list or dict of them, got "
            f"{type(value).__name__}; convert it"
        )
    return text


def _key(name: Any) -> str | None:
    """A key of a dict that is a value; None if Hydra cannot read it, which knows no quotes there."""
    text = re.sub(r"([\\()\[\]{}:=,\s])", r"\\\1", str(name))
    try:
        parsed: Any = OverridesParser.create().parse_override(f"key={{{text}:0}}").value()
    except HydraException:
        parsed = {}
    return text if list(map(str, parsed)) == [str(name)] else None


def _plain(value: Any, key: str) -> Any:
    """A value as JSON has it, after the same checks as for a text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner, key) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    _as_text(value, key, ranges=False)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if hasattr(value, "item") else value


def _item(value: Any, key: str) -> str:
    return _as_text(value, key, ranges=False)


def _quoted(text: str, key: str, *, ranges: bool) -> str:
    """The text as it is if Hydra reads it as this text (or as a range), otherwise in quotes."""
    try:
        parsed = OverridesParser.create().parse_override(f"key={text}")
        if (ranges and parsed.is_sweep_override()) or (not parsed.is_sweep_override() and parsed.value() == text):
            return text
    except HydraException:
        pass
    if any(not character.isprintable() for character in text):
        raise UserError(f"{key} must be printable text, got {text!r}; correct it")
    # Backslashes count only before a quote, the closing one included: there they are doubled.
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{escaped}'"


def is_range(line: str) -> bool:
    """Whether an override is a range of a sweep; false for a line that Hydra cannot parse."""
    try:
        return bool(OverridesParser.create().parse_override(line).is_sweep_override())
    except HydraException:
        return False
