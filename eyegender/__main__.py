"""The command `eyegender`: runs its subcommands, lists them, and installs completion."""

from __future__ import annotations

import re
import runpy
import sys
from difflib import get_close_matches
from importlib import metadata

from eyegender.core.command_line import completion
from eyegender.core.errors import USER_MISTAKE, UserError, one_line
from eyegender.core.standard_streams import make_output_safe

# In the order in which they are used. Each is a module, with a config of the same name in conf/.
COMMANDS = (
    "audit", "train", "study", "compare", "promote", "evaluate", "predict", "export", "export-report", "demo", "sync",
)  # fmt: skip
_FLAGS = {
    "-h, --help": "show this text; after a command, its keys",
    "--version": "show the version",
    "--install-completion [SHELL]": "complete commands and keys in bash, zsh or fish",
    "--show-completion [SHELL]": "print the script for that, and install nothing",
}


def main() -> None:
    """Run the subcommand that the first argument names, exactly as `python -m eyegender.NAME` does."""
    make_output_safe()
    match sys.argv[1:]:
        case [] | ["-h" | "--help", *_]:
            print(_overview(), end="")
        case ["--version", *_]:
            print(f"eyegender {metadata.version('eyegender')}")
        case ["--complete", line]:
            print(*completion.candidates(line, COMMANDS), sep="\n")
        case [("--install-completion" | "--show-completion") as flag, *arguments]:
            try:
                shell = completion.shell_of(arguments)
                said = (
                    completion.install(shell) if flag == "--install-completion" else completion.script(shell).rstrip()
                )
            except UserError as error:
                print(f"eyegender: {error}", file=sys.stderr)
                sys.exit(USER_MISTAKE)
            print(said)
        case [name, *arguments] if name in COMMANDS:
            sys.argv[1:] = arguments
            # As __main__, so that Lightning and joblib start further processes with the command of the module.
            runpy.run_module(f"eyegender.{name.replace('-', '_')}", run_name="__main__", alter_sys=True)
        case [word, *_]:
            print(f"eyegender: {one_line(_unknown(word))}", file=sys.stderr)
            sys.exit(USER_MISTAKE)


def _overview() -> str:
    """Every subcommand with the first sentence of its config file."""
    from eyegender.core.command_line.config_comments import read_config
    from eyegender.core.config_files import config_folder

    lines = ["Usage: eyegender COMMAND [KEY=VALUE ...]", "", "Commands"]
    for name in COMMANDS:
        about = read_config(config_folder("conf") / f"{name}.yaml").about
        lines.append(f"  {name:<13} {re.split(r'(?<=[.])(?= |$)', about)[0]}")
    lines += ["", "Options", *(f"  {flag:<30} {text}" for flag, text in _FLAGS.items())]
    return "\n".join([*lines, ""])


def _unknown(word: str) -> str:
    if "=" in word or word in {"-m", "--multirun"}:
        return f"the first argument must be a command, got {word}; write `eyegender train {word}`, or see --help"
    nearest = get_close_matches(word.removeprefix("eyegender."), COMMANDS, n=1, cutoff=0.5)
    repair = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(COMMANDS)}"
    return f"the first argument must be a command, got {word}; {repair}"


if __name__ == "__main__":
    main()
