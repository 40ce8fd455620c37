"""README and the site's pages as tests read them: their commands, their inline code and their links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def commands_in(text: str) -> list[list[str]]:
    """The words of each line that begins with `$` in a console block, and of each of our commands in a script.

    `python -m eyegender.train` becomes `eyegender train`.
    """
    blocks = re.findall(r"^```(console|bash)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ours = r"\$ |python -m eyegender|eyegender "
    lines = [line for _, block in blocks for line in block.splitlines() if re.match(ours, line)]
    words = [shlex.split(line.removeprefix("$ ").removesuffix(" &"), comments=True) for line in lines]
    return [_in_short(line) for line in words]


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
