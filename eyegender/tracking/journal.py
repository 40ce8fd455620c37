"""Everything a run tells its tracking store, first written to a file beside the run: the disk is the queue.

Training appends and goes on; a sender reads behind it. What a dead server or a killed process left unsent is still in
the file, and `python -m eyegender.sync` sends it later.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any, Self

from eyegender.core.atomic_write import atomic_write
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

Entry = dict[str, Any]

JOURNAL = "tracking.jsonl"
CURSOR = "tracking.sent"


class Journal:
    """An append-only file of JSON lines with a cursor file that says how far they were sent.

    One process appends and sends. A line that a kill cut short is ignored by readers and closed off by the next writer.

    Args:
        folder: the run's output folder.
        writes: open it for appending; who only reads and sends must not touch the file of a run that goes on.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder = folder
        self.path = folder / JOURNAL
        self._cursor = folder / CURSOR
        self._sent: int | None = None  # where a full disk does not take the cursor
        self._lock = threading.Lock()
        if writes:
            self._close_cut_line()
        self._file = self.path.open("ab", buffering=0) if writes else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, entry: Entry) -> None:
        """Write one entry; it survives the process from here on.

        Raises:
            UserError: the disk is full or broken; what was written before is whole.
        """
        assert self._file is not None
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            start = self._file.seek(0, os.SEEK_END)
            rest = memoryview(line)
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                with contextlib.suppress(OSError):  # otherwise the next writer closes the line off
                    self._file.truncate(start)
                raise UserError(
                    f"what the run tells its tracking store needs {len(line):,} bytes in {self.path}, got "
                    f"{error.strerror or error}; make room there, or choose another place with hydra.run.dir=FOLDER"
                ) from error

    def unsent(self, limit: int, start: int | None = None) -> list[tuple[int, Entry]]:
        """Up to `limit` whole entries behind the cursor, or `start`, each with the offset that follows it."""
        entries: list[tuple[int, Entry]] = []
        with self.path.open("rb") as file:
            file.seek(self.sent_up_to() if start is None else start)
            for _ in range(limit):
                line = file.readline()
                if not line.endswith(b"\n"):
                    break
                entries.append((file.tell(), _entry(line)))
        return entries

    def current_run(self) -> Entry | None:
        """The entry of the run that the cursor stands in or before, or None where a kill was quicker."""
        sent, current = self.sent_up_to(), None
        with self.path.open("rb") as file:
            for line in iter(file.readline, b""):
                entry = _entry(line)
                if entry["op"] == "run" and line.endswith(b"\n") and (current is None or file.tell() <= sent):
                    current = entry
        return current

    def beginning(self) -> int:
        """Offset of the first entry of the run that the cursor stands in."""
        current = self.current_run()
        with self.path.open("rb") as file:
            start = 0
            for line in iter(file.readline, b""):
                entry = _entry(line)
                if current is not None and entry["op"] == "run" and entry["key"] == current["key"]:
                    return start
                start = file.tell()
        return 0

    def sent_up_to(self) -> int:
        """Offset up to which the entries are in the store."""
        if self._sent is not None:
            return self._sent
        try:
            return int(self._cursor.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def mark_sent(self, offset: int) -> None:
        """Move the cursor.

        Where the disk is full it moves in memory alone: another process would send again, which doubles nothing.
        """
        try:
            with atomic_write(self._cursor, sync=False) as file:
                file.write(str(offset))
            self._sent = None
        except OSError:
            self._sent = offset

    def remaining(self) -> int:
        """Number of entries that the store does not hold yet."""
        return len(self.unsent(limit=1_000_000))

    def unsent_bytes(self) -> int:
        """What the store still has to take: the entries and the files that they name."""
        entries = [entry for _, entry in self.unsent(limit=1_000_000)]
        named: list[Path] = [self.folder / entry["path"] for entry in entries if "path" in entry]
        files = [file for path in named for file in (path, *path.rglob("*")) if file.is_file()]
        return sum(len(json.dumps(entry)) for entry in entries) + sum(file.stat().st_size for file in files)

    def close(self) -> None:
        with self._lock:
            if self._file is None or self._file.closed:
                return
            os.fsync(self._file.fileno())
            self._file.close()

    def _close_cut_line(self) -> None:
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        with self.path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _entry(line: bytes) -> Entry:
    """The entry of a whole line; of what a kill or a broken disk left of one, an entry that says nothing."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) and "op" in entry else {"op": "cut"}
