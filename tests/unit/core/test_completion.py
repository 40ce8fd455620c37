"""Completion: what the shells are told, and what a real bash makes of it."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from eyegender.__main__ import COMMANDS, main
from eyegender.core.command_line.completion import SHELLS, candidates, install, script, shell_of
from eyegender.core.errors import UserError
from tests.unit.docs.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TYPED = b"eyegender trai\tmodel=incep\tdata.split.b\t\t\n"
STARTS = {"bash": ["bash", "-i"], "zsh": ["zsh", "-i"], "fish": ["script", "-qfc", "fish -i", "/dev/null"]}


def answer(line: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "eyegender", "--complete", line], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_first_word_is_a_command() -> None:
    assert candidates("eyegender ", COMMANDS) == [*COMMANDS]
    assert candidates("eyegender", COMMANDS) == [*COMMANDS]
    assert candidates("eyegender co", COMMANDS) == ["compare"]
    assert candidates("eyegender --i", COMMANDS) == ["--install-completion"]
    assert candidates("eyegender frobnicate x", COMMANDS) == []
    assert candidates("eyegender train --he", COMMANDS) == ["--help"]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("eyegender train model=mob", ["model=mobilenet_v2"]),
        ("eyegender train data=folder data.ro", ["data.root="]),
        ("eyegender train -m +sweeps=fin", ["+sweeps=finetune"]),
        ("eyegender train model.l", ["model.label_smoothing=", "model.lr="]),
        ("eyegender train features=", ["features=auto", "features=off", "features=on"]),  # not _common
        ("eyegender compare pi", ["pick="]),
        ("eyegender predict tracking=s", ["tracking=server"]),
        ("eyegender train model=nonsense data.r", []),
    ],
)
def test_further_words_are_keys_and_options(line: str, wanted: list[str]) -> None:
    assert answer(line) == wanted


def test_the_shell_is_the_users_own_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert (shell_of([]), shell_of(["zsh"])) == ("fish", "zsh")
    for shell, named in (("/bin/tcsh", []), ("/bin/bash", ["tcsh"])):
        monkeypatch.setenv("SHELL", shell)
        with pytest.raises(UserError, match="completion works in bash, zsh, fish, got tcsh; name one of them"):
            shell_of(named)
    monkeypatch.delenv("SHELL")
    with pytest.raises(UserError, match="got no shell"):
        shell_of([])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("shell", "startup"), [("bash", ".bashrc"), ("zsh", ".zshrc")])
def test_installing_adds_one_line_once_and_keeps_the_rest(home: Path, shell: str, startup: str) -> None:
    (home / startup).write_text("alias ll='ls -l'")  # without an end of line
    assert f"Added    a line to {home / startup}" in install(shell)
    assert "Added" not in install(shell)
    first, second = (home / startup).read_text().splitlines()
    assert (first, second.count("completion of eyegender")) == ("alias ll='ls -l'", 1)
    assert (home / f".local/share/eyegender/completion.{shell}").read_text() == script(shell)


def test_fish_reads_its_folder_of_completions(home: Path) -> None:
    assert "Added" not in install("fish")
    assert (home / ".config/fish/completions/eyegender.fish").read_text() == script("fish")


def test_a_home_that_cannot_be_written_to_is_one_line(home: Path) -> None:
    (home / ".local").write_text("")
    with pytest.raises(UserError, match="print it with eyegender --show-completion bash, and let your shell source it"):
        install("bash")


def test_the_command_prints_the_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for shell in SHELLS:
        monkeypatch.setattr(sys, "argv", ["eyegender", "--show-completion", shell])
        main()
        assert capsys.readouterr().out == script(shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_tab_key_in_a_real_shell(shell: str, home: Path) -> None:
    """What a person types arrives completed: the line editor of the shell itself replaces the words."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    program = home / "bin/eyegender"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\ncase "$1" in --complete) exec {sys.executable} -m eyegender "$@" ;; esac\n'
        f'printf "%s\\n" "$@" > {home}/got.part; mv {home}/got.part {home}/got\n'
    )
    program.chmod(0o755)
    if shell == "bash":
        install(shell)  # as a new shell of a user has it
    else:
        (home / ".zshrc").write_text(f"autoload -Uz compinit; compinit -u\n{script('zsh')}")
        (home / ".config/fish/completions").mkdir(parents=True)
        (home / ".config/fish/completions/eyegender.fish").write_text(script("fish"))
    path = f"{program.parent}:{os.environ['PATH']}"
    env = {"HOME": str(home), "PATH": path, "TERM": "dumb", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    main_end, shell_end = pty.openpty()
    with subprocess.Popen(
        STARTS[shell], stdin=shell_end, stdout=shell_end, stderr=shell_end, env=env, cwd=home, start_new_session=True
    ) as process:
        os.close(shell_end)
        os.set_blocking(main_end, False)
        try:
            printed = _type(main_end, TYPED, home / "got")
        finally:
            process.kill()
            os.close(main_end)
    assert (home / "got").exists(), printed
    assert (home / "got").read_text().split() == ["train", "model=inception_v3", "data.split.by=person"]


def _type(terminal: int, keys: bytes, until: Path) -> str:
    """Type when the shell is there, and read what it shows until a file exists or two minutes are over."""
    shown, typed = b"", False
    began = time.monotonic()
    while not until.exists() and time.monotonic() - began < 120:
        try:
            shown += os.read(terminal, 10_000)
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:  # the shell has ended
            break
        if not typed and time.monotonic() - began > 2:
            os.write(terminal, keys)
            typed = True
    return shown.decode(errors="replace")
