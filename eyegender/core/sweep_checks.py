"""What can be wrong with a sweep as a whole, told before its study is opened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode

from eyegender.core.command import USER_MISTAKE, print_error
from eyegender.core.errors import UserError
from eyegender.core.objectives import check_directions
from eyegender.core.schema import check_judged_by

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig


class CheckSweep(Callback):
    """A callback of Hydra; `conf/train.yaml` names it."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        try:
            check_judged_by(config)
            check_directions(config)
        except UserError as error:  # Hydra would make a warning of it and go on
            print_error(error)
            raise SystemExit(USER_MISTAKE) from None


def refuse_plain_run(hydra: HydraConf) -> None:
    """Raises UserError where a sweep was asked for, but not Hydra's flag for one: it would be a single plain run."""
    if hydra.mode == RunMode.MULTIRUN:
        return
    if chosen := hydra.runtime.choices.get("sweeps"):
        raise UserError(f"a sweep must be started with -m, got +sweeps={chosen} without it; add -m")
    for line in hydra.overrides.hydra:
        if re.match(r"[+~]*hydra[./](sweep|sweeper|launcher)\b", line):
            raise UserError(f"{line} means something in a sweep only, got a single run; add -m, or remove it")
