"""The sweep directory, and the job directories: no two trials of a study share one."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial

from ._budget import JOB_DIR, first_number
from ._queue import TrialQueue
from ._redaction import one_line, redact_config
from ._storage import StorageSpec
from ._trial import StudyError


def save_multirun(config: DictConfig, storage: StorageSpec, sweep_dir: str) -> None:
    """Save the command's config in the sweep directory, as Hydra's sweepers do.

    Raises:
        StudyError: the directory cannot be written to.
    """
    shown = config.copy()
    redact_config(shown, storage)
    try:
        Path(sweep_dir).mkdir(parents=True, exist_ok=True)
        OmegaConf.save(shown, Path(sweep_dir) / "multirun.yaml")
    except OSError as error:
        raise StudyError(f"hydra.sweep.dir must be a folder that can be written to: {one_line(error)}") from None


def reserve_directory(queue: TrialQueue, number: int, wanted: str, store: Callable[[str], None]) -> tuple[str, bool]:
    """A job directory that no other trial of the study has: the wanted one, or one with `_<number>` appended.

    Args:
        queue: the queue of the study.
        number: number of the trial's first attempt.
        wanted: absolute path of the wanted directory.
        store: stores the directory with the trial.

    Returns:
        The directory, and whether it is the first one of the study that had to be renamed.
    """
    with queue.shared.lock(queue.study_name) as locked:
        others = _directories_of_others(queue.trials(), number)
        chosen = _free_directory(wanted, number, others)
        store(chosen)
        if not locked and chosen in (now := _directories_of_others(queue.trials(), number)):
            # Without a lock, another worker may have chosen it at the same moment; then both choose again.
            chosen = _free_directory(wanted, number, {*now, wanted})
            store(chosen)
    return chosen, chosen != wanted and not _has_renamed_directory(others)


def _directories_of_others(trials: Iterable[FrozenTrial], number: int) -> dict[str, int]:
    """The job directories of all trials but this one, with the trials' numbers."""
    known = [(trial.user_attrs.get(JOB_DIR), first_number(trial)) for trial in trials]
    return {path: first for path, first in known if path is not None and first != number}


def _free_directory(wanted: str, number: int, taken: Collection[str]) -> str:
    """The wanted directory, or one with `_<number>` appended if it is taken."""
    chosen = wanted
    while chosen in taken:
        chosen = f"{chosen}_{number}"
    return chosen


def _has_renamed_directory(directories: Mapping[str, int]) -> bool:
    """Whether any of these directories is another one with its trial's number appended."""
    suffixes = {path: f"_{number}" for path, number in directories.items()}
    return any(path.endswith(s) and path.removesuffix(s) in directories for path, s in suffixes.items())
