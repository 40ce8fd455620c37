"""What a sweep means to us, and the sweeper knows nothing of: its MLflow run, its report, its winner's one test."""
