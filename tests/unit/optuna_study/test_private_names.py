"""The private names of Optuna, Hydra, OmegaConf and submitit on which the sweeper depends, one module for each library.

They hold for the versions below, which `constraints.txt` pins. When one of these versions changes, this file says which
names to check.
"""

import ast
import importlib.metadata
import inspect
import re
from pathlib import Path

import optuna
import pytest
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.deprecation_warning import deprecation_warning
from hydra.core import utils
from hydra.core.utils import JobReturn
from omegaconf import OmegaConf
from omegaconf._utils import get_omega_conf_dumper
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import BaseModel
from optuna.study._multi_objective import _get_pareto_front_trials_by_trials
from optuna.study._tell import _tell_with_warning

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "hydra_plugins/optuna_study"
HOLD_FOR = {"optuna": "5.0", "hydra-core": "1.3", "omegaconf": "2.3", "submitit": "1.5"}
# Where each library's private names may be used.
HOMES = {"optuna": "_optuna.py", "hydra": "_job.py", "omegaconf": "_job.py", "submitit": "_launch.py"}


@pytest.mark.parametrize(("package", "version"), HOLD_FOR.items())
def test_the_pinned_versions_are_those_for_which_the_names_hold(package: str, version: str) -> None:
    pinned = re.search(rf"^{package}==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert pinned[1].startswith(f"{version}.")


def installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_private_names_of_optuna() -> None:
    assert installed("optuna").startswith(f"{HOLD_FOR['optuna']}.")
    assert parameters(_tell_with_warning)[:4] == ["study", "trial", "value_or_values", "state"]
    assert parameters(_get_pareto_front_trials_by_trials)[:2] == ["trials", "directions"]
    assert parameters(optuna.Trial._suggest) == ["self", "name", "distribution"]
    assert parameters(optuna.distributions.FloatDistribution._contains) == ["self", "param_value_in_internal_repr"]
    study = optuna.create_study()
    trial = study.ask()
    assert trial._trial_id == study.get_trials()[0]._trial_id
    assert study._thread_local.cached_all_trials is None
    assert parameters(_CachedStorage._read_trials_from_remote_storage) == ["self", "study_id"]
    cached = optuna.storages.get_storage("sqlite://")
    read = optuna.create_study(storage=cached)
    read.ask()
    cached._read_trials_from_remote_storage(read._study_id)  # type: ignore[attr-defined]
    known = cached._studies[read._study_id]  # type: ignore[attr-defined]
    assert (list(known.trials), known.unfinished_trial_ids) == ([0], {1})
    assert cached._backend.engine.name == "sqlite"  # type: ignore[attr-defined]
    columns = {name: set(table.columns.keys()) for name, table in BaseModel.metadata.tables.items()}
    assert {"trial_id", "study_id", "state", "datetime_start"} <= columns["trials"]
    assert {"trial_id", "key", "value_json"} <= columns["trial_system_attributes"]
    new = optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING)
    new.number, new._trial_id = 7, 9
    assert (new.number, new._trial_id) == (7, 9)


def test_private_names_of_hydra() -> None:
    assert installed("hydra-core").startswith(f"{HOLD_FOR['hydra-core']}.")
    assert parameters(ConfigLoaderImpl._apply_overrides_to_config) == ["overrides", "cfg"]
    assert parameters(get_overrides_dirname) == ["overrides", "exclude_keys", "item_sep", "kv_sep"]
    assert parameters(deprecation_warning) == ["message", "stacklevel"]
    assert parameters(utils._flush_loggers) == []
    assert parameters(Callbacks)[0] == "config"
    assert all(each.default is not inspect.Parameter.empty for each in inspect.signature(Callbacks).parameters.values())
    result = JobReturn()
    result.return_value = KeyError("x")
    assert isinstance(result._return_value, KeyError)  # type: ignore[attr-defined]


def test_private_names_of_omegaconf() -> None:
    assert installed("omegaconf").startswith(f"{HOLD_FOR['omegaconf']}.")
    assert callable(get_omega_conf_dumper().str_representer)
    parent, child = OmegaConf.create({"a": 1}), OmegaConf.create({"b": "${a}"})
    child._set_parent(parent)
    assert child.b == 1
    assert list(parent._content) == ["a"]


def test_names_of_submitit() -> None:
    assert installed("submitit").startswith(f"{HOLD_FOR['submitit']}.")
    from submitit import Job
    from submitit.core.utils import JobPaths, UncompletedJobError
    from submitit.slurm.slurm import SlurmJob

    assert parameters(Job.results) == parameters(SlurmJob.results) == ["self"]
    assert {"result_pickle", "stderr", "folder"} <= set(dir(JobPaths(".")))
    assert UncompletedJobError.__module__.startswith("submitit.")


def private_uses(path: Path) -> set[str]:
    """Private attributes of objects other than `self` and `cls`, and imports of private names or modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and re.match(r"_(?!_|target_)", node.attr):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            found |= set() if is_own else {node.attr}
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found |= {name for name in names if re.match(r"_(?!_)", name)}
    return found


def test_private_names_are_used_in_one_module_for_each_library() -> None:
    used = {path.name: private_uses(path) for path in PLUGIN.glob("*.py")}
    assert {name for name, names in used.items() if names} == {HOMES["hydra"], HOMES["optuna"]}
    assert "_internal" in used[HOMES["hydra"]]
    assert "_tell_with_warning" in used[HOMES["optuna"]]
    imports = re.compile(r"^\s*(import|from) submitit", re.MULTILINE)
    assert {path.name for path in PLUGIN.glob("*.py") if imports.search(path.read_text())} == {HOMES["submitit"]}
