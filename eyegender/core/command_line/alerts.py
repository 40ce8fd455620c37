"""Alerts: if a training or a sweep fails, a command is run or a webhook is called. Off by default.

An alert belongs to one call of a command. It is taken out of the composed config before anything is written, so that no
run, checkpoint, model or study can carry it to another call.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from platform import node
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from omegaconf import OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from eyegender.core.errors import UserError, one_line
from eyegender.core.processes import is_rank_zero
from eyegender.core.secrets import redact, register_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from omegaconf import DictConfig

LIMIT_SECONDS = 10.0
PREFIX = "EYEGENDER_"
_LONGEST = 1000  # characters of a fact
# Of this process's environment, what the command must not get.
_WITHHELD = ("STUDY_SECRET_", "EYEGENDER_ALERT_")
_SECRET_PATH = 12  # characters; a shorter path may be that of something else
_INTERRUPTED = 128 + signal.SIGINT


@dataclass
class _Alert:
    """What to call, and what is known so far."""

    command: tuple[str, ...]
    webhook: str | None
    facts: dict[str, str] = field(default_factory=dict)
    run_id: Callable[[], str | None] = lambda: None


_alert: _Alert | None = None


def take_alert(config: DictConfig, *, sweep: bool) -> None:
    """Remove `alert` from a composed config, and from the overrides that Hydra records, and remember it.

    Args:
        config: the config, with Hydra's own part.
        sweep: whether the command is a sweep.

    Raises:
        UserError: `alert` is not what it must be.
    """
    global _alert  # noqa: PLW0603 - of the process, as the command is
    try:
        given = OmegaConf.to_container(config.alert, resolve=True) if config.get("alert") is not None else None
    except OmegaConfBaseException as error:  # such as an environment variable that is not set
        raise UserError(f"alert must be known, got {str(error).splitlines()[0]}; correct it") from error
    with flag_override(config, ["readonly", "struct"], [False, False]):
        config.pop("alert", None)
        if OmegaConf.select(config, "hydra.overrides.task") is not None:
            written: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
            kept = [line for line in written if not is_alert(str(line))]
            config.hydra.overrides.task = kept
    if given is None:
        return
    command, webhook = _checked(given)
    if not command and webhook is None:
        return
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    facts = {"output": str(OmegaConf.select(config, key, default=""))}
    if sweep:
        facts["study"] = str(OmegaConf.select(config, "hydra.sweeper.study_name", default=None) or "")
    _alert = _Alert(command, webhook, facts)


def is_alert(override: str) -> bool:
    """Whether an override sets a key of `alert`."""
    return override.lstrip("+~").partition("=")[0].split(".")[0] == "alert"


def describe_run(name: str, run_id: Callable[[], str | None]) -> None:
    """Let the alert of this command name the run.

    Args:
        name: name of the run.
        run_id: returns its id in MLflow, or None while the store has not been reached.
    """
    if _alert is not None:
        _alert.facts["run_name"], _alert.run_id = name, run_id


@contextmanager
def on_failure(line_of: Callable[[Exception], str]) -> Iterator[None]:
    """If the block fails, send the alert that was taken inside it, once and from rank zero; the error goes on as it is.

    Ctrl-C is no failure. An alert that fails, or takes more than 10 seconds, is a line on standard error.

    Args:
        line_of: describes an error in one line without secrets.
    """
    global _alert  # noqa: PLW0603
    _alert = None
    try:
        yield
    except BaseException as error:
        alert = _taken()
        if alert is not None and is_rank_zero() and (status := _exit_status(error)):
            _send(alert, _facts(alert, status, _line(error, line_of)))
        raise
    finally:
        _alert = None


def _taken() -> _Alert | None:
    return _alert


def _checked(given: Any) -> tuple[tuple[str, ...], str | None]:
    if not isinstance(given, dict) or set(given) - {"command", "webhook"}:
        raise UserError("alert must have the keys command and webhook only; correct it")
    command, webhook = given.get("command"), given.get("webhook")
    if webhook is not None:
        register_secret(str(webhook))
        with suppress(ValueError):
            parts = urlsplit(str(webhook))
            register_secret(parts.path if len(parts.path) >= _SECRET_PATH else "")
        if not _is_address(str(webhook)):
            raise UserError("alert.webhook must be an http or https address, got something else; correct it")
    if command is None:
        return (), webhook
    if not isinstance(command, list) or not command or not all(isinstance(word, str | int | float) for word in command):
        raise UserError(
            f"alert.command must be a list of a program and its arguments, got {command!r}; write "
            "'alert.command=[PROGRAM,ARGUMENT]'"
        )
    return tuple(map(str, command)), webhook


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and text.isprintable() and " " not in text
    except ValueError:
        return False


def _exit_status(error: BaseException) -> int:
    """The exit status with which the command will end; 0 if it is no failure."""
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        return 0 if status == _INTERRUPTED else status
    return int(isinstance(error, Exception))  # not KeyboardInterrupt


def _line(error: BaseException, line_of: Callable[[Exception], str]) -> str:
    reason: BaseException | None = error
    while isinstance(reason, SystemExit):
        reason = reason.__cause__ or reason.__context__
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128:
        return f"stopped by signal {error.code - 128}"
    if isinstance(reason, Exception):
        return line_of(reason)
    return f"ended with exit status {_exit_status(error)}"


def _facts(alert: _Alert, status: int, line: str) -> dict[str, str]:
    facts = {"run_name": "", "study": "", "output": "", **alert.facts}
    facts |= {"run_id": alert.run_id() or "", "error": line, "exit_status": str(status), "host": node()}
    return {name: one_line(redact(value))[:_LONGEST] for name, value in facts.items()}


def _send(alert: _Alert, facts: Mapping[str, str]) -> None:
    """Run the command and call the webhook at the same time; whatever goes wrong becomes a warning."""
    end = time.monotonic() + LIMIT_SECONDS
    answers: list[str | None] = []
    try:
        post = None
        if (webhook := alert.webhook) is not None:
            # A thread, because the timeout of a socket counts from the last byte; and a daemon, which holds up nothing.
            post = threading.Thread(target=lambda: answers.append(_post(webhook, facts)), daemon=True)
            post.start()
        if alert.command and (fault := _run(alert.command, facts, end)):
            _warn(fault)
        if post is not None:
            post.join(max(0.0, end - time.monotonic()))
            if fault := answers[0] if answers else f"alert.webhook gave no answer in {LIMIT_SECONDS:g} s":
                _warn(fault)
    except KeyboardInterrupt:
        _warn("the alert was interrupted")
    except Exception as error:
        _warn(f"the alert failed ({type(error).__name__})")


def _run(command: Sequence[str], facts: Mapping[str, str], end: float) -> str | None:
    """Run the command without a shell and without output; returns what went wrong."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}
    environment |= {f"{PREFIX}{name.upper()}": value for name, value in facts.items()}
    nothing = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command, env=environment, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return f"alert.command must be a program that can be run, got {command[0]} ({reason})"
    try:
        status = process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        return f"alert.command took more than {LIMIT_SECONDS:g} s and was killed"
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return None if status == 0 else f"alert.command ended with exit status {status}"


def _post(webhook: str, facts: Mapping[str, str]) -> str | None:
    """Send the facts as JSON; returns what went wrong, without the address."""
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class NoRedirect(HTTPRedirectHandler):
        """Facts go to the address that the user gave and to no other."""

        def redirect_request(self, *_: Any) -> None:
            return None

    what = (facts["study"] and f"the study {facts['study']}") or facts["run_name"] or "a training"
    text = f"eyegender: {what} failed on {facts['host']}: {facts['error']}"
    body = json.dumps({"text": text, **facts}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "eyegender"}
    try:
        request = Request(webhook, body, headers)  # noqa: S310 - http or https, see _is_address
        build_opener(NoRedirect).open(request, timeout=LIMIT_SECONDS).close()
    except HTTPError as error:
        return f"alert.webhook answered with status {error.code}"
    except URLError as error:
        return f"alert.webhook cannot be reached ({error.reason})"
    except Exception as error:  # of any type that the HTTP library raises; its text may contain the address
        return f"alert.webhook cannot be reached ({type(error).__name__})"
    return None


def _warn(text: str) -> None:
    with suppress(OSError, ValueError):
        print(f"alert: {one_line(redact(text))}", file=sys.stderr, flush=True)
