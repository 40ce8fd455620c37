"""Running the toy as a sweep, in this process or as the command a user would type."""

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra

from tests import processes

HERE = Path(__file__).parent
TOY = HERE / "toy.py"


def multirun(
    task: Callable[..., Any],
    *overrides: str,
    config_dir: Path = HERE / "conf",
    name: str = "config",
    version_base: str | None = None,
) -> Any:
    """Sweep a task function in this process; what the sweeper returns."""
    GlobalHydra.instance().clear()
    version.setbase(version_base)  # as @hydra.main would
    hydra = Hydra.create_main_hydra2("toy", create_config_search_path(str(config_dir)))
    handlers = [handler for handler in logging.root.handlers if type(handler).__module__.startswith("_pytest")]
    level = logging.root.level
    try:
        return hydra.multirun(name, task, ["hydra.mode=MULTIRUN", *overrides], with_log_configuration=False)
    finally:
        GlobalHydra.instance().clear()
        # Hydra's write to what pytest captures of this test alone.
        for handler in set(logging.root.handlers) - set(handlers):
            handler.close()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


def start(*overrides: str, env: dict[str, str] | None = None, session: bool = False) -> processes.Command:
    """The toy's sweep as a command of its own."""
    return processes.Command(str(TOY), "-m", *overrides, env=env, session=session)


def run(*overrides: str, env: dict[str, str] | None = None, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run the toy's sweep as a command of its own; `check` is the exit status it must have, if any."""
    done = processes.run(str(TOY), "-m", *overrides, env=env)
    assert check is None or done.returncode == check, done.stdout + done.stderr
    return done


def load(name: str = "toy", url: str = "sqlite:///study.db") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=url)


def states(name: str = "toy", url: str = "sqlite:///study.db") -> list[str]:
    """The state of every stored trial, by number."""
    return [trial.state.name for trial in load(name, url).get_trials(deepcopy=False)]
