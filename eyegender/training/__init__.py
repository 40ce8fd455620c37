"""A training run from a checked config to a finished MLflow run; `run.train` is the entry point."""
