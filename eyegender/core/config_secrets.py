"""Takes passwords out of a composed config before Hydra writes it down; `conf/train.yaml` names it as a callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from hydra_plugins.optuna_study import set_secrets_aside

if TYPE_CHECKING:
    from omegaconf import DictConfig


class SetSecretsAside(Callback):
    """For passwords in config files; those on the command line are gone before Hydra starts."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        set_secrets_aside(config)
