"""Who may open the demo page."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from eyegender import demo
from eyegender.using import demo_choices, tracking_store
from eyegender.using.demo_page import Choice, demo_app


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
    monkeypatch.setattr(uvicorn, "Server", lambda config: started.append(config) or SimpleNamespace(run=lambda: None))
    monkeypatch.setattr(tracking_store, "open_store", lambda _: None)
    monkeypatch.setattr(demo_choices, "find_choices", lambda *_: [Choice("runs:/x", "x")])
    monkeypatch.setattr(sys, "argv", ["eyegender.demo", *arguments])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    demo.main()
    assert started[0].host == host
    assert ("NOT ONLY YOU" in capsys.readouterr().out) == warned
