"""The page of every config key, written at build time from the comments in `conf/`, `sweeps/` and the sweeper.

A key that several files of one group set is described once, in any of them.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eyegender.core.command_line.config_comments import ConfigFile, Key, comment_above, read_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
PAGE = "reference.md"
_SWEEPER = "hydra.sweeper"


@dataclass(frozen=True)
class Reference:
    """Everything that the page shows.

    Args:
        commands: the files at the top of `conf/`.
        groups: from a group's name to its files, `_common` first.
        sweeps: the files of `sweeps/`.
        sweeper: the fields of `hydra.sweeper`.
    """

    commands: tuple[ConfigFile, ...]
    groups: Mapping[str, tuple[ConfigFile, ...]]
    sweeps: tuple[ConfigFile, ...]
    sweeper: tuple[Key, ...]

    def describe(self, path: str) -> str:
        """What is said of a key anywhere, "" where nothing is."""
        swept = path.removeprefix(f"{_SWEEPER}.params.")
        if swept != path:
            return f"Swept. {self.describe(swept)}"
        if path == "model":
            return "The backbone; see its own section."
        return next((key.text for key in self._all() if key.path == path and key.text), "")

    def paths(self) -> set[str]:
        """Every key there is, as it is written on the command line."""
        return {key.path for key in self._all()} | set(self.groups)

    def _all(self) -> Iterator[Key]:
        train = next(command for command in self.commands if command.name == "train")
        others = [command for command in self.commands if command is not train]
        overlays = [file for files in self.groups.values() for file in files if file.overlay]
        plain = [file for files in self.groups.values() for file in files if not file.overlay]
        yield from train.keys
        for file in plain:
            yield from file.keys
        yield from self.sweeper
        for file in [*self.sweeps, *overlays, *others]:
            yield from file.keys


def read_reference(root: Path = ROOT) -> Reference:
    """Reads the configs and the sweeper's fields; builds nothing."""
    conf = root / "conf"
    groups = {}
    for folder in sorted({path.parent for path in conf.glob("*/*.yaml")}):
        files = [read_config(path) for path in sorted(folder.glob("*.yaml"))]
        prefixed = [file if file.overlay else read_config(folder / f"{file.name}.yaml", folder.name) for file in files]
        groups[folder.name] = tuple(sorted(prefixed, key=lambda file: (not file.name.startswith("_"), file.name)))
    first = [conf / "train.yaml"]
    commands = [read_config(path) for path in first + sorted(set(conf.glob("*.yaml")) - set(first))]
    return Reference(
        commands=tuple(_without_hydra(command) for command in commands),
        groups=groups,
        sweeps=tuple(read_config(path) for path in sorted((root / "sweeps").glob("*.yaml"))),
        sweeper=tuple(_fields(root / "hydra_plugins/optuna_study/config.py", "OptunaStudyConf")),
    )


def _without_hydra(file: ConfigFile) -> ConfigFile:
    """Hydra's own settings in a command's config are not ours to explain."""
    keys = tuple(key for key in file.keys if not key.path.startswith("hydra."))
    return ConfigFile(file.name, file.about, file.commands, keys, file.overlay)


