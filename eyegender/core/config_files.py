"""Where the config files are, and how those outside of Hydra's search path become known to Hydra."""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def config_folder(name: str) -> Path:
    """`conf` or `sweeps`: inside the package in a wheel, beside it in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def config_files(config_name: str, groups: tuple[str, ...] | None) -> list[Path]:
    """The YAML files that a command may be composed of."""
    conf = config_folder("conf")
    folders = [conf / group for group in groups] if groups is not None else [p for p in conf.iterdir() if p.is_dir()]
    return [conf / f"{config_name}.yaml", *(path for folder in folders for path in _yaml_files(folder))]


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml"))


def register_sweeps() -> None:
    """Register `sweeps/`, which is outside of `conf/`, as a config group, and the resolvers that it uses."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from eyegender.core.objectives import register_resolvers

    register_resolvers()
    store = ConfigStore.instance()
    for path in _yaml_files(config_folder("sweeps")):
        store.store(group="sweeps", name=path.stem, node=OmegaConf.load(path), package="_global_", provider=str(path))


def register_config(config_name: str, groups: tuple[str, ...]) -> Path | None:
    """Register one config of `conf/` and only these groups, from `conf/` and from the folder of `--config-dir`.

    Returns:
        The folder of `--config-dir`, which is removed from the command line, or None.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    store, conf = ConfigStore.instance(), config_folder("conf")
    user_folder = _take_config_dir()
    added = [] if user_folder is None else [path for group in groups for path in _yaml_files(user_folder / group)]
    for path in [*config_files(config_name, groups), *added]:
        group = None if path.parent == conf else path.parent.name
        store.store(group=group, name=path.stem, node=OmegaConf.load(path), provider=str(path))
    return user_folder


def _take_config_dir() -> Path | None:
    """Remove `--config-dir` from the command line and return its folder."""
    for position, argument in enumerate(sys.argv):
        flag, equals, value = argument.partition("=")
        if flag in {"--config-dir", "-cd"} and (equals or position + 1 < len(sys.argv)):
            folder = Path(value if equals else sys.argv[position + 1])
            if folder.is_dir():  # otherwise Hydra reports the mistake
                del sys.argv[position : position + (1 if equals else 2)]
                return folder
    return None
