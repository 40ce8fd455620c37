"""The one exception that is a user's to repair: every command prints it as a single line, without a traceback."""

from __future__ import annotations


def one_line(text: str) -> str:
    """`text` with whatever cannot be printed spelt out: a file's name must not break lines or steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UserError(Exception):
    """A mistake in what was typed or given, told as rule, value received and repair, in one line.

    `details` are further lines for the cases where a list is what helps (every unreadable picture, say); the first
    line must make sense without them. Names of files are spelt out in both where they cannot be printed.
    """

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(one_line(message))
        self.details = tuple(map(one_line, details))
