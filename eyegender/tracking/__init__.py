"""What is written to MLflow, how it gets there without holding up a training, and what never does (secrets)."""
