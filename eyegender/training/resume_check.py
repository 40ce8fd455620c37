"""Refuses what cannot be changed of a run that goes on, before Hydra writes it down; `conf/train.yaml` names it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from eyegender.core.command import USER_MISTAKE, print_error
from eyegender.core.errors import UserError
from hydra_plugins.optuna_study import learn_secrets

if TYPE_CHECKING:
    from omegaconf import DictConfig


class CheckCheckpoint(Callback):
    """`.hydra/config.yaml` would record a value that was not used, maybe over that of the run that goes on."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        if config.ckpt_path is None:
            return
        from eyegender.core.schema import parse
        from eyegender.training.resume import check_config, load_latest

        try:
            own = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
            learn_secrets(own)
            path, checkpoint = load_latest(Path(config.ckpt_path))
            check_config(checkpoint, parse(own), path)
        except UserError as error:
            print_error(error)
            raise SystemExit(USER_MISTAKE) from None  # of an exception Hydra would only warn
