"""Calling an application's callbacks, which know the plugin while the plugin knows nothing of them."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from ._errors import StudyError
from ._secrets import one_line

log = logging.getLogger("hydra_plugins.optuna_study")


class Hooks:
    """Each object may have any of

    - `check_config(config)`: in the command, before the study is opened, with the config at both ends of each range;
      what it raises ends the command;
    - `on_study_start(study)`: in the command, before its workers start, each time it starts any;
    - `on_trial_finished(study, trial)`: in the worker, after each trial that ended for good (not after an attempt
      that will be continued);
    - `on_study_end(study, status)`: in exactly one process, once per completion; again only when the study went on
      and completed again, or when the call before failed. `status.gave_up` says that too many trials failed.

    `study` is a StudyHandle, `trial` a TrialRow and `status` a StudyStatus.
    """

    def __init__(self, configs: Sequence[Mapping[str, Any]], secrets: Sequence[str] = ()) -> None:
        from hydra.utils import instantiate

        self._secrets = tuple(secrets)
        self._objects = []
        for config in configs:
            try:
                self._objects.append(instantiate(dict(config)))
            except Exception as error:
                raise StudyError(f"the callback {config.get('_target_')} cannot be built: {one_line(error)}") from None

    @property
    def follow_trials(self) -> bool:
        """Whether anything is called for a finished trial."""
        return any(hasattr(target, "on_trial_finished") for target in self._objects)

    def check_config(self, config: DictConfig) -> None:
        for target in self._objects:
            if hasattr(target, "check_config"):
                target.check_config(config)

    def study_start(self, *arguments: Any) -> None:
        """Raises:
        StudyError: a callback failed; no trial has started.
        """
        failed = self._call("on_study_start", arguments)
        if failed is not None:
            raise StudyError(f"on_study_start failed: {failed}")

    def trial_finished(self, *arguments: Any) -> None:
        """A callback that fails here is only logged: the trial is done and others wait."""
        failed = self._call("on_trial_finished", arguments)
        if failed is not None:
            log.error("on_trial_finished failed: %s", failed)

    def study_end(self, *arguments: Any) -> str | None:
        """What failed, or None."""
        return self._call("on_study_end", arguments)

    def _call(self, name: str, arguments: tuple[Any, ...]) -> str | None:
        for target in self._objects:
            method = getattr(target, name, None)
            if method is None:
                continue
            try:
                method(*arguments)
            except StudyError:
                raise
            except Exception as error:
                log.debug("%s", name, exc_info=error)
                return one_line(error, self._secrets)
        return None
