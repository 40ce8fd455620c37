"""The environment of a run: git commit, package versions and hardware."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "eyegender",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "optuna",
    "mlflow",
    "numpy",
    "pillow",
)


@cache
def commit() -> dict[str, str]:
    """Git commit of this code and whether files differ from it; empty if the package is not run from its repository."""
    here = Path(__file__).parent
    try:
        top = _git(here, "rev-parse", "--show-toplevel")
        if not (Path(top) / "eyegender" / "training").samefile(here):
            return {}  # installed inside another repository
        return {
            "git.commit": _git(here, "rev-parse", "HEAD"),
            "git.dirty": str(bool(_git(here, "status", "--porcelain"))).lower(),
        }
    except (OSError, subprocess.SubprocessError):
        return {}


def mlflow_tags() -> dict[str, str]:
    """MLflow's own tags for who ran what: user, program and, if known, the git commit."""
    found = {"mlflow.source.type": "LOCAL", "mlflow.source.name": Path(sys.argv[0]).name or "python"}
    with contextlib.suppress(OSError, KeyError, ImportError):  # a user id without a name, as in a container
        found["mlflow.user"] = getpass.getuser()
    if sha := commit().get("git.commit"):
        found["mlflow.source.git.commit"] = sha
    return found


def gpu_usage() -> dict[str, float]:
    """Use of each GPU that this process works on, by the names of MLflow's system metrics; empty without one.

    The share of time in which a GPU computes needs the package nvidia-ml-py, without which only memory is measured.
    """
    import torch

    found: dict[str, float] = {}
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        return found
    for device in range(torch.cuda.device_count()):
        if torch.cuda.memory_reserved(device) == 0:
            continue  # asking for its memory would open the GPU for this process
        free, total = torch.cuda.mem_get_info(device)
        found[f"gpu_{device}_memory_usage_megabytes"] = (total - free) / 1e6
        found[f"gpu_{device}_memory_usage_percentage"] = 100 * (total - free) / total
        with contextlib.suppress(ImportError, RuntimeError):
            found[f"gpu_{device}_utilization_percentage"] = float(torch.cuda.utilization(device))
    return found


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


@cache
def versions() -> dict[str, str]:
    """Installed versions of the packages that influence results."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def hardware() -> dict[str, str]:
    """Processor, cores that this process may use, memory in GiB, and GPU."""
    import torch

    found = {"cpu": cpu_name(), "cores": str(usable_cores()), "gpu": "none"}
    if hasattr(os, "sysconf"):
        found["memory_gib"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f}"
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def usable_cores() -> int | None:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cpu_name() -> str:
    """Model name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
