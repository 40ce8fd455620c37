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

    # Optuna's sampler, from the group hydra/sweeper/sampler.
    sampler: Any = MISSING
    # Direction: minimize, maximize, or a list of them for several objectives.
    direction: Any = "minimize"
    # Database URL, journal:///path/to/file.log, grpc://host:port, or null: in memory, for one worker in this process.
    storage: Any = None
    # Name of the study, by which the same command finds it again; null: a new study each time, named by job and time.
    study_name: str | None = None
    # Number of finished trials (complete or pruned) of the study; retries and failures do not count.
    n_trials: int = 20
    # Number of workers, each a process that runs one trial at a time; the basic launcher always has one.
    n_jobs: int = 1
    # Share of n_trials (0..1): the sweep stops if more trials than this have failed since it was started. It is checked
    # from the third finished or failed trial on, or when n_trials trials have failed; 0: stop at the first failure.
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
    # Index of the objective that the task reports to the pruner; only used with several objectives.
    pruned_objective: int = 0
    # Seconds after which no worker starts another trial.
    timeout: float | None = None
    # Stop if the best value has not improved for this number of finished trials.
    patience: int | None = None
    # Number of retries of a trial whose worker died; a release on a signal does not count.
    max_retries: int = 3
    # Seconds between two heartbeats; a worker is declared dead after three missed heartbeats.
    heartbeat: float = 20.0
    # Configurations to run first: a list of {key: value}; those of a file that contradict the command line are skipped.
    enqueue: Any = None
    # False submits the workers and returns (submitit launchers).
    wait: bool = True
    # Continue a study even if its search space, directions or fixed overrides differ.
    allow_changes: bool = False
    # Former names of keys, {old: new}: an existing study that has the old ones is continued.
    renamed: Any = None
    # Minutes for which an operation is retried while the database is unreachable.
    storage_patience: float = 10.0
    # Objects with any of check_config(config), on_study_start(study), on_trial_finished(study, trial),
    # on_study_end(study, status).
    callbacks: Any = None


_store = ConfigStore.instance()
_store.store(group="hydra/sweeper", name="optuna_study", node=OptunaStudyConf, provider="optuna_study")
for _name, _sampler in SAMPLERS.items():
    _store.store(group="hydra/sweeper/sampler", name=_name, node=_sampler, provider="optuna_study")
for _name, _pruner in PRUNERS.items():
    _store.store(group="hydra/sweeper/pruner", name=_name, node=_pruner, provider="optuna_study")
