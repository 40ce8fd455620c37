"""Waiting for Slurm jobs by asking squeue, which answers on clusters without accounting too."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ._secrets import one_line

# How long a result may take to show on a shared file system after its job has left the queue.
_RESULT_SECONDS = 15.0
# Seconds between two questions: short at first, when a job that cannot start ends, long later for the scheduler's sake.
_SHORTEST, _LONGEST = 1.0, 30.0
_SQUEUE = ("squeue", "--me", "--noheader", "--array", "--format=%i")


@dataclass(frozen=True)
class LostJob:
    """What a job has in its place among the results when it ended without one.

    Args:
    from_outside: it was preempted, cancelled or lost with its node; it did not end by itself.
    """

    reason: str
    from_outside: bool = False


@contextmanager
def watched() -> Iterator[None]:
    """Let submitit's Slurm jobs answer with their result or with LostJob, and never wait for a job that is gone.

    submitit learns from sacct alone that a job died: where accounting is off it waits for ever for a job that was
    killed. And one job that died would end the waiting for all others.
    """
    from submitit.slurm.slurm import SlurmJob

    job_class: Any = SlurmJob
    former = job_class.results
    job_class.results = lambda job: _results(job, former)
    try:
        yield
    finally:
        job_class.results = former


def _results(job: Any, read: Callable[[Any], list[Any]]) -> list[Any]:
    if not _wait(job):
        reason = f"Slurm job {job.job_id} ended without a result, its log is {job.paths.stderr}"
        return [LostJob(reason, from_outside=_ended_from_outside(job.job_id))]
    try:
        return read(job)
    except Exception as error:  # what the job itself raised, as submitit tells it
        return [LostJob(f"Slurm job {job.job_id}: {one_line(error)}")]


def _wait(job: Any) -> bool:
    """Whether the job left a result; returns once it has, or once it is gone for good."""
    begun = time.monotonic()
    asked, gone_since = begun, None
    while not job.paths.result_pickle.exists():
        time.sleep(0.5)
        _refresh(job)
        now = time.monotonic()
        if gone_since is not None and now - gone_since > _RESULT_SECONDS:
            return False
        if now - asked > min(_LONGEST, max(_SHORTEST, (now - begun) / 20)):
            asked = now
            queue = _queue()
            if queue is not None:
                # A requeued job comes back into the queue under its old number.
                gone_since = None if job.job_id in queue else gone_since or now
    return True


def _queue() -> set[str] | None:
    """The user's jobs that wait or run; None where squeue does not answer, which says nothing about the jobs."""
    try:
        done = subprocess.run(_SQUEUE, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return set(done.stdout.split()) if done.returncode == 0 else None


def _ended_from_outside(job_id: str) -> bool:
    """Whether Slurm ended the job. The controller knows for some minutes, without accounting too."""
    try:
        done = subprocess.run(
            ("scontrol", "show", "job", job_id), capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return re.search(r"\bJobState=(PREEMPTED|CANCELLED|TIMEOUT|NODE_FAIL|BOOT_FAIL)", done.stdout) is not None


def _refresh(job: Any) -> None:
    """Make a network file system look again at the folder."""
    folder = job.paths.folder
    try:
        folder.chmod(folder.stat().st_mode)
    except OSError:
        return
