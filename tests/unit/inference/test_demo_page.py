"""Which host names the demo page answers to, and where it listens."""

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
from eyegender.inference import demo_models
from eyegender.inference.demo_models import DemoModel, Offer
from eyegender.inference.demo_page import demo_app
from eyegender.tracking import tracking_store


@pytest.fixture(autouse=True)
def _isolated_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command changes Hydra's configs and environment variables of its process."""
    Plugins.instance()  # registers Hydra's own configs, once
    monkeypatch.setattr(ConfigStore.instance(), "repo", copy.deepcopy(ConfigStore.instance().repo))
    monkeypatch.setattr("logging.raiseExceptions", True)
    for name in ("HYDRA_FULL_ERROR", "EYEGENDER_SET_FULL_ERROR"):
        monkeypatch.setenv(name, "")


def refuse_to_load(_reference: str) -> Any:
    raise AssertionError("no model should be loaded")


def status(app: Any, host: str) -> int:
    """HTTP status of a request for the page with this Host header."""
    return get(app, "/", host=host)[0]


def get(app: Any, path: str, query: str = "", host: str = "localhost") -> tuple[int, bytes]:
    """HTTP status and body."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "raw_path": path.encode(),
             "scheme": "http", "query_string": query.encode(), "headers": [(b"host", host.encode())],
             "client": None, "server": None}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"]), b"".join(message.get("body", b"") for message in sent)


def test_hidden_models_are_counted_and_can_be_shown() -> None:
    models = [DemoModel("runs:/a", "good"), DemoModel("runs:/b", "<b>bad</b>", hidden=True)]
    _, page = get(demo_app(Offer(models, ["8 pruned trials are not listed."]), refuse_to_load), "/")
    text = page.decode()
    select = text[text.index("<select") : text.index("</select>")]
    assert "good" in select
    assert "bad" not in select
    assert "1 model no better than chance is hidden." in text
    assert "&lt;b&gt;bad" in text[text.index("<template") : text.index("</template>")]
    assert "8 pruned trials are not listed." in text
    assert "<b>" not in text
    _, page = get(demo_app(Offer(models[:1]), refuse_to_load), "/")
    assert "<template" not in page.decode()


def test_the_example_of_an_offered_model_only() -> None:
    asked: list[str] = []

    def example(model: DemoModel) -> bytes | None:
        asked.append(model.reference)
        return None if model.reference == "runs:/none" else b"PNG"

    models = [DemoModel("runs:/a", "a"), DemoModel("runs:/none", "n")]
    app = demo_app(Offer(models), refuse_to_load, example)
    assert get(app, "/example", "model=runs:/a") == (200, b"PNG")
    assert get(app, "/example", "model=runs:/none")[0] == 404
    assert get(app, "/example", "model=../secret")[0] == 404
    assert asked == ["runs:/a", "runs:/none"]
    assert get(demo_app(Offer(models), refuse_to_load), "/example", "model=runs:/a")[0] == 404


def test_a_loopback_page_refuses_other_host_names() -> None:
    app = demo_app(Offer([DemoModel("runs:/x", "x")]), refuse_to_load)
    assert [status(app, name) for name in ("127.0.0.1", "localhost:7860", "elsewhere.example")] == [200, 200, 400]
    assert (
        status(demo_app(Offer([DemoModel("runs:/x", "x")]), refuse_to_load, host="0.0.0.0"), "elsewhere.example") == 200
    )


@pytest.mark.parametrize(
    ("arguments", "host", "warned"), [([], "127.0.0.1", False), (["host=0.0.0.0"], "0.0.0.0", True)]
)
def test_it_listens_on_loopback_and_warns_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], host: str, warned: bool
) -> None:
    started: list[uvicorn.Config] = []
    listening: list[tuple[str, int]] = []
    server = SimpleNamespace(run=lambda sockets: listening.extend(one.getsockname() for one in sockets))
    monkeypatch.setattr(uvicorn, "Server", lambda config: started.append(config) or server)
    monkeypatch.setattr(tracking_store, "open_store", lambda _: None)
    monkeypatch.setattr(demo_models, "find_models", lambda *_: Offer([DemoModel("runs:/x", "x")]))
    monkeypatch.setattr(sys, "argv", ["eyegender.demo", "port=0", *arguments])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    demo.main()
    assert started[0].host == listening[0][0] == host
    printed = capsys.readouterr().out
    assert ("without a password" in printed) == warned
    assert f"http://{host}:{listening[0][1]} " in printed  # the free port, not 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "host=127.0.0.1 port={in_use}",
            r"port=\d+ \(Address already in use\); .*set another port=",
        ),
        ("host=192.0.2.1", r"got host=192.0.2.1 port=7860 .*set host="),  # reserved for documentation
    ],
)
def test_a_port_in_use_is_refused_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    monkeypatch.setattr(tracking_store, "open_store", lambda _: pytest.fail("opened the store"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with socket.create_server(("127.0.0.1", 0)) as in_use:
        words = arguments.format(in_use=in_use.getsockname()[1]).split()
        monkeypatch.setattr(sys, "argv", ["eyegender.demo", *words])
        with pytest.raises(SystemExit, match="2"):
            demo.main()
    assert re.search(message, capsys.readouterr().err)
