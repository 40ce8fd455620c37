"""Config keys: suggestions for misspelt ones, and the new names of those that earlier versions used."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RENAMED = {
    "model.weight_decay": "optimizer.weight_decay",
    "model.schedule": "scheduler",
    "model.warmup": "scheduler.warmup",
}
# Keys of eyegender.evaluate; no study stores them.
RENAMED_IN_EVALUATE = {"part": "split"}
# Options of config groups. The file of a former name stays and selects the new one: studies store their overrides.
RENAMED_OPTIONS = {"experiment=paper_honest": "experiment=paper_grouped"}
# What `model.schedule` selected.
_OPTIMIZER = {"_target_": "torch.optim.AdamW", "_partial_": True}
_SCHEDULERS: dict[str, dict[str, Any]] = {
    "onecycle": {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "_partial_": True},
    "cosine": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "_partial_": True},
    "constant": {
        "_target_": "torch.optim.lr_scheduler.ConstantLR", "_partial_": True, "factor": 1.0, "total_iters": 0,
    },
}  # fmt: skip

_OVERRIDE = re.compile(r"([+~]*)([\w.]+)(=|$)")
_MOST_SUGGESTIONS = 3
_KEY_LINE = re.compile(r"( *)([\w.]+):")

log = logging.getLogger("eyegender")


def rename_override(override: str) -> str:
    """A command-line override (`key=value`) whose key has its new name, with one warning; the value never changes."""
    found = _OVERRIDE.match(override)
    if found is None:
        return override
    new = (RENAMED | RENAMED_IN_EVALUATE).get(found[2])
    if new is None:
        for option in re.split(r"[,\s()\[\]]+", override[found.end() :]):
            if f"{found[2]}={option}" in RENAMED_OPTIONS:
                _warn_renamed(f"{found[2]}={option}")
        return override
    _warn_renamed(found[2])
    return f"{found[1]}{new}{override[found.start(3) :]}"


def rename_keys(config: Any, *, warn: bool = True) -> Any:
    """A run's config, composed now or stored by an earlier version, in which every key has its new name.

    If a config file of the user sets an old key, its value replaces what the config groups say.

    Args:
        config: nested mappings; not modified.
        warn: log each old key once per process.
    """
    model = config.get("model") if isinstance(config, Mapping) else None
    old = {key.partition(".")[2] for key in RENAMED} & model.keys() if isinstance(model, Mapping) else set()
    if not old:
        return config
    assert isinstance(model, Mapping)
    renamed = {**config, "model": {name: value for name, value in model.items() if name not in old}}
    if "weight_decay" in old:
        renamed["optimizer"] = {**config.get("optimizer", _OPTIMIZER), "weight_decay": model["weight_decay"]}
    schedule = str(model["schedule"]) if "schedule" in old else None
    chosen = _SCHEDULERS.get(schedule, {"_target_": schedule}) if schedule else None
    renamed["scheduler"] = {**(chosen or config.get("scheduler", _SCHEDULERS["onecycle"]))}
    if "warmup" in old:
        # A constant rate had no warm-up, whatever the key said.
        renamed["scheduler"]["warmup"] = 0.0 if schedule == "constant" else model["warmup"]
    for name in sorted(old) if warn else ():
        _warn_renamed(f"model.{name}")
    return renamed


@cache  # once per process
def _warn_renamed(name: str) -> None:
    new = (RENAMED | RENAMED_IN_EVALUATE | RENAMED_OPTIONS)[name]
    log.warning("%s is now called %s; the old name still works", name, new)


def suggest_key(key: str, files: Iterable[Path], conf: Path) -> str:
    """The end of an error message about a key that does not exist: what may have been meant.

    Args:
        key: as typed; a value (`model.lrr`) or a config group (`hydra/lancher`).
        files: the YAML files that the command may be composed of.
        conf: the folder that contains them.
    """
    known: dict[str, str] = {}  # each key and the option of a config group that has it
    comments: dict[str, str] = {}
    for path in files:
        folder = path.relative_to(conf).parent
        # The keys of a file with `# @package _global_` are those of the whole config.
        group = "" if folder == Path("experiment") else ".".join(folder.parts)
        option = f"{folder.as_posix()}={path.stem}" if folder.parts else ""
        for name in nested_keys(OmegaConf.to_container(OmegaConf.load(path)), group):
            known.setdefault(name, option)
        if folder.parts[:1] != ("hydra",):
            comments |= {f"{group}.{name}".lstrip("."): text for name, text in _comments(path.read_text("utf-8"))}
        known.update((group.as_posix(), "") for group in (folder, *folder.parents) if group.parts)
    known = {**dict(_hydra_keys()), **known}
    if key in known:  # of an option that is not selected
        return f"; it is a key of {known[key]}" if known[key] else ""
    found = nearest_keys(key, known, comments)
    return f"; did you mean {' or '.join(found)}?" if found else "; there is no such key, see --help"


def nearest_keys(key: str, known: Iterable[str], comments: Mapping[str, str] | None = None) -> list[str]:
    """The known keys that a misspelt one may stand for: by its whole path, its last part, or the comments on keys."""
    # The keys of `data` are better known than the reader's arguments, which repeat them.
    known = [name for name in known if not re.search(r"\._\w+_$|\.defaults$|\.reader\.", name)]
    if "/" in key:
        known = [name for name in known if "/" in name]
    elif key.startswith("hydra"):
        known = [name for name in known if name.startswith("hydra") and "/" not in name]
    leaves = {name: re.split(r"[./]", name)[-1] for name in known}
    leaf = re.split(r"[./]", key)[-1]
    # Keys of one section resemble each other by their common prefix, so the last part must be similar, too.
    found = _most_similar(key, {name: name for name in known if _most_similar(leaf, {name: leaves[name]}, 0.5)}, 0.7)
    found = found or [name for name in known if leaves[name] == leaf]
    if not found and not key.startswith("hydra"):
        # A key that resembles none of the run's own is unlikely to be one of Hydra's.
        own = {name: each for name, each in leaves.items() if not name.startswith("hydra")}
        found = _most_similar(leaf, leaves, 0.9) or _most_similar(leaf, own, 0.75)
    elif not found:
        found = _most_similar(leaf, leaves, 0.75)
    words = [word for word in re.split(r"[\W_]+", leaf.lower()) if word]
    if not found and len(words) > 1:
        found = [name for name, text in (comments or {}).items() if _contains_words(text, words)][:1]
        found = found or [name for name in known if leaves[name] == words[-1]]
    return found[:_MOST_SUGGESTIONS]


def nested_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """The dotted paths of all keys of a config."""
    if isinstance(node, dict):
        for name, value in node.items():
            path = f"{prefix}.{name}" if prefix else str(name)
            yield path
            yield from nested_keys(value, path)


def _most_similar(text: str, names: Mapping[str, str], least: float) -> list[str]:
    """The keys of `names` whose value is most similar to the text, and those that are nearly as similar."""
    ratios = {name: difflib.SequenceMatcher(None, each, text).ratio() for name, each in names.items()}
    best = max(ratios.values(), default=0.0)
    close = [name for name, ratio in ratios.items() if ratio >= max(least, best - (0.05 if "." in text else 0.1))]
    return sorted(close, key=lambda name: -ratios[name])


def _contains_words(comment: str, words: list[str]) -> bool:
    """Whether a comment contains every word, in the singular or in the plural."""
    return all(re.search(rf"\b{re.escape(word)}s?\b", comment, re.IGNORECASE) for word in words)


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Each key of a YAML file with the comment above it; a key without one shares that of the key above."""
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


def _hydra_keys() -> Iterator[tuple[str, str]]:
    """The keys and groups of Hydra, of its plugins and of our sweeper, each with the option that has it."""

    def walk(node: Any, group: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for name, each in node.items():
            if isinstance(each, dict):
                yield "/".join((*group, name)), ""
                yield from walk(each, (*group, name))
            elif isinstance(each, ConfigNode):
                is_main = name == "config.yaml" and group == ("hydra",)
                option = "" if is_main else f"{'/'.join(group)}={name.removesuffix('.yaml')}"
                fields = OmegaConf.to_container(each.node) if OmegaConf.is_config(each.node) else {}
                yield from ((key, option) for key in nested_keys(fields, ".".join(group)))

    yield from walk(ConfigStore.instance().repo.get("hydra", {}), ("hydra",))
