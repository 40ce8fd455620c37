"""The plugin class that Hydra finds. Its imports are inside, so that looking for plugins imports no Optuna."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from ._trial import StudyError, TrialInterrupted, as_current, handle_of_rank, rank_message


class OptunaStudySweeper(Sweeper):
    """Runs the task function as trials of one Optuna study; config.py describes its fields."""

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
        """Run the study until it is complete, or, in a process that is a rank of a running trial, that rank.

        Raises:
            StudyError: a mistake that the user can repair.
            SystemExit: status 1 after too many failed trials, 128 + signal number after a signal.
        """
        if self.hydra_context is None or self.task_function is None or self.config is None:
            raise RuntimeError("call setup() before sweep()")
        message = rank_message()
        if message is not None:
            return run_rank(message, self.hydra_context, self.task_function, self.config)
        check_started_once()

        from ._sweep import Sweep

        return Sweep(self.hydra_context, self.task_function, self.config).run(arguments)


def run_rank(
    message: Mapping[str, Any], context: HydraContext, task_function: TaskFunction, command_config: DictConfig
) -> None:
    """Run the task as a rank other than zero: with its trial's config, in its directory, without the storage.

    Args:
        message: what the trial's worker put into the environment.
        context: Hydra's context of this process.
        task_function: the application's task.
        command_config: config of the sweep command.
    """
    from hydra.core.utils import run_job

    from ._job import error_of

    config = context.config_loader.load_sweep_config(command_config, list(message["overrides"]))
    directory = Path(message["directory"])
    with open_dict(config):
        config.hydra.job.num, config.hydra.job.id = message["number"], str(message["number"])
        config.hydra.sweep.dir, config.hydra.sweep.subdir = str(directory.parent), directory.name
        config.hydra.output_subdir = None  # rank zero has written it
    with as_current(handle_of_rank(message)):
        result = run_job(
            hydra_context=context,
            task_function=task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    error = error_of(result)
    # If a rank ends with an error, Lightning kills rank zero. Only a failure may have that effect.
    outcomes = ("TrialPruned", "TrialPaused")  # by name: Optuna's own TrialPruned counts, too
    if error is not None and not isinstance(error, TrialInterrupted) and type(error).__name__ not in outcomes:
        raise error


def check_started_once() -> None:
    """Refuse a sweep that torchrun or srun starts once for each rank.

    Raises:
        StudyError: the environment says that this process is one of several.
    """
    world = int(os.environ.get("WORLD_SIZE", "1") or 1)
    if world > 1 or int(os.environ.get("LOCAL_RANK", "0") or 0) > 0:
        raise StudyError(
            f"a sweep must be started once, got WORLD_SIZE={world}; start it without torchrun, "
            "each trial starts its own ranks"
        )
    if int(os.environ.get("SLURM_PROCID", "0") or 0) > 0:
        raise StudyError(
            f"a sweep must be started once, got Slurm task {os.environ['SLURM_PROCID']}; start it outside srun or with "
            "one task, and let hydra/launcher=submitit_slurm start the workers"
        )
