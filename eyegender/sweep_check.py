"""Checks, before a sweep starts, what its trials will be judged by; `conf/train.yaml` names it as a callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from eyegender.errors import UserError
from eyegender.schema import check_judged_by

if TYPE_CHECKING:
    from omegaconf import DictConfig


class CheckSweep(Callback):
    """Every trial of a sweep with a metric that no run has would fail alike."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        from eyegender.command import USER_MISTAKE, tell

        try:
            check_judged_by(config)
        except UserError as error:
            tell(error)
            raise SystemExit(USER_MISTAKE) from None  # of an exception Hydra would only warn
