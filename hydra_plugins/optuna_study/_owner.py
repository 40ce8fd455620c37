"""Who runs a trial, and whether that process is still there."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ._outages import Outages
from ._patient import LONGEST_PAUSE

_IDLE, _BUSY = ".idle.json", ".busy.json"


def registered(folder: Path) -> "list[tuple[Owner, bool]]":
    """The processes registered in a folder that still run in the same place as this one, and whether each is busy."""
    found = []
    for path in folder.glob("*.json"):
        try:
            owner = Owner.read(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # just being written, or just renamed
            continue
        if owner is not None and owner.place == _place() and not owner.is_gone():
            found.append((owner, path.name.endswith(_BUSY)))
    return found


@dataclass(frozen=True)
class Owner:
    """Args:
    launch: the command that started the worker, as a random text.
    worker: the worker's index, counted over the study's whole life.
    place: host, boot and process namespace; process ids mean something only within one.
    started: when the process started, in the kernel's own count, because process ids are used again.
    heartbeat: seconds between its signs of life.
    """

    launch: str
    worker: int
    host: str
    pid: int
    place: str
    started: str
    heartbeat: float

    @classmethod
    def here(cls, launch: str, worker: int, heartbeat: float) -> "Owner":
        pid = os.getpid()
        return cls(launch, worker, platform.node(), pid, _place(), _started(pid) or "", heartbeat)

    @classmethod
    def read(cls, data: Any) -> "Owner | None":
        try:
            return cls(**data)
        except TypeError:
            return None

    def stored(self) -> dict[str, Any]:
        return asdict(self)

    @contextmanager
    def registered(self, folder: Path) -> Iterator[None]:
        """Let a command on this machine find the process, also while it runs no trial, so that it can stop it."""
        path = folder / f"{self.worker}{_IDLE}"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.stored()), encoding="utf-8")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def busy(self, folder: Path) -> Iterator[None]:
        """Of a registered process: it has something to save before it is stopped."""
        idle, busy = folder / f"{self.worker}{_IDLE}", folder / f"{self.worker}{_BUSY}"
        with suppress(OSError):  # who deletes the folder meanwhile loses no more than a checkpoint on a signal
            idle.rename(busy)
        try:
            yield
        finally:
            with suppress(OSError):
                busy.rename(idle)

    def is_gone(self) -> bool:
        """Whether the process has certainly ended: only ever true for one in the same place as this one."""
        return self.place == _place() and bool(self.started) and _started(self.pid) != self.started


@lru_cache(maxsize=1)
def _place() -> str:
    parts = [platform.node()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            source = Path(path)
            parts.append(str(source.readlink()) if source.is_symlink() else source.read_text().strip())
        except OSError:
            # Without both, two containers with one name could be taken for one place; claim nothing then.
            parts.append(f"unknown-{os.getpid()}")
    return "/".join(parts)


def _started(pid: int) -> str | None:
    """The kernel's start time of a living process; None when there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


class Watch:
    """Sees who is alive by whether something changes, not by comparing the clocks of two hosts.

    Args:
    outages: time in which this process could not look; it is no time without a sign of life.
    beats: a process is taken for dead when nothing changed for so many of its heartbeats.
    """

    def __init__(self, outages: Outages | None = None, beats: float = 3.0) -> None:
        self.outages = outages or Outages()
        self.beats = beats
        # The sign, when it was first seen, and how much time had been lost to outages by then.
        self._seen: dict[object, tuple[object, float, float]] = {}

    def unchanged_for(self, key: object, sign: object) -> float:
        """Seconds since this sign was first seen under this key, without those in which nobody could have seen another.

        After an outage others get as long as it may take them until they try again.
        """
        now, lost = time.monotonic(), self.outages.seconds
        last = self._seen.get(key)
        if last is None or last[0] != sign:
            self._seen[key] = (sign, now, lost)
            return 0.0
        away = lost - last[2]
        return max(0.0, now - last[1] - away - (LONGEST_PAUSE if away > 0 else 0.0))

    def is_dead(self, key: object, owner: Owner | None, sign: object, heartbeat: float) -> bool:
        """Args:
        owner: None when the process died before it could write its name.
        heartbeat: what to assume of a process without a name, in seconds.
        """
        silent = self.unchanged_for(key, sign)
        if owner is not None and owner.is_gone():
            return True
        return silent > self.beats * (owner.heartbeat if owner else heartbeat)
