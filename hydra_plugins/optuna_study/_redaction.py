"""Keeps secrets out of everything that is written: text is redacted, configs refer to environment variables.

Secret are passwords in URLs, values of keys such as `password` or `api_key`, and values that a config takes from the
environment with `${oc.env:NAME}`. A password in a config or on a command line moves into an environment variable, which
workers inherit and nothing stores; `${oc.env:NAME}` takes its place, so the config keeps its meaning.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from omegaconf import DictConfig, OmegaConf, flag_override, open_dict, read_write

if TYPE_CHECKING:
    from ._storage import StorageSpec

HIDDEN = "***"
# Prefix of the environment variables that hold passwords of configs and command lines.
PREFIX = "STUDY_SECRET_"

# Up to the last @ before white space, a quote or the next URL: a password may contain an @.
_URL_PASSWORD = re.compile(
    r"(?P<before>[A-Za-z][\w+.-]*://[^\s:/'\"]*:)"
    r"(?P<secret>(?:(?![^\w+.-][A-Za-z][\w+.-]*://)[^\s'\"])+)(?P<after>@)"
)
# The same in a text that is exactly one URL: there a quote belongs to the password, too.
_SINGLE_URL_PASSWORD = re.compile(
    r"(?P<before>[A-Za-z][\w+.-]*://[^\s:/]*:)(?P<secret>(?:(?!://)\S)+)(?P<after>@)(?=[^\s'\"@]+$)"
)
_QUERY_PASSWORD = re.compile(
    r"(?P<before>(?i:password|passwd|pwd|token|secret|api_?key|access_?key|sslkey\w*)=)(?P<secret>[^&\s'\"]+)(?P<after>)"
)
# Whole words of a key: `api_key` and `model.hub_token` are secret, `cls_token` and `max_tokens` are not.
_SECRET_KEY = re.compile(
    r"(^|[._/@])(\w*_)?(password|passwd|pwd|secret|api_?key|access_?key|private_?key|credentials?"
    r"|(auth|access|hub|api)_token|token|webhook)$",
    re.IGNORECASE,
)
_TOKENIZER_KEY = re.compile(r"(cls|bos|eos|pad|sep|mask|unk)_token$", re.IGNORECASE)
# Keys whose values are names, choices or paths. A password may be the same ordinary word.
_NAME_KEY = re.compile(
    r"(^|[._/@+~])(experiment|experiments|study|study_name|name|_target_|monitor|objectives"
    r"|by|mode|color|schedule|dtype|accelerator|strategy|weights|root|dir|subdir|folder|file|\w*path)$"
)
_SHORTEST = 4  # a shorter secret cannot be distinguished from ordinary text

_QUOTED = re.compile(r"(['\"]).*\1", re.DOTALL)
_ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")
# A key and its value in a mapping on one line.
_ENTRY = re.compile(r"(?P<before>[{,]\s*(?P<key>[\w./]+)\s*:\s*)(?P<value>'[^']*'|\"[^\"]*\"|[^\s,{}\[\]'\"$]+)")
_ENVIRONMENT_REFERENCE = re.compile(r"\$\{\s*oc\.env\s*:\s*(\w+)")
# Environment variables whose values are not secret, as are paths, numbers and short words; all other values are.
_PLAIN_VARIABLE = re.compile(
    r"(^|_)(USER|USERNAME|LOGNAME|HOST|HOSTNAME|NODE|PORT|NAME|ID|DIR|FOLDER|ROOT|HOME|PATH|FILE|DATA|CACHE|TMPDIR|"
    r"SCRATCH|PARTITION|ACCOUNT|EXPERIMENT|PROJECT|RUN|STUDY|GROUP|DATE|LANG|SHELL)$|^(SLURM|CUDA|OMP)_"
)
_SHORTEST_VARIABLE = 6

_registered: set[str] = set()


def register(secrets: Iterable[str]) -> None:
    """Redact these values from now on in everything that this process writes; values below 4 characters are ignored."""
    _registered.update(secret for secret in secrets if len(secret) >= _SHORTEST)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with the password of every URL, and every given or registered secret, replaced by stars.

    Secrets are replaced as whole words only, so that one that is an ordinary word leaves longer words intact.

    >>> redact("postgresql://user:secret@host/db")
    'postgresql://user:***@host/db'
    """
    for secret in sorted({s for s in (*secrets, *_registered) if s}, key=len, reverse=True):
        if secret in text:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return redact_urls(text)


