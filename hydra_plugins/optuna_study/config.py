"""The config group `hydra/sweeper: optuna_study`.

The fields above the line are hydra-optuna-sweeper's: a config written for it works after changing
`override hydra/sweeper: optuna` to `optuna_study`.

`params` maps a config key to a range in Hydra's sweep grammar:

    model: choice(inception_v3, mobilenet_v2)      # a config group
    model.lr: tag(log, interval(1e-5, 1e-2))       # an interval includes both ends
    head.width: int(interval(8, 64))               # integers; interval(8, 64) alone is of floats, as in Hydra
    data.batch_size: choice(32, 64)
    head.lr, body.lr: interval(0.1, 1.0)           # one parameter that sets two keys
    trainer.epochs: 10                             # a fixed value

A range that depends on another key is a mapping from condition to range. The first condition that holds applies; a
trial in which none holds does not set the key; `else` holds always. A condition may name a swept key, a key fixed on
the command line or any key of the config, and several of them, joined by `&`:

    model.finetune_depth:
      model=inception_v3: range(0, 17)             # as in Hydra and Python, the end is excluded: 0..16
      model=mobilenet_v2: range(0, 20)
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from ._groups import PRUNERS, SAMPLERS


@dataclass
class OptunaStudyConf:
    """Each field's meaning, unit and bounds are in the comment above it."""

    _target_: str = "hydra_plugins.optuna_study.sweeper.OptunaStudySweeper"
    # Samplers, pruners and callbacks are built in each worker, with its own seed, not here.
    _recursive_: bool = False
    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"sampler": "tpe"}, {"pruner": "nop"}])

    # Optuna's sampler, from the group hydra/sweeper/sampler
    sampler: Any = MISSING
    # minimize, maximize, or a list of them: several objectives
    direction: Any = "minimize"
    # database URL, journal:///path/to/file.log, grpc://host:port, or null: in memory, for one worker in this process
    storage: Any = None
    # what the same command finds the study by; null: a new one each time, named after the job and the time
    study_name: str | None = None
    # finished trials (complete or pruned) the study is to have; retries and failures are not counted
    n_trials: int = 20
    # workers, each a process that runs one trial at a time; the basic launcher always has one
    n_jobs: int = 1
    # the sweep stops when more than this share of n_trials failed since it was started (0..1), looked at from the third
    # finished or failed trial on, or when n_trials of them failed; 0: it stops at the first failure
    max_failure_rate: float = 0.34
    # the search space, as above
    params: Any = None
    # dotpath of a function (cfg, optuna trial) that suggests further parameters
    custom_search_space: str | None = None
    # older spelling of params: {key: {type: int|float|categorical, low, high, step, log, choices}}
    search_space: Any = None

    # ---- what hydra-optuna-sweeper does not have
    # Optuna's pruner, from the group hydra/sweeper/pruner
    pruner: Any = MISSING
    # index of the objective whose values the task reports; only matters with several objectives
    pruned_objective: int = 0
    # seconds after which no worker starts a further trial
    timeout: float | None = None
    # stop when the best value has not improved for so many finished trials
    patience: int | None = None
    # attempts after the first for a trial whose worker died; giving a trial back on a signal is not counted
    max_retries: int = 3
    # seconds between two signs of life; a worker is taken for dead after three of them without one
    heartbeat: float = 20.0
    # configs to try first: list of {key: value}; those of a file that do not fit the command line are left out
    enqueue: Any = None
    # false: submit the workers and return (submitit launchers)
    wait: bool = True
    # go on with a study whose search space, directions or fixed overrides were others
    allow_changes: bool = False
    # {old key: new key}: names that an existing study may have for what is swept or fixed now
    renamed: Any = None
    # minutes for which an operation is tried again while the database is away
    storage_patience: float = 10.0
    # objects with any of check_config(config), on_study_start(study), on_trial_finished(study, trial),
    # on_study_end(study, status)
    callbacks: Any = None


_store = ConfigStore.instance()
_store.store(group="hydra/sweeper", name="optuna_study", node=OptunaStudyConf, provider="optuna_study")
for _name, _sampler in SAMPLERS.items():
    _store.store(group="hydra/sweeper/sampler", name=_name, node=_sampler, provider="optuna_study")
for _name, _pruner in PRUNERS.items():
    _store.store(group="hydra/sweeper/pruner", name=_name, node=_pruner, provider="optuna_study")
