"""Passwords leave configs and command lines for the environment: workers inherit it, and nobody writes it down.

What stays in their place is Hydra's own `${oc.env:NAME}`, so that the config still means the same.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, Node, OmegaConf, flag_override

from ._secrets import IN_QUERY, hide, in_url, is_secret_key, remember, secrets_in

PREFIX = "STUDY_SECRET_"

_QUOTED = re.compile(r"(['\"]).*\1", re.DOTALL)
_ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")
# A key and its value in a mapping of one line.
_ENTRY = re.compile(r"(?P<before>[{,]\s*(?P<key>[\w./]+)\s*:\s*)(?P<value>'[^']*'|\"[^\"]*\"|[^\s,{}\[\]'\"$]+)")
_NAMED = re.compile(r"\$\{\s*oc\.env\s*:\s*(\w+)")
# Variables whose values are shown; in doubt a value is a secret. Paths, numbers and short words are shown as well.
_HARMLESS = re.compile(
    r"(^|_)(USER|USERNAME|LOGNAME|HOST|HOSTNAME|NODE|PORT|NAME|ID|DIR|FOLDER|ROOT|HOME|PATH|FILE|DATA|CACHE|TMPDIR|"
    r"SCRATCH|PARTITION|ACCOUNT|EXPERIMENT|PROJECT|RUN|STUDY|GROUP|DATE|LANG|SHELL)$|^(SLURM|CUDA|OMP)_"
)
_SHORTEST = 6


def without_secrets(override: str) -> str:
    """A command-line override that means the same and holds no password."""
    key, equals, value = override.partition("=")
    quoted = _QUOTED.fullmatch(value) is not None
    if equals and is_secret_key(key.lstrip("+~")) and value and "${" not in value:
        plain = value[1:-1] if quoted else _ESCAPED.sub(r"\1", value)
        return f"{key}={_aside(key, plain)}"
    if not quoted:
        value = _entries_without_secrets(key, value)
    return key + equals + _text_without_secrets(value, escaped=not quoted)


def _entries_without_secrets(place: str, text: str) -> str:
    def moved(entry: re.Match[str]) -> str:
        value = entry["value"]
        if not is_secret_key(entry["key"]) or value == "null":
            return entry[0]
        plain = value[1:-1] if _QUOTED.fullmatch(value) else _ESCAPED.sub(r"\1", value)
        return entry["before"] + _aside(f"{place} {entry['key']} {entry.start()}", plain)

    return _ENTRY.sub(moved, text)


def set_secrets_aside(config: DictConfig) -> None:
    """Take the passwords out of a composed config, in place, and learn the secrets that it names by `${oc.env:…}`."""
    with flag_override(config, ["readonly", "struct"], [False, False]):
        for parent, key, text in list(_texts(config)):
            name = str(key)
            if isinstance(key, str) and is_secret_key(name) and text and "${" not in text:
                parent[key] = _aside(name, text)
            else:
                kept = _text_without_secrets(text)
                if kept != text:
                    parent[key] = kept
    learn_secrets(config)


def plain_without_secrets(value: Any, key: str = "") -> Any:
    """The same for nested mappings and lists, as a copy."""
    if isinstance(value, dict):
        return {name: plain_without_secrets(entry, str(name)) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_without_secrets(entry, key) for entry in value]
    if not isinstance(value, str):
        return value
    if is_secret_key(key) and value and "${" not in value:
        return _aside(key, value)
    return _text_without_secrets(value)


def learn_secrets(config: DictConfig) -> None:
    """Remember the values that a config names by `${oc.env:…}` and that look like secrets."""
    for _, key, text in _texts(config):
        for name in _NAMED.findall(text):
            value = os.environ.get(name, "")
            remember(secrets_in(value))
            if name.startswith(PREFIX) or is_secret_key(str(key)) or _looks_secret(name, value):
                remember([value])


def _looks_secret(name: str, value: str) -> bool:
    if len(value) < _SHORTEST or "://" in value or value.startswith(("/", "./", "../", "~")):
        return False
    if _HARMLESS.search(name.upper()) or re.fullmatch(r"[-+.\deE]+", value):
        return False
    return not Path(value).exists()


def _texts(node: DictConfig | ListConfig) -> Iterator[tuple[Any, Any, str]]:
    """Every text in a config as it is written, with its place."""
    if node._is_none() or node._is_missing() or node._is_interpolation():
        return
    keys = list(node.keys()) if isinstance(node, DictConfig) else list(range(len(node)))
    for key in keys:
        child = node._get_node(key)  # type: ignore[arg-type]  # a position in a list, a name elsewhere
        if isinstance(child, DictConfig | ListConfig):
            yield from _texts(child)
        elif isinstance(child, Node):
            written = child._value()
            if isinstance(written, str):
                yield node, key, written


def _text_without_secrets(text: str, *, escaped: bool = False) -> str:
    shown = hide(text)

    def moved(match: re.Match[str]) -> str:
        secret = match["secret"]
        if "${" in secret or "://" in secret:  # the latter is a list of URLs
            return match[0]
        name = f"{shown} {match.start()}"
        return match["before"] + _aside(name, _ESCAPED.sub(r"\1", secret) if escaped else secret) + match["after"]

    return IN_QUERY.sub(moved, in_url(text).sub(moved, text))


def _aside(place: str, secret: str) -> str:
    """Named after its place, so that the same command writes the same text."""
    name = PREFIX + hashlib.sha256(place.encode()).hexdigest()[:8].upper()
    os.environ[name] = secret
    remember([secret])
    return f"${{oc.env:{name}}}"


def written_overrides(hydra: Any, name: str = "task") -> list[str]:
    """`hydra.overrides` as they were written: looking at them through the config would fill interpolations in."""
    lines: Any = OmegaConf.to_container(hydra.overrides[name], resolve=False)
    return [str(line) for line in lines]
