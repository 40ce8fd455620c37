"""`import eyegender`: light, complete, and the same whatever was imported before."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import eyegender

ROOT = Path(__file__).parents[3]
HEAVY = {"torch", "mlflow", "optuna", "pandas", "pytorch_lightning", "matplotlib"}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_imports_nothing_heavy_nor_does_naming_its_functions() -> None:
    code = (
        "import sys, eyegender\n"
        "assert not {'hydra', 'omegaconf', 'numpy'} & set(sys.modules)\n"
        "for name in eyegender.__all__:\n    assert name in dir(eyegender); getattr(eyegender, name)\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run(code)


def test_composing_imports_no_torch() -> None:
    run("import sys, eyegender; eyegender.compose({'seed': 3}); assert 'torch' not in sys.modules")


@pytest.mark.parametrize("name", ["train", "compare", "promote"])
@pytest.mark.parametrize(
    "imports",
    [
        "import eyegender",
        "import eyegender; import eyegender.NAME",
        "import eyegender.NAME",
        "from eyegender.NAME import main; import eyegender",
        "import eyegender; eyegender.NAME; from eyegender.NAME import main",
    ],
)
def test_a_function_with_the_name_of_a_module_stays_both(name: str, imports: str) -> None:
    code = imports.replace("NAME", name) + (
        f"\nfrom eyegender import {name} as named\nimport importlib\n"
        f"module = importlib.import_module('eyegender.{name}')\n"
        f"assert eyegender.{name} is named is module\n"
        "assert callable(module) and callable(module.main)\n"
        "try:\n    module(3)\nexcept eyegender.UserError as error:\n    print(error)\n"
    )
    assert "got 3" in run(code) or name == "promote"


def test_the_modules_have_the_signature_of_their_functions() -> None:
    from eyegender.api.training import train

    assert inspect.signature(eyegender.train) == inspect.signature(train)
    assert next(iter(inspect.signature(eyegender.promote).parameters)) == "run"


def test_a_module_that_runs_as_a_command_is_not_changed() -> None:
    code = (
        "import runpy, sys\nsys.argv = ['eyegender.train', '--cfg', 'job']\n"
        "runpy.run_module('eyegender.train', run_name='__main__', alter_sys=True)\n"
    )
    assert "finetune_depth" in run(code)


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    try:
        installed = metadata.version("eyegender")
    except metadata.PackageNotFoundError:
        assert eyegender.__version__ == "0+unknown"
        return
    assert eyegender.__version__ == installed == project["version"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        eyegender.trian  # noqa: B018


def test_both_packages_are_typed() -> None:
    assert (ROOT / "eyegender/py.typed").is_file()
    assert (ROOT / "hydra_plugins/optuna_study/py.typed").is_file()
