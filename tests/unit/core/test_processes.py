"""A forked command is a process like one that was started by hand."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.processes import Command, run

SCRIPT = """
import atexit, os, sys, threading, time
atexit.register(print, "at the end")
threading.Timer(0.1, print, ["a thread"]).start()
print(__name__, sys.argv[1:], os.getcwd(), os.environ["COLOUR"], "mlflow" in sys.modules)
print("told", file=sys.stderr)
if "wait" in sys.argv:
    sys.stdout.flush()
    time.sleep(60)
sys.exit(3)
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "script.py").write_text(SCRIPT)
    return str(tmp_path / "script.py")


def test_arguments_folder_environment_output_and_status_are_its_own(script: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    done = run(script, "a", "b c", cwd=tmp_path / "elsewhere", env={"COLOUR": "red"})
    first = f"__main__ ['a', 'b c'] {tmp_path / 'elsewhere'} red True"
    assert done.stdout.splitlines() == [first, "a thread", "at the end"]
    assert (done.returncode, done.stderr) == (3, "told\n")


def test_it_dies_of_signals(script: str) -> None:
    command = Command(script, "wait", env={"COLOUR": "red"})
    while "__main__" not in command.said():
        assert command.returncode is None
    command.send_signal(signal.SIGTERM)
    command.communicate()
    assert command.returncode == -signal.SIGTERM


def test_it_is_ended_when_it_is_late(script: str) -> None:
    command = Command(script, "wait", env={"COLOUR": "red"})
    with pytest.raises(subprocess.TimeoutExpired):
        command.communicate(timeout=0.5)
    assert command.returncode == -signal.SIGKILL


def test_an_error_that_nobody_catches_is_status_1(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("raise RuntimeError('seen by nobody')")
    done = run(str(tmp_path / "script.py"))
    assert done.returncode == 1
    assert "RuntimeError: seen by nobody" in done.stderr