def redact_urls(text: str) -> str:
    """The text with the password of every URL replaced by stars, and nothing else."""
    text = _password_pattern(text).sub(rf"\g<before>{HIDDEN}\g<after>", text)
    return _QUERY_PASSWORD.sub(rf"\g<before>{HIDDEN}", text)


def redact_override(override: str, secrets: Iterable[str] = ()) -> str:
    """An override as it may be shown and stored: the value of a secret key is replaced by stars."""
    key, equals, value = override.partition("=")
    if equals and is_secret_key(key.lstrip("+~")):
        return f"{key}={HIDDEN}"
    return f"{key}{equals}{redact_urls(value) if is_name_key(key) else redact(value, secrets)}"


def one_line(error: BaseException, secrets: Iterable[str] = (), most: int = 500) -> str:
    """Type and message of an error on one line of at most `most` characters, redacted."""
    message = " ".join(str(error).split())
    text = redact(f"{type(error).__name__}: {message}" if message else type(error).__name__, secrets)
    return text if len(text) <= most else text[: most - 3] + "..."


def is_secret_key(key: str) -> bool:
    """Whether the value of this config key is a secret."""
    return bool(_SECRET_KEY.search(key)) and not _TOKENIZER_KEY.search(key)


def is_name_key(key: str) -> bool:
    """Whether the value of this config key is a name, in which only passwords of URLs are redacted."""
    return bool(_NAME_KEY.search(key))


def passwords_in(url: str) -> tuple[str, ...]:
    """The passwords in a URL, as written and as decoded."""
    found: list[str] = []
    match = _password_pattern(url).search(url)
    if match:
        # If the path contains an @, the password may have ended before the path.
        host_part = match["secret"].partition("/")[0]
        shorter = [host_part.rpartition("@")[0]] if "@" in host_part and "/" in match["secret"] else []
        for secret in (match["secret"], *shorter):
            found += [secret, unquote(secret)]
    try:
        query = urlsplit(url).query
    except ValueError:
        query = ""
    found += [value for key, value in parse_qsl(query) if _QUERY_PASSWORD.fullmatch(f"{key}=x")]
    return tuple(dict.fromkeys(found))


def override_without_secrets(override: str) -> str:
    """A command-line override with the same meaning and with environment references in place of passwords.

    >>> override_without_secrets("db.password=abcd")  # doctest: +ELLIPSIS
    'db.password=${oc.env:STUDY_SECRET_...}'
    """
    key, equals, value = override.partition("=")
    quoted = _QUOTED.fullmatch(value) is not None
    if equals and is_secret_key(key.lstrip("+~")) and value and "${" not in value:
        plain = value[1:-1] if quoted else _ESCAPED.sub(r"\1", value)
        return f"{key}={_reference(key, plain)}"
    if not quoted:
        value = _replace_in_entries(key, value)
    return key + equals + _replace_in_text(value, escaped=not quoted)


def move_secrets_to_environment(config: DictConfig) -> None:
    """Replace the passwords in a composed config by environment references, in place, and register its secrets."""
    with flag_override(config, ["readonly", "struct"], [False, False]):
        for parent, key, text in list(_texts(config)):
            replaced = _replaced(text, key if isinstance(key, str) else "")
            if replaced != text:
                parent[key] = replaced
    register_secrets(config)


def without_secrets(value: Any, key: str = "") -> Any:
    """A copy of nested mappings and lists in which environment references replace the passwords."""
    if isinstance(value, dict):
        return {name: without_secrets(entry, str(name)) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(entry, key) for entry in value]
    return _replaced(value, key) if isinstance(value, str) else value


