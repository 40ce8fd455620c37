"""Whether a run or a sweep may write into a folder that already has a result, and the removal of that result.

Nothing here imports torch, because a mistake is reported before anything is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eyegender.core.errors import UserError
from eyegender.core.output_folder import remove_old
from eyegender.core.processes import is_rank_zero, is_requeued
from eyegender.tracking.journal import JOURNAL, Journal

if TYPE_CHECKING:
    from collections.abc import Callable

_CHECKPOINTS = ("last.ckpt", "best.ckpt")
# What makes a folder the result of a run. A run that was refused leaves only .hydra/ and a log.
_MARKS = ("checkpoints", JOURNAL, "metrics.json")
# What a run writes. Other files in its folder may be the user's. The lock may be held by this run.
_WRITTEN = (
    "checkpoints", "figures", "model", "config.yaml", "environment.json", "metrics.json", "run.json",
    "test_predictions.json", "val_predictions.json", JOURNAL, "tracking.sent", "tracking.epoch",
)  # fmt: skip


def check_run_folder(folder: Path, *, ckpt_path: str | None = None, overwrite: bool = False) -> None:
    """Refuse a folder with the result of another run; removes nothing.

    A run goes on in its folder without `overwrite`: from a checkpoint in it, or after Slurm requeued the job.

    Args:
        folder: output folder of a single run.
        ckpt_path: the checkpoint from which the run resumes, or None.
        overwrite: accept the result of a finished run, which `remove_result` will remove.

    Raises:
        UserError: the folder has a result that must not or may not be overwritten.
    """
    if not _is_new_run(folder, ckpt_path):
        return
    if overwrite:
        _check_removable(folder)
    elif mark := _mark(folder):
        last = next((folder / "checkpoints" / name for name in _CHECKPOINTS if _has_checkpoint(folder, name)), None)
        choices = ["set another output="]
        choices += [] if _is_unfinished(folder) else ["overwrite=true"]
        choices += [f"ckpt_path={last} to continue that run"] if last else []
        raise UserError(f"output must be a folder without a result, got {folder} with {mark}; {', or '.join(choices)}")


def remove_result(folder: Path, *, ckpt_path: str | None = None) -> None:
    """Remove what a finished run has written into its folder; nothing if this run goes on there.

    Raises:
        UserError: the run has not finished, or its tracking store lacks some of its data.
    """
    if _is_new_run(folder, ckpt_path):
        _check_removable(folder)
        remove_old(folder, *_WRITTEN)


def check_sweep_folder(folder: Path, *, continues: Callable[[], bool], overwrite: bool = False) -> None:
    """Refuse a folder with the runs of another sweep, or with `overwrite` remove their results.

    Args:
        folder: output folder of the sweep, which contains those of its runs.
        continues: says whether the sweep is a study that has begun in this folder; called only if there are results.
        overwrite: remove the results, if all runs have finished.

    Raises:
        UserError: the folder has results that must not or may not be overwritten.
    """
    if is_requeued() or not is_rank_zero():
        return
    parents = sorted(
        {path.parent for mark in _MARKS for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{mark}")}
    )
    runs = [run for run in parents if _mark(run)]
    if runs and continues():
        return
    check_run_folder(folder, overwrite=overwrite)
    if runs and not overwrite:
        raise UserError(
            f"output must be a folder without results of another sweep, got {folder} with "
            f"{runs[0].relative_to(folder)}/{_mark(runs[0])}; set another output=, or overwrite=true; a study goes on "
            "with its own hydra.sweeper.study_name and storage"
        )
    for run in runs:
        _check_removable(run)
    for run in [folder, *runs]:
        remove_result(run)


def _is_new_run(folder: Path, ckpt_path: str | None) -> bool:
    """Whether a run in this folder begins from scratch or from a checkpoint elsewhere, and this process says so."""
    if is_requeued() or not is_rank_zero():  # the other ranks write nothing
        return False
    checkpoint = None if ckpt_path is None else Path(ckpt_path).expanduser().resolve()
    return checkpoint is None or folder.resolve() not in checkpoint.parents


def _mark(folder: Path) -> str | None:
    """The first file that makes the folder the result of a run, or None."""
    found = [name for name in _MARKS if (folder / name).exists()]
    return next((name for name in found if name != "checkpoints" or _has_checkpoint(folder)), None)


def _has_checkpoint(folder: Path, name: str = "*.ckpt") -> bool:
    return any((folder / "checkpoints").glob(name))


def _is_unfinished(folder: Path) -> bool:
    """Whether the folder holds checkpoints of a run that was stopped, failed, paused, or still trains."""
    if not _has_checkpoint(folder):
        return False
    if (folder / JOURNAL).is_file():
        return Journal(folder, writes=False).status() != "FINISHED"
    return not (folder / "metrics.json").is_file()


def _check_removable(folder: Path) -> None:
    if _is_unfinished(folder):
        name = next((name for name in _CHECKPOINTS if _has_checkpoint(folder, name)), _CHECKPOINTS[0])
        raise UserError(
            f"overwrite=true never removes the checkpoints of an unfinished run, but the run in {folder} has not "
            f"finished; continue it with ckpt_path={folder / 'checkpoints' / name}, or set another output="
        )
    if (folder / JOURNAL).is_file() and Journal(folder, writes=False).unsent(limit=1):
        raise UserError(
            f"overwrite=true never removes data that the tracking store lacks, got {folder} with unsent entries; send "
            f"it with eyegender sync folder={folder}, or set another output="
        )
