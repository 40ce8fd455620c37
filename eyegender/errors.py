"""The one exception that is a user's to repair: every command prints it as a single line, without a traceback."""


class UserError(Exception):
    """A mistake in what was typed or given, told as rule, value received and repair, in one line.

    `details` are further lines for the cases where a list is what helps (every unreadable picture, say); the first
    line must make sense without them.
    """

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.details = details
