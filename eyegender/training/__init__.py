"""What happens around a fit: checkpoints, signals, progress, what is told to the tracking store, results."""
