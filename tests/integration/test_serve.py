"""MLflow's own server answers real HTTP requests with a promoted model."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eyegender.inference.load import load_model
from eyegender.inference.raw_images import as_pixels
from eyegender.registry.promotion import promote
from eyegender.tracking.tracking_store import open_store
from tests.integration.conftest import TrackedRuns
from tests.integration.test_use import tracking
from tests.processes import Command

pytestmark = pytest.mark.integration


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(arguments: list[str], address: str, environment: dict[str, str]) -> Iterator[None]:
    """A server that is up once `address` answers, and gone afterwards."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    started = Command(*arguments, env={"PATH": path, **environment})
    try:
        until = time.monotonic() + 240
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
                break
            if started.returncode is not None or time.monotonic() > until:
                raise AssertionError(started.said()[-3000:])
            time.sleep(0.3)
        yield
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):  # killed then
            started.communicate(timeout=20)


def ask(address: str, body: Any) -> Any:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)["predictions"]


def test_a_jpeg_and_a_nested_list_over_loopback(tracked: TrackedRuns) -> None:
    promote(open_store(tracking(tracked)), tracked.id("second"), name="served", alias="champion", force=True)
    here = load_model("models:/served@champion", tracking(tracked))
    rng = np.random.default_rng(0)
    content = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)).save(content, "JPEG")
    jpeg = base64.b64encode(content.getvalue()).decode()
    images = rng.integers(0, 256, (3, 20, 24)).tolist()
    port = free_port()
    serve = ["mlflow", "models", "serve", "-m", "models:/served@champion", "--env-manager", "local"]
    server = process(
        [*serve, "--host", "127.0.0.1", "--port", str(port)],
        f"http://127.0.0.1:{port}/ping",
        {"MLFLOW_TRACKING_URI": tracked.uri},
    )
    with server:
        address = f"http://127.0.0.1:{port}/invocations"
        bodies = [
            ({"inputs": [jpeg]}, [jpeg]),
            ({"inputs": images}, images),
            ({"instances": [jpeg] * 2}, [jpeg] * 2),
        ]
        for body, given in bodies:
            expected = here.probabilities(as_pixels(given, here.spec.size, here.spec.color))
            assert ask(address, body) == pytest.approx(expected.tolist(), abs=1e-5)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(address, {"inputs": [base64.b64encode(b"not an image").decode()]})
        assert len(ask(address, {"inputs": [jpeg]})) == 1  # an invalid request does not stop the server
