"""Jobs that Slurm starts again, after a preemption say: the same command in the same folder goes on where it was."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from eyegender.tracking.journal import JOURNAL, Journal

if TYPE_CHECKING:
    from pathlib import Path


def requeued() -> bool:
    """Whether this is not the job's first start."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") not in {"", "0"}


def key_of_earlier_start(output_dir: Path) -> str | None:
    """The key of the run that this job began in its folder before it had a checkpoint; None when there is none."""
    if not requeued() or not (output_dir / JOURNAL).is_file():
        return None
    begun = Journal(output_dir, writes=False).current_run()
    return None if begun is None else str(begun["key"])
