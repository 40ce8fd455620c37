"""A real MLflow server on loopback that can be stopped and started again, and a proxy before it that misbehaves."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self


class Server:
    """`mlflow server` with one worker on sqlite; always on the same port.

    Args:
        folder: where its database, artifacts and log are.
        options: further options of the command.
        env: further variables of its environment.
    """

    def __init__(self, folder: Path, options: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.options, self.env = options, dict(env or {})
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        if self.process is not None:
            return
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}",
            "--artifacts-destination", str(self.folder / "artifacts"), *self.options,
        ]  # fmt: skip
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                # Without its eight processes for jobs, which tracking does not need.
                env={
                    **os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    **self.env,
                },
            )  # fmt: skip
        end = time.monotonic() + 120
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text()[-2000:])

    def stop(self) -> None:
        """Without a word to its clients, as a machine that loses its power."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Proxy:
    """Passes requests on to a server, or does to them what `mode` says.

    Modes: `pass`; `500` and `401` answer so themselves; `hang` never answers; `hang files` never answers an upload,
    `413 files` refuses one; `lose` passes a request on and loses the answer.
    """

    def __init__(self, port: int) -> None:
        self.mode, self.target = "pass", port
        self.seen: set[str] = set()  # modes in which a request came
        self._held: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        for client in self._held:
            client.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request to a connection: whoever keeps one open would not notice another mode."""
        with contextlib.suppress(OSError):
            client.settimeout(30)
            request = _whole_request(client)
            mode = self.mode
            if mode.endswith(" files"):
                upload = request.startswith(b"PUT ") and b"/mlflow-artifacts/" in request.partition(b"\r\n")[0]
                mode = mode.removesuffix(" files") if upload else "pass"
            self.seen.add(mode)
            if mode == "hang":
                self._held.append(client)
                return
            if mode.isdigit():
                answer = f"HTTP/1.1 {mode} Oops\r\nContent-Length: 4\r\nConnection: close\r\n\r\nOops"
                client.sendall(answer.encode())
            else:
                passed = self._ask(request)
                if mode == "pass":
                    client.sendall(passed)
        client.close()

    def _ask(self, request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        with socket.create_connection(("127.0.0.1", self.target), timeout=30) as server:
            server.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
            answer = b""
            while more := server.recv(65536):
                answer += more
        return answer


def _whole_request(client: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        more = client.recv(65536)
        if not more:
            raise OSError("the client went away")
        request += more
    head, _, body = request.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    chunked = b"chunked" in headers.get(b"transfer-encoding", b"")
    length = int(headers.get(b"content-length", b"0"))
    while (chunked and not body.endswith(b"0\r\n\r\n")) or (not chunked and len(body) < length):
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
