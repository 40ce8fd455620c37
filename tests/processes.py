"""Python commands in processes of their own, forked from one that has imported torch, MLflow and Lightning.

Such a command has its own working directory, environment, output and exit status as under `python -m`, dies of signals
and starts processes itself; it only does not import for seconds. Tests of a start itself start Python afresh.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded"])


class Command:
    """A running command: a module's name or a script's path, and its arguments.

    Args:
        env: on top of this process's environment.
        merged: standard error goes where standard output goes.
        session: it leads a session of its own, to be killed with all that it started.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        merged: bool = True,
        session: bool = False,
    ) -> None:
        self.arguments = arguments
        self._files = [tempfile.NamedTemporaryFile("r") for _ in range(1 if merged else 2)]  # noqa: SIM115
        names = [file.name for file in self._files]
        world = (str(cwd or Path.cwd()), {**os.environ, **(env or {})}, names[0], names[-1], session)
        self._process = _CONTEXT.Process(target=_become, args=(arguments, *world), daemon=False)
        self._process.start()
        atexit.register(self._process.kill)  # a test that failed half-way leaves nothing behind
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs, minus the signal's number where it died of one."""
        return self._process.exitcode

    def said(self) -> str:
        """Its standard output up to now."""
        return Path(self._files[0].name).read_text()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 400) -> tuple[str, str]:
        """Standard output and error once it has ended; raises subprocess.TimeoutExpired, and kills it, when late."""
        self._process.join(timeout)
        late = self.returncode is None
        if late:
            self._process.kill()
            self._process.join()
        atexit.unregister(self._process.kill)
        said = [file.read() for file in self._files]
        for file in self._files:
            file.close()
        if late:
            raise subprocess.TimeoutExpired(self.arguments, timeout, *said)
        return said[0], "" if len(said) == 1 else said[1]


def run(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 400
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = Command(*arguments, cwd=cwd, env=env, merged=False)
    stdout, stderr = command.communicate(timeout)
    assert command.returncode is not None
    return subprocess.CompletedProcess(arguments, command.returncode, stdout, stderr)


def _become(arguments: tuple[str, ...], cwd: str, env: dict[str, str], out: str, err: str, session: bool) -> None:
    """Be the command, in the forked process; returns or raises as it does."""
    if session:
        os.setsid()
    sys.stdout.reconfigure(line_buffering=False)  # type: ignore[union-attr]
    for descriptor, name in ((1, out), (2, err)):
        opened = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    what, *sys.argv[1:] = arguments
    try:
        if what.endswith(".py") or Path(what).is_absolute():
            sys.path[0] = str(Path(what).parent)
            sys.argv[0] = what
            runpy.run_path(what, run_name="__main__")
        else:
            sys.path.insert(0, cwd)
            if not hasattr(sys.modules.get(what), "__path__"):
                sys.modules.pop(what, None)  # it was imported, but is to be executed; a package has its __main__
            runpy._run_module_as_main(what)  # type: ignore[attr-defined]  # as `python -m` does
    finally:
        # As at the end of Python, which this process leaves out.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
