"""Alerts: what is sent when a training or a sweep fails, and that nothing else changes."""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import OmegaConf

from eyegender.core.command_line import alerts
from eyegender.core.errors import UserError
from eyegender.core.secrets import redact, redact_override
from eyegender.tracking.run_names import run_name
from hydra_plugins.optuna_study import _redaction
from tests.composing import tiny_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "T024/B7c1/xyzzy-s3cr3t"
# Writes its arguments and the facts that it got.
NOTE = (
    "import json, os, sys; facts = {k: v for k, v in os.environ.items() if k.startswith('EYEGENDER_')};"
    "open('note.jsonl', 'a').write(json.dumps([sys.argv[1:], facts, sorted(os.environ)]) + chr(10))"
)


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_redaction, "_registered", set())
    monkeypatch.setattr(alerts, "_alert", None)
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


class Hook:
    """An address that keeps what it gets and answers as it is told to."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        got = self.got = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append((self.path, self.headers["Content-Type"], json.loads(body)))
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/services/{SECRET}"


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": "0", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()

    return answer


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, so that no single read times out."""
    for _ in range(100):
        handler.wfile.write(b"H")
        time.sleep(0.05)


@pytest.fixture
def hook(request: pytest.FixtureRequest) -> Iterator[Hook]:
    made = Hook(request.param)
    yield made
    made.server.shutdown()
    made.server.server_close()


def config(**alert: Any) -> Any:
    hydra = {
        "run": {"dir": "out"}, "sweep": {"dir": "sweep"}, "sweeper": {"study_name": "eyes"},
        "overrides": {"task": ["seed=1", "alert.command=[x]", "+alert.webhook=y"]},
    }  # fmt: skip
    return OmegaConf.create({"seed": 1, "alert": {"command": None, "webhook": None, **alert}, "hydra": hydra})


def fail(error: BaseException, *, sweep: bool = False, **alert: Any) -> BaseException:
    """A command that takes its alert and then ends with this error; returns what came out of it."""
    try:
        with alerts.on_failure(str):
            alerts.take_alert(config(**alert), sweep=sweep)
            raise error
    except BaseException as raised:
        return raised


def notes() -> list[Any]:
    path = Path("note.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_command_gets_its_arguments_as_they_are_and_the_facts() -> None:
    odd = ["two words", 'it\'s "quoted"', "; touch planted", "$(touch planted)", "`touch planted`", "*", ""]
    error = ValueError("the disk\nis full")
    assert fail(error, command=[sys.executable, "-c", NOTE, *odd]) is error
    [[arguments, facts, _]] = notes()
    assert arguments == odd
    assert not Path("planted").exists()
    assert facts["EYEGENDER_ERROR"] == "the disk\\nis full"
    assert facts["EYEGENDER_EXIT_STATUS"] == "1"
    assert facts["EYEGENDER_OUTPUT"] == "out"
    assert facts["EYEGENDER_STUDY"] == facts["EYEGENDER_RUN_ID"] == ""
    assert facts["EYEGENDER_HOST"]


def test_the_command_gets_no_secret_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_SECRET_1", SECRET)
    monkeypatch.setenv("EYEGENDER_ALERT_WEBHOOK", SECRET)
    monkeypatch.setenv("OTHER", "kept")
    fail(ValueError("x"), command=[sys.executable, "-c", NOTE])
    [[_, _, names]] = notes()
    assert "OTHER" in names
    assert not {"STUDY_SECRET_1", "EYEGENDER_ALERT_WEBHOOK"} & set(names)


@pytest.mark.parametrize("hook", [status(200)], indirect=True)
def test_the_webhook_gets_the_facts_as_json(hook: Hook) -> None:
    def end() -> None:
        alerts.take_alert(config(webhook=hook.url), sweep=False)
        alerts.describe_run("inception_v3 · depth 4", lambda: "f" * 32)
        raise SystemExit(2) from UserError("data.root must exist")

    with pytest.raises(SystemExit), alerts.on_failure(str):
        end()
    [(path, kind, facts)] = hook.got
    assert path == f"/services/{SECRET}"
    assert kind == "application/json"
    assert facts["run_name"] == "inception_v3 · depth 4"
    assert facts["run_id"] == "f" * 32
    assert (facts["error"], facts["exit_status"]) == ("data.root must exist", "2")
    assert facts["text"] == f"eyegender: inception_v3 · depth 4 failed on {facts['host']}: data.root must exist"


@pytest.mark.parametrize("hook", [status(200)], indirect=True)
def test_a_sweep_names_its_study(hook: Hook) -> None:
    fail(SystemExit(1), sweep=True, webhook=hook.url)
    [(_, _, facts)] = hook.got
    assert (facts["study"], facts["output"], facts["error"]) == ("eyes", "sweep", "ended with exit status 1")
    assert facts["text"].startswith("eyegender: the study eyes failed on ")


@pytest.mark.parametrize(
    "hook", [status(500), status(302, Location="http://127.0.0.1:9/"), drip, lambda _: time.sleep(2)], indirect=True,
    ids=["error", "redirect", "drip", "silence"],
)  # fmt: skip
def test_a_webhook_that_does_not_take_it_is_one_line(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(alerts, "LIMIT_SECONDS", 1.0)
    error = UserError("the reason")
    assert fail(error, webhook=hook.url) is error
    warned = capsys.readouterr().err
    assert warned.count("\n") == 1
    assert warned.startswith("alert: alert.webhook ")
    assert SECRET not in warned


@pytest.mark.parametrize(
    ("address", "said"),
    [("http://127.0.0.1:9/x-y-z", "cannot be reached"), ("http://u:pass-word@127.0.0.1/x", "cannot be reached")],
)
def test_a_webhook_that_cannot_be_reached_is_one_line_without_the_address(
    address: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(ValueError("x"), webhook=address)
    warned = capsys.readouterr().err
    assert warned.count("\n") == 1
    assert said in warned
    assert "x-y-z" not in warned
    assert "pass-word" not in warned


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ["no-such-program", "x"],
            "must be a program that can be run, got no-such-program (No such file or directory)",
        ),
        (["/"], "must be a program that can be run, got / (Permission denied)"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "ended with exit status 3"),
        (["a\0b"], "must be a program that can be run, got a\\x00b (embedded null byte)"),
    ],
)
def test_a_command_that_fails_is_one_line(command: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = SystemExit(143)
    assert fail(error, command=command) is error
    assert capsys.readouterr().err == f"alert: alert.command {said}\n"


def test_a_command_that_hangs_is_killed_with_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(alerts, "LIMIT_SECONDS", 2.0)
    start = (
        "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])"
    )
    hang = f"{start}; open('pid', 'w').write(str(child.pid)); time.sleep(99)"
    error = ValueError("x")
    assert fail(error, command=[sys.executable, "-c", hang]) is error
    assert capsys.readouterr().err == "alert: alert.command took more than 2 s and was killed\n"
    child = int(Path("pid").read_text())
    end = time.monotonic() + 20
    while _runs(child) and time.monotonic() < end:  # it was killed; that its parent is told takes a moment
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(130), SystemExit(0), SystemExit(None)])
def test_an_interrupt_and_an_end_without_failure_send_nothing(error: BaseException) -> None:
    fail(error, command=[sys.executable, "-c", NOTE])
    assert notes() == []


