"""`eyegender` alone: what it lists, and what it says of a command that does not exist."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec

import pytest

from eyegender.__main__ import COMMANDS, main
from eyegender.core.config_files import config_folder
from tests.unit.docs.pages import ROOT


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["eyegender", *arguments])
    main()


def test_every_command_is_a_module_with_a_config() -> None:
    assert sorted(COMMANDS) == sorted(path.stem for path in config_folder("conf").glob("*.yaml"))
    assert all(find_spec(f"eyegender.{name.replace('-', '_')}") for name in COMMANDS)


def test_the_installed_script_calls_main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"eyegender": "eyegender.__main__:main"}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_it_lists_every_command_in_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, *arguments)
    lines = capsys.readouterr().out.splitlines()
    listed = [found[1] for line in lines if (found := re.match(r"  ([a-z-]+) +[A-Z].+\.$", line))]
    assert listed == [*COMMANDS]
    assert all(len(line) <= 80 for line in lines)


def test_it_prints_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    call(monkeypatch, "--version")
    assert capsys.readouterr().out == f"eyegender {version}\n"


@pytest.mark.parametrize(
    ("typed", "repair"),
    [
        ("trian", "got trian; did you mean train?"),
        ("comapre", "got comapre; did you mean compare?"),
        ("eyegender.train", "got eyegender.train; did you mean train?"),
        ("frobnicate", f"got frobnicate; known: {', '.join(COMMANDS)}"),
        ("model=inception_v3", "got model=inception_v3; write `eyegender train model=inception_v3`, or see --help"),
        ("-m", "got -m; write `eyegender train -m`, or see --help"),
        ("a\nb", f"got a\\nb; known: {', '.join(COMMANDS)}"),
    ],
)
def test_an_unknown_command_is_one_line_with_the_nearest_name(
    typed: str, repair: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, typed, "x=1")
    assert capsys.readouterr().err == f"eyegender: the first argument must be a command, {repair}\n"


def test_listing_the_commands_imports_not_even_hydra() -> None:
    code = "import sys; from eyegender.__main__ import main; main(); assert not {'hydra', 'torch'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_subcommand_is_what_the_module_is() -> None:
    # Lightning, joblib and Hydra's submitit launcher start further processes from __main__.
    code = (
        "import runpy, sys\nsys.argv = ['eyegender', 'train', '--cfg', 'hydra', 'seed=3']\n"
        "import hydra\nreal = hydra.main\n"
        "def spy(**given):\n"
        "    print('main is', sys.modules['__main__'].__spec__.name, sys.argv[0].endswith('eyegender/train.py'))\n"
        "    return real(**given)\n"
        "hydra.main = spy\n"
        "runpy.run_module('eyegender', run_name='__main__', alter_sys=True)\n"
    )
    short = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    long = [sys.executable, "-m", "eyegender.train", "--cfg", "hydra", "seed=3"]
    first, _, printed = short.stdout.partition("\n")
    assert first == "main is eyegender.train True", short.stderr
    assert printed == subprocess.run(long, capture_output=True, text=True, timeout=60).stdout
    assert "name: train\n" in printed


def test_the_exit_code_of_a_subcommand_is_that_of_the_command() -> None:
    wrong = [sys.executable, "-m", "eyegender", "promote", "nme=1"]
    done = subprocess.run(wrong, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.endswith("did you mean name?\n")
