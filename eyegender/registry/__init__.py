"""The model registry: promotion of a run's model, with a model card."""
