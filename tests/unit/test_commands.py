"""Help and wrong overrides of the commands for finished runs: at once, and in one line."""

import subprocess
import sys

import pytest

COMMANDS = ("compare", "evaluate", "predict", "promote", "export", "export-report", "demo")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("argument", ["--help", "tracking.experiment="])
def test_what_needs_no_network_imports_no_torch(command: str, argument: str) -> None:
    module = command.replace("-", "_")
    done = run(
        "import sys, runpy\n"
        f"sys.argv = ['eyegender.{module}', {argument!r}]\n"
        "code = 0\n"
        f"try:\n    runpy.run_module('eyegender.{module}', run_name='__main__')\n"
        "except SystemExit as end:\n    code = end.code\n"
        "heavy = {'torch', 'mlflow', 'pandas', 'matplotlib', 'PIL', 'fastapi'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code or 0)\n"
    )
    if argument == "--help":
        assert done.returncode == 0, done.stderr
        assert f"eyegender {command}" in done.stdout
    else:
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("audit", ["data=folder", "data.root=nowhere"]),
        ("audit", ["data=celeba", "data.root=nowhere"]),
        ("evaluate", ["model=x", "data=folder", "data.root=nowhere"]),
    ],
)
def test_a_wrong_folder_is_reported_before_torch_is_imported(module: str, arguments: list[str]) -> None:
    done = run(
        "import sys, runpy\n"
        f"sys.argv = ['eyegender.{module}', *{arguments!r}]\n"
        f"try:\n    runpy.run_module('eyegender.{module}', run_name='__main__')\n"
        "finally:\n    assert 'torch' not in sys.modules\n"
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("eyegender: data.root must ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "argument", "message"),
    [
        ("predict", "min_confidense=1", "did you mean min_confidence?"),
        ("promote", "min_confidence=1", "there is no such key, see --help"),  # a key of another command
        ("train", "hydra.job_logging.formatters=2", "got 'int' object is not iterable; correct them"),
        ("train", "data.reader.separation=none", "must be a number, got 'none'; correct it"),
        ("train", "data.reader.size=[null,null]", "must be a whole number, got [None, None]; correct it"),
    ],
)
def test_a_wrong_key_or_value_is_one_line(command: str, argument: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"eyegender.{command}", argument], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.strip().endswith(message)
    assert len(done.stderr.strip().splitlines()) == 1


def test_ctrl_c_is_one_line() -> None:
    done = run(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background parent ignores it
        "from eyegender.core.command import command\n"
        "sys.argv = ['eyegender.promote', 'run=x']\n"
        "command('promote', groups=('tracking',))(lambda cfg: os.kill(os.getpid(), signal.SIGINT))()\n"
    )
    assert (done.returncode, done.stderr) == (130, "eyegender: interrupted\n")
