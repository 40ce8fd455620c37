"""What was measured on this machine once, and is kept: equal runs on one machine must choose alike."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from eyegender.core.atomic_write import atomic_write
from eyegender.core.cache import cache_folder, translate_cache_errors
from eyegender.core.file_locks import file_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Note = dict[str, Any]


def kept_note(
    what: str, usable: Callable[[Note], bool], measure: Callable[[], Note], cache: str | Path | None = None
) -> tuple[Note, bool]:
    """The note on `what`, and whether it was measured just now; of several processes one measures, the others wait.

    Args:
        what: everything that the measurement depends on, the machine included.
        usable: whether a note that was found says what it should; it may raise KeyError and TypeError instead.
        measure: makes the note.
        cache: folder, see `cache_folder`.
    """
    folder = cache_folder(cache) / "precision"
    path = folder / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"
    with translate_cache_errors("measured speeds", folder, 1000):
        folder.mkdir(exist_ok=True)
        with file_lock(path.with_name(f"{path.name}.lock")):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                if usable(found):
                    return found, False
            except (OSError, ValueError, KeyError, TypeError):  # absent or damaged: measured anew
                pass
            note = {"what": what, **measure()}
            with atomic_write(path) as file:
                json.dump(note, file, indent=1)
    return note, True
