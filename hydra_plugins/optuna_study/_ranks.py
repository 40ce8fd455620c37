"""Ranks of a trial that trains in several processes (DDP).

Lightning starts the other ranks by repeating the command line, `--multirun` included. Such a process must not sweep: it
runs the one trial its parent runs, which the worker announced in the environment.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from hydra.core.utils import run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from ._errors import StudyError, TrialInterrupted
from ._job import failure_of
from ._trial import TRIAL_VARIABLE, TrialHandle, handle_of, set_current

# What Lightning and torchrun leave in the environment of rank zero, which the next trial would take for its own.
_RANK_VARIABLES = (
    "LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip


def trial_of_this_rank() -> Mapping[str, Any] | None:
    """What the worker of this process's trial announced, if this process belongs to one.

    Raises:
        StudyError: several copies of the command were started from outside, each of which would sweep.
    """
    told = os.environ.get(TRIAL_VARIABLE)
    if told is not None:
        message: Mapping[str, Any] = json.loads(told)
        if message["pid"] != os.getpid():
            return message
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
    return None


@contextmanager
def announced(
    trial: TrialHandle, overrides: tuple[str, ...], argv: tuple[str, ...], main: str | None
) -> Iterator[None]:
    """Let processes that the task starts know their trial, and repeat the command rather than the launcher's own.

    In a worker process `sys.argv` and `__main__` are joblib's or submitit's; what Lightning builds from them would
    start another worker.
    """
    message = {
        "pid": os.getpid(),
        "number": trial.number,
        "study_name": trial.study_name,
        "params": trial.params,
        "attempt": trial.attempt,
        "directory": trial.directory,
        "user_attrs": trial.user_attrs,
        "study_attrs": trial.study_attrs,
        "reported": trial.reported,
        "overrides": list(overrides),
    }
    module = sys.modules["__main__"]
    former_argv, former_spec = sys.argv, getattr(module, "__spec__", None)
    former = {key: os.environ.get(key) for key in (*_RANK_VARIABLES, TRIAL_VARIABLE)}
    os.environ[TRIAL_VARIABLE] = json.dumps(message, default=str)
    if argv:
        sys.argv = list(argv)
        module.__spec__ = ModuleSpec(main, None) if main else None
    set_current(trial)
    try:
        yield
    finally:
        set_current(None)
        sys.argv = former_argv
        module.__spec__ = former_spec
        for key, value in former.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def run_rank(
    message: Mapping[str, Any], context: HydraContext, task_function: TaskFunction, master_config: DictConfig
) -> None:
    """Run the task as another rank of the announced trial: same config, same directory, no storage."""
    config = context.config_loader.load_sweep_config(master_config, list(message["overrides"]))
    directory = Path(message["directory"])
    with open_dict(config):
        config.hydra.job.num = message["number"]
        config.hydra.job.id = f"{message['number']}"
        config.hydra.sweep.dir = str(directory.parent)
        config.hydra.sweep.subdir = directory.name
        config.hydra.output_subdir = None  # rank zero has written it
    set_current(handle_of(message))
    try:
        result = run_job(
            hydra_context=context,
            task_function=task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    finally:
        set_current(None)
    error = failure_of(result)
    # A rank that ends with an error makes Lightning kill rank zero: only a failure may.
    if error is not None and not isinstance(error, TrialInterrupted) and type(error).__name__ != "TrialPruned":
        raise error
