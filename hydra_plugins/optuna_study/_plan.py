"""What a worker needs to know. It is pickled by launchers and written down by some, so it holds no secret."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._budget import Rules
from ._owner import Owner
from ._space import Space
from ._spec import StorageSpec

# Below the sweep directory: the workers' own job directories, and who runs there.
WORKERS_FOLDER = ".workers"


@dataclass(frozen=True)
class Plan:
    """Args:
    launch: names this start of the command; random.
    first_worker: index of this launch's first worker, counted over the study's life.
    unattended: nobody waits for the workers, so that one of them ends the study.
    numbered_dirs: each trial's number is in its directory, so that no two trials can have the same.
    command: the process that started the workers.
    ends_with_command: they are processes of its machine that must not outlive it.
    argv, main: the command line, for processes that a trial starts by repeating it (DDP).
    """

    study_name: str
    storage: StorageSpec
    directions: tuple[str, ...]
    rules: Rules
    space: Space
    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any]
    launch: str
    first_worker: int = 0
    pruned_objective: int = 0
    timeout: float | None = None
    heartbeat: float = 20.0
    storage_patience: float = 10.0
    custom_search_space: str | None = None
    callbacks: Sequence[Mapping[str, Any]] = ()
    sweep_dir: str = ""
    numbered_dirs: bool = True
    unattended: bool = False
    argv: tuple[str, ...] = ()
    main: str | None = None
    command: Owner | None = None
    ends_with_command: bool = False
