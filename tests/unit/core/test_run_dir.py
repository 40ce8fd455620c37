"""`hydra.run.dir` is understood by every command, also where Hydra itself would ignore it."""

from __future__ import annotations

import pytest

from eyegender.core.errors import UserError
from eyegender.core.output_folder import rename_run_dir


@pytest.mark.parametrize("command", ["audit", "compare", "evaluate", "predict", "export", "study"])
def test_it_becomes_output_in_a_command_that_has_output(command: str) -> None:
    assert rename_run_dir(["a=1", "hydra.run.dir=out", "b=2"], command, sweep=False) == ["a=1", "b=2", "output=out"]
    assert rename_run_dir(["++hydra.run.dir='a b'"], command, sweep=False) == ["output='a b'"]
    assert rename_run_dir(["output=out", "hydra.run.dir=out"], command, sweep=False) == ["output=out"]
    assert rename_run_dir(["output=out"], command, sweep=False) == ["output=out"]
    with pytest.raises(UserError, match="output and hydra.run.dir must name one folder, got two; give only output=b"):
        rename_run_dir(["output=a", "hydra.run.dir=b"], command, sweep=False)


def test_it_is_hydras_own_in_a_run_and_the_folder_of_a_sweep() -> None:
    arguments = ["hydra.run.dir=out", "output=other"]  # the run says that they differ
    assert rename_run_dir(arguments, "train", sweep=False) == arguments
    sweep = ["-m", "seed=1,2"]
    assert rename_run_dir([*sweep, "hydra.run.dir=out"], "train", sweep=True) == [*sweep, "hydra.sweep.dir=out"]
    for other in ("hydra.sweep.dir=a", "output=a"):
        with pytest.raises(UserError, match="and hydra.run.dir must name one folder"):
            rename_run_dir([*sweep, other, "hydra.run.dir=out"], "train", sweep=True)


@pytest.mark.parametrize("command", ["promote", "demo", "sync"])
def test_a_command_without_files_leaves_it_to_hydra(command: str) -> None:
    assert rename_run_dir(["hydra.run.dir=out"], command, sweep=False) == ["hydra.run.dir=out"]
