"""What must never be written: passwords in storage URLs and values of keys that name a secret."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote, urlsplit

HIDDEN = "***"

_USER_INFO = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<user>[^\s:/@'\"]*):(?P<password>[^\s@'\"]+)@")
_QUERY = re.compile(r"(?P<key>(?i:password|passwd|pwd|token|secret|sslkey\w*))=(?P<value>[^&\s'\"]+)")
# Whole words of a key, so that `cls_token` or `max_tokens` is shown and `api_key` or `model.hub_token` is not.
_SECRET_KEY = re.compile(
    r"(^|[._/@])(\w*_)?(password|passwd|secret|api_?key|access_?key|private_?key|credentials?|(auth|access|hub|api)_token"
    r"|token)$",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"(cls|bos|eos|pad|sep|mask|unk)_token$", re.IGNORECASE)


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with the password of every URL in it, and every given secret, replaced by stars."""
    for secret in sorted({s for s in secrets if s}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _USER_INFO.sub(rf"\g<scheme>\g<user>:{HIDDEN}@", text)
    return _QUERY.sub(rf"\g<key>={HIDDEN}", text)


def secrets_in(url: str) -> tuple[str, ...]:
    """The passwords of a URL, as written and as decoded."""
    found: list[str] = []
    match = _USER_INFO.search(url)
    if match:
        found += [match["password"], unquote(match["password"])]
    try:
        query = urlsplit(url).query
    except ValueError:
        query = ""
    found += [value for key, value in parse_qsl(query) if _QUERY.fullmatch(f"{key}=x")]
    return tuple(dict.fromkeys(found))


def hide_override(override: str) -> str:
    """An override as it may be shown and stored: the value of a secret key is starred."""
    key, equals, value = override.partition("=")
    bare = key.lstrip("+~")
    if equals and _SECRET_KEY.search(bare) and not _HARMLESS.search(bare):
        return f"{key}={HIDDEN}"
    return f"{key}{equals}{hide(value)}"


def one_line(error: BaseException, secrets: Iterable[str] = (), most: int = 500) -> str:
    """Type and message of an error on one line, without secrets."""
    message = " ".join(str(error).split())
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    text = hide(text, secrets)
    return text if len(text) <= most else text[: most - 3] + "..."
