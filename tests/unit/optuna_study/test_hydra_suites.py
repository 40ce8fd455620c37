"""Hydra's own suites for sweepers, run on this one through three launchers.

Adapted only where no Optuna sweeper can meet what they assume: a task must return a number, something must be swept,
and trials come in the sampler's order, in one list.
"""

from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.test_utils import launcher_common_tests
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, IntegrationTestSuite
from hydra.test_utils.test_utils import SweepTaskFunction, integration_test
from omegaconf import OmegaConf

LAUNCHERS = ["basic", "joblib", "submitit_local"]

# The suite's application returns nothing.
RETURN_A_NUMBER = """
import functools
decorate = hydra.main

def main(**arguments):
    def decorated(task):
        @functools.wraps(task)
        def counted(cfg):
            task(cfg)
            return 0.0
        return decorate(**arguments)(counted)
    return decorated

hydra.main = main
"""


def sweeping(overrides: list[str]) -> list[str]:
    """The same overrides, in which something is swept: the first plain value, or a key of its own."""
    plain = next((line for line in overrides if not line.startswith(("-", "hydra", "+"))), None)
    if plain is None:
        return [*overrides, "+swept=choice(0)"]
    key, _, value = plain.partition("=")
    return [f"{key}=choice({value})" if line == plain else line for line in overrides]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [
        ({}, ["-m", "hydra/sweeper=optuna_study", "hydra.sweeper.n_trials=1", "hydra.sweeper.storage=sqlite:///s.db",
              f"hydra/launcher={launcher}"])
        for launcher in LAUNCHERS
    ],
    ids=LAUNCHERS,
)  # fmt: skip
class TestIntegration(IntegrationTestSuite):
    @pytest.fixture(autouse=True)
    def _adapted(self, monkeypatch):
        def adapted(*args, overrides, **kwargs):
            return integration_test(*args, overrides=sweeping(overrides), prolog=RETURN_A_NUMBER, **kwargs)

        monkeypatch.setattr(launcher_common_tests, "integration_test", adapted)


class OptunaSweep(SweepTaskFunction):
    """The suite's sweep, which finds what each trial left in the place of what a launcher would have returned."""

    def __enter__(self) -> "OptunaSweep":
        super().__enter__()
        jobs = [job_of(path) for path in Path(str(self.temp_dir)).glob("*/.hydra")]
        jobs.sort(key=lambda job: (job.cfg.foo, job.cfg.bar))
        self.returns = [jobs[start : start + 2] for start in range(0, len(jobs), 2)]
        return self


def job_of(folder: Path) -> JobReturn:
    hydra = OmegaConf.load(folder / "hydra.yaml")
    return JobReturn(
        overrides=OmegaConf.to_container(OmegaConf.load(folder / "overrides.yaml")),
        cfg=OmegaConf.load(folder / "config.yaml"),
        hydra_cfg=hydra,
        working_dir=str(folder.parent),
        task_name=hydra.hydra.job.name,
        status=JobStatus.COMPLETED,
    )


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:")  # the suite asks for no version_base, of which Hydra warns
@pytest.mark.parametrize(
    ("launcher_name", "overrides"),
    [
        (launcher, ["hydra/sweeper=optuna_study", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=6",
                    "hydra.sweeper.n_jobs=2", "hydra.sweeper.storage=sqlite:///s.db"])
        for launcher in LAUNCHERS
    ],
    ids=LAUNCHERS,
)  # fmt: skip
class TestBatches(BatchedSweeperTestSuite):
    @pytest.fixture
    def hydra_sweep_runner(self):
        def runner(**arguments):
            sweep = OptunaSweep()
            for name, value in arguments.items():
                setattr(sweep, name, value)
            sweep.temp_dir = str(sweep.temp_dir)
            sweep.configure_logging = True
            return sweep

        return runner
