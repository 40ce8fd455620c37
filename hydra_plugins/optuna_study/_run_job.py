"""Hydra's `run_job`, with the same files, callbacks and result, but quick copies of the config and quick dumps.

Copying the config by deepcopy and dumping it in plain Python costs more than all the rest of a cheap trial.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.deprecation_warning import deprecation_warning
from hydra.core import utils
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, configure_log, env_override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict, read_write
from omegaconf._utils import get_omega_conf_dumper

from ._compose import Copies
from ._errors import TaskExited
from ._vigil import Stopped


def run_job(context: HydraContext, task_function: TaskFunction, config: DictConfig) -> JobReturn:
    """Run the task in the job directory that `hydra.sweep` names; its exceptions are in the result.

    A task that calls `sys.exit()` has failed, whatever the status: it returned no value.
    """
    chdir = config.hydra.job.chdir
    if chdir is None:
        chdir = not version.base_at_least("1.2")
        if chdir:
            deprecation_warning(
                "hydra.job.chdir is true because version_base is 1.1 or older, later it is false; set either one",
                stacklevel=2,
            )
    hydra, former, folder = HydraConfig.instance(), HydraConfig.instance().cfg, Path.cwd()
    try:
        place = Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)
        with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
            config.hydra.runtime.output_dir = os.path.abspath(place)  # noqa: PTH100 - without "..", as Hydra has it
        OmegaConf.set_readonly(config.hydra, True)
        result, copies = JobReturn(), Copies(config)
        result.cfg, result.hydra_cfg = _only(copies, hydra=False), _only(copies, hydra=True)
        shown: Any = _only(copies, hydra=True)
        shown.hydra._set_parent(config)  # as Hydra has it: its own node may refer to the application's
        hydra.cfg = shown
        overrides: Any = OmegaConf.to_container(config.hydra.overrides.task)
        result.overrides = overrides
        place.mkdir(parents=True, exist_ok=True)
        if chdir:
            os.chdir(place)
        result.working_dir = str(place) if chdir else str(folder)
        configure_log(config.hydra.job_logging, config.hydra.verbose)
        if config.hydra.output_subdir is not None:
            subdir = Path(config.hydra.runtime.output_dir) / str(config.hydra.output_subdir)
            subdir.mkdir(parents=True, exist_ok=True)
            kept = {"config": result.cfg, "hydra": result.hydra_cfg, "overrides": config.hydra.overrides.task}
            for name, part in kept.items():
                (subdir / f"{name}.yaml").write_text(to_yaml(part), encoding="utf-8")
        with env_override(config.hydra.job.env_set):
            context.callbacks.on_job_start(config=config, task_function=task_function)
            try:
                result.return_value = task_function(result.cfg)
                result.status = JobStatus.COMPLETED
            except BaseException as error:  # asyncio.CancelledError is no Exception
                if ends_process(error):
                    raise
                if isinstance(error, SystemExit):
                    error = TaskExited(f"the task called sys.exit({error.code!r})")
                result.return_value = error
                result.status = JobStatus.FAILED
        result.task_name = JobRuntime.instance().get("name")
        utils._flush_loggers()
        context.callbacks.on_job_end(config=config, job_return=result)
        return result
    finally:
        hydra.cfg = former
        # Also where the task itself went elsewhere: the next trial starts from where the sweep did.
        os.chdir(folder)


def ends_process(error: BaseException) -> bool:
    """Whether it came from a signal, submitit's before a time limit or a preemption included, and not from the task."""
    return isinstance(error, Stopped | KeyboardInterrupt) or (isinstance(error, SystemExit) and _is_submitits(error))


def _is_submitits(error: SystemExit) -> bool:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and str(last.tb_frame.f_globals.get("__name__", "")).startswith("submitit.")


def _only(copies: Copies, hydra: bool) -> DictConfig:
    """The application's part of a config, or Hydra's."""
    part = copies.new()
    with flag_override(part, ["readonly", "struct"], [False, False]):
        for key in list(part):
            if (key == "hydra") != hydra:
                del part[key]
    return part


def to_yaml(config: Any) -> str:
    """`OmegaConf.to_yaml`, through libyaml where it is installed."""
    dumper = _fast_dumper()
    if dumper is None:
        return OmegaConf.to_yaml(config)
    plain = OmegaConf.to_container(config, enum_to_str=True)
    text: str = yaml.dump(plain, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=dumper)
    # libyaml writes some characters as their numbers, which means the same but reads badly.
    return OmegaConf.to_yaml(config) if "\\U" in text else text


@lru_cache(maxsize=1)
def _fast_dumper() -> Any:
    if not yaml.__with_libyaml__:
        return None
    made = type("FastDumper", (yaml.CDumper,), {})
    yaml.add_representer(str, get_omega_conf_dumper().str_representer, Dumper=made)
    return made
