"""What must never be written: passwords in URLs, values of keys that name a secret, and what was remembered as one."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote, urlsplit

HIDDEN = "***"

# Up to the last @ before white space, a quote or the next URL: a password may hold that sign itself.
IN_URL = re.compile(
    r"(?P<before>[A-Za-z][\w+.-]*://[^\s:/'\"]*:)"
    r"(?P<secret>(?:(?![^\w+.-][A-Za-z][\w+.-]*://)[^\s'\"])+)(?P<after>@)"
)
# The same in a text that is one URL from end to end: there a quote is part of the password, too.
_ALONE = re.compile(r"(?P<before>[A-Za-z][\w+.-]*://[^\s:/]*:)(?P<secret>(?:(?!://)\S)+)(?P<after>@)(?=[^\s'\"@]+$)")
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
# Their values name something of ours, choose it by its name or say where it lies, and a password may be the same
# ordinary word.
_NAME_KEY = re.compile(
    r"(^|[._/@+~])(experiment|experiments|study|study_name|name|_target_|monitor|objectives"
    r"|by|mode|color|schedule|dtype|accelerator|strategy|weights|root|dir|subdir|folder|file|\w*path)$"
)
_SHORTEST = 4  # a shorter one cannot be told from ordinary text by its value

_remembered: set[str] = set()


def remember(secrets: Iterable[str]) -> None:
    """Hide these values from now on, wherever this process writes them."""
    _remembered.update(secret for secret in secrets if len(secret) >= _SHORTEST)


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with the password of every URL in it, and every given or remembered secret, replaced by stars.

    Secrets are replaced as whole words: one that is an ordinary word must not be cut out of a longer one.
    """
    for secret in sorted({s for s in (*secrets, *_remembered) if s}, key=len, reverse=True):
        if secret in text:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return hide_in_urls(text)


def hide_in_urls(text: str) -> str:
    """The text with the password of every URL in it replaced by stars, and nothing else."""
    text = in_url(text).sub(rf"\g<before>{HIDDEN}\g<after>", text)
    return IN_QUERY.sub(rf"\g<before>{HIDDEN}", text)


def in_url(text: str) -> re.Pattern[str]:
    """What finds the passwords of URLs in the text."""
    return _ALONE if _ALONE.match(text) else IN_URL


def secrets_in(url: str) -> tuple[str, ...]:
    """The passwords of a URL, as written and as decoded."""
    found: list[str] = []
    match = in_url(url).search(url)
    if match:
        # Where an @ follows in the path, the password ended before it.
        host_part = match["secret"].partition("/")[0]
        shorter = [host_part.rpartition("@")[0]] if "@" in host_part and "/" in match["secret"] else []
        for secret in (match["secret"], *shorter):
            found += [secret, unquote(secret)]
    try:
        query = urlsplit(url).query
    except ValueError:
        query = ""
    found += [value for key, value in parse_qsl(query) if IN_QUERY.fullmatch(f"{key}=x")]
    return tuple(dict.fromkeys(found))


def is_secret_key(key: str) -> bool:
    return bool(_SECRET_KEY.search(key)) and not _HARMLESS.search(key)


def is_name_key(key: str) -> bool:
    """Whether the value of a key is a name, which is shown as it is but for passwords in URLs."""
    return bool(_NAME_KEY.search(key))


def hide_override(override: str, secrets: Iterable[str] = ()) -> str:
    """An override as it may be shown and stored: the value of a secret key is starred."""
    key, equals, value = override.partition("=")
    if equals and is_secret_key(key.lstrip("+~")):
        return f"{key}={HIDDEN}"
    return f"{key}{equals}{hide_in_urls(value) if is_name_key(key) else hide(value, secrets)}"


def one_line(error: BaseException, secrets: Iterable[str] = (), most: int = 500) -> str:
    """Type and message of an error on one line, without secrets."""
    message = " ".join(str(error).split())
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    text = hide(text, secrets)
    return text if len(text) <= most else text[: most - 3] + "..."
