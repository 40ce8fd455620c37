"""What must never be written: passwords in URLs, values of keys that name a secret, and what was remembered as one."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote, urlsplit

HIDDEN = "***"

IN_URL = re.compile(r"(?P<before>[A-Za-z][\w+.-]*://[^\s:/@'\"]*:)(?P<secret>[^\s@'\"]+)(?P<after>@)")
IN_QUERY = re.compile(
    r"(?P<before>(?i:password|passwd|pwd|token|secret|api_?key|access_?key|sslkey\w*)=)(?P<secret>[^&\s'\"]+)(?P<after>)"
)
# Whole words of a key, so that `cls_token` or `max_tokens` is shown and `api_key` or `model.hub_token` is not.
_SECRET_KEY = re.compile(
    r"(^|[._/@])(\w*_)?(password|passwd|pwd|secret|api_?key|access_?key|private_?key|credentials?"
    r"|(auth|access|hub|api)_token|token)$",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"(cls|bos|eos|pad|sep|mask|unk)_token$", re.IGNORECASE)
_SHORTEST = 4  # a shorter one cannot be told from ordinary text by its value

_remembered: set[str] = set()


def remember(secrets: Iterable[str]) -> None:
    """Hide these values from now on, wherever this process writes them."""
    _remembered.update(secret for secret in secrets if len(secret) >= _SHORTEST)


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with the password of every URL in it, and every given or remembered secret, replaced by stars."""
    for secret in sorted({s for s in (*secrets, *_remembered) if s}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = IN_URL.sub(rf"\g<before>{HIDDEN}\g<after>", text)
    return IN_QUERY.sub(rf"\g<before>{HIDDEN}", text)


def secrets_in(url: str) -> tuple[str, ...]:
    """The passwords of a URL, as written and as decoded."""
    found: list[str] = []
    match = IN_URL.search(url)
    if match:
        found += [match["secret"], unquote(match["secret"])]
    try:
        query = urlsplit(url).query
    except ValueError:
        query = ""
    found += [value for key, value in parse_qsl(query) if IN_QUERY.fullmatch(f"{key}=x")]
    return tuple(dict.fromkeys(found))


def is_secret_key(key: str) -> bool:
    return bool(_SECRET_KEY.search(key)) and not _HARMLESS.search(key)


def hide_override(override: str) -> str:
    """An override as it may be shown and stored: the value of a secret key is starred."""
    key, equals, value = override.partition("=")
    if equals and is_secret_key(key.lstrip("+~")):
        return f"{key}={HIDDEN}"
    return f"{key}{equals}{hide(value)}"


def one_line(error: BaseException, secrets: Iterable[str] = (), most: int = 500) -> str:
    """Type and message of an error on one line, without secrets."""
    message = " ".join(str(error).split())
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    text = hide(text, secrets)
    return text if len(text) <= most else text[: most - 3] + "..."