def register_secrets(config: DictConfig) -> None:
    """Register the values that a config takes from the environment, as far as they look like secrets."""
    for _, key, text in _texts(config):
        for name in _ENVIRONMENT_REFERENCE.findall(text):
            value = os.environ.get(name, "")
            register(passwords_in(value))
            if name.startswith(PREFIX) or is_secret_key(str(key)) or _looks_secret(name, value):
                register([value])


def redact_config(config: DictConfig, storage: "StorageSpec") -> None:
    """Remove every password from a config that will be written or pickled.

    An interpolation such as `${oc.env:STUDY_STORAGE}` stays as written.
    """
    move_secrets_to_environment(config)
    redact_storage(config, storage)


def redact_storage(config: DictConfig, storage: "StorageSpec") -> None:
    """Remove only the passwords of the storage and of the listed overrides; the others are gone already."""
    with read_write(config.hydra), open_dict(config.hydra):
        raw = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
        written = raw.get("storage") if isinstance(raw, dict) else None
        if isinstance(written, str) and "${" not in written:
            config.hydra.sweeper.storage = redact_urls(written)
        elif storage.kind == "object":
            config.hydra.sweeper.storage = HIDDEN
        for name in ("hydra", "task"):
            lines = raw_overrides(config.hydra, name)
            config.hydra.overrides[name] = [redact_override(line, storage.secrets) for line in lines]


def raw_overrides(hydra: Any, name: str = "task") -> list[str]:
    """`hydra.overrides` as written; access through the config would resolve the interpolations in them."""
    lines: Any = OmegaConf.to_container(hydra.overrides[name], resolve=False)
    return [str(line) for line in lines]


def _password_pattern(text: str) -> re.Pattern[str]:
    return _SINGLE_URL_PASSWORD if _SINGLE_URL_PASSWORD.match(text) else _URL_PASSWORD


def _looks_secret(name: str, value: str) -> bool:
    if len(value) < _SHORTEST_VARIABLE or "://" in value or value.startswith(("/", "./", "../", "~")):
        return False
    if _PLAIN_VARIABLE.search(name.upper()) or re.fullmatch(r"[-+.\deE]+", value):
        return False
    return not Path(value).exists()


def _texts(config: Any) -> Iterator[tuple[Any, Any, str]]:
    """Every text in a config as written, with its parent node and its key or index."""
    waiting = [(config, OmegaConf.to_container(config, resolve=False))]
    while waiting:
        node, plain = waiting.pop()
        entries = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
        for key, value in entries:
            if isinstance(value, str):
                yield node, key, value
            elif isinstance(value, dict | list):
                waiting.append((node[key], value))


def _replaced(text: str, key: str) -> str:
    if is_secret_key(key) and text and "${" not in text:
        return _reference(key, text)
    return _replace_in_text(text)


def _replace_in_entries(override_key: str, text: str) -> str:
    def replace(entry: re.Match[str]) -> str:
        value = entry["value"]
        if not is_secret_key(entry["key"]) or value == "null":
            return entry[0]
        plain = value[1:-1] if _QUOTED.fullmatch(value) else _ESCAPED.sub(r"\1", value)
        return entry["before"] + _reference(f"{override_key} {entry['key']} {entry.start()}", plain)

    return _ENTRY.sub(replace, text)


def _replace_in_text(text: str, *, escaped: bool = False) -> str:
    shown = redact(text)

    def replace(match: re.Match[str]) -> str:
        secret = match["secret"]
        if "${" in secret or "://" in secret:  # the latter is a list of URLs
            return match[0]
        plain = _ESCAPED.sub(r"\1", secret) if escaped else secret
        return match["before"] + _reference(f"{shown} {match.start()}", plain) + match["after"]

    return _QUERY_PASSWORD.sub(replace, _password_pattern(text).sub(replace, text))


def _reference(location: str, secret: str) -> str:
    """The reference to the variable that holds this secret. Its name depends only on where the secret was written."""
    name = PREFIX + hashlib.sha256(location.encode()).hexdigest()[:8].upper()
    os.environ[name] = secret
    register([secret])
    return f"${{oc.env:{name}}}"
