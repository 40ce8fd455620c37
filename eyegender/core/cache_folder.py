"""Where decoded pictures and what was worked out about them are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from eyegender.core.errors import UserError


def cache_folder(chosen: str | Path | None = None) -> Path:
    """The cache folder, created if need be.

    Args:
        chosen: a folder that wins over everything; None asks `EYEGENDER_CACHE`, then the user's own cache folder.

    Raises:
        UserError: the folder cannot be created or written to.
    """
    if chosen is None:
        chosen = os.environ.get("EYEGENDER_CACHE") or None
    if chosen is None:
        import platformdirs

        chosen = platformdirs.user_cache_path("eyegender")
    folder = Path(chosen).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder must be creatable, got {folder} ({error.strerror}); "
            "set EYEGENDER_CACHE to a folder that you may write to"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"the cache folder must be writable, got {folder}; set EYEGENDER_CACHE to a folder that you may write to"
        )
    return folder
