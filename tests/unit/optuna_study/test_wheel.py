"""What the wheel of the sweeper alone declares: its version, and every package that the sweeper imports."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from hydra_plugins.optuna_study import StudyError
from hydra_plugins.optuna_study._search_space import _packages
from tests.unit.optuna_study.sweeping import multirun

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "hydra_plugins/optuna_study"
MODULES = {"hydra-core": "hydra", "pyyaml": "yaml"}
# Only with launchers that bring it.
OPTIONAL = {"submitit", "kubernetes"}


def project(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def requirements(lines: list[str]) -> dict[str, str]:
    return dict(re.match(r"([\w-]+)(.*)", line).groups() for line in lines)


def imported() -> set[str]:
    found: set[str] = set()
    for path in PLUGIN.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return found - set(sys.stdlib_module_names)


def test_it_declares_all_that_the_sweeper_imports_and_nothing_else() -> None:
    declared = {MODULES.get(name, name) for name in requirements(project(ROOT / "sweeper")["dependencies"])}
    assert imported() - OPTIONAL - {"hydra_plugins"} == declared


def test_it_has_the_version_and_the_bounds_of_eyegender() -> None:
    own, whole = project(ROOT / "sweeper"), project(ROOT)
    for key in ("version", "requires-python", "license"):
        assert own[key] == whole[key]
    bounds = requirements(whole["dependencies"])
    for name, bound in requirements(own["dependencies"]).items():
        assert bounds.get(name, bound) == bound, name


@pytest.mark.parametrize(
    ("sampler", "missing"), [("cmaes", "cmaes"), ("gp", "torch and scipy"), ("qmc", "scipy"), ("tpe", None)]
)
def test_a_sampler_without_its_packages_is_refused_before_the_study(
    sampler: str, missing: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_packages, "find_spec", lambda _: None)
    arguments = (f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=1", "hydra.sweeper.storage=sqlite:///a.db")
    if missing is None:
        multirun(lambda cfg: float(cfg.x), *arguments, "x=interval(0,1)")
        return
    with pytest.raises(StudyError, match=f"needs the package {missing}, which is not installed; install {missing},"):
        multirun(lambda cfg: float(cfg.x), *arguments, "x=interval(0,1)")
    assert not (tmp_path / "a.db").exists()
