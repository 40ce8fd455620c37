"""The plugin class that Hydra finds. It stays this thin so that looking for plugins imports no Optuna."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaStudySweeper(Sweeper):
    """Runs the task function as trials of one Optuna study. Its fields are described in config.py."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the study to its end, or, in a process that is a rank of a running trial, that rank's part of it.

        Raises:
            StudyError: the user can repair it.
            SystemExit: status 1 after too many failed trials, 128 + signal number after a signal.
        """
        from ._ranks import run_rank, trial_of_this_rank
        from ._sweep import Sweep

        if self.hydra_context is None or self.task_function is None or self.config is None:
            raise RuntimeError("setup() comes before sweep()")
        rank = trial_of_this_rank()
        if rank is not None:
            return run_rank(rank, self.hydra_context, self.task_function, self.config)
        return Sweep(self.hydra_context, self.task_function, self.config).run(arguments)
