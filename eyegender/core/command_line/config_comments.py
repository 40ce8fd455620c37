"""What the comments in `conf/` and `sweeps/` say: the purpose of a file, its commands, and the meaning of its keys.

A comment belongs to the keys right under it, up to the next blank line or comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Key:
    """One key of one file.

    Args:
        path: dotted, as on the command line.
        value: as the file writes it.
        text: what its comment says, "" where it has none.
    """

    path: str
    value: str
    text: str


@dataclass(frozen=True)
class ConfigFile:
    """One YAML file.

    Args:
        name: without suffix.
        about: what the comment at its top says.
        commands: the command lines of that comment.
        keys: in the file's order, `defaults` left out.
        overlay: whether it sets keys of several groups.
    """

    name: str
    about: str
    commands: tuple[str, ...]
    keys: tuple[Key, ...]
    overlay: bool


def read_config(path: Path, prefix: str = "") -> ConfigFile:
    """A file of `conf/` or `sweeps/`; `prefix` is put before its keys."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    root = yaml.compose(source)
    top = []
    for line in lines:
        if not line.startswith("#"):
            break
        top.append(line.removeprefix("#").removeprefix(" "))
    overlay = bool(top) and top[0].startswith("@package _global_")
    about, commands = _header(top[1:] if overlay else top)
    keys = tuple(_keys(root, prefix, source, lines)) if isinstance(root, yaml.MappingNode) else ()
    target = next((key.value for key in keys if key.path.endswith("._target_")), None)
    if target is not None:  # the whole file is a class and its arguments
        own = (key for key in keys if not key.path.rpartition(".")[2].startswith("_") and key.text)
        keys = (Key(prefix, target, about), *own)
    return ConfigFile(path.stem, about, commands, keys, overlay)


def _header(top: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    commands, prose = [], []
    for line in top:
        found = re.match(r"(?:Run: |Then: |\s+)((?:python -m eyegender\.|eyegender )\S+.*?)(?:\s{3,}\((.*)\))?$", line)
        if found:
            commands.append(f"{found[1]}   # {found[2]}" if found[2] else found[1])
        else:
            prose.append(line)
    return " ".join(prose), tuple(commands)


def _keys(node: yaml.MappingNode, prefix: str, source: str, lines: Sequence[str]) -> Iterator[Key]:
    before: Key | None = None
    last_line = -1
    for name, value in node.value:
        if name.value == "defaults":
            continue
        path = f"{prefix}.{name.value}" if prefix else name.value
        text = comment_above(lines, name.start_mark.line)
        if not text and before is not None and name.start_mark.line == last_line + 1:
            text = before.text
        written = " ".join(source[value.start_mark.index : value.end_mark.index].split())
        if not isinstance(value, yaml.MappingNode) or value.flow_style:
            before, last_line = Key(path, written, text), value.end_mark.line
            yield before
            continue
        before = None
        names = [key.value for key, _ in value.value]
        if "_target_" in names:  # a class and its arguments: only arguments with a comment of their own are told
            target = value.value[names.index("_target_")][1].value
            yield Key(path, target, text)
            yield from (key for key in _keys(value, path, source, lines) if key.text)
        elif any("=" in key or key == "else" for key in names):  # a range that depends on another key
            branches = "; ".join(f"{key.value}: {branch.value}" for key, branch in value.value)
            yield Key(path, branches, text)
        else:
            yield from _keys(value, path, source, lines)


def comment_above(lines: Sequence[str], line: int) -> str:
    """The comment that ends right above a line, in one line."""
    found: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].strip().removeprefix("#").strip())
    return " ".join(found)
