"""Every key that a command line could set, and which of them a misspelt one is nearest to."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MOST = 3
_KEY_LINE = re.compile(r"( *)([\w.]+):")


def suggestion(key: str, files: Iterable[Path], conf: Path) -> str:
    """What to say of a key that does not exist, as the end of a sentence.

    Args:
        key: as typed, of a value (`model.lrr`) or a config group (`hydra/lancher`).
        files: the YAML files that the command may be composed of.
        conf: the folder that they lie in.
    """
    known: dict[str, str] = {}  # to the option that has it
    comments: dict[str, str] = {}
    for path in files:
        place = path.relative_to(conf).parent
        # Below a `# @package _global_` keys are the whole config's.
        group = "" if place == Path("experiment") else ".".join(place.parts)
        option = f"{place.as_posix()}={path.stem}" if place.parts else ""
        for name in keys_of(OmegaConf.to_container(OmegaConf.load(path)), group):
            known.setdefault(name, option)
        if place.parts[:1] != ("hydra",):
            comments |= {f"{group}.{name}".lstrip("."): text for name, text in _comments(path.read_text("utf-8"))}
        known.update((group.as_posix(), "") for group in (place, *place.parents) if group.parts)
    known = {**dict(_of_hydra()), **known}
    if key in known:  # of an option that was not chosen
        return f"; it is a key of {known[key]}" if known[key] else ""
    found = nearest(key, known, comments)
    return f"; did you mean {' or '.join(found)}?" if found else "; there is no such key, see --help"


def nearest(key: str, known: Iterable[str], comments: Mapping[str, str] | None = None) -> list[str]:
    """The known keys that a misspelt one may stand for: by the whole path, its last part, or what comments call it."""
    # Of a reader's arguments people know the keys of `data` that they repeat.
    known = [name for name in known if not re.search(r"\._\w+_$|\.defaults$|\.reader\.", name)]
    if "/" in key:
        known = [name for name in known if "/" in name]
    elif key.startswith("hydra"):
        known = [name for name in known if name.startswith("hydra") and "/" not in name]
    leaves = {name: re.split(r"[./]", name)[-1] for name in known}
    leaf = re.split(r"[./]", key)[-1]
    # Keys of one section are alike by what they share; the rest must be so, too.
    found = _close(key, {name: name for name in known if _close(leaf, {name: leaves[name]}, 0.5)}, 0.7)
    found = found or [name for name in known if leaves[name] == leaf]
    if not found and not key.startswith("hydra"):
        # What is far from a run's own keys is no misspelt key of Hydra's either.
        own = {name: each for name, each in leaves.items() if not name.startswith("hydra")}
        found = _close(leaf, leaves, 0.9) or _close(leaf, own, 0.75)
    elif not found:
        found = _close(leaf, leaves, 0.75)
    words = [word for word in re.split(r"[\W_]+", leaf.lower()) if word]
    if not found and len(words) > 1:
        found = [name for name, text in (comments or {}).items() if _says(text, words)][:1]
        found = found or [name for name in known if leaves[name] == words[-1]]
    return found[:MOST]


def keys_of(node: Any, prefix: str = "") -> Iterator[str]:
    """The dotted paths of all keys of a config."""
    if isinstance(node, dict):
        for name, value in node.items():
            path = f"{prefix}.{name}" if prefix else str(name)
            yield path
            yield from keys_of(value, path)


def _close(text: str, names: Mapping[str, str], least: float) -> list[str]:
    """Those whose name is the most like the text, and those that are almost as much so."""
    ratios = {name: difflib.SequenceMatcher(None, each, text).ratio() for name, each in names.items()}
    best = max(ratios.values(), default=0.0)
    close = [name for name, ratio in ratios.items() if ratio >= max(least, best - (0.05 if "." in text else 0.1))]
    return sorted(close, key=lambda name: -ratios[name])


def _says(comment: str, words: list[str]) -> bool:
    """Whether a comment uses every word, be it in the plural."""
    return all(re.search(rf"\b{re.escape(word)}s?\b", comment, re.IGNORECASE) for word in words)


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Each key of a YAML file with the comment above it; keys without one share that of the key above."""
    comment: list[str] = []
    path: list[tuple[int, str]] = []
    fresh = False
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment = [*comment, line] if fresh else [line]
            fresh = True
        elif found := _KEY_LINE.match(line):
            indent, name = len(found[1]), found[2]
            path = [*((i, each) for i, each in path if i < indent), (indent, name)]
            yield ".".join(each for _, each in path), " ".join(comment)
            fresh = False
        elif not line.strip():
            comment, fresh = [], False


def _of_hydra() -> Iterator[tuple[str, str]]:
    """Keys and groups of Hydra, of its plugins and of our sweeper, with the option that has them."""

    def walk(node: Any, group: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for name, each in node.items():
            if isinstance(each, dict):
                yield "/".join((*group, name)), ""
                yield from walk(each, (*group, name))
            elif isinstance(each, ConfigNode):
                whole = name == "config.yaml" and group == ("hydra",)
                option = "" if whole else f"{'/'.join(group)}={name.removesuffix('.yaml')}"
                fields = OmegaConf.to_container(each.node) if OmegaConf.is_config(each.node) else {}
                yield from ((key, option) for key in keys_of(fields, ".".join(group)))

    yield from walk(ConfigStore.instance().repo.get("hydra", {}), ("hydra",))
