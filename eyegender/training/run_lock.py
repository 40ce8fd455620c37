"""One process at a time trains a run: a second one would tell the tracking store every value twice."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

from filelock import Timeout
from lightning_fabric.utilities import rank_zero_only

from eyegender.core.errors import UserError
from eyegender.core.file_locks import optional_file_lock

if TYPE_CHECKING:
    from pathlib import Path

LOCK_FILE = "run.lock"
ALONE = "see to it that no second process goes on with this run"

log = logging.getLogger("eyegender")


class RunLock(ExitStack):
    """Held by rank zero until the block ends or the process dies.

    Args:
        refuse: raise where another process holds it. Who owns a trial is decided by its study: it only warns.
    """

    def __init__(self, *, refuse: bool) -> None:
        super().__init__()
        self.refuse = refuse
        self._taken: set[Path] = set()
        self._works = True

    def take(self, *folders: Path) -> None:
        """Lock the folders that a run is in, goes on from or began in: whoever goes on with it, too, meets there.

        Raises:
            UserError: another process trains this run.
        """
        for folder in folders:
            if getattr(rank_zero_only, "rank", 0) or not self._works or folder.resolve() in self._taken:
                continue
            self._taken.add(folder.resolve())
            try:
                self._works &= self.enter_context(optional_file_lock(folder / LOCK_FILE, 0, ALONE))
            except Timeout:
                told = f"the run in {folder} is being trained by another process"
                if self.refuse:
                    raise UserError(f"{told}; wait until that has ended, or stop it") from None
                log.warning("%s; the study has given the trial to this one", told)
            except OSError as error:  # of a folder that others may only read
                log.warning("%s cannot be locked (%s); %s", folder, error.strerror or error, ALONE)
                self._works = False


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint lies in."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder
