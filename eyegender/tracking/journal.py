"""Everything a run tells its tracking store, first written to a file beside the run: the disk is the queue.

Training appends and goes on; a sender reads behind it. What a dead server or a killed process left unsent is still in
the file, and `python -m eyegender.sync` sends it later.
"""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

Entry = dict[str, Any]

JOURNAL = "tracking.jsonl"
CURSOR = "tracking.sent"


class Journal:
    """An append-only file of JSON lines with a cursor file that says how far they were sent.

    One process appends and sends. A line that a kill cut short is ignored by readers and closed off by the next writer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / JOURNAL
        self._cursor = folder / CURSOR
        self._lock = threading.Lock()
        self._close_cut_line()
        self._file = self.path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, entry: Entry) -> None:
        """Write one entry; it survives the process from here on."""
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def unsent(self, limit: int) -> list[tuple[int, Entry]]:
        """Up to `limit` whole entries behind the cursor, each with the offset that follows it."""
        entries: list[tuple[int, Entry]] = []
        with self.path.open("rb") as file:
            file.seek(self.sent_up_to())
            for _ in range(limit):
                line = file.readline()
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(line)
                except ValueError:
                    entry = {"op": "cut"}  # the rest of a line that a kill cut short
                entries.append((file.tell(), entry))
        return entries

    def sent_up_to(self) -> int:
        """Offset up to which the entries are in the store."""
        try:
            return int(self._cursor.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def mark_sent(self, offset: int) -> None:
        """Move the cursor; written aside and renamed, so that a kill leaves the old one or the new one."""
        aside = self._cursor.with_suffix(".sent.new")
        aside.write_text(str(offset))
        aside.replace(self._cursor)

    def remaining(self) -> int:
        """Number of entries that the store does not hold yet."""
        return len(self.unsent(limit=1_000_000))

    def close(self) -> None:
        with self._lock:
            if self._file.closed:
                return
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def _close_cut_line(self) -> None:
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        with self.path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
