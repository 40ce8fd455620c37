"""Who may open the demo page."""

from __future__ import annotations

import asyncio
import copy
import re
import socket
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from eyegender import demo
from eyegender.inference import demo_choices
from eyegender.inference.demo_page import Choice, demo_app
from eyegender.tracking import tracking_store


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command leaves its configs and its flags to the process that it usually is."""
    Plugins.instance()  # which registers Hydra's own configs, once
    monkeypatch.setattr(ConfigStore.instance(), "repo", copy.deepcopy(ConfigStore.instance().repo))
    monkeypatch.setattr("logging.raiseExceptions", True)
    for name in ("HYDRA_FULL_ERROR", "EYEGENDER_SET_FULL_ERROR"):
        monkeypatch.setenv(name, "")


def refused(_reference: str) -> Any:
    raise AssertionError("nothing is loaded here")


def status(app: Any, host: str) -> int:
    """Of a request for the page that names this host."""
    said: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "raw_path": b"/", "scheme": "http",
             "query_string": b"", "headers": [(b"host", host.encode())], "client": None, "server": None}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return int(said[0]["status"])


def test_it_answers_to_this_machines_names_only() -> None:
    app = demo_app([Choice("runs:/x", "x")], refused)
    assert [status(app, name) for name in ("127.0.0.1", "localhost:7860", "elsewhere.example")] == [200, 200, 400]
    assert status(demo_app([Choice("runs:/x", "x")], refused, host="0.0.0.0"), "elsewhere.example") == 200


@pytest.mark.parametrize(
    ("arguments", "host", "warned"), [([], "127.0.0.1", False), (["host=0.0.0.0"], "0.0.0.0", True)]
)
def test_it_listens_on_loopback_and_says_when_it_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], host: str, warned: bool
) -> None:
    started: list[uvicorn.Config] = []
    listening: list[tuple[str, int]] = []
    server = SimpleNamespace(run=lambda sockets: listening.extend(one.getsockname() for one in sockets))
    monkeypatch.setattr(uvicorn, "Server", lambda config: started.append(config) or server)
    monkeypatch.setattr(tracking_store, "open_store", lambda _: None)
    monkeypatch.setattr(demo_choices, "find_choices", lambda *_: [Choice("runs:/x", "x")])
    monkeypatch.setattr(sys, "argv", ["eyegender.demo", "port=0", *arguments])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    demo.main()
    assert started[0].host == listening[0][0] == host
    printed = capsys.readouterr().out
    assert ("NOT ONLY YOU" in printed) == warned
    assert f"http://{host}:{listening[0][1]} " in printed  # the port that was free, not 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("host=127.0.0.1 port={taken}", r"got host=127.0.0.1 port=\d+ \(Address already in use\); .*set another port="),
        ("host=192.0.2.1", r"got host=192.0.2.1 port=7860 .*set host="),  # an address that is nobody's
    ],
)
def test_a_port_that_is_taken_is_told_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, told: str
) -> None:
    monkeypatch.setattr(tracking_store, "open_store", lambda _: pytest.fail("opened the store"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = arguments.format(taken=taken.getsockname()[1]).split()
        monkeypatch.setattr(sys, "argv", ["eyegender.demo", *words])
        with pytest.raises(SystemExit, match="2"):
            demo.main()
    assert re.search(told, capsys.readouterr().err)
