"""A file in the run's folder to which all tracking data is written first.

Training appends entries and never waits; a sender thread reads them and sends them to the store. Whatever is unsent
when the server fails or the process is killed stays in the file, and `eyegender sync` sends it later.
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
    """An append-only file of JSON lines, and a cursor file with the offset up to which they were sent.

    One process appends and sends. If it is killed while it writes a line, readers ignore that line, and the next writer
    ends it.

    Args:
        folder: output folder of the run.
        writes: whether to open the file for appending. A reader must not change the file of a run that has not ended.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder = folder
        self.path = folder / JOURNAL
        self._cursor = folder / CURSOR
        self._sent: int | None = None  # the cursor, if a full disk could not hold it
        self._lock = threading.Lock()
        if writes:
            self._end_incomplete_line()
        self._file = self.path.open("ab", buffering=0) if writes else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, entry: Entry) -> None:
        """Write one entry; it is not lost if the process is killed afterwards.

        Raises:
            UserError: the disk is full or fails; the entries before remain intact.
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
                with contextlib.suppress(OSError):  # otherwise the next writer ends the line
                    self._file.truncate(start)
                raise UserError(
                    f"the tracking data of the run needs {len(line):,} bytes in {self.path}, got "
                    f"{error.strerror or error}; make room there, or choose another folder with hydra.run.dir=FOLDER"
                ) from error

    def unsent(self, limit: int, start: int | None = None) -> list[tuple[int, Entry]]:
        """Up to `limit` complete entries from the cursor or from `start`, each with the offset of its end."""
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
        """The first entry of the run at or after the cursor; None if the process was killed before it was written."""
        sent, current = self.sent_up_to(), None
        with self.path.open("rb") as file:
            for line in iter(file.readline, b""):
                entry = _entry(line)
                if entry["op"] == "run" and line.endswith(b"\n") and (current is None or file.tell() <= sent):
                    current = entry
        return current

    def status(self) -> str | None:
        """How the last run in the file ended, such as FINISHED; None if it has not ended."""
        status = None
        with self.path.open("rb") as file:
            for line in file:
                entry = _entry(line)
                if entry["op"] in {"run", "end"}:
                    status = entry.get("status")
        return status

    def beginning(self) -> int:
        """Offset of the first entry of the current run."""
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
        """Offset up to which all entries are in the store."""
        if self._sent is not None:
            return self._sent
        try:
            return int(self._cursor.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def mark_sent(self, offset: int) -> None:
        """Move the cursor.

        On a full disk, the cursor moves in memory only. Another process then sends the entries again, which duplicates
        nothing.
        """
        try:
            with atomic_write(self._cursor, sync=False) as file:
                file.write(str(offset))
            self._sent = None
        except OSError:
            self._sent = offset

    def unsent_bytes(self) -> int:
        """Size of the unsent entries and of the files that they name."""
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

    def _end_incomplete_line(self) -> None:
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        with self.path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _entry(line: bytes) -> Entry:
    """Parse a line; an incomplete or damaged one gives an entry without content."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) and "op" in entry else {"op": "cut"}
