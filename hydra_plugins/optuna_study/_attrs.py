"""The attributes under which a study keeps its own notes in the storage, beside Optuna's."""

PREFIX = "optuna_study:"

# System attributes of a trial.
OWNER = PREFIX + "owner"  # who runs it: see _owner.Owner
ALIVE = PREFIX + "alive"  # [beat number, time of the beat on its worker's clock]
INTERRUPTED = PREFIX + "interrupted"  # {"reason", "counted", "final"}: why this attempt ended without a result
COMPLETION = PREFIX + "completion"  # 1 for the study's first trial that ended, 2 for the second, ...
STEPS = PREFIX + "steps"  # with several objectives: {step: reported value}
RETRY_HISTORY = "retry_history"  # Optuna's own name: numbers of the earlier attempts
PRUNED_AT = PREFIX + "pruned_at"  # the step at which the pruner said to prune
FIRST_ATTEMPT = "failed_trial"  # Optuna's own name: number of the first attempt

# User attributes of a trial, for people.
JOB_DIR = "job_dir"
FAILURE = "failure"

# System attributes of a study.
DEFINITION = PREFIX + "definition"  # search space, directions and fixed overrides
SETTINGS = PREFIX + "settings"  # n_trials and what else a status needs
WORKERS = PREFIX + "workers_launched"
EXHAUSTED = PREFIX + "exhausted"
ENDING = PREFIX + "ending"  # who is calling on_study_end, and signs of life
ENDED = PREFIX + "ended"  # how many trials had finished when on_study_end was last called
