"""A PostgreSQL server of a test's own: initdb in a temporary folder, on a free port of loopback."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "c4n4ry-pw"  # looked for in everything a sweep writes


def _bin() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _as_user(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={_user().pw_uid}", f"--regid={_user().pw_gid}", "--clear-groups", *command]


def _user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("neither postgres nor nobody is a user here")


class Postgres:
    """A running server; `url` has its password."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"postgresql://tester:{PASSWORD}@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        log = self.folder.parent / "server.log"
        self._ctl("start", "-w", "-l", str(log))

    def stop(self) -> None:
        self._ctl("stop", "-m", "immediate")

    def _ctl(self, *arguments: str) -> None:
        tool = _bin()
        assert tool is not None
        command = _as_user([str(tool / "pg_ctl"), "-D", str(self.folder), *arguments])
        # Not captured: the server would inherit the pipe and hold it open.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)


@contextmanager
def running() -> Iterator[Postgres]:
    """Start a server in a folder of its own; skipped, with the reason, where none is installed.

    Not below pytest's folder: any other pytest of this user, as it starts, takes away what lets the server's user in.
    """
    tool = _bin()
    if tool is None:
        reason = "PostgreSQL is not installed (apt-get install postgresql)"
        if os.environ.get("EYEGENDER_CI") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        yield from _running_in(Path(name), tool)


def _running_in(base: Path, tool: Path) -> Iterator[Postgres]:
    if os.geteuid() == 0:
        os.chown(base, _user().pw_uid, _user().pw_gid)
    secret = base / "pw"
    secret.write_text(PASSWORD)
    if os.geteuid() == 0:
        os.chown(secret, _user().pw_uid, _user().pw_gid)
    data = base / "data"
    initdb = [str(tool / "initdb"), "-D", str(data), "-U", "tester", f"--pwfile={secret}", "--auth=scram-sha-256", "-N"]
    subprocess.run(_as_user(initdb), check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=120)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n")
        settings.write("max_connections = 300\n")  # of which each worker of a sweep holds two or three
    server = Postgres(data, port)
    server.start()
    try:
        yield server
    finally:
        with_pid = data / "postmaster.pid"
        for _ in range(20):
            if not with_pid.exists():
                break
            try:
                server.stop()
            except subprocess.CalledProcessError:
                time.sleep(0.5)
