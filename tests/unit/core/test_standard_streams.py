"""No command needs a terminal, UTF-8 or a reader of its output."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eyegender.core.standard_streams import log_in_utf8
from eyegender.training.interruptions import StopSignal
from hydra_plugins.optuna_study._heartbeat import Heartbeat, Stopped

# A command that prints like ours, writes a file and starts a process that prints.
COMMAND = """
import subprocess, sys
from pathlib import Path
from rich.console import Console
from rich.table import Table
from eyegender.core.command import command
from eyegender.core.errors import UserError

def task(cfg):
    print("eyes \\u00e9.png, \\u00b1 3\\u2026")
    table = Table("what")
    table.add_row("\\u2265 1")
    Console().print(table)
    print("and on standard error \\u2026", file=sys.stderr)
    with open("left", "w") as file:
        subprocess.run(["echo", "of a child"])
        file.write("whole")
    if cfg.run == "wrong":
        raise UserError("run must be right, got \\u2026; set run=")

sys.argv[0] = "eyegender.promote"
command(NAME, groups=("tracking",))(task)()
"""
CODE = COMMAND.replace("NAME", "'promote'")


def run(redirected: str, *arguments: str, code: str = CODE, **env: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", code, *(arguments or ("run=x",))]
    shell = ["bash", "-o", "pipefail", "-c", f'"$@" {redirected}', "bash", *line]
    return subprocess.run(
        shell, capture_output=True, text=True, timeout=120, env={**os.environ, **env}, encoding="utf-8"
    )


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-", "2>/dev/full", "| true"])
def test_a_command_finishes_if_streams_are_closed_full_or_unread(closed: str) -> None:
    done = run(closed)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert Path("left").read_text() == "whole"  # without the output of the child


def test_a_full_standard_output_is_named_in_the_error_after_the_work_is_done() -> None:
    done = run(">/dev/full")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[-1].startswith(
        "eyegender: standard output (stdout) must take what a command prints, got: No space left"
    )
    assert "hydra.run.dir" not in done.stderr
    assert "Traceback" not in done.stderr
    assert Path("left").read_text() == "whole"


def test_a_training_is_complete_even_if_its_output_was_lost() -> None:
    done = run(
        ">/dev/full", "seed=1", code=COMMAND.replace('NAME, groups=("tracking",)', "'train'").replace("run ", "seed ")
    )
    assert done.returncode == 0, done.stderr
    assert "standard output (stdout)" in done.stderr


@pytest.mark.parametrize("full", ["2>/dev/full", ">&- 2>&-"])
def test_a_mistake_has_its_exit_code_even_if_it_cannot_be_printed(full: str) -> None:
    assert run(full, "run=wrong").returncode == 2
    assert run(full, "rum=wrong").returncode == 2


@pytest.mark.parametrize(
    "env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_ascii_output_is_ascii(env: dict[str, str]) -> None:
    done = run("", "run=wrong", **env)
    assert done.returncode == 2
    assert "eyes \\xe9.png, +/- 3..." in done.stdout
    assert "\\u2265 1" in done.stdout
    assert done.stderr.splitlines()[-1] == "eyegender: run must be right, got ...; set run="
    assert (done.stdout + done.stderr).isascii()


def test_a_terminal_that_closes_stops_a_training_with_its_checkpoint_and_a_sweep_with_its_trials() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with StopSignal().caught() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.number == signal.SIGHUP
        with pytest.raises(Stopped, match="SIGHUP"), Heartbeat(None, 20.0, enabled=False).running():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal().caught() as stop, Heartbeat(None, 20.0, enabled=False).running() as heartbeat:
            os.kill(os.getpid(), signal.SIGHUP)
            assert (stop.number, heartbeat.signum) == (None, None)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_log_file_accepts_every_character_in_every_locale(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "train.log", encoding="ascii")
    logging.getLogger().addHandler(handler)
    try:
        log_in_utf8()
        logging.getLogger("eyegender").warning("é.png is unreadable")
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert (tmp_path / "train.log").read_text(encoding="utf-8") == "é.png is unreadable\n"