def _fields(path: Path, name: str) -> Iterator[Key]:
    """The fields of a dataclass, with the comments above them."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name]
    for node in classes[0].body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            field = node.target.id
            if field.startswith("_") or field == "defaults":
                continue
            value = ast.unparse(node.value)
            shown = {"MISSING": "", "None": "null", "True": "true", "False": "false"}.get(value, value.strip("'"))
            text = comment_above(lines, node.lineno - 1)
            yield Key(f"{_SWEEPER}.{field}", shown, text)


def render(reference: Reference) -> str:
    """The page, as Markdown."""
    lines = [
        "# Every config key",
        "",
        "Generated from the config files and their comments. Write keys on the command line as shown here: "
        "`eyegender train model.lr=3e-4`. A key with `???` has no default, so you must set it. "
        "`--help` prints the same keys with their current values.",
    ]
    train, *others = reference.commands
    lines += ["", "## A training run", "", train.about, "", *_commands(train), *_table(reference, train.keys)]
    for group, files in reference.groups.items():
        if any(file.overlay for file in files):
            continue
        options = [file for file in files if not file.name.startswith("_")]
        lines += ["", f"## {group}", "", f"| `{group}=` | what |", "|---|---|"]
        lines += [f"| `{file.name}` | {_cell(file.about)} |" for file in options]
        shared = {key.path: key for file in files if file.name.startswith("_") for key in file.keys}
        lines += ["", *_table(reference, shared.values())]
        same = [option.keys for option in options]
        alike = all([key.path for key in keys] == [key.path for key in same[0]] for keys in same)
        if alike:
            lines += ["", *_alike(reference, group, options)]
            continue
        for option in options:
            lines += ["", f"### {group}={option.name}", "", *_commands(option), *_table(reference, option.keys)]
    lines += ["", "## Experiments", "", "`+experiment=NAME` selects a complete protocol."]
    for files in reference.groups.values():
        for file in files:
            if file.overlay:
                lines += _overlay(reference, file, f"+experiment={file.name}")
    lines += ["", "## Search spaces", "", "`-m +sweeps=NAME` runs a sweep."]
    for file in reference.sweeps:
        shared_by_all = file.name.startswith("_")
        lines += _overlay(reference, file, "Shared by all sweeps" if shared_by_all else f"+sweeps={file.name}")
    lines += ["", f"## {_SWEEPER}", "", "Fields of `hydra/sweeper=optuna_study`.", ""]
    lines += [*_table(reference, reference.sweeper), *_optunas()]
    lines += ["", "## The other commands"]
    for command in others:
        lines += ["", f"### eyegender.{command.name}", "", command.about, "", *_commands(command)]
        lines += _table(reference, command.keys) if command.keys else ["It has the same keys as a training run."]
    return "\n".join(lines) + "\n"


def _overlay(reference: Reference, file: ConfigFile, title: str) -> list[str]:
    return ["", f"### {title}", "", file.about, "", *_commands(file), *_table(reference, file.keys, column="value")]


def _alike(reference: Reference, group: str, options: Sequence[ConfigFile]) -> list[str]:
    """Options that set the same keys, side by side."""
    head = ["key", *(f"`{group}={option.name}`" for option in options), "what"]
    lines = [_row(head), _row(["---"] * len(head))]
    for place, key in enumerate(options[0].keys):
        values = [_code(option.keys[place].value) for option in options]
        lines.append(_row([f"`{key.path}`", *values, _cell(reference.describe(key.path))]))
    return lines


def _table(reference: Reference, keys: Iterable[Key], column: str = "default") -> list[str]:
    lines = [_row(["key", column, "what"]), _row(["---"] * 3)]
    return [*lines, *(_row([f"`{k.path}`", _code(k.value), _cell(k.text or reference.describe(k.path))]) for k in keys)]


def _commands(file: ConfigFile) -> list[str]:
    return ["```console", *(f"$ {command}" for command in file.commands), "```", ""] if file.commands else []


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(value: str) -> str:
    return f"`{value}`".replace("|", "\\|") if value else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _optunas() -> list[str]:
    """The samplers, pruners and schedulers, from the registry that Hydra sees."""
    from hydra_plugins.optuna_study.config import PRUNERS, SAMPLERS, SCHEDULERS

    lines = []
    kinds: Mapping[str, Mapping[str, Any]] = {"sampler": SAMPLERS, "pruner": PRUNERS, "scheduler": SCHEDULERS}
    for kind, members in kinds.items():
        lines += ["", f"### hydra/sweeper/{kind}", ""]
        lines += [f"Set the arguments of the class with `hydra.sweeper.{kind}.ARGUMENT=VALUE`.", ""]
        lines += [_row([f"`hydra/sweeper/{kind}=`", "class", "arguments"]), _row(["---"] * 3)]
        for name, config in members.items():
            built = config()
            names = [field for field in built.__dataclass_fields__ if not field.startswith("_")]
            arguments = ", ".join(f"`{field}`" for field in names)
            lines.append(_row([f"`{name}`", f"`{built._target_}`" if built._target_ else "", arguments]))
    return lines


def on_files(files: Any, config: Any) -> Any:
    """MkDocs' hook: the page becomes part of the site without lying in the checkout."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=render(read_reference())))
    return files
