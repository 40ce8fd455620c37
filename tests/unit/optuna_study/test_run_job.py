"""Our run_job against Hydra's own: the same files, result, callbacks, and config as the task sees it."""

from pathlib import Path
from typing import Any

import pytest
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core import utils
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from hydra_plugins.optuna_study._job import run_job, to_yaml

from .sweeping import HERE


class Seen(Callbacks):
    """What Hydra's callbacks receive."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.calls.append(("start", OmegaConf.to_container(config, resolve=False)))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        self.calls.append(("end", job_return.status.name, OmegaConf.to_container(job_return.hydra_cfg)))


def job(own: bool, folder: Path, *overrides: str, fails: bool = False) -> dict[str, Any]:
    """Everything that a job leaves."""
    setup_globals()
    hydra = Hydra.create_main_hydra2("toy", create_config_search_path(str(HERE / "conf")))
    config = hydra.compose_config("config", ["hydra.mode=MULTIRUN", *overrides], RunMode.MULTIRUN)
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = "3", 3
        config.hydra.sweep.dir, config.hydra.sweep.subdir = str(folder), "3"
        config.hydra.run.dir = "out"  # the default contains the time, which differs between two jobs
    inside: dict[str, Any] = {}

    def task(cfg: DictConfig) -> float:
        assert "hydra" not in cfg
        inside["cwd"] = Path.cwd()
        inside["x"] = cfg.x
        inside["hydra"] = OmegaConf.to_container(HydraConfig.get(), resolve=True)
        inside["readonly"] = OmegaConf.is_readonly(HydraConfig.get())
        cfg.x = 99.0  # its own copy: nothing written down changes
        if fails:
            raise RuntimeError("a failing task")
        return 1.5

    seen = Seen()
    context = HydraContext(config_loader=hydra.config_loader, callbacks=seen)
    if own:
        result = run_job(context, task, config)
    else:
        result = utils.run_job(task, config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
    return {
        "inside": inside,
        "calls": seen.calls,
        "files": {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*.yaml")},
        "status": result.status,
        "value": str(result._return_value),
        "cfg": OmegaConf.to_container(result.cfg),
        "hydra_cfg": OmegaConf.to_container(result.hydra_cfg),
        "overrides": result.overrides,
        "working_dir": Path(str(result.working_dir)),
        "name": result.task_name,
        "after": HydraConfig.instance().cfg,
        "cwd": Path.cwd(),
    }


@pytest.mark.parametrize(
    ("overrides", "fails"),
    [
        (["x=1", "mode='a: b'"], False),
        (["hydra.job.chdir=true", "+emoji='\U0001f600 \u00e9'"], False),
        (["hydra.output_subdir=null", "hydra.job_logging.disable_existing_loggers=false"], True),
        (["+seen=${hydra:job.num}", "+hydra.job.env_set.TOY=set", "x='7'"], False),
    ],
)
def test_run_job_gives_what_hydras_run_job_gives(overrides, fails, tmp_path, monkeypatch):
    version.setbase(None)
    monkeypatch.chdir(tmp_path)
    left = []
    for own in (False, True):
        HydraConfig.instance().cfg = None
        GlobalHydra.instance().clear()
        left.append(job(own, tmp_path / "jobs", *overrides, fails=fails))
        for path in (tmp_path / "jobs").rglob("*.yaml"):
            path.unlink()
    theirs, ours = left
    assert ours == theirs
    assert ours["status"] == (JobStatus.FAILED if fails else JobStatus.COMPLETED)
    assert bool(ours["files"]) != ("hydra.output_subdir=null" in overrides)


@pytest.mark.parametrize(
    "text",
    ["plain", "1e3", "yes", "a: b # c", "two\nlines\n  in", "word " * 60, "\u00e9\u65e5\u672c", "\U0001f600", ""],
)
def test_a_dump_is_as_omegaconf_writes_it(text):
    config = OmegaConf.create({"a": text, "b": [text, {"c": None, "d": 1e-5}], "e": "${a}"})
    assert to_yaml(config) == OmegaConf.to_yaml(config)
