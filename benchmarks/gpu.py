"""What a run on a GPU reaches, and what it waits for; on a machine without one the same with small sizes.

Run: python -m benchmarks.gpu [out=FILE] [parts=training,gaps] [size=auto|full|small] [seconds=290] [images=6000]
Each part writes its section as soon as it is done:
- training: images per second of a tracked run against a bare loop, peak memory, time of the first step;
- gaps: how long the GPU idles between kernels in some steps of a tracked run, and what the host did meanwhile;
- plain: the plain stack of ImageFolder, DataLoader and Lightning, against the tracked run;
- store: activations computed and stored, and the epochs that read them;
- sweep: trials with one and with two workers on one GPU, through the command line;
- precision: every precision, memory format and cudnn.benchmark, in the bare loop;
- compile: the bare loop with compiled steps, and what compiling costs.
A part ends after its own time limit, or when `seconds` are over, and keeps the rows that it has. One that fails prints
its error in one line; the others go on, and the exit code is 1. The measurements run in a process of their own, which
starts anew after a part that failed. JPEG images, weights, caches and runs are made in a temporary folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, environment, report, table

# Seconds that a part may take, in the order in which the parts run.
LIMITS = {
    "training": 105.0, "gaps": 45.0, "plain": 40.0, "store": 35.0, "sweep": 210.0, "precision": 190.0,
    "compile": 130.0,
}  # fmt: skip
MEASURE = "from benchmarks.gpu_parts import main; main()"
STARTING = 90.0  # seconds that the measuring process may take to import torch
SLOWER_WITHOUT_GPU = 5
KNOWN = ("out", "parts", "size", "seconds", "images")


@dataclass
class Section:
    """The tables and remarks of one part."""

    part: str
    began: float = field(default_factory=time.monotonic)
    tables: list[tuple[str, list[list[str]]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, message: dict[str, Any]) -> None:
        if "table" in message:
            self.tables.append((message["table"], [message["row"]]))
        elif "row" in message:
            self.tables[-1][1].append(message["row"])
        else:
            self.notes.append(message["note"])

    @property
    def text(self) -> str:
        blocks = [f"{title}:\n\n{table(rows)}" for title, rows in self.tables]
        took = f"This part took {time.monotonic() - self.began:.0f} s."
        return "\n\n".join([*blocks, *self.notes, took])


class Measuring:
    """The process that measures; its messages arrive in `messages`, None when it has ended."""

    def __init__(self, parts: list[str], options: dict[str, str], folder: Path) -> None:
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.log = folder / "log.txt"
        reading, writing = os.pipe()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MEASURE, str(writing), str(folder), ",".join(parts),
                 json.dumps(options)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, pass_fds=[writing], start_new_session=True,
                env=environment(EYEGENDER_CACHE=str(folder / "cache")),
            )  # fmt: skip
        os.close(writing)
        threading.Thread(target=self._read, args=(reading,), daemon=True).start()

    def _read(self, reading: int) -> None:
        with os.fdopen(reading) as lines:
            for line in lines:
                self.messages.put(json.loads(line))
        self.messages.put(None)

    def next(self, until: float) -> dict[str, Any] | None:
        """The next message, or None if the process has ended. Raises queue.Empty at time `until`."""
        return self.messages.get(timeout=max(0.01, until - time.monotonic()))

    def kill(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no output"


def arguments(given: list[str]) -> dict[str, str]:
    """The options by name; raises SystemExit with one line for one that does not exist."""
    options = {"out": str(RESULTS), "parts": ",".join(LIMITS), "size": "auto", "seconds": "290", "images": "6000"}
    for argument in given:
        if argument in {"-h", "--help"}:
            print(__doc__)
            raise SystemExit(0)
        name, equals, value = argument.partition("=")
        if name not in KNOWN or not equals:
            raise SystemExit(f"benchmarks.gpu: arguments are {', '.join(f'{k}=...' for k in KNOWN)}, got {argument}")
        options[name] = value
    unknown = [part for part in options["parts"].split(",") if part not in LIMITS]
    if unknown:
        raise SystemExit(f"benchmarks.gpu: parts are {', '.join(LIMITS)}, got {unknown[0]}")
    if options["size"] not in {"auto", "full", "small"}:
        raise SystemExit(f"benchmarks.gpu: size must be auto, full or small, got {options['size']}")
    for name in ("seconds", "images"):
        if not options[name].isdecimal():
            raise SystemExit(f"benchmarks.gpu: {name} must be a number, got {options[name]}")
    options["out"] = str(Path(options["out"]).resolve())
    return options


class Check:
    """Runs the parts one after another and writes each section."""

    def __init__(self, options: dict[str, str], folder: Path) -> None:
        chosen = options["parts"].split(",")
        self.pending = [part for part in LIMITS if part in chosen]
        self.options, self.folder, self.failed = options, folder, False
        self.deadline = time.monotonic() + float(options["seconds"])
        self.machine, self.slower = "", 1.0

    def run(self) -> bool:
        """Whether every part is complete."""
        while self.pending and time.monotonic() < self.deadline:
            measuring = Measuring(self.pending, self.options, self.folder)
            try:
                self._follow(measuring)
            finally:
                measuring.kill()
        for part in self.pending:
            self._fail(part, f"no time is left of {self.options['seconds']} s; set seconds=N or parts={part}")
        return not self.failed

    def _follow(self, measuring: Measuring) -> None:
        """Take messages until the process ends or a part has to be ended."""
        section, until = None, min(self.deadline, time.monotonic() + STARTING * self.slower)
        while self.pending:
            try:
                message = measuring.next(until)
            except queue.Empty:
                limit = f"ended after {time.monotonic() - section.began:.0f} s" if section else "did not start in time"
                self._end(section, limit)
                return
            if message is None:
                self._end(section, f"the process ended: {measuring.last_line()}")
                return
            if "machine" in message:
                self.machine = message["machine"]
                self.slower = 1.0 if message["gpu"] else SLOWER_WITHOUT_GPU
            elif "begin" in message:
                section = Section(message["begin"])
                until = min(self.deadline, section.began + LIMITS[section.part] * self.slower)
            elif "error" in message:
                self._end(section, message["error"])
                return
            elif "done" in message:
                self._end(section, None)
                section, until = None, min(self.deadline, time.monotonic() + STARTING * self.slower)
            elif section is not None:
                section.add(message)

    def _end(self, section: Section | None, error: str | None) -> None:
        part = section.part if section is not None else self.pending[0]
        self.pending.remove(part)
        if error is not None:
            self._fail(part, error)
            if section is not None:
                section.notes.append(f"Incomplete: {error}")
        if section is not None and section.tables:
            report(
                "gpu", section.text, write=True, heading=f"gpu: {part}", where=self.machine,
                path=Path(self.options["out"]),
            )  # fmt: skip

    def _fail(self, part: str, error: str) -> None:
        self.failed = True
        print(f"benchmarks.gpu: {part}: {' '.join(error.split())}", file=sys.stderr, flush=True)


def main() -> None:
    options = arguments(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="gpu", ignore_cleanup_errors=True) as folder:
        complete = Check(options, Path(folder)).run()
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main()
