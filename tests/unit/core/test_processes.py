"""The forked commands of tests behave like processes that are started by hand."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.processes import Command, run

SCRIPT = """
import atexit, os, sys, threading, time
atexit.register(print, "at the end")
threading.Timer(0.1, print, ["a thread"]).start()
print(__name__, sys.argv[1:], os.getcwd(), os.environ["COLOR"], "mlflow" in sys.modules)
print("an error", file=sys.stderr)
if "wait" in sys.argv:
    sys.stdout.flush()
    time.sleep(60)
sys.exit(3)
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "script.py").write_text(SCRIPT)
    return str(tmp_path / "script.py")


def test_a_command_has_its_own_arguments_folder_environment_output_and_status(script: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    done = run(script, "a", "b c", cwd=tmp_path / "elsewhere", env={"COLOR": "red"})
    first = f"__main__ ['a', 'b c'] {tmp_path / 'elsewhere'} red True"
    assert done.stdout.splitlines() == [first, "a thread", "at the end"]
    assert (done.returncode, done.stderr) == (3, "an error\n")


def test_a_signal_ends_a_command(script: str) -> None:
    command = Command(script, "wait", env={"COLOR": "red"})
    while "__main__" not in command.said():
        assert command.returncode is None
    command.send_signal(signal.SIGTERM)
    command.communicate()
    assert command.returncode == -signal.SIGTERM


def test_a_timeout_ends_a_command(script: str) -> None:
    command = Command(script, "wait", env={"COLOR": "red"})
    with pytest.raises(subprocess.TimeoutExpired):
        command.communicate(timeout=0.5)
    assert command.returncode == -signal.SIGKILL


def test_an_uncaught_error_is_status_1(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("raise RuntimeError('uncaught')")
    done = run(str(tmp_path / "script.py"))
    assert done.returncode == 1
    assert "RuntimeError: uncaught" in done.stderr
