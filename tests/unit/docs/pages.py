"""README and the site's pages as tests read them: their commands, their inline code and their links."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# The hooks of the site, the generator of the reference, and the examples.
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "docs/examples")]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def ours_of(page: Path) -> str:
    """The text of a page; the page for users of other tools without the first column of its tables, which is theirs."""
    text = page.read_text()
    return re.sub(r"^\| [^|]* \|", "| |", text, flags=re.MULTILINE) if page.name == "coming-from.md" else text


def commands_in(text: str) -> list[list[str]]:
    """The words of each command: behind a `$` in a console block, each line of a shell block, ours in a script.

    `python -m eyegender.train` becomes `eyegender train`.
    """
    from copied_commands import commands

    found: list[str] = []
    for kind, block in re.findall(r"^```(console|shell|bash)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if kind == "console":
            found += commands(block)
        elif kind == "shell":
            found += [line for line in block.splitlines() if line and not line.startswith("#")]
        else:
            found += [line for line in block.splitlines() if re.match(r"python -m eyegender|eyegender ", line)]
    return [_in_short(shlex.split(command.replace("\\\n", "").removesuffix(" &"), comments=True)) for command in found]


def _in_short(words: list[str]) -> list[str]:
    if words[:2] == ["python", "-m"] and words[2].startswith("eyegender."):
        return ["eyegender", words[2].removeprefix("eyegender."), *words[3:]]
    return words


def inline_code(text: str) -> list[str]:
    """What stands between single backticks, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text))


def links(text: str) -> list[str]:
    """Targets of links and images, those of the web left out."""
    found = re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", text))
    return [target for target in found if "://" not in target]
