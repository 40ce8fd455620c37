"""The config groups `hydra/sweeper: optuna_study`, `hydra/sweeper/sampler` and `hydra/sweeper/pruner`.

The first fields of `OptunaStudyConf` are those of hydra-optuna-sweeper: a config written for it works after you replace
`override hydra/sweeper: optuna` with `optuna_study`.

`params` maps a config key to a range in Hydra's sweep grammar:

    model: choice(inception_v3, mobilenet_v2)      # a config group
    model.lr: tag(log, interval(1e-5, 1e-2))       # an interval includes both ends
    head.width: int(interval(8, 64))               # integers; interval(8, 64) alone is of floats, as in Hydra
    data.batch_size: choice(32, 64)
    head.lr, body.lr: interval(0.1, 1.0)           # one parameter that sets two keys
    trainer.epochs: 10                             # a fixed value

A range that depends on another key is a mapping from condition to range. The first condition that holds applies; `else`
always holds; if none holds, the trial does not set the key. A condition may name a swept key, a key that the command
line fixes, or any other key of the config; `&` joins several conditions:

    model.finetune_depth:
      model=inception_v3: range(0, 17)             # as in Hydra and Python, the end is excluded: 0..16
      model=mobilenet_v2: range(0, 20)
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from ._schedulers._config import SCHEDULERS
from ._settings._groups import PRUNERS, SAMPLERS


@dataclass
class OptunaStudyConf:
    """The fields of `hydra.sweeper`; the comment above each field gives its meaning, unit and range."""

    _target_: str = "hydra_plugins.optuna_study.sweeper.OptunaStudySweeper"
    # Each worker builds its own sampler, pruner and callbacks.
    _recursive_: bool = False
    defaults: list[Any] = field(
        default_factory=lambda: ["_self_", {"sampler": "tpe"}, {"pruner": "nop"}, {"scheduler": "none"}]
    )

    # Optuna's sampler, from the group hydra/sweeper/sampler.
    sampler: Any = MISSING
    # Direction: minimize, maximize, or a list of them for several objectives.
    direction: Any = "minimize"
    # Database URL, journal:///path/to/file.log, grpc://host:port, or null: in memory, for one worker in this process.
    storage: Any = None
    # Name of the study, by which the same command finds it again; null: a new study each time, named by job and time.
    study_name: str | None = None
    # Number of finished trials (complete or pruned), without retries and failures; null: only budget ends the study.
    n_trials: int | None = 20
    # Number of workers, each a process that runs one trial at a time; the basic launcher always has one.
    n_jobs: int = 1
    # Share of n_trials (0..1): the sweep stops if more trials than this have failed since it was started. It is checked
    # from the third finished or failed trial on, or when n_trials trials have failed; 0: stop at the first failure. If
    # n_trials is null, it is the share of the trials that have ended.
    max_failure_rate: float = 0.34
    # The search space: a range for each config key.
    params: Any = None
    # Dotted path of a function (cfg, Optuna trial) that suggests further parameters.
    custom_search_space: str | None = None
    # Older spelling of params: {key: {type: int|float|categorical, low, high, step, log, choices}}.
    search_space: Any = None

    # ---- fields that hydra-optuna-sweeper does not have

    # Optuna's pruner, from the group hydra/sweeper/pruner.
    pruner: Any = MISSING
    # Pauses trials and decides which one continues, from the group hydra/sweeper/scheduler.
    scheduler: Any = MISSING
    # Index of the objective that the task reports to the pruner and the scheduler; only used with several objectives.
    pruned_objective: int = 0
    # What all trials together may spend: seconds of training (3600s, 90min, 2h) or epochs ('500 epochs').
    budget: str | None = None
    # Seconds after which no worker starts another trial.
    timeout: float | None = None
    # Stop if the best value has not improved for this number of finished trials.
    early_stopping_patience: int | None = None
    # noise: stop when a search without an end would gain less than the standard error of the best value.
    stop_when: str | None = None
    # Number of retries of a trial whose worker died; a release on a signal does not count.
    max_retries: int = 3
    # Seconds between two heartbeats; a worker is declared dead after three missed heartbeats.
    heartbeat: float = 20.0
    # Configurations to run first: a list of {key: value}; those of a file that contradict the command line are skipped.
    enqueue: Any = None
    # true prints the plan of the sweep and runs nothing; null plans a new study before its first trial; false does not.
    plan: bool | None = None
    # False submits the workers and returns (submitit launchers).
    wait: bool = True
    # Continue a study even if its search space or fixed overrides differ; a list names the fixed overrides that may.
    allow_changes: Any = False
    # Former names of keys, {old: new}: an existing study that has the old ones is continued.
    renamed: Any = None
    # Minutes for which an operation is retried while the database is unreachable.
    storage_retry_minutes: float = 10.0
    # Objects with any of check_config(config), plan_study(preview), on_study_start(study),
    # on_trial_finished(study, trial), on_study_end(study, status).
    callbacks: Any = None
    # Former name of early_stopping_patience.
    patience: int | None = None
    # Former name of storage_retry_minutes.
    storage_patience: float | None = None


_store = ConfigStore.instance()
_store.store(group="hydra/sweeper", name="optuna_study", node=OptunaStudyConf, provider="optuna_study")
for _name, _sampler in SAMPLERS.items():
    _store.store(group="hydra/sweeper/sampler", name=_name, node=_sampler, provider="optuna_study")
for _name, _pruner in PRUNERS.items():
    _store.store(group="hydra/sweeper/pruner", name=_name, node=_pruner, provider="optuna_study")
for _name, _scheduler in SCHEDULERS.items():
    _store.store(group="hydra/sweeper/scheduler", name=_name, node=_scheduler, provider="optuna_study")
