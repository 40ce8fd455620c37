"""What `--help` of a command prints: purpose, examples, config groups, and every key with its value and meaning."""

from __future__ import annotations

import re
import shutil
import textwrap
from typing import TYPE_CHECKING, Any

import yaml

from eyegender.core.command_line.config_comments import read_config
from eyegender.core.config_files import config_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from omegaconf import DictConfig

    from eyegender.core.command_line.config_comments import ConfigFile

_MOST_EXAMPLES = 3
_WIDEST = 120
_FLAGS = {
    "--cfg job": "print the composed config",
    "--info": "print where the config comes from",
    "--hydra-help": "list the flags of Hydra, which come before the overrides",
}
_SWEEP_FLAG = {"-m": "start a sweep: one run per combination of values, or a search with +sweeps=NAME"}


def help_text(config_name: str, groups: Sequence[str] | None, overrides: Sequence[str], config_dir: Path | None) -> str:
    """The help of a command, as wide as the terminal.

    Args:
        config_name: name of the command's file in `conf/`.
        groups: the config groups that the command has; None means all of `conf/` and `sweeps/`.
        overrides: the overrides on the command line; the help shows the keys and the values that result from them.
        config_dir: folder of the user's own config files, or None.

    Raises:
        HydraException: the overrides do not compose.
    """
    config = _compose(config_name, groups, overrides, config_dir)
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    main = read_config(config_folder("conf") / f"{config_name}.yaml")
    found = _options(groups, config_dir)
    options = {name: found[name] for name in [*(str(key) for key in config if key in found), *found]}
    choices: dict[str, str | None] = dict(config.hydra.runtime.choices)
    lines = [*textwrap.wrap(main.about, width), "", f"Usage: eyegender {config_name} [KEY=VALUE ...]", "", "Examples"]
    for example in main.commands[:_MOST_EXAMPLES]:
        command, _, comment = example.partition("   # ")
        lines += _row(f"  {command}", f"# {comment}" if comment else "", width, column=min(64, width - 22))
    lines += ["", *_groups(options, choices, width), *_keys(config_name, config, options, choices, width)]
    lines += ["", "Flags"]
    for flag, meaning in ((_SWEEP_FLAG if "sweeps" in options else {}) | _FLAGS).items():
        lines += _row(f"  {flag}", meaning, width, column=18)
    return "\n".join([*lines, ""])


def _compose(
    config_name: str, groups: Sequence[str] | None, overrides: Sequence[str], config_dir: Path | None
) -> DictConfig:
    from hydra import compose, initialize, initialize_config_dir

    if groups is not None:  # everything is registered
        with initialize(None, version_base="1.3"):
            return compose(config_name, [*overrides], return_hydra_config=True)
    added = [f"hydra.searchpath=['file://{config_dir.absolute()}']"] if config_dir else []
    with initialize_config_dir(str(config_folder("conf").resolve()), version_base="1.3"):
        return compose(config_name, [*added, *overrides], return_hydra_config=True)


def _options(groups: Sequence[str] | None, config_dir: Path | None) -> dict[str, dict[str, Path]]:
    """The files of each config group by their names, the shared `_common` included."""
    folders = [config_folder("conf"), *([config_dir] if config_dir else [])]
    names = groups
    if names is None:
        names = sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()} - {"hydra"})
    found = {name: {path.stem: path for folder in folders for path in (folder / name).glob("*.yaml")} for name in names}
    if groups is None:
        found["sweeps"] = {path.stem: path for path in config_folder("sweeps").glob("*.yaml")}
    return {name: dict(sorted(paths.items())) for name, paths in found.items() if paths}


def _groups(options: Mapping[str, Mapping[str, Path]], choices: Mapping[str, str | None], width: int) -> Iterator[str]:
    if not options:
        return
    yield "Groups: choose a file of keys with GROUP=OPTION; * marks the present choice"
    for group, paths in options.items():
        names = [name for name in paths if not name.startswith("_") and not _is_former(paths[name])]
        shown = ", ".join(f"*{name}" if choices.get(group) == name else name for name in names)
        added = f"+{group}" if group in {"sweeps", "experiment"} else group
        yield from _row(f"  {added}=", shown, width, column=18)
    yield ""


def _is_former(path: Path) -> bool:
    """Whether a file only keeps the former name of another one."""
    return read_config(path).about.startswith("The former name of ")


def _keys(
    config_name: str,
    config: DictConfig,
    options: Mapping[str, Mapping[str, Path]],
    choices: Mapping[str, str | None],
    width: int,
) -> Iterator[str]:
    """The keys of the composed config: those of the command itself, then those of each group."""
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    # What our own resolvers give is shorter than the text that calls them.
    content |= {key: config[key] for key, value in content.items() if str(value).startswith("${eyegender.")}
    own = {name: value for name, value in content.items() if not (name in options and isinstance(value, dict))}
    conf = config_folder("conf")
    meanings = _meanings([read_config(conf / "train.yaml"), read_config(conf / f"{config_name}.yaml")])
    yield ("Keys: set one with KEY=VALUE; the present values are shown")
    yield from _table(own, "", meanings, width)
    for group in options:
        value = content.get(group)
        if not isinstance(value, dict):
            continue
        paths = [options[group][name] for name in ("_common", choices.get(group)) if name and name in options[group]]
        files = [read_config(path, group) for path in paths]
        yield from ("", *textwrap.wrap(f"{group}={choices.get(group)}: {files[-1].about if files else ''}", width))
        yield from _table(value, group, _meanings(files), width)


def _meanings(files: Sequence[ConfigFile]) -> dict[str, str]:
    return {key.path: key.text for file in files for key in file.keys if key.text}


def _table(node: Mapping[str, Any], prefix: str, meanings: Mapping[str, str], width: int) -> Iterator[str]:
    # What must be set comes first.
    for path, value in sorted(_leaves(node, prefix, meanings), key=lambda leaf: leaf[1] != "???"):
        yield from _row(f"  {path}={_shown(value)}", meanings.get(path.removesuffix("._target_"), ""), width)


def _leaves(node: Mapping[str, Any], prefix: str, meanings: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Each key with its value; of a class inside of a group only the arguments that have a comment."""
    is_class = "_target_" in node and "." in prefix
    for name, value in node.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        if name.startswith("_") and not (is_class and name == "_target_"):
            continue
        if is_class and not name.startswith("_") and path not in meanings:
            continue
        if isinstance(value, dict) and value and not (path in meanings and "_target_" not in value):
            yield from _leaves(value, path, meanings)
        else:
            yield path, value


def _shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, str):
        return value
    return re.sub(r"\n(\.\.\.\n)?$", "", yaml.safe_dump(value, default_flow_style=True, width=10_000))


def _row(left: str, right: str, width: int, column: int = 34) -> list[str]:
    """Two columns; what does not fit into the left one has a line of its own."""
    lines = textwrap.wrap(right, width - column)
    if not lines:
        return [left]
    indent = " " * column
    if len(left) > column - 2:
        return [left, *(indent + line for line in lines)]
    return [left.ljust(column) + lines[0], *(indent + line for line in lines[1:])]
