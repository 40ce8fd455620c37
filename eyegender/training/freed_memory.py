"""Memory that one training step frees serves the next one, instead of going back to the kernel in between."""

from __future__ import annotations

import ctypes
import os
import platform

# malloc.h's numbers of these parameters; mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE = 2**30


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed; whether that took effect.

    glibc maps every block beyond 32 MiB afresh and unmaps it when it is freed. Activations are such blocks: each step
    on a CPU would have the kernel clear the same pages again. What is kept is at most what the process held at its
    peak. Elsewhere than on glibc, and where the user has set `MALLOC_*` variables, nothing is changed.
    """
    chosen = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES", "LD_PRELOAD")
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in chosen):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_M_MMAP_THRESHOLD, _LARGE), mallopt(_M_TRIM_THRESHOLD, -1)])
