"""`eyegender.compose`: the config of a run, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.api.running import ConfigOf

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig

    from eyegender.api.overrides import Overrides


def compose(overrides: Overrides = None, *, config_dir: str | Path | None = None) -> DictConfig:
    """The config of `train` with these overrides, checked as `train` checks it.

    Args:
        overrides: a list of strings as on the command line, or a dict, nested or with dotted keys.
        config_dir: folder with further config files, as `--config-dir`.

    Raises:
        UserError: an override does not fit, with the line that the command would print.

    Example:
        >>> compose({"model": "inception_v3", "trainer.max_epochs": 3}).trainer.max_epochs
        3
    """
    from eyegender.core.schema import parse

    with ConfigOf("train", config_dir=config_dir).opened() as config:
        cfg = config.composed(config.lines(overrides))
        parse(cfg)
        return cfg
