"""What the environment says of this process: whether Slurm restarted its job, and which rank of a run it is."""

from __future__ import annotations

import os

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # as Lightning reads them


def is_requeued() -> bool:
    """Whether Slurm has started this job before."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") not in {"", "0"}


def is_rank_zero() -> bool:
    """Whether this process is the only one of its run, or the first."""
    rank = next((os.environ[name] for name in _RANKS if name in os.environ), "0")
    return rank in {"", "0"}
