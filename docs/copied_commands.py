"""What the copy button of a console block copies: its commands, without prompts, comments and output.

Material for MkDocs copies the attribute `data-copy` of an element around the block, if there is one. Comments are left
out because zsh, the shell of macOS, takes a `#` that is typed or pasted for an argument.
"""

from __future__ import annotations

import re
import shlex
from html import escape, unescape
from typing import Any

PROMPT, CONTINUED = "$ ", "> "
_BLOCK = re.compile(r'(<div class="language-console highlight")(>.*?</div>)', re.DOTALL)


def commands(block: str) -> list[str]:
    """The commands of a console block; one that goes on in further lines keeps them."""
    found: list[list[str]] = []
    is_open = False
    for line in block.splitlines():
        if line.startswith(PROMPT):
            found.append([line.removeprefix(PROMPT)])
        elif is_open:
            found[-1].append(line.removeprefix(CONTINUED))
        else:
            continue  # output
        is_open = _goes_on("\n".join(found[-1]))
    return [_without_comment("\n".join(lines)) for lines in found]


def _goes_on(command: str) -> bool:
    """Whether a shell would wait for another line."""
    try:
        shlex.split(_without_comment(command))
    except ValueError:  # an open quote, or a backslash at the end
        return True
    return False


def _without_comment(command: str) -> str:
    quote, before = "", " "
    for position, letter in enumerate(command):
        if before == "\\" and quote != "'":
            before = ""
            continue
        if letter == quote:
            quote = ""
        elif letter in "'\"" and not quote:
            quote = letter
        elif letter == "#" and not quote and before.isspace():
            return command[:position].rstrip()
        before = letter
    return command.rstrip()


def on_page_content(html: str, **_: Any) -> str:
    """MkDocs' hook."""

    def with_attribute(block: re.Match[str]) -> str:
        copied = "\n".join(commands(unescape(re.sub(r"<[^>]+>", "", block[2].partition(">")[2]))))
        return f'{block[1]} data-copy="{escape(copied)}"{block[2]}' if copied else block[0]

    return _BLOCK.sub(with_attribute, html)