def test_a_signal_is_a_failure() -> None:
    fail(SystemExit(143), command=[sys.executable, "-c", NOTE])
    [[_, facts, _]] = notes()
    assert facts["EYEGENDER_ERROR"] == "stopped by signal 15"


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_other_ranks_send_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    fail(ValueError("x"), command=[sys.executable, "-c", NOTE])
    assert notes() == []


def test_an_alert_is_not_left_for_the_next_command() -> None:
    fail(ValueError("x"), command=[sys.executable, "-c", NOTE])
    with pytest.raises(ValueError, match="y"), alerts.on_failure(str):
        raise ValueError("y")
    assert len(notes()) == 1


def test_nothing_of_it_stays_in_the_config_and_the_overrides() -> None:
    cfg = config(command=["x"], webhook=f"https://hooks.example/{SECRET}")
    alerts.take_alert(cfg, sweep=True)
    assert "alert" not in cfg
    assert cfg.hydra.overrides.task == ["seed=1"]
    # The address is a secret from now on, in whole and in part.
    assert SECRET not in redact(f"cannot reach https://hooks.example/{SECRET}")
    assert SECRET not in redact(f"POST /{SECRET} failed")


@pytest.mark.parametrize(
    ("alert", "said"),
    [
        ({"command": "mail me"}, "alert.command must be a list of a program and its arguments, got 'mail me'"),
        ({"command": []}, "alert.command must be a list"),
        ({"command": [["a"]]}, "alert.command must be a list"),
        ({"webhook": "ftp://hooks.example/pass-word"}, "alert.webhook must be an http or https address"),
        ({"webhook": "http://[x/pass-word"}, "alert.webhook must be an http or https address"),
        ({"webhook": 7}, "alert.webhook must be an http or https address"),
        ({"mail": "me"}, "alert must have the keys command and webhook only"),
    ],
)
def test_mistakes_are_refused_and_show_no_address(alert: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        alerts.take_alert(config(**alert), sweep=False)
    assert str(caught.value).startswith(said)
    assert "pass-word" not in str(caught.value)


def test_a_run_knows_nothing_of_it() -> None:
    cfg = tiny_config("alert.command=[x]", f"alert.webhook=https://hooks.example/{SECRET}")
    assert "alert" not in cfg.model_dump(mode="json", by_alias=True)
    assert "alert" not in cfg.written
    name = run_name("inception_v3", ["alert.command=[x]", "seed=1"], ["seed"])
    assert name == "inception_v3 · seed 1"
    assert redact_override(f"alert.webhook={SECRET}") == "alert.webhook=***"
