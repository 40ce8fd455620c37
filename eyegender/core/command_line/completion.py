"""Completion of `eyegender` in bash, zsh and fish: scripts for the shells, and the answers to what they ask.

A script calls `eyegender --complete LINE` with the line up to the cursor, and gets one candidate for the last word per
line. Keys and options come from Hydra, which composes the config of what was typed before.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.atomic_write import atomic_write
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

SHELLS = ("bash", "zsh", "fish")
_FLAGS = ("--cfg", "--config-dir", "--help", "--hydra-help", "--info", "--multirun")
_SCRIPTS = {
    "bash": r"""# Completion of eyegender in bash; readline replaces only what follows the last = or : of a word.
_eyegender() {
    local line="${COMP_LINE:0:COMP_POINT}" left="" IFS=$'\n'
    local word="${line##* }"
    [[ $COMP_WORDBREAKS == *=* ]] && left="${word%"${word##*[=:]}"}"
    COMPREPLY=($("${COMP_WORDS[0]}" --complete "$line" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$left"}")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} != *[=./] ]] && COMPREPLY[0]+=" "
}
complete -o nospace -o default -F _eyegender eyegender
""",
    "zsh": r"""#compdef eyegender
# Completion of eyegender in zsh.
_eyegender() {
    local candidate
    local -a open closed
    for candidate in ${(f)"$(${words[1]} --complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)"}; do
        if [[ $candidate == *[=./] ]]; then open+=$candidate; else closed+=$candidate; fi
    done
    if (( $#open + $#closed )); then
        compadd -S '' -a open
        compadd -a closed
    else
        compset -P '*='
        _files
    fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _eyegender eyegender
""",
    "fish": r"""# Completion of eyegender in fish.
complete -c eyegender -f -a '(eyegender --complete (commandline -cp) 2>/dev/null)'
""",
}


def script(shell: str) -> str:
    """The script that a shell sources."""
    return _SCRIPTS[shell]


def shell_of(arguments: Sequence[str]) -> str:
    """The shell that the arguments name, or that of the user.

    Raises:
        UserError: there is no completion for that shell.
    """
    shell = arguments[0] if arguments else Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise UserError(f"completion works in {', '.join(SHELLS)}, got {shell or 'no shell'}; name one of them")
    return shell


def install(shell: str) -> str:
    """Write the script, and let the shell source it when it starts; says in lines what was done.

    Raises:
        UserError: a file cannot be written.
    """
    home = Path.home()
    if shell == "fish":  # it sources this folder by itself
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        path, startup = config / "fish/completions/eyegender.fish", None
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
        path = data / f"eyegender/completion.{shell}"
        startup = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc" if shell == "zsh" else home / ".bashrc"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(_SCRIPTS[shell])
        said = [f"Wrote    {path}"]
        if startup is not None:
            line = f'[ -f "{path}" ] && . "{path}"  # completion of eyegender'
            content = startup.read_text(encoding="utf-8", errors="surrogateescape") if startup.exists() else ""
            if line not in content.splitlines():
                with startup.open("a", encoding="utf-8") as file:
                    file.write(f"{'' if content.endswith(chr(10)) or not content else chr(10)}{line}\n")
                said.append(f"Added    a line to {startup} that reads it")
    except OSError as error:
        raise UserError(
            f"the completion must be written to {error.filename or path}, got {error.strerror}; print it with "
            f"eyegender --show-completion {shell}, and let your shell source it"
        ) from error
    return "\n".join([*said, f"Use      start a new {shell}; eyegender TAB completes commands, keys and options"])


def candidates(line: str, commands: Sequence[str]) -> list[str]:
    """What the last word of a command line may become; empty if nothing is known, for example after a mistake.

    Args:
        line: the line up to the cursor, which begins with the name of the program.
        commands: the subcommands.
    """
    words = line.split()
    word = "" if line.endswith(" ") or len(words) < 2 else words.pop()
    if len(words) < 2:
        known = [*commands, "--help", "--install-completion", "--show-completion", "--version"]
        return [name for name in known if name.startswith(word) and (word or name in commands)]
    command, *before = words[1:]
    if command not in commands:
        return []
    if word.startswith("-"):
        return [flag for flag in _FLAGS if flag.startswith(word)]
    found = _ask_hydra(command, " ".join([*before, word]))
    # `_common` is shared by the options of a group and is none itself.
    return [name for name in found if not name.partition("=")[2].startswith("_") and name.startswith(word)]


def _ask_hydra(command: str, line: str) -> list[str]:
    """What Hydra's completion answers for a line of overrides."""
    os.environ["COMP_LINE"] = f"eyegender {line}"
    sys.argv[1:] = ["--shell-completion", "query=bash"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        runpy.run_module(f"eyegender.{command.replace('-', '_')}", run_name="__main__", alter_sys=True)
    return printed.getvalue().split()
