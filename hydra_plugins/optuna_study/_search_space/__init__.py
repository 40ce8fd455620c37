"""The search space: Hydra's sweep grammar, conditions, and what Optuna suggests for a trial."""
